"""The part of a report by place in the heart and by its size: ACSNet's Tables 1 and 2, and its Figures 2 and 3."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from cardiac_jax.metrics.agreement import FEWEST_CASES, volume_pairs
from cardiac_jax.metrics.strata import LOCATIONS
from cardiac_jax.metrics.structures import CORE, ENHANCEMENT, MYOCARDIUM, WHOLE_LV
from cardiac_jax.metrics.summary import Rows, by_case
from cardiac_jax.report import charts, cohort_charts
from cardiac_jax.report.cohort_table import location_table, tertile_table
from cardiac_jax.report.collect import Entry
from cardiac_jax.report.options import Options
from cardiac_jax.report.page import Picture, Section

FEWEST_FOR_THIRDS = 6
ORDER = (WHOLE_LV, "LV", MYOCARDIUM, "Myo", ENHANCEMENT, CORE, "oedema", "RV")
SHARES = ("scar", CORE)
INTERPOLATED = "Volumes with nearest-neighbour interpolation between slices; shares of scar by counted voxels."
MEANT = {
    WHOLE_LV: "blood pool and wall, the LV of ACSNet",
    MYOCARDIUM: "the wall with all that is drawn in it",
    ENHANCEMENT: "the scar, by thirds of the whole LV, Dice 0 in slices of it where only the prediction has any",
    CORE: "full width at half maximum of the LGE within the enhancement, of either map by its own maximum",
}


def locations(entries: Sequence[Entry], options: Options) -> Section:
    """By apex, middle and base, slice by slice; and by thirds of the heart's size."""
    tables, pictures = [], []
    for entry in entries:
        name, slices = entry.results.name, entry.results.measured.slices
        if slices:
            found = structures_in(slices)
            said = f"{name}: per slice in 2D, mean ± half the 95% CI"
            tables.append(location_table(slices, found, title=said, notes=_meanings(found)))
        if name == options.reference and slices:
            pictures += _histograms(name, slices)
    for entry in entries:
        name, interpolated = entry.results.name, entry.results.measured.volumes
        rows = interpolated or entry.results.rows
        found = structures_in(rows)
        by = WHOLE_LV if WHOLE_LV in found else entry.results.structures[0]
        if len(by_case(rows, "volume_truth_ml", by)) >= FEWEST_FOR_THIRDS:
            said = f"{name}: by thirds of the true {by} volume, mean (range)"
            shares = [r for r in entry.results.measured.clinical if r["measure"] in SHARES and "%" in str(r["unit"])]
            notes = [*([INTERPOLATED] if interpolated else []), *_meanings(found)]
            tables.append(tertile_table(rows, found, by, title=said, shares=shares, notes=notes))
        if name == options.reference:
            pictures += _errors(name, rows, found)
    text = [f"Plots are those of {options.reference}; --reference chooses another method."] if len(entries) > 1 else []
    return Section("locations", "By place and size", text if pictures else (), tables, pictures)


def structures_in(rows: Rows) -> list[str]:
    """Structures of the rows as ACSNet's tables order them, those that it does not know last.

    Classes that are a part of another structure's rows are left out: the scar is the enhancement, and where something
    is drawn in the wall, Myo alone is only what is left of it.
    """
    held = dict.fromkeys(str(row["structure"]) for row in rows)
    part = {"scar"} if ENHANCEMENT in held else set()
    part |= {"Myo"} if MYOCARDIUM in held else set()
    kept = [name for name in held if name not in part]
    return sorted(kept, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def _meanings(found: Sequence[str]) -> list[str]:
    said = "; ".join(f"{name}: {MEANT[name]}" for name in found if name in MEANT)
    return [f"{said[0].upper()}{said[1:]}."] if said else []


def _histograms(name: str, slices: Rows) -> list[Picture]:
    """ACSNet's Fig. 2: the LV and its wall."""
    found = structures_in(slices)
    shown = [s for s in (WHOLE_LV, MYOCARDIUM, "Myo") if s in found] or found[:1]
    pictures = []
    for structure in shown:
        own = [row for row in slices if row["structure"] == structure]
        values = {where: [float(r["dice"]) for r in own if r["location"] == where] for where in reversed(LOCATIONS)}
        if any(map(math.isfinite, itertools.chain.from_iterable(values.values()))):
            said = f"{name}: histogram of the Dice of {structure} per slice; the line is the mean of the third."
            pictures.append(Picture(charts.histogram(values, "dice", of="slices"), said, wide=False))
    return pictures


def _errors(name: str, rows: Rows, found: Sequence[str]) -> list[Picture]:
    """ACSNet's Fig. 3, B and C."""
    wanted = [s for s in (WHOLE_LV, ENHANCEMENT, CORE) if s in found] or found[:1]
    panels = {f"{structure} volume": volume_pairs(rows, structure) for structure in wanted}
    panels = {title: both for title, both in panels.items() if len(both[1]) >= FEWEST_CASES and np.any(both[1] > 0)}
    if not panels:
        return []
    said = f"{name}: error of each case's volume as a share of the true one; the line is their mean."
    return [Picture(cohort_charts.error_plots(panels, "ml"), said, wide=len(panels) > 1)]
