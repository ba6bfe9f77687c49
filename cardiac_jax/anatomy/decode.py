"""Everything that is done to a predicted label map, as the configuration's `post` asks."""

from typing import NamedTuple

import numpy as np

from cardiac_jax.anatomy.anatomical_prior import Prior
from cardiac_jax.anatomy.basal_extent import last_slice
from cardiac_jax.anatomy.enhancement import cleaned
from cardiac_jax.anatomy.stack_projection import MODES, ProjectedSlices, open_slices, project_stack
from cardiac_jax.core.types import Config
from cardiac_jax.data.case import Case
from cardiac_jax.data.labels import roles
from cardiac_jax.data.orientation import from_canonical, orientation, to_canonical
from cardiac_jax.errors import InputError


class Finished(NamedTuple):
    """`labels [X, Y, Z]`, and what the projection did to which slices."""

    labels: np.ndarray
    slices: ProjectedSlices


def finish(
    prior: Prior, settings: Config, labels: np.ndarray, case: Case, classes: tuple[str, ...], slice_order: str
) -> Finished:
    """`labels [X, Y, Z]` with its enhancement cleaned up, slices beyond the base left out, and made valid.

    Args:
      settings: `project` (one of `MODES`), `trim`, and `erode`, `pieces`, `least_mm2` of the enhancement.
      case: whose grid it is.

    Raises:
      InputError: an unknown mode.
    """
    if settings.project not in MODES:
        raise InputError("post.project", f"{settings.project!r} is not one of {', '.join(MODES)}")
    frame = orientation(case.affine, slice_order)
    stack = to_canonical(labels, frame).copy()
    _, *pixel_mm = frame.of(case.spacing_mm)
    known = roles(classes)
    if "scar" in known:
        for plane in stack:
            marked = plane == known["scar"]
            kept = cleaned(marked, pixel_mm[0] * pixel_mm[1], settings.erode, settings.pieces, settings.least_mm2)
            plane[marked & ~kept] = known["myo"]
    if settings.trim:
        area, c_shaped = open_slices(prior, stack, pixel_mm, classes)
        stack[last_slice(area, c_shaped) + 1 :] = 0
    labels = np.ascontiguousarray(from_canonical(stack, frame))
    return Finished(*project_stack(prior, labels, case.affine, case.spacing_mm, classes, slice_order, settings.project))
