"""Table of one structure at end-diastole and at end-systole, as Table II of ACNN (Oktay et al. 2018)."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cardiac_jax.metrics.agreement import FEWEST_PATIENTS, Pairs, bland_altman, measured_pairs, pearson, volume_pairs
from cardiac_jax.metrics.measures import PHASES, function_rows
from cardiac_jax.metrics.paired_tests import paired_differences, signed_rank
from cardiac_jax.metrics.registry import METRICS
from cardiac_jax.metrics.summary import Rows, counted, summary_of
from cardiac_jax.report.collect import Entry
from cardiac_jax.report.options import Options
from cardiac_jax.report.page import Section
from cardiac_jax.report.table import Cell, Table, best_of, left_out_note, mean_sd, p_text
from cardiac_jax.results.evaluation import Results

MEASURES = ("assd_mm", "hd_mm", "dice")
NOTES = (
    "Mean ± SD over patients, each phase apart. ASSD: mean of the two directed means, between boundary voxels.",
    "Bias ± LOA: mean difference, prediction - gold standard, and 1.96 SD. Ejection fractions take both phases of a "
    "patient and stand in the columns of ED.",
)


def phases(entries: Sequence[Entry], options: Options) -> Section:
    """Section with the table of ED and ES; empty if there are several structures, or a method lacks a phase."""
    made = phase_table([entry.results for entry in entries])
    return Section("phases", "End-diastole and end-systole", (), [made] if made else [])


def phase_table(methods: Sequence[Results]) -> Table | None:
    """Table of distances, Dice, volume and ejection fraction x phases and methods, of the only structure.

    With two methods or more, the last column has the p value of the two best of each measure (by the mean of both
    phases of a patient): Wilcoxon's signed-rank test over patients, uncorrected.

    Returns:
      None if there are several structures, or a method lacks a phase.
    """
    structures = methods[0].structures
    held = {one.name: {phase: _of(one.rows, phase) for phase in PHASES} for one in methods}
    if len(structures) > 1 or not all(rows for own in held.values() for rows in own.values()):
        return None
    structure = structures[0]
    notes: list[str] = [*NOTES]
    columns = [(phase, method) for phase in PHASES for method in held]
    several = len(methods) > 1
    lines = []
    for metric in MEASURES:
        line = [Cell(METRICS[metric].heading)]
        for phase in PHASES:
            of = {method: summary_of(own[phase], metric, structure) for method, own in held.items()}
            best = best_of(of, metric)
            line += [Cell(mean_sd(summary, metric), method in best) for method, summary in of.items()]
            for method, summary in of.items():
                notes += left_out_note(f"{METRICS[metric].heading} {phase} {method}", summary)
        lines.append(line + ([_two_best(methods, metric, structure)] if several else []))
    volumes = {(phase, method): volume_pairs(held[method][phase], structure) for phase, method in columns}
    lines += _agreement("volume", "ml", columns, volumes, several)
    fractions: dict[tuple[str, str], Pairs] = {}
    for one in methods:
        both = measured_pairs(function_rows(one.measured.clinical)).get((f"{structure} EF", "%"))
        if both is not None:
            fractions[PHASES[0], one.name] = both
    if fractions:
        lines += _agreement("EF", "%", columns, fractions, several)
    count = {method: {phase: counted(rows) for phase, rows in own.items()} for method, own in held.items()}
    for method, own in count.items():
        notes.append(f"{method}: " + ", ".join(f"{phase} {number}" for phase, number in own.items()) + ".")
    header = ("measure", *(f"{phase}, {method}" for phase, method in columns), *(("p, two best",) if several else ()))
    if several:
        notes.append("Bold: the best of each phase. p: Wilcoxon's of the two best of a measure, uncorrected.")
    return Table(f"{structure} at end-diastole and end-systole", header, tuple(map(tuple, lines)), tuple(notes))


def _of(rows: Rows, phase: str) -> list:
    return [row for row in rows if row.get("phase") == phase]


def _two_best(methods: Sequence[Results], metric: str, structure: str) -> Cell:
    """p value of the two methods with the best mean."""
    sign = -1 if METRICS[metric].higher_is_better else 1
    means = {one.name: summary_of(one.rows, metric, structure).mean for one in methods}
    order = sorted((one for one in methods if not math.isnan(means[one.name])), key=lambda one: sign * means[one.name])
    if len(order) < 2:
        return Cell("-")
    found = paired_differences(order[0].rows, order[1].rows, metric, structure).values()
    return Cell(p_text(signed_rank(np.array([d for d in found if math.isfinite(d)]))))


def _agreement(
    name: str,
    unit: str,
    columns: Sequence[tuple[str, str]],
    pairs: Mapping[tuple[str, str], Pairs],
    several: bool,
) -> list[list[Cell]]:
    """Two lines: correlation, and bias ± half the limits of agreement; a dash where a column has too few patients."""

    def line(heading: str, text: Callable[[Pairs], str]) -> list[Cell]:
        shown = [
            text(pairs[at]) if at in pairs and pairs[at].patient_count >= FEWEST_PATIENTS else "-" for at in columns
        ]
        return list(map(Cell, (heading, *shown, *(("-",) if several else ()))))

    return [line(f"{name}, correlation", _correlation), line(f"{name}, bias ± LOA ({unit})", _limits)]


def _correlation(pairs: Pairs) -> str:
    value = pearson(*pairs.means()).value
    return "-" if math.isnan(value) else METRICS["pearson_r"].text(value)


def _limits(pairs: Pairs) -> str:
    found = bland_altman(pairs.pred, pairs.truth, "", pairs.patients)
    return f"{found.bias.value:.2f} ± {0.5 * (found.upper.value - found.lower.value):.2f}"
