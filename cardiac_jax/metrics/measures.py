"""Clinical measures of one case, from the prediction and from the gold standard."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.labels import CLASSES, roles, wall_labels
from cardiac_jax.metrics import annotation, clinical, motion, scar, structures, wall
from cardiac_jax.metrics.rows import Row
from cardiac_jax.metrics.summary import Rows

SEGMENTS = {f"wall {segment.number} {segment.name}": segment.number for segment in wall.bullseye_segments()}
"""Name of the measure -> number of the AHA segment."""
PHASES, BY = ("ED", "ES"), ("pred", "truth")
INDEXED = ("edv_ml", "esv_ml", "sv_ml")
PARTLY = "partly annotated"
"""Status of a measure without value because part of the heart may not be annotated."""


class Measures(NamedTuple):
    """Rows of one case.

    Attributes:
      clinical: one per measure.
      segments: one per AHA segment; empty without LV and Myo.
    """

    clinical: list[Row]
    segments: list[Row]


def measure_case(
    pred: np.ndarray,
    truth: np.ndarray,
    spacing_mm: Sequence[float],
    classes: Sequence[str],
    image: np.ndarray | None = None,
) -> Measures:
    """Rows of volumes, mass, wall thickness and scar of one case.

    Args:
      pred, truth: `[Z, H, W]` label maps in the canonical frame.
      spacing_mm: voxel size along Z, H, W.
      classes: names by label value; "LV", "RV", "Myo" and "scar" are recognised in upper or lower case.
      image: `[Z, H, W]` LGE intensities as acquired, used to find core scar.

    Returns:
      Clinical rows with `measure`, `unit`, `status`, `pred`, `truth`: "<structure> volume" (voxel count x voxel
      volume); with LV and Myo also "myocardial mass", "wall thickness" and the thickness of each AHA segment; with scar
      its share of the myocardium; with scar and an image the volume and share of core scar (see `structures.core`).
      Segment rows with `segment`, `name`, `status`, thickness and endocardial radius of both maps.
      If part of the heart may not be annotated (`annotation.incomplete`), no value is given: both are NaN, and `status`
      is `PARTLY` instead of "ok". Values are also NaN if there is nothing to measure.
    """
    partly = annotation.incomplete(truth)
    status = PARTLY if partly else "ok"
    maps = [np.where(truth == IGNORE, 0, labels) for labels in (pred, truth)]
    measured, walls = zip(*(_measures(labels, spacing_mm, classes, image) for labels in maps), strict=True)
    clinical_rows: list[Row] = [
        {
            "measure": name,
            "unit": unit,
            "status": status,
            "pred": math.nan if partly else measured[0][name, unit],
            "truth": math.nan if partly else value,
        }
        for (name, unit), value in measured[1].items()
        if (name, unit) in measured[0]
    ]
    if walls[0] is None or walls[1] is None:
        return Measures(clinical_rows, [])
    both = [motion.segments(one) for one in walls]
    segment_rows: list[Row] = []
    for i, (name, number) in enumerate(SEGMENTS.items()):
        row: Row = {"segment": number, "name": name.split(" ", 2)[2], "status": status}
        for quantity in ("thickness", "radius"):
            for by, one in zip(("pred", "truth"), both, strict=True):
                row[f"{quantity}_{by}_mm"] = math.nan if partly else float(getattr(one, f"{quantity}_mm")[i])
        segment_rows.append(row)
    return Measures(clinical_rows, segment_rows)


def function_rows(rows: Rows) -> list[Row]:
    """Rows of ventricular function of each patient measured at ED and at ES.

    EDV, ESV and SV (ml) and EF (%) of both ventricles; with LV and Myo also the mass at ED ("LV mass ED", g) and the
    thickening of the whole wall (%). With a body surface area also volumes and mass by it ("LV EDVi", ml/m2).

    Args:
      rows: clinical rows of `measure_case`, with `patient` and `phase`, and optionally `bsa_m2`.
    """
    by_patient: dict[str, dict[tuple[str, str], Row]] = {}
    for row in rows:
        if str(row["phase"]) in PHASES:
            by_patient.setdefault(str(row["patient"]), {})[str(row["measure"]), str(row["phase"])] = row
    found: list[Row] = []
    for patient, own in by_patient.items():
        status = next((row["status"] for row in own.values() if row.get("status", "ok") != "ok"), "ok")
        head: Row = {"case": patient, "status": status}

        def add(name: str, unit: str, values: Mapping[str, float], head: Row = head) -> None:
            found.append({**head, "measure": name, "unit": unit, **values})

        bsa = next((float(row["bsa_m2"]) for row in own.values() if "bsa_m2" in row), math.nan)
        for ventricle in clinical.VENTRICLES:
            ed, es = (own.get((f"{ventricle} volume", phase)) for phase in PHASES)
            if ed is None or es is None:
                continue
            both = {by: clinical.function_of(float(ed[by]), float(es[by])) for by in BY}
            for field, unit in (("edv_ml", "ml"), ("esv_ml", "ml"), ("sv_ml", "ml"), ("ef", "%")):
                scale = 100.0 if unit == "%" else 1.0
                name = f"{ventricle} {field.split('_')[0].upper()}"
                values = {by: scale * getattr(one, field) for by, one in both.items()}
                add(name, unit, values)
                if field in INDEXED and not math.isnan(bsa):
                    add(f"{name}i", "ml/m2", {by: clinical.index(value, bsa) for by, value in values.items()})
        mass, thick = own.get(("myocardial mass", "ED")), [own.get(("wall thickness", phase)) for phase in PHASES]
        if mass is not None and thick[1] is not None:  # an ES row: the patient was measured at both phases
            add("LV mass ED", "g", {by: float(mass[by]) for by in BY})
            if not math.isnan(bsa):
                add("LV mass ED index", "g/m2", {by: clinical.index(float(mass[by]), bsa) for by in BY})
        if thick[0] is not None and thick[1] is not None:
            ratio = {by: float(motion.wall_thickening(float(thick[0][by]), float(thick[1][by]))) for by in BY}
            add("LV wall thickening", "%", {by: 100.0 * value for by, value in ratio.items()})
    return found


def motion_rows(rows: Rows) -> list[Row]:
    """Rows of thickening (a fraction) and inward motion (mm) by AHA segment, for patients measured at ED and at ES.

    Args:
      rows: segment rows of `measure_case`, with `patient` and `phase`.

    Returns:
      Rows with `patient`, `segment`, `name`, `wall_thickening_pred`, `wall_thickening_truth`, `wall_motion_pred_mm`,
      `wall_motion_truth_mm`. The apex has no motion.
    """
    phases = {(str(row["patient"]), str(row["phase"]), int(row["segment"])): row for row in rows}
    found: list[Row] = []
    for (patient, phase, number), ed in phases.items():
        es = phases.get((patient, "ES", number))
        if phase != "ED" or es is None:
            continue
        row: Row = {"patient": patient, "segment": number, "name": ed["name"]}
        for by in BY:
            thick = (float(one[f"thickness_{by}_mm"]) for one in (ed, es))
            row[f"wall_thickening_{by}"] = float(motion.wall_thickening(*thick))
        for by in BY:
            radius = (float(one[f"radius_{by}_mm"]) for one in (ed, es))
            row[f"wall_motion_{by}_mm"] = float(motion.wall_motion_mm(*radius))
        found.append(row)
    return found


def _measures(
    labels: np.ndarray, spacing_mm: Sequence[float], classes: Sequence[str], image: np.ndarray | None
) -> tuple[Mapping[tuple[str, str], float], wall.Wall | None]:
    """(measure, unit) -> value, and the wall; None without LV and Myo."""
    found: dict[tuple[str, str], float] = {}
    for value, name in enumerate(classes):
        if value:
            found[f"{name} volume", "ml"] = clinical.volume_ml(labels == value, spacing_mm)
    known = roles(classes)
    if not {"myo", "lv"} <= known.keys():
        return found, None
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
    return found, thickness
