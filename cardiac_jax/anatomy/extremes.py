"""The worst slices that still pass a check: one heart, distorted in one way at a time as far as the limits allow."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cardiac_jax.anatomy.registry import ANATOMIES
from cardiac_jax.anatomy.spec import AnatomySpec, Limits
from cardiac_jax.anatomy.tidy import LV, MYO

SIZE, SPACING_MM, STEPS = 66, 2.0, 25
INNER_MM, OUTER_MM = 22.0, 31.0  # of the undistorted ring; the median area in ACDC, 3100 mm2, has 31 mm

Drawing = Callable[[float, np.ndarray, np.ndarray], np.ndarray]  # step in [0, 1], x and y in mm -> slice map


def spec_of(limits: Mapping[str, Any]) -> AnatomySpec:
    """Returns the specification whose limits have these names."""
    return next(spec for spec in ANATOMIES.values() if set(limits) <= set(spec.default_limits._fields))


def extremes(spec: AnatomySpec, limits: Limits) -> dict[str, np.ndarray]:
    """Returns distortion -> the most distorted slice map that passes, uint8 `[SIZE, SIZE]`, pixels of `SPACING_MM`.

    Each distortion grows in `STEPS` steps. Distortions of which no step passes are left out.
    """
    x, y = (np.indices((SIZE, SIZE))[::-1] - (SIZE - 1) / 2) * SPACING_MM
    steps = np.linspace(0, 1, STEPS)
    maps = np.stack([draw(t, x, y) for draw in DISTORTIONS.values() for t in steps]).astype(np.uint8)
    passed = spec.is_valid(maps, SPACING_MM, limits).reshape(len(DISTORTIONS), STEPS)
    maps = maps.reshape(*passed.shape, SIZE, SIZE)
    return {
        name: of[np.flatnonzero(ok)[-1]] for name, of, ok in zip(DISTORTIONS, maps, passed, strict=True) if ok.any()
    }


def _ring(outer: np.ndarray | float, inner: np.ndarray | float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    radius = np.hypot(x, y)
    return np.select([radius < inner, radius < outer], [LV, MYO], 0)


def _opened(t: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A straight cut that takes up to half of the ring away."""
    return np.where(x > OUTER_MM * (1 - t), 0, _ring(OUTER_MM, INNER_MM, x, y))


def _gap(t: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The pool of an open wall withdraws from the opening."""
    open_ = np.where(x > OUTER_MM - 10, 0, _ring(OUTER_MM, INNER_MM, x, y))
    return np.where((open_ == LV) & (x > OUTER_MM - 10 - 30 * t), 0, open_)


def _dent(depth_mm: float, edge_mm: float, x: np.ndarray, y: np.ndarray, inwards: bool) -> np.ndarray:
    """Radius of a contour with a dent on the right, some 10 mm wide."""
    bump = depth_mm * np.exp(-np.square(np.where(x > 0, y, 99) / 6.0))
    return edge_mm - bump if inwards else edge_mm + bump


DISTORTIONS: Mapping[str, Drawing] = {
    "widest opening": _opened,
    "pool farthest from the opening": _gap,
    "deepest dent outside": lambda t, x, y: _ring(_dent(20 * t, OUTER_MM, x, y, True), INNER_MM - 14, x, y),
    "deepest dent in the pool": lambda t, x, y: _ring(OUTER_MM, _dent(20 * t, INNER_MM, x, y, True), x, y),
    "thinnest wall": lambda t, x, y: _ring(OUTER_MM, _dent(9 * t, INNER_MM, x, y, False), x, y),
    "thinnest ring": lambda t, x, y: _ring(OUTER_MM, INNER_MM + 9 * t, x, y),
    "thickest ring": lambda t, x, y: _ring(OUTER_MM, INNER_MM * (1 - t), x, y),
    "smallest": lambda t, x, y: _ring(OUTER_MM * (1 - t), 0.4 * OUTER_MM * (1 - t), x, y),
    "largest": lambda t, x, y: _ring(OUTER_MM + 31 * t, INNER_MM + 31 * t, x, y),
    "longest": lambda t, x, y: _ring(OUTER_MM, INNER_MM, x / (1 + t), y * (1 + 2 * t)),
}
