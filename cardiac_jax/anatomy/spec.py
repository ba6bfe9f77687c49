"""What an anatomical prior guarantees: the functions in which one set of structures differs from another.

A *map* says what each pixel of a slice is: bool (the structure or not), or uint8 labels of `anatomy/heart_check.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cardiac_jax.core.types import Array

TAIL = 1.0  # per cent of the gold standards that a tuned limit leaves outside

Limits = Any
"""Thresholds of a check, a NamedTuple of numbers and flags."""
Measured = Any
"""What a check looked at."""


class AnatomySpec(NamedTuple):
    """Structures whose shapes are learnt and guaranteed together. Maps are `[N, H, W]`, pixels square.

    Attributes:
      name: as the configuration's key `structures` has it.
      outputs: names of the classes of each structure that is segmented, one output each; the wall comes first.
      localiser_classes: names of the classes that the localiser finds.
      required_classes: names of classes that the training data must have.
      drawn_classes: names of classes that `to_labels` writes: a label map must be able to hold them.
      channels: of the autoencoder's input and output.
      default_limits: limits of the check as published.
      pixel_mm: least and largest pixels on which the check can judge.
      label_values: names of classes -> label values of a label map, as `to_maps` takes them.
      to_maps: labels `[N, H, W]` (host), `label_values` -> maps.
      centring_mask: maps (host or device) -> mask of what shapes are centred on.
      encode: maps -> what the autoencoder reads, `[N, H, W, channels]` float32.
      decode: logits `[N, H, W, channels]` -> maps.
      cross_entropy, dice_loss: losses of `logits [H, W, channels]` against one map, `shape [H, W]`.
      check: maps, spacing_mm, limits -> whether they pass `[N]`.
      measure: maps, spacing_mm -> what `judge` wants under limits that `tune_limits` made.
      judge: measured, limits -> whether they pass `[N]`.
      tune_limits: measured of gold standards and of their restored selves -> limits.
      is_valid: the check on the host: maps of any size and number, spacing_mm, limits -> bool `[N]`.
      to_labels: labels `[H, W]`, a map `[H, W]`, names of classes -> labels that hold the map.
      to_probabilities: logits `[N, *S, len(outputs)]`, region `[N, *S]` that the localiser found -> class ->
        probability.
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
    is_valid: Callable[[np.ndarray, float, Limits], np.ndarray]
    to_labels: Callable[[np.ndarray, np.ndarray, Sequence[str]], np.ndarray]
    to_probabilities: Callable[[Array, Array], Mapping[str, Array]]


def percentile(values: Array, q: float) -> float:
    """The `q`-th percentile of the finite values; NaN if there are none."""
    held = np.asarray(values)
    held = held[np.isfinite(held)]
    return float(np.percentile(held, q)) if held.size else float("nan")


def at_least(least: float, value: float) -> float:
    """The larger one, `least` where `value` is NaN."""
    return value if value > least else float(least)
