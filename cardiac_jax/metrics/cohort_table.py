"""Tables over strata of a cohort and of agreement in volume: ACSNet's Tables 1 and 2, and Bland-Altman's numbers."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cardiac_jax.metrics.registry import METRICS, Metric
from cardiac_jax.metrics.strata import LOCATIONS, TERTILES, tertiles
from cardiac_jax.metrics.summary import Rows, Summary, summarise, without
from cardiac_jax.metrics.table import Cell, Table, cases_note, counted_note
from cardiac_jax.metrics.volumes import agreement, half_interval, relative_errors, volume_pairs

TOTAL = "total"


def location_table(
    rows: Rows,
    structures: Sequence[str],
    metrics: Sequence[str] = ("balanced_accuracy", "dice", "hd_mm"),
    title: str = "Per slice in 2D, mean ± half the 95% CI",
    leave_out: Sequence[str] = (),
) -> Table:
    """ACSNet's Table 1: structures and measures x apex, middle, base and all slices.

    As in the paper the interval is over slices. Those of one patient resemble each other, so it is narrower than
    one over patients would be, and the table says so.

    Args:
      rows: those of `strata.slice_rows`, with `case`.

    Raises:
      InputError: a case to leave out is not there.
    """
    rows = without(rows, leave_out)
    lines, counted = [], []
    for structure in structures:
        own = [row for row in rows if row["structure"] == structure]
        for metric in metrics:
            line = [Cell(f"{structure} {METRICS[metric].heading}")]
            for location in (*LOCATIONS, TOTAL):
                at = (row for row in own if location in (TOTAL, row["location"]))
                summary = summarise(float(row[metric]) for row in at)
                line.append(Cell(_with_interval(summary, metric)))
                if location != TOTAL:
                    counted += counted_note(f"{structure} {METRICS[metric].heading} {location}", summary)
            lines.append(tuple(line))
        numbers = [f"{sum(row['location'] == name for row in own)} {name}" for name in LOCATIONS]
        counted.append(f"{structure}: {len(own)} slices ({', '.join(numbers)}).")
    notes = (cases_note(rows, leave_out), *counted, "Slices of one case are not independent: intervals are narrow.")
    return Table(title, ("measure", *LOCATIONS, TOTAL), tuple(lines), notes)


def tertile_table(
    rows: Rows,
    structures: Sequence[str],
    by: str = "LV",
    title: str = "",
    leave_out: Sequence[str] = (),
) -> Table:
    """ACSNet's Table 2: true and predicted volume and the error as a share of the true one, mean (range).

    Args:
      rows: those of `evaluate_case`, with `case`.
      by: the structure whose true volume makes the thirds.

    Raises:
      InputError: a case to leave out is not there.
    """
    rows = without(rows, leave_out)
    third = tertiles(rows, by)
    lines, counted = [], []
    for structure in structures:
        own = [row for row in rows if row["structure"] == structure]
        groups = [[row for row in own if name in (TOTAL, third.get(str(row["case"])))] for name in (*TERTILES, TOTAL)]
        pairs = [volume_pairs(group, structure) for group in groups]
        for name, values in (
            ("volume_truth_ml", [truth for _, truth in pairs]),
            ("volume_pred_ml", [pred for pred, _ in pairs]),
            ("normalised_mae", [relative_errors(pred, truth) for pred, truth in pairs]),
        ):
            shown = (Cell(_with_range(held, name)) for held in values)
            lines.append((Cell(f"{structure} {METRICS[name].heading}"), *shown))
        excluded = int(np.isnan(relative_errors(*pairs[-1])).sum())
        if excluded:
            counted.append(f"{structure}: {excluded} without it in the truth, left out of the relative error.")
    numbers = ", ".join(f"{sum(t == name for t in third.values())} {name}" for name in TERTILES)
    notes = (cases_note(rows, leave_out), f"Thirds by the true volume of {by}: {numbers}.", *counted)
    header = ("measure", *TERTILES, TOTAL)
    return Table(title or f"By thirds of the true {by} volume, mean (range)", header, tuple(lines), notes)


def agreement_table(
    pairs: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]], title: str = "Agreement with the truth"
) -> Table:
    """Bland-Altman limits, correlations and errors of measures, with 95% intervals.

    Args:
      pairs: measure and its unit -> predictions and truths `[n]`, paired by case (`volumes.volume_pairs`).

    Raises:
      InputError: fewer than two cases.
    """
    lines, notes = [], ["Bias: prediction less truth. Limits: bias ∓ 1.96 SD. Brackets: 95% CI."]
    for (name, unit), (pred, truth) in pairs.items():
        error = Metric(name, unit, None, 2)
        found = agreement(pred, truth, unit)
        limits = found.bland_altman
        texts = (
            error.heading,
            str(limits.n),
            *(error.with_interval(*e) for e in (limits.bias, limits.lower, limits.upper)),
            METRICS["pearson_r"].with_interval(*found.pearson),
            METRICS["concordance"].with_interval(*found.concordance),
            error.text(found.mae),
            "-" if math.isnan(found.normalised_mae) else METRICS["normalised_mae"].text(found.normalised_mae),
        )
        lines.append(tuple(Cell(text) for text in texts))
        if found.excluded:
            notes.append(f"{name}: {found.excluded} of truth 0, left out of {METRICS['normalised_mae'].label}.")
    correlations = (METRICS[name].heading for name in ("pearson_r", "concordance"))
    header = ("measure", "n", "bias", "lower limit", "upper limit", *correlations, "MAE")
    return Table(title, (*header, METRICS["normalised_mae"].heading), tuple(lines), tuple(notes))


def _with_interval(summary: Summary, metric: str) -> str:
    """Mean ± half its 95% interval, over the finite values."""
    if not summary.n:
        return "-"
    half = half_interval(summary.sd, summary.n)
    return METRICS[metric].text(summary.mean) + ("" if math.isnan(half) else f" ± {METRICS[metric].text(half)}")


def _with_range(values: np.ndarray, metric: str) -> str:
    """Mean (smallest to largest), over the finite values."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "-"
    mean, low, high = (METRICS[metric].text(float(v)) for v in (finite.mean(), finite.min(), finite.max()))
    return f"{mean} ({low} to {high})"
