"""Positions of parallel frames: a stack is regular if every slice lies at its place along the common normal."""

from collections.abc import Sequence

import numpy as np

from cardiac_jax.data.io.dicom.header import Frame
from cardiac_jax.errors import InputError

SAME_PIXEL = 0.1  # displacement within a slice, in pixels, ...
SAME_MM = 0.1  # ... or in mm, whichever is more: positions may be rounded
SAME_STEP = 0.02  # displacement across slices, in units of their distance


def tolerance_mm(frame: Frame) -> float:
    """Return the distance below which two positions are the same."""
    return max(SAME_PIXEL * min(frame.spacing_mm), SAME_MM)


def by_position(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Return parallel frames grouped by their height along the normal, lowest first."""
    normal, limit = frames[0].normal, tolerance_mm(frames[0])
    found: list[list[Frame]] = []
    bottom = -np.inf
    for height, _, frame in sorted((float(f.position @ normal), k, f) for k, f in enumerate(frames)):
        if height - bottom > limit:
            found.append([])
            bottom = height
        found[-1].append(frame)
    return found


def step_mm(places: Sequence[Sequence[Frame]]) -> float:
    """Return the distance between slices.

    Raises:
      InputError: there is one slice, which does not say how thick it is.
    """
    first, last = places[0][0], places[-1][0]
    if len(places) > 1:
        return float((last.position - first.position) @ first.normal) / (len(places) - 1)
    for known in (first.thickness_mm, first.distance_mm):
        if known is not None and known > 0:
            return known
    raise InputError(first.path, "is a single slice without SliceThickness, so its voxel size is unknown")


def irregular(places: Sequence[Sequence[Frame]]) -> InputError | None:
    """Return what is wrong with the positions of a stack, naming the slice; None if they are regular."""
    frames = [frame for place in places for frame in place]
    normal, limit = frames[0].normal, tolerance_mm(frames[0])
    points = np.array([frame.position for frame in frames])
    within = points - np.outer(points @ normal, normal)
    beside = np.linalg.norm(within - np.median(within, axis=0), axis=1)
    if beside.max() > limit:
        worst = frames[int(beside.argmax())]
        shown = f"lies {beside.max():.2f} mm beside the normal through the other slices (sheared or displaced)"
        return InputError(worst.path, shown)
    if len(places) < 3:
        return None
    heights = np.array([place[0].position @ normal for place in places])
    steps = np.diff(heights)
    places_mm = np.linspace(heights[0], heights[-1], len(heights))
    if np.abs(heights - places_mm).max() > max(limit, SAME_STEP * float(np.median(steps))):
        k = int(np.abs(steps - np.median(steps)).argmax())
        around, here = places[k][0], places[k + 1][0]
        words = f"lies {steps[k]:.2f} mm from {around.name}, other slices {np.median(steps):.2f} mm from each other"
        return InputError(here.path, f"{words}: slices are missing, repeated or displaced")
    return None
