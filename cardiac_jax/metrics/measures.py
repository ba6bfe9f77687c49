"""Clinical measures of one case, from the prediction and from the gold standard."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.labels import CLASSES, roles, wall_labels
from cardiac_jax.metrics import clinical, scar, structures, wall
from cardiac_jax.metrics.rows import Row
from cardiac_jax.metrics.summary import Rows

SEGMENTS = {f"wall {segment.number} {segment.name}": segment.number for segment in wall.bullseye_segments()}
"""Name of the measure -> number of the AHA segment."""


def measure_case(
    pred: np.ndarray,
    truth: np.ndarray,
    spacing_mm: Sequence[float],
    classes: Sequence[str],
    image: np.ndarray | None = None,
) -> list[Row]:
    """Rows of volumes, mass, wall thickness and scar, measured on fully annotated slices.

    Args:
      pred, truth: `[Z, H, W]` label maps in the canonical frame.
      spacing_mm: voxel size along Z, H, W.
      classes: names by label value; "LV", "RV", "Myo" and "scar" are recognised in upper or lower case.
      image: `[Z, H, W]` LGE intensities as acquired, used to find core scar.

    Returns:
      Rows with `measure`, `unit`, `pred`, `truth`: "<structure> volume"; with LV and Myo also "myocardial mass", "wall
      thickness" and the thickness of each AHA segment; with scar its share of the myocardium; with scar and an image
      the volume and share of core scar (see `structures.core`). Values are NaN if there is nothing to measure.
    """
    annotated = ~(truth == IGNORE).any(axis=(1, 2))
    maps = [np.where(annotated[:, None, None], labels, 0) for labels in (pred, truth)]
    measured = [_measures(labels, spacing_mm, classes, image) for labels in maps]
    return [
        {"measure": name, "unit": unit, "pred": measured[0][name, unit], "truth": value}
        for (name, unit), value in measured[1].items()
        if (name, unit) in measured[0]
    ]


def function_rows(rows: Rows) -> list[Row]:
    """Rows of EDV, ESV and SV (ml) and EF (%) of both ventricles, for patients measured at ED and at ES.

    Args:
      rows: rows of `measure_case`, with `patient` and `phase`.
    """
    by_patient: dict[str, dict[tuple[str, str], Row]] = {}
    for row in rows:
        if str(row["phase"]) in ("ED", "ES"):
            by_patient.setdefault(str(row["patient"]), {})[str(row["measure"]), str(row["phase"])] = row
    found: list[Row] = []
    for patient, volumes in by_patient.items():
        for ventricle in clinical.VENTRICLES:
            ed, es = (volumes.get((f"{ventricle} volume", phase)) for phase in ("ED", "ES"))
            if ed is None or es is None:
                continue
            both = {by: clinical.function_of(float(ed[by]), float(es[by])) for by in ("pred", "truth")}
            for name, unit in (("edv_ml", "ml"), ("esv_ml", "ml"), ("sv_ml", "ml"), ("ef", "%")):
                scale = 100.0 if unit == "%" else 1.0
                values = {by: scale * getattr(one, name) for by, one in both.items()}
                found.append(
                    {"case": patient, "measure": f"{ventricle} {name.split('_')[0].upper()}", "unit": unit, **values}
                )
    return found


def pairs(rows: Rows) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """(measure, unit) -> predictions and gold-standard values `[n]`, for cases where both are finite."""
    by_measure: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        values = float(row["pred"]), float(row["truth"])
        if all(map(math.isfinite, values)):
            by_measure.setdefault((str(row["measure"]), str(row["unit"])), []).append(values)
    return {name: (np.array(both)[:, 0], np.array(both)[:, 1]) for name, both in by_measure.items()}


def _measures(
    labels: np.ndarray, spacing_mm: Sequence[float], classes: Sequence[str], image: np.ndarray | None
) -> Mapping[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for value, name in enumerate(classes):
        if value:
            found[f"{name} volume", "ml"] = clinical.volume_ml(labels == value, spacing_mm)
    known = roles(classes)
    if not {"myo", "lv"} <= known.keys():
        return found
    heart = np.zeros(labels.shape, np.uint8)
    for name in ("RV", "LV"):
        heart[labels == known.get(name.casefold(), -1)] = CLASSES.index(name)
    heart[np.isin(labels, wall_labels(classes))] = CLASSES.index("Myo")
    muscle = heart == CLASSES.index("Myo")
    found["myocardial mass", "g"] = clinical.mass_g(muscle, spacing_mm)
    thickness = wall.wall_thickness(heart, spacing_mm)
    rays = thickness.ray_mm[np.isfinite(thickness.ray_mm)]
    found["wall thickness", "mm"] = float(rays.mean()) if rays.size else math.nan
    for name, value in zip(SEGMENTS, thickness.segment_mm, strict=True):
        found[name, "mm"] = float(value)
    if "scar" in known:
        marked = labels == known["scar"]
        core = None if image is None else structures.core(labels, image, classes)
        amounts = scar.quantify(np.zeros_like(marked) if core is None else core, marked, muscle, spacing_mm)
        found["scar", "% of myocardium"] = amounts.scar_percent
        if core is not None:
            found["core scar volume", "ml"] = amounts.core_ml
            found["core scar", "% of myocardium"] = amounts.core_percent
    return found
