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


class Structures(NamedTuple):
    """Structures whose shapes are learnt and guaranteed together. Maps are `[N, H, W]`, pixels square.

    Attributes:
      name: as the configuration's key `structures` has it.
      sought: names of the classes of each structure that is segmented, one output each; the wall comes first.
      located: names of the classes that the localiser finds.
      needed: names of classes that the training data must have.
      drawn: names of classes that `redraw` draws: a label map must be able to hold them.
      channels: of the autoencoder's input and output.
      default: limits of the check as published.
      pixel_mm: least and largest pixels on which the check can judge.
      values: names of classes -> which values of a label map are meant, for `take` and its like.
      take: labels `[N, H, W]` (host), `values` -> maps.
      core: maps (host or device) -> mask of what shapes are centred on.
      encode: maps -> what the autoencoder reads, `[N, H, W, channels]` float32.
      draw: logits `[N, H, W, channels]` -> maps.
      cross, overlap: losses of `logits [H, W, channels]` against one map, `shape [H, W]`.
      check: maps, spacing_mm, limits -> whether they pass `[N]`.
      measure: maps, spacing_mm -> what `judge` wants under limits that `tune` made.
      judge: measured, limits -> whether they pass `[N]`.
      tune: measured of gold standards and of their restored selves -> limits.
      passes: the check on the host: maps of any size and number, spacing_mm, limits -> bool `[N]`.
      redraw: labels `[H, W]`, a map `[H, W]`, names of classes -> labels that hold the map.
      divide: logits `[N, *S, len(sought)]`, `[N, *S]` where the localiser found something -> class -> probability.
    """

    name: str
    sought: tuple[tuple[str, ...], ...]
    located: tuple[str, ...]
    needed: tuple[str, ...]
    drawn: tuple[str, ...]
    channels: int
    default: Limits
    pixel_mm: tuple[float, float]
    values: Callable[[Sequence[str]], Sequence[Any]]
    take: Callable[[np.ndarray, Sequence[Any]], np.ndarray]
    core: Callable[[Any], Any]
    encode: Callable[[Array], Array]
    draw: Callable[[Array], Array]
    cross: Callable[[Array, Array], Array]
    overlap: Callable[[Array, Array], Array]
    check: Callable[[Array, float, Limits], Array]
    measure: Callable[[Array, float], Measured]
    judge: Callable[[Measured, Limits], Array]
    tune: Callable[[Measured, Measured], Limits]
    passes: Callable[[np.ndarray, float, Limits], np.ndarray]
    redraw: Callable[[np.ndarray, np.ndarray, Sequence[str]], np.ndarray]
    divide: Callable[[Array, Array], Mapping[str, Array]]


def percentile(values: Array, q: float) -> float:
    """The `q`-th percentile of the finite values; NaN if there are none."""
    held = np.asarray(values)
    held = held[np.isfinite(held)]
    return float(np.percentile(held, q)) if held.size else float("nan")


def at_least(least: float, value: float) -> float:
    """The larger one, `least` where `value` is NaN."""
    return value if value > least else float(least)
