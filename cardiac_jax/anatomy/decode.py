"""Post-processing of label maps by ACSNet (stage 3): clean-up of scar, basal extent, projection."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from cardiac_jax.anatomy.anatomical_prior import Prior
from cardiac_jax.anatomy.basal_extent import last_slice
from cardiac_jax.anatomy.enhancement import cleaned
from cardiac_jax.anatomy.projection_summary import ProjectionSummary
from cardiac_jax.anatomy.stack_projection import MODES, open_slices, project_stack
from cardiac_jax.core.types import Config, Decoded, Decoder, Variables
from cardiac_jax.data.labels import roles
from cardiac_jax.data.stack import Stack
from cardiac_jax.errors import InputError


def projecting(
    prior_of: Callable[[Variables, Mapping[str, Any]], Prior], classes: Sequence[str], post: Config
) -> Callable[[Variables, Mapping[str, Any]], Decoder]:
    """Returns the maker of a decoder of label maps that guarantees valid anatomy.

    Args:
      prior_of: (variables, figures of the fits) -> the trained prior.
      classes: names by label value.
      post: `project` (one of `MODES`), `trim`, and `erode`, `pieces`, `least_mm2` of the enhancement.

    Raises:
      InputError: the mode is unknown.
    """
    if post.project not in MODES:
        raise InputError("post.project", f"{post.project!r} is not one of {', '.join(MODES)}")

    def make(variables: Variables, fits: Mapping[str, Any]) -> Decoder:
        prior = cache(lambda: prior_of(variables, fits))

        def decode(labels: Stack) -> Decoded:
            tidy = _without_specks(labels, classes, post)
            tidy = _trimmed(prior(), tidy, classes) if post.trim else tidy
            value, slices = project_stack(prior(), tidy, classes, post.project)
            return Decoded(value, labels, slices)

        which = post.project + (", trimmed at the base" if post.trim else "")
        return Decoder(decode, lambda: ProjectionSummary(classes, prior().limits._asdict(), which, prior().defaulted))

    return make


def _without_specks(labels: Stack, classes: Sequence[str], post: Config) -> Stack:
    """The label map with its enhancement cleaned up; removed enhancement becomes myocardium."""
    known = roles(classes)
    if "scar" not in known:
        return labels
    out = labels.data.copy()
    _, *pixel_mm = labels.spacing_mm
    for plane in out:
        marked = plane == known["scar"]
        kept = cleaned(marked, pixel_mm[0] * pixel_mm[1], post.erode, post.pieces, post.least_mm2)
        plane[marked & ~kept] = known["myo"]
    return labels.with_data(out)


def _trimmed(prior: Prior, labels: Stack, classes: Sequence[str]) -> Stack:
    """The label map without the slices beyond the base of the ventricle."""
    out = labels.data.copy()
    area, c_shaped = open_slices(prior, out, labels.spacing_mm[1:], classes)
    out[last_slice(area, c_shaped) + 1 :] = 0
    return labels.with_data(out)
