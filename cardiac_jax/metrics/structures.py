"""Structures of ACSNet's tables (Abramson et al. 2020): unions of classes, and core scar.

Class names are recognised in upper or lower case. The wall is Myo plus the classes inside it (oedema, scar).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.labels import IN_WALL, roles, wall_labels
from cardiac_jax.metrics import annotation, scar
from cardiac_jax.metrics.clinical import interpolated_volume_ml
from cardiac_jax.metrics.evaluate import MYOCARDIUM
from cardiac_jax.metrics.rows import Row
from cardiac_jax.metrics.strata import slice_rows, union
from cardiac_jax.metrics.summary import Rows

WHOLE_LV, ENHANCEMENT, CORE = "whole LV", "enhancement", "core scar"
METHOD = "nearest neighbour between slices (Abramson 2020)"
"""How the volumes of `volume_rows` are interpolated."""


class Part(NamedTuple):
    """Masks `[*S]` of one structure in the prediction and the gold standard: 1 or 0; 255 if not annotated."""

    name: str
    pred: np.ndarray
    truth: np.ndarray


def made_of(classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Structure -> its label values; empty if the classes lack Myo or LV.

    "whole LV" is blood pool and wall, the LV of the paper. If the wall has classes inside it, "myocardium" is the
    complete wall, "oedema" is oedema and "enhancement" is the scar.
    """
    known, muscle = roles(classes), wall_labels(classes)
    if not muscle or "lv" not in known:
        return {}
    found: dict[str, tuple[int, ...]] = {WHOLE_LV: (*muscle, known["lv"])}
    if len(muscle) > 1:
        found[MYOCARDIUM] = muscle
    named = {"oedema": "oedema", "scar": ENHANCEMENT, "mvo": "mvo"}
    return found | {name: (known[role],) for role, name in named.items() if role in known}


def core(labels: np.ndarray, image: np.ndarray, classes: Sequence[str]) -> np.ndarray | None:
    """Core scar of a label map `[*S]`, by full width at half maximum within its scar class: bool `[*S]`.

    None if no scar voxel is brighter than 0, because such intensities are not as acquired.

    Raises:
      KeyError: `classes` has no scar.
    """
    marked = labels == roles(classes)["scar"]
    if marked.any() and image[marked].max() <= 0:
        return None
    return scar.core_scar(image, np.isin(labels, wall_labels(classes)), marked)


def parts(pred: np.ndarray, truth: np.ndarray, classes: Sequence[str], image: np.ndarray | None = None) -> list[Part]:
    """Masks of the structures of `made_of`; with an LGE `image` `[*S]` (intensities as acquired) also core scar.

    Voxels that are not annotated are excluded from the maximum of both maps.
    """
    made = made_of(classes)
    found = [Part(name, union(pred, values), union(truth, values)) for name, values in made.items()]
    if image is None or ENHANCEMENT not in made:
        return found
    known = truth != IGNORE
    both = [core(np.where(known, labels, 0), image, classes) for labels in (pred, truth)]
    if both[0] is None or both[1] is None:
        return found
    return [*found, Part(CORE, both[0].astype(np.uint8), np.where(known, both[1], IGNORE).astype(np.uint8))]


def part_slice_rows(given: Sequence[Part], spacing_mm: Sequence[float]) -> list[Row]:
    """`slice_rows` of every part `[Z, H, W]`, by thirds of the slices with whole LV in the gold standard."""
    heart = [(part.truth == 1).any(axis=(1, 2)) for part in given if part.name == WHOLE_LV]
    return [
        row
        for part in given
        for row in slice_rows(part.pred, part.truth, spacing_mm, ("background", part.name), within=heart[0])
    ]


def volume_rows(
    pred: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float], classes: Sequence[str], given: Sequence[Part] = ()
) -> list[Row]:
    """Rows of volumes with nearest-neighbour interpolation between slices, as in Table 2 of Abramson et al. 2020.

    Not the "volume" of other files, which is voxel count x voxel volume: see `clinical.interpolated_volume_ml`.

    Args:
      pred, truth: `[Z, H, W]` label maps; only fully annotated slices are used.
      spacing_mm: voxel size along Z, H, W.
      given: parts of the same maps.

    Returns:
      Rows with `structure`, `method`, `interpolated_volume_pred_ml`, `interpolated_volume_truth_ml`, for each class and
      part. If `made_of` has structures, classes inside the wall are omitted, because they are parts. NaN unless both
      ends of the heart are annotated (`annotation.ends_seen`): a gap is interpolated, an end is not.
    """
    annotated = ~(truth == IGNORE).any(axis=(1, 2))
    seen = annotation.ends_seen(truth)
    inside = IN_WALL if made_of(classes) else ()
    own = [
        Part(name, union(pred, (value,)), union(truth, (value,)))
        for value, name in enumerate(classes)
        if value and name.casefold() not in inside
    ]
    rows: list[Row] = []
    for part in (*own, *given):
        row: Row = {"structure": part.name, "method": METHOD}
        for by, labels in (("pred", part.pred), ("truth", part.truth)):
            ml = (
                interpolated_volume_ml(labels == 1, spacing_mm, slice_axis=0, annotated=annotated) if seen else math.nan
            )
            row[f"interpolated_volume_{by}_ml"] = ml
        rows.append(row)
    return rows


def as_volumes(rows: Rows) -> list[Row]:
    """Rows of `volume_rows` that have a value, with it in the columns of volumes, for tables that name the method."""
    named = {by: f"interpolated_volume_{by}_ml" for by in ("pred", "truth")}
    kept = [row for row in rows if not math.isnan(float(row[named["truth"]]))]
    return [{**row, **{f"volume_{by}_ml": row[column] for by, column in named.items()}} for row in kept]
