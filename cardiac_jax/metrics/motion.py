"""Wall thickening and wall motion by AHA segment, from end-diastole and end-systole.

Both phases are measured each in its own frame: level, centre of the blood pool and septum of every slice (`wall.py`).
A floating centre removes the motion of the heart as a whole, so what is left is contraction.
"""

from typing import NamedTuple

import numpy as np

from cardiac_jax.metrics.wall import APEX, Wall, bullseye_segments


class Segments(NamedTuple):
    """The wall of one phase by AHA segment, mm, `[17]` each, segment 1 first; NaN if there is nothing to measure.

    Attributes:
      thickness_mm: wall thickness.
      radius_mm: distance of the endocardium from the centre of the blood pool; NaN in the apex.
    """

    thickness_mm: np.ndarray
    radius_mm: np.ndarray


def segments(wall: Wall) -> Segments:
    """Thickness and endocardial radius by segment, means over the rays of each segment."""
    radius = [_mean(wall.endo_mm[wall.ray_segment == s.number]) for s in bullseye_segments()]
    radius[APEX - 1] = float("nan")
    return Segments(wall.segment_mm, np.array(radius))


def wall_thickening(ed_mm: float | np.ndarray, es_mm: float | np.ndarray) -> np.ndarray:
    """(ES - ED) / ED of wall thicknesses `[*S]`, a fraction; NaN where ED is not above 0."""
    ed, es = np.asarray(ed_mm, np.float64), np.asarray(es_mm, np.float64)
    return np.divide(es - ed, ed, out=np.full(np.broadcast(ed, es).shape, np.nan), where=ed > 0)


def wall_motion_mm(ed_radius_mm: float | np.ndarray, es_radius_mm: float | np.ndarray) -> np.ndarray:
    """Inward motion of the endocardium from ED to ES in mm, `[*S]`: positive where the wall contracts."""
    return np.asarray(ed_radius_mm, np.float64) - np.asarray(es_radius_mm, np.float64)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
