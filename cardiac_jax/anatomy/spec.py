"""`AnatomySpec`: the functions and limits that define an anatomical prior for one set of structures.

A *map* gives the structure of each pixel of a slice as the prior models it: bool for a single structure, or uint8
labels of `anatomy/heart_check.py`. A *slice map* has all structures that are judged and drawn together: wall and pool
in `wall`, where the files have both, and the map itself in `heart` (`anatomy/tidy.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cardiac_jax.core.types import Array

TAIL = 1.0  # per cent of the gold standards that may violate a tuned limit

Limits = Any
"""Thresholds of a check, a NamedTuple of numbers and flags."""
Measured = Any
"""Measurements that a check compares with its limits, a NamedTuple of arrays `[N]`."""


class AnatomySpec(NamedTuple):
    """Structures that one anatomical prior models together. Maps are `[N, H, W]` with square pixels.

    Attributes:
      name: value of the configuration key `anatomy`.
      outputs: class names of each segmented structure, one output each; the wall comes first.
      localiser_classes: class names that the localiser segments.
      required_classes: class names that the training data must have.
      drawn_classes: class names that `to_labels` writes; a label map must have them.
      channels: number of input and output channels of the autoencoder.
      default_limits: limits of the check as published.
      pixel_mm: smallest and largest pixel size for which the check is valid.
      label_values: class names -> label values of a label map, as expected by `to_maps`.
      to_maps: labels `[N, H, W]` (host), `label_values` -> maps.
      centring_mask: maps (host or device) -> mask on whose centroid a shape is centred.
      encode: maps -> input of the autoencoder, `[N, H, W, channels]` float32.
      decode: logits `[N, H, W, channels]` -> maps.
      cross_entropy, dice_loss: losses of `logits [H, W, channels]` against one map, `shape [H, W]`.
      check: maps, spacing_mm, limits -> whether they pass, bool `[N]`.
      measure: maps, spacing_mm -> measurements for `judge` with limits from `tune_limits`.
      judge: measurements, limits -> whether they pass, bool `[N]`.
      tune_limits: measurements of the gold standards and of their autoencoder reconstructions -> limits.
      to_slices: labels `[N, H, W]` (host), class names -> slice maps.
      shape_of: slice maps -> maps.
      completed: maps, slice maps before, spacing_mm, limits -> slice maps (adds the pool).
      tidied: slice maps, spacing_mm, limits, radius of closing in mm -> the slice maps without pieces, holes, gaps.
      is_valid: the check on the host: slice maps of any size and number, spacing_mm, limits -> bool `[N]`. The limit
        `c_shaped` may be given for each slice, bool `[N]`.
      to_labels: labels `[H, W]`, a slice map, class names -> labels `[H, W]` with the structures of the slice map.
      to_probabilities: logits `[N, *S, len(outputs)]`, localiser's region `[N, *S]` -> {class: probability `[N, *S]`}.
    """

    name: str
    outputs: tuple[tuple[str, ...], ...]
    localiser_classes: tuple[str, ...]
    required_classes: tuple[str, ...]
    drawn_classes: tuple[str, ...]
    channels: int
    default_limits: Limits
    pixel_mm: tuple[float, float]
    label_values: Callable[[Sequence[str]], Sequence[Any]]
    to_maps: Callable[[np.ndarray, Sequence[Any]], np.ndarray]
    centring_mask: Callable[[Any], Any]
    encode: Callable[[Array], Array]
    decode: Callable[[Array], Array]
    cross_entropy: Callable[[Array, Array], Array]
    dice_loss: Callable[[Array, Array], Array]
    check: Callable[[Array, float, Limits], Array]
    measure: Callable[[Array, float], Measured]
    judge: Callable[[Measured, Limits], Array]
    tune_limits: Callable[[Measured, Measured], Limits]
    to_slices: Callable[[np.ndarray, Sequence[str]], np.ndarray]
    shape_of: Callable[[np.ndarray], np.ndarray]
    completed: Callable[[np.ndarray, np.ndarray, float, Limits], np.ndarray]
    tidied: Callable[[np.ndarray, float, Limits, float], np.ndarray]
    is_valid: Callable[[np.ndarray, float, Limits], np.ndarray]
    to_labels: Callable[[np.ndarray, np.ndarray, Sequence[str]], np.ndarray]
    to_probabilities: Callable[[Array, Array], Mapping[str, Array]]


def percentile(values: Array | np.ndarray, q: float) -> float:
    """Return the `q`-th percentile of the finite values, or NaN if there are none."""
    finite = np.asarray(values)
    finite = finite[np.isfinite(finite)]
    return float(np.percentile(finite, q)) if finite.size else float("nan")


def at_least(least: float, value: float) -> float:
    """Return the larger of the two, or `least` if `value` is NaN."""
    return value if value > least else float(least)
