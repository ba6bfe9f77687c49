"""Report section by slice location and heart size: Tables 1 and 2 and Figures 2 and 3 of ACSNet."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from cardiac_jax.metrics.agreement import FEWEST_PATIENTS, volume_pairs
from cardiac_jax.metrics.strata import LOCATIONS, tertiles
from cardiac_jax.metrics.structures import CORE, ENHANCEMENT, MYOCARDIUM, WHOLE_LV, as_volumes
from cardiac_jax.metrics.summary import Rows
from cardiac_jax.report import charts, cohort_charts
from cardiac_jax.report.cohort_table import location_table, tertile_table
from cardiac_jax.report.collect import Entry
from cardiac_jax.report.options import Options
from cardiac_jax.report.page import Picture, Section

FEWEST_FOR_THIRDS = 6
ORDER = (WHOLE_LV, "LV", MYOCARDIUM, "Myo", ENHANCEMENT, CORE, "oedema", "RV")
SHARES = ("scar", CORE)
INTERPOLATED = (
    "Volumes here, and only here, are interpolated between slices, nearest neighbour (Abramson et al. 2020); scar "
    "shares use voxel counts. Cases whose ends are not annotated have none."
)
MEANT = {
    WHOLE_LV: "blood pool and wall, the LV of ACSNet",
    MYOCARDIUM: "the wall including oedema and scar",
    ENHANCEMENT: "the scar, by thirds of the whole LV; Dice is 0 in LV slices with scar only in the prediction",
    CORE: "full width at half maximum of the LGE within the enhancement, with the maximum of each map",
}


def locations(entries: Sequence[Entry], options: Options) -> Section:
    """Section with metrics per slice at apex, middle and base, and volumes by thirds of the heart's size."""
    tables, pictures = [], []
    for entry in entries:
        name, slices = entry.results.name, entry.results.measured.slices
        if slices:
            found = structures_in(slices)
            title = f"{name}: per slice in 2D, mean ± half the 95% CI"
            tables.append(location_table(slices, found, title=title, notes=_meanings(found)))
        if name == options.reference and slices:
            pictures += _histograms(name, slices)
    for entry in entries:
        name, interpolated = entry.results.name, entry.results.measured.volumes
        rows = as_volumes(interpolated) if interpolated else entry.results.rows
        found = structures_in(rows)
        by = WHOLE_LV if WHOLE_LV in found else entry.results.structures[0]
        if len(tertiles(rows, by)) >= FEWEST_FOR_THIRDS:
            title = f"{name}: by thirds of the true {by} volume, mean (range)"
            shares = [r for r in entry.results.measured.clinical if r["measure"] in SHARES and "%" in str(r["unit"])]
            notes = [*([INTERPOLATED] if interpolated else []), *_meanings(found)]
            tables.append(tertile_table(rows, found, by, title=title, shares=shares, notes=notes))
        if name == options.reference:
            pictures += _errors(name, rows, found)
    text = [f"The plots show {options.reference}; --reference selects another method."] if len(entries) > 1 else []
    return Section("locations", "By slice location and heart size", text if pictures else (), tables, pictures)


def structures_in(rows: Rows) -> list[str]:
    """Structures of the rows in the order of ACSNet's tables, others last.

    Classes covered by another structure are omitted: "scar" equals "enhancement", and "Myo" is incomplete if the rows
    have "myocardium", which adds oedema and scar.
    """
    names = dict.fromkeys(str(row["structure"]) for row in rows)
    covered = {"scar"} if ENHANCEMENT in names else set()
    covered |= {"Myo"} if MYOCARDIUM in names else set()
    kept = [name for name in names if name not in covered]
    return sorted(kept, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def _meanings(found: Sequence[str]) -> list[str]:
    text = "; ".join(f"{name}: {MEANT[name]}" for name in found if name in MEANT)
    return [f"{text[0].upper()}{text[1:]}."] if text else []


def _histograms(name: str, slices: Rows) -> list[Picture]:
    """Histograms of the LV and its wall, as Fig. 2 of ACSNet."""
    found = structures_in(slices)
    shown = [s for s in (WHOLE_LV, MYOCARDIUM, "Myo") if s in found] or found[:1]
    pictures = []
    for structure in shown:
        own = [row for row in slices if row["structure"] == structure]
        values = {where: [float(r["dice"]) for r in own if r["location"] == where] for where in reversed(LOCATIONS)}
        if any(map(math.isfinite, itertools.chain.from_iterable(values.values()))):
            caption = f"{name}: histogram of the Dice of {structure} per slice; the line is the mean of each location."
            pictures.append(Picture(charts.histogram(values, "dice", of="slices"), caption, wide=False))
    return pictures


def _errors(name: str, rows: Rows, found: Sequence[str]) -> list[Picture]:
    """Plots of relative volume errors, as Fig. 3 B and C of ACSNet."""
    wanted = [s for s in (WHOLE_LV, ENHANCEMENT, CORE) if s in found] or found[:1]
    panels = {f"{structure} volume": volume_pairs(rows, structure) for structure in wanted}
    panels = {
        title: both
        for title, both in panels.items()
        if both.patient_count >= FEWEST_PATIENTS and np.any(both.truth > 0)
    }
    if not panels:
        return []
    caption = f"{name}: relative error of each case's volume; the line is the mean over patients."
    return [Picture(cohort_charts.error_plots(panels, "ml"), caption, wide=len(panels) > 1)]
