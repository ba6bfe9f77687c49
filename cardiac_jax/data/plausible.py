"""Whether label maps can be what their names say: the LV lies inside the wall, and is larger at end-diastole; and
where the canonical frame says: the RV on the left as displayed, both ventricles larger at the base.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cardiac_jax.data.labels import roles, wall_labels

CLEARLY = 1.5  # factor between the shares of two edges
FEWEST = 50  # faces from which an edge is judged


def wall_edges(label: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Returns the in-plane faces of LV and RV (rows): those that border on the wall, and all of them; int `[2, 2]`.

    Args:
      label: `[Z, H, W]` classes; faces towards voxels without annotation do not count.
      classes: names by label value. Zeros if one of LV, RV and Myo is not among them.
    """
    counts = np.zeros((2, 2), np.int64)
    known, wall = roles(classes), wall_labels(classes)
    if not wall or not {"lv", "rv"} <= known.keys():
        return counts
    own = np.arange(len(classes))
    for axis in (1, 2):
        low, high = np.moveaxis(label, axis, 0)[:-1], np.moveaxis(label, axis, 0)[1:]
        for one, other in ((low, high), (high, low)):
            edge = (one != other) & np.isin(other, own)
            touching = edge & np.isin(other, wall)
            for row, name in enumerate(("lv", "rv")):
                inside = one == known[name]
                counts[row] += np.count_nonzero(inside & touching), np.count_nonzero(inside & edge)
    return counts


def exchanged(counts: np.ndarray) -> str:
    """Returns a line if the RV of `wall_edges`, not the LV, is what the wall surrounds; else ""."""
    if counts[:, 1].min() < FEWEST:
        return ""
    lv, rv = counts[:, 0] / counts[:, 1]
    if rv <= CLEARLY * lv:
        return ""
    return (
        f"what is called LV borders on the myocardium with {100 * lv:.0f}% of its edge, what is called RV with "
        f"{100 * rv:.0f}%: are their label values exchanged?"
    )


def phases_exchanged(ml: Mapping[str, float]) -> str:
    """Returns a line if the LV is larger at end-systole than at end-diastole; else "".

    Args:
      ml: phase ("ED", "ES") -> volume of the LV in ml.
    """
    if not {"ED", "ES"} <= ml.keys() or not ml["ES"] > ml["ED"]:
        return ""
    return f"the LV has {ml['ED']:.1f} ml at ED and {ml['ES']:.1f} ml at ES: are the frames exchanged?"


def placed_otherwise(label: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Returns lines on what contradicts the canonical frame, whose Z runs to the base and W to the left-posterior.

    Args:
      label: `[Z, H, W]` classes in the canonical frame.
      classes: names by label value. [] if LV or RV is not among them or not in `label`.
    """
    known = roles(classes)
    masks = [label == known[name] for name in ("rv", "lv") if name in known]
    if len(masks) < 2 or not all(mask.any() for mask in masks):
        return []
    found = []
    right, left = (float(np.nonzero(mask)[2].mean()) for mask in masks)
    if right > left:
        found.append("has the right ventricle on the right of the left one: is it mirrored?")
    areas = [mask.sum(axis=(1, 2))[mask.any(axis=(1, 2))] for mask in masks]
    thirds = [(area[: len(area) // 3].mean(), area[-(len(area) // 3) :].mean()) for area in areas if len(area) >= 3]
    if len(thirds) == len(areas) and all(apex > base for apex, base in thirds):
        found.append("has both ventricles largest at the apex: do its slices run the other way?")
    return found
