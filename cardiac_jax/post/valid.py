"""Label maps made anatomically valid on their own grid (Abramson, Popescu et al. 2020, stage 3).

A slice whose myocardium fails the check is centred on the prior's grid, projected, and put back. What passes there may
fail on finer or coarser pixels, so it is checked again where it is written: a slice that fails then takes the nearest
mask of the bank that passes on the file's grid, moved away from the image's border if it must be. Slices without
myocardium are left alone. (Only an image too small for any mask of the bank may stay invalid, and is said to be.)
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import ndimage
from skimage.morphology import convex_hull_image

from cardiac_jax.anatomical import Prior
from cardiac_jax.data import resample
from cardiac_jax.data.orientation import from_canonical, orientation, to_canonical
from cardiac_jax.metrics.structures import roles, wall
from cardiac_jax.metrics.validity import failures, unfit
from cardiac_jax.ops.anatomy import measure

SLICES = 32  # projected at once: stacks are padded to a multiple, so that one program serves all
TRIES = 64  # masks of the bank tried at once where a projected one fails on the file's grid
MODES = ("invalid", "all", "none")


class Slices(NamedTuple):
    """What became of the slices with myocardium, apex to base.

    Attributes:
      index: `[N]` in the canonical stack.
      before, after: `[N]` bool, whether they passed.
      alpha: `[N]`, how far each code moved towards its neighbour; NaN where the slice was left as it was.
      from_bank: `[N]` bool, whether the projected mask failed on the file's grid and one of the bank stands for it.
    """

    index: np.ndarray
    before: np.ndarray
    after: np.ndarray
    alpha: np.ndarray
    from_bank: np.ndarray


def make_valid(
    prior: Prior,
    labels: np.ndarray,
    affine: np.ndarray,
    spacing_mm: Sequence[float],
    classes: Sequence[str],
    slice_order: str,
    mode: str = "invalid",
) -> tuple[np.ndarray, Slices]:
    """`labels [X, Y, Z]` with a valid myocardium in every slice that has one, and what was done.

    Args:
      affine, spacing_mm, slice_order: of the file, as `data.orientation` wants them.
      mode: "invalid" slices are projected; "all": valid ones too are replaced by their restored selves, as published;
        "none": slices are only judged.

    Pixels that are not square, or beyond what the check can judge, are judged on the prior's grid instead.
    """
    frame = orientation(affine, slice_order)
    stack = to_canonical(labels, frame).copy()
    _, *pixel_mm = frame.of((spacing_mm[0], spacing_mm[1], spacing_mm[2]))
    muscle = np.isin(stack, wall(classes))
    index = np.flatnonzero(muscle.any((1, 2)))
    masks = muscle[index]
    before = _passes(prior, masks, pixel_mm)
    todo = np.flatnonzero(~before) if mode == "invalid" else np.arange(len(index))
    alpha, from_bank = np.full(len(index), np.nan), np.zeros(len(index), bool)
    after = before.copy()
    if mode != "none" and len(todo):
        new, alpha[todo], from_bank[todo] = _projected(prior, masks[todo], pixel_mm)
        after[todo] = _passes(prior, new, pixel_mm)
        for at, mask in zip(todo, new, strict=True):
            stack[index[at]] = redrawn(stack[index[at]], mask, classes)
    return np.ascontiguousarray(from_canonical(stack, frame)), Slices(index, before, after, alpha, from_bank)


def open_slices(
    prior: Prior, stack: np.ndarray, pixel_mm: Sequence[float], classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Of a stack `[Z, H, W]`: area of the myocardium in mm2 `[Z]`, and whether it is open to one side `[Z]`."""
    muscle = np.isin(stack, wall(classes))
    small = np.stack([_Way(prior, mask, pixel_mm).to_grid(mask) if mask.any() else _blank(prior) for mask in muscle])
    filled = np.concatenate([small, np.zeros((-len(small) % SLICES, *prior.size), bool)])
    parts = [measure(jnp.asarray(part), prior.spacing_mm) for part in np.split(filled, len(filled) // SLICES)]
    c_shaped = np.concatenate([np.asarray(part.is_c_shaped) for part in parts])[: len(small)]
    return muscle.sum((1, 2)) * float(np.prod(pixel_mm)), c_shaped


def redrawn(labels: np.ndarray, mask: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """A slice `[H, W]` whose myocardium is `mask`.

    What was drawn in the wall (oedema, scar) stays where the wall still is. The blood pool is what the wall encloses
    and, of an open or solid wall, what was pool within its convex hull. Nothing else lies within either.
    """
    known = roles(classes)
    inside = wall(classes)
    out = np.where(np.isin(labels, inside) & ~mask, 0, labels)
    out[mask & ~np.isin(labels, inside)] = known["myo"]
    enclosed = ndimage.binary_fill_holes(mask) & ~mask
    within = convex_hull_image(mask) & ~mask if mask.any() else enclosed
    if "lv" in known:
        pool = enclosed | (within & np.isin(labels, (known["lv"], *inside)))
        out[out == known["lv"]] = 0
        out[pool] = known["lv"]
    else:
        out[enclosed] = 0
    return out.astype(labels.dtype)


def _projected(prior: Prior, masks: np.ndarray, pixel_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks `[N, H, W]` that pass, alpha `[N]`, and whether each came from the bank `[N]`."""
    ways = [_Way(prior, mask, pixel_mm) for mask in masks]
    small = np.stack([way.to_grid(mask) for way, mask in zip(ways, masks, strict=True)])
    filled = np.concatenate([small, np.zeros((-len(small) % SLICES, *prior.size), bool)])
    parts = [prior.project(jnp.asarray(part)) for part in np.split(filled, len(filled) // SLICES)]
    found = np.concatenate([np.asarray(part.masks) for part in parts])
    alpha = np.concatenate([np.asarray(part.alpha) for part in parts])[: len(small)]
    back = np.stack([way.to_file(mask) for way, mask in zip(ways, found, strict=False)])
    passed = _passes(prior, back, pixel_mm)
    for i in np.flatnonzero(~passed):
        back[i] = _from_bank(prior, ways[i], small[i], back[i])
    return back, alpha, ~passed


def _from_bank(prior: Prior, way: "_Way", mask: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """The mask of the nearest code that passes on the file's grid; `otherwise` if none of the bank does."""
    code = np.asarray(prior.encode(jnp.asarray(mask, jnp.float32)[None]))
    order = np.argsort(np.square(np.asarray(prior.bank.codes) - code).sum(1), kind="stable")
    packed = np.asarray(prior.bank.masks)
    for start in range(0, len(order), TRIES):
        some = np.unpackbits(packed[order[start : start + TRIES]], axis=-1, count=prior.size[1]).astype(bool)
        for placed in (way.to_file, way.to_file_whole):
            there = np.stack([placed(one) for one in some])
            passed = np.flatnonzero(_passes(prior, there, way.pixel_mm))
            if passed.size:
                return there[passed[0]]
    return otherwise


class _Way:
    """From a slice of the file to the prior's grid about the mask's centre, and back; linear, half a pixel counts."""

    def __init__(self, prior: Prior, mask: np.ndarray, pixel_mm: Sequence[float]) -> None:
        self.pixel_mm, self._shape = pixel_mm, mask.shape
        self._centre: list[float] = np.argwhere(mask).mean(0).tolist()
        self._ratio = [prior.spacing_mm / mm for mm in pixel_mm]
        self._middle = [(size - 1) / 2 for size in prior.size]

    def to_grid(self, mask: np.ndarray) -> np.ndarray:
        weights = []
        for centre, middle, ratio, pixels in zip(self._centre, self._middle, self._ratio, self._shape, strict=True):
            onto = centre + (np.arange(2 * middle + 1) - middle) * ratio
            weights.append(resample.matrix(onto, pixels, ratio, cubic=False))
        return (weights[1] @ (weights[0] @ mask.astype(np.float32)).T).T > 0.5

    def to_file(self, mask: np.ndarray) -> np.ndarray:
        return self._to_file(mask, self._centre)

    def to_file_whole(self, mask: np.ndarray) -> np.ndarray:
        """The same, moved so far that none of `mask` lies outside the file's image, where that can hold it."""
        centre = []
        for axis, (at, middle, ratio) in enumerate(zip(self._centre, self._middle, self._ratio, strict=True)):
            held = np.flatnonzero(mask.any(1 - axis)) - middle
            low, high = (np.array([0.5, -0.5]) - held[[0, -1]]) * ratio + [-0.5, self._shape[axis] - 0.5]
            centre.append(np.clip(at, low, high) if low <= high else (low + high) / 2)
        return self._to_file(mask, centre)

    def _to_file(self, mask: np.ndarray, at: Sequence[float]) -> np.ndarray:
        weights = []
        for centre, middle, ratio, pixels in zip(at, self._middle, self._ratio, self._shape, strict=True):
            onto = (np.arange(pixels) - centre) / ratio + middle
            weights.append(resample.matrix(onto, round(2 * middle + 1), 1 / ratio, cubic=False))
        return (weights[1] @ (weights[0] @ mask.astype(np.float32)).T).T > 0.5


def _blank(prior: Prior) -> np.ndarray:
    return np.zeros(prior.size, bool)


def _passes(prior: Prior, masks: np.ndarray, pixel_mm: Sequence[float]) -> np.ndarray:
    """Whether masks `[N, H, W]` pass on the file's grid, or, where the check cannot judge there, on the prior's."""
    if unfit(*pixel_mm):
        masks = np.stack([_Way(prior, mask, pixel_mm).to_grid(mask) if mask.any() else _blank(prior) for mask in masks])
        pixel_mm = (prior.spacing_mm, prior.spacing_mm)
    return np.asarray(~failures(masks, (pixel_mm[0] + pixel_mm[1]) / 2, prior.limits).any(1))
