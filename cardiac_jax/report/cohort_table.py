"""Tables by slice location and heart size (Tables 1 and 2 of ACSNet), and of Bland-Altman agreement."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cardiac_jax.metrics.agreement import agreement, half_interval, relative_errors
from cardiac_jax.metrics.registry import METRICS, Metric
from cardiac_jax.metrics.strata import LOCATIONS, TERTILES, tertiles
from cardiac_jax.metrics.summary import Rows, Summary, by_case, summarise, without
from cardiac_jax.report.table import Cell, Table, cases_note, counted_note

TOTAL = "total"
MAE = METRICS["normalised_mae"]
Column = tuple[str, Metric, dict[str, tuple[float, float]]]
"""Name of the measure, how it is printed, case -> (prediction, gold standard)."""


def location_table(
    rows: Rows,
    structures: Sequence[str],
    metrics: Sequence[str] = ("balanced_accuracy", "dice", "hd_mm"),
    title: str = "Per slice in 2D, mean ± half the 95% CI",
    leave_out: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Table:
    """Table 1 of ACSNet: structures and metrics x apex, middle, base and all slices.

    The interval is over slices, as in the paper. Slices of one patient are correlated, so it is narrower than an
    interval over patients; a note of the table says so.

    Args:
      rows: rows of `strata.slice_rows`, with `case`.
      notes: further notes to print.

    Raises:
      InputError: a case to leave out does not exist.
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
    printed = (cases_note(rows, leave_out), *counted, *notes)
    printed = (*printed, "Slices of one case are not independent, so the intervals are too narrow.")
    return Table(title, ("measure", *LOCATIONS, TOTAL), tuple(lines), printed)


def tertile_table(
    rows: Rows,
    structures: Sequence[str],
    by: str = "LV",
    title: str = "",
    leave_out: Sequence[str] = (),
    shares: Rows = (),
    notes: Sequence[str] = (),
) -> Table:
    """Table 2 of ACSNet: gold-standard volume, predicted volume and relative error, mean (range).

    Args:
      rows: rows of `evaluate_case` or `structures.volume_rows`, with `case`.
      by: the structure whose gold-standard volume defines the thirds.
      shares: rows of `measures.measure_case` that are shares, e.g. of scar in the wall, with `case`; each adds lines.
      notes: further notes to print.

    Raises:
      InputError: a case to leave out does not exist.
    """
    rows = without(rows, leave_out)
    third = tertiles(rows, by)
    lines, counted = [], []
    for name, quantity, values in (*_volumes(rows, structures), *_shares(shares, leave_out)):
        groups = [
            np.array([both for case, both in values.items() if where in (TOTAL, third.get(case))]).reshape(-1, 2)
            for where in (*TERTILES, TOTAL)
        ]
        for heading, metric, held in (
            (quantity.heading, quantity, [group[:, 1] for group in groups]),
            (f"predicted {quantity.heading}", quantity, [group[:, 0] for group in groups]),
            (MAE.heading, MAE, [relative_errors(group[:, 0], group[:, 1]) for group in groups]),
        ):
            lines.append((Cell(f"{name} {heading}"), *(Cell(_with_range(v, metric)) for v in held)))
        excluded = int(np.isnan(relative_errors(groups[-1][:, 0], groups[-1][:, 1])).sum())
        if excluded:
            counted.append(f"{name}: n = {excluded} without it in the gold standard, excluded from the relative error.")
    numbers = ", ".join(f"{sum(t == name for t in third.values())} {name}" for name in TERTILES)
    printed = (cases_note(rows, leave_out), f"Thirds by the true volume of {by}: {numbers}.", *counted, *notes)
    header = ("measure", *TERTILES, TOTAL)
    return Table(title or f"By thirds of the true {by} volume, mean (range)", header, tuple(lines), printed)


def agreement_table(
    pairs: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]], title: str = "Agreement with the gold standard"
) -> Table:
    """Table of Bland-Altman limits, correlations and errors of measures, with 95% intervals.

    Args:
      pairs: (measure, unit) -> predictions and gold-standard values `[n]`, paired by case (`agreement.volume_pairs`).

    Raises:
      InputError: a measure has fewer than two cases.
    """
    lines, notes = [], ["Bias: prediction - gold standard. Limits: bias ∓ 1.96 SD. Brackets: 95% CI."]
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
            notes.append(f"{name}: n = {found.excluded} with gold standard 0, excluded from {MAE.label}.")
    correlations = (METRICS[name].heading for name in ("pearson_r", "concordance"))
    header = ("measure", "n", "bias", "lower limit", "upper limit", *correlations, "MAE")
    return Table(title, (*header, METRICS["normalised_mae"].heading), tuple(lines), tuple(notes))


def _with_interval(summary: Summary, metric: str) -> str:
    """Printed mean ± half its 95% interval, over the finite values."""
    if not summary.n:
        return "-"
    half = half_interval(summary.sd, summary.n)
    return METRICS[metric].text(summary.mean) + ("" if math.isnan(half) else f" ± {METRICS[metric].text(half)}")


def _volumes(rows: Rows, structures: Sequence[str]) -> list[Column]:
    columns = []
    for structure in structures:
        pred, truth = (by_case(rows, f"volume_{which}_ml", structure) for which in ("pred", "truth"))
        columns.append((structure, METRICS["volume_truth_ml"], {case: (pred[case], truth[case]) for case in truth}))
    return columns


def _shares(rows: Rows, leave_out: Sequence[str]) -> list[Column]:
    columns: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for row in rows:
        if row["case"] not in leave_out:
            held = columns.setdefault((str(row["measure"]), str(row["unit"])), {})
            held[str(row["case"])] = float(row["pred"]), float(row["truth"])
    return [(name, Metric("share", unit, None, 1), values) for (name, unit), values in columns.items()]


def _with_range(values: np.ndarray, metric: Metric) -> str:
    """Printed mean (smallest to largest), over the finite values."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "-"
    mean, low, high = (metric.text(float(v)) for v in (finite.mean(), finite.min(), finite.max()))
    return f"{mean} ({low} to {high})"
