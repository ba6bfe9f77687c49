"""Tables by slice location and heart size (Tables 1 and 2 of ACSNet), and of Bland-Altman agreement."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cardiac_jax.metrics.agreement import (
    Estimate,
    Pairs,
    agreement,
    measured_pairs,
    patient_average,
    relative_errors,
    volume_pairs,
)
from cardiac_jax.metrics.intervals import clustered_half_interval
from cardiac_jax.metrics.registry import METRICS, Metric
from cardiac_jax.metrics.strata import LOCATIONS, TERTILES, tertiles
from cardiac_jax.metrics.summary import Rows, patient_of, summarise, without
from cardiac_jax.report.table import Cell, Table, cases_note, left_out_note

TOTAL = "total"
MAE = METRICS["normalised_mae"]
REPEATED = (
    "With several cases of a patient: limits of one case's difference (Bland and Altman 2007; intervals of Zou 2013); "
    "correlations of the patients' means; errors averaged within patients first."
)
ESTIMATES = ("pearson_r", "concordance", "icc")
"""Columns of `agreement_table` between limits and errors: metrics of a cohort, called with the patients' means."""
Column = tuple[str, Metric, Pairs]
"""Name of the measure, how it is printed, its values."""


def location_table(
    rows: Rows,
    structures: Sequence[str],
    metrics: Sequence[str] = ("balanced_accuracy", "dice", "hd_mm"),
    title: str = "Per slice in 2D, mean ± half the 95% CI",
    leave_out: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Table:
    """Table 1 of ACSNet: structures and metrics x apex, middle, base and all slices.

    Means are over slices, as in the paper. Slices of one patient are correlated, so the interval takes patients as
    units (`intervals.clustered_half_interval`); the paper's is over slices and narrower.

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
                at = [row for row in own if location in (TOTAL, row["location"])]
                line.append(Cell(_with_interval(at, metric)))
                if location != TOTAL:
                    what, summary = (
                        f"{structure} {METRICS[metric].heading} {location}",
                        summarise(float(r[metric]) for r in at),
                    )
                    counted += left_out_note(what, summary, "slices")
            lines.append(tuple(line))
        numbers = [f"{sum(row['location'] == name for row in own)} {name}" for name in LOCATIONS]
        counted.append(f"{structure}: {len(own)} slices ({', '.join(numbers)}).")
    printed = (cases_note(rows, leave_out), *counted, *notes)
    printed = (
        *printed,
        "Means over slices; intervals take patients as units, since slices of one are not independent.",
    )
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
    """Table 2 of ACSNet: gold-standard volume, predicted volume and relative error, mean (range) over patients.

    Values of one patient's cases are averaged first.

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
    shared = [row for row in shares if row["case"] not in leave_out]
    for name, quantity, pairs in (*_volumes(rows, structures), *_shares(shared)):
        errors = relative_errors(pairs.pred, pairs.truth)
        for heading, metric, values in (
            (quantity.heading, quantity, pairs.truth),
            (f"predicted {quantity.heading}", quantity, pairs.pred),
            (MAE.heading, MAE, errors),
        ):
            held = (_of_third(values, pairs.patients, third, where) for where in (*TERTILES, TOTAL))
            lines.append((Cell(f"{name} {heading}"), *(Cell(_with_range(v, metric)) for v in held)))
        counted += pair_notes(name, pairs)
    absent = len(set(map(patient_of, rows))) - len(third)
    if absent:
        counted.append(f"{absent} patients without a true volume of {by} are in no third.")
    numbers = ", ".join(f"{sum(t == name for t in third.values())} {name}" for name in TERTILES)
    printed = (cases_note(rows, leave_out), f"Thirds by the true volume of {by}: {numbers}.", *counted, *notes)
    header = ("measure", *TERTILES, TOTAL)
    return Table(title or f"By thirds of the true {by} volume, mean (range)", header, tuple(lines), printed)


def agreement_table(pairs: Mapping[tuple[str, str], Pairs], title: str = "Agreement with the gold standard") -> Table:
    """Table of Bland-Altman limits, correlations (`ESTIMATES`) and errors of measures, with 95% intervals.

    Args:
      pairs: (measure, unit) -> predictions and gold-standard values (`agreement.volume_pairs`, `measured_pairs`).

    Raises:
      InputError: a measure has fewer than two patients.
    """
    lines, notes = [], ["Bias: prediction - gold standard. Limits: bias ∓ 1.96 SD. Brackets: 95% CI."]
    if any(both.patient_count < len(both.pred) for both in pairs.values()):
        notes.append(REPEATED)
    for (name, unit), both in pairs.items():
        error = Metric(name, unit, None, 2)
        found, means = agreement(both.pred, both.truth, unit, both.patients), both.means()
        limits = found.bland_altman
        texts = (
            error.heading,
            both.counted,
            *(error.with_interval(*e) for e in (limits.bias, limits.lower, limits.upper)),
            *(METRICS[key].with_interval(*_estimate(key, *means)) for key in ESTIMATES),
            error.text(found.mae),
            "-" if math.isnan(found.normalised_mae) else METRICS["normalised_mae"].text(found.normalised_mae),
        )
        lines.append(tuple(Cell(text) for text in texts))
        notes += pair_notes(name, both)
    correlations = (METRICS[name].heading for name in ESTIMATES)
    header = ("measure", "n", "bias", "lower limit", "upper limit", *correlations, "MAE")
    return Table(title, (*header, METRICS["normalised_mae"].heading), tuple(lines), tuple(notes))


def pair_notes(name: str, pairs: Pairs) -> list[str]:
    """Notes on the cases that a measure leaves out: without a value, or without a relative error."""
    notes = []
    if pairs.without_value:
        total = len(pairs.pred) + pairs.without_value
        notes.append(f"{name}: {pairs.without_value} of {total} cases have no value and are left out.")
    excluded = int(np.isnan(relative_errors(pairs.pred, pairs.truth)).sum())
    if excluded:
        of = f"{excluded} of {len(pairs.pred)} cases"
        notes.append(f"{name}: {of} have a gold standard not above 0 and are excluded from {MAE.label}.")
    return notes


def _estimate(name: str, pred: np.ndarray, truth: np.ndarray) -> Estimate:
    function = METRICS[name].function
    assert function is not None
    return function(pred, truth)


def _with_interval(rows: Rows, metric: str) -> str:
    """Printed mean ± half its 95% interval, over the rows with a finite value; units of the interval are patients."""
    finite = [row for row in rows if math.isfinite(float(row[metric]))]
    if not finite:
        return "-"
    values = [float(row[metric]) for row in finite]
    half = clustered_half_interval(values, [patient_of(row) for row in finite])
    mean = METRICS[metric].text(math.fsum(values) / len(values))
    return mean + ("" if math.isnan(half) else f" ± {METRICS[metric].text(half)}")


def _volumes(rows: Rows, structures: Sequence[str]) -> list[Column]:
    return [(structure, METRICS["volume_truth_ml"], volume_pairs(rows, structure)) for structure in structures]


def _shares(rows: Rows) -> list[Column]:
    return [(name, Metric("share", unit, None, 1), pairs) for (name, unit), pairs in measured_pairs(rows).items()]


def _of_third(values: np.ndarray, patients: Sequence[str], third: Mapping[str, str], where: str) -> np.ndarray:
    """Means of the patients of one third, or of all, over their cases with a value: `[patients]`."""
    kept = [i for i, p in enumerate(patients) if where in (TOTAL, third.get(p)) and math.isfinite(values[i])]
    return patient_average(values[kept], [patients[i] for i in kept])


def _with_range(values: np.ndarray, metric: Metric) -> str:
    """Printed mean (smallest to largest)."""
    if not values.size:
        return "-"
    mean, low, high = (metric.text(float(v)) for v in (values.mean(), values.min(), values.max()))
    return f"{mean} ({low} to {high})"
