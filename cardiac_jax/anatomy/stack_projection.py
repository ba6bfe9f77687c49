"""Projection of label maps onto valid anatomy, on their own grid (Abramson, Popescu et al. 2020, stage 3).

`Prior.spec` defines the guaranteed structures: the myocardium or the whole heart. A slice that fails the check is
centred on the prior's grid, projected, and resampled to the file's grid. A mask that is valid on the prior's grid may
be invalid with other pixel sizes, so it is checked again on the file's grid. If it fails, it is replaced by the nearest
mask of the bank that passes there, if necessary shifted away from the image border. Slices without any of the
structures are not changed. A slice only stays invalid, and is then reported, if its image is too small for every mask
of the bank. "Mask" means a label map if there are several structures.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from cardiac_jax.anatomy.anatomical_prior import Prior
from cardiac_jax.anatomy.projection import unpack
from cardiac_jax.anatomy.validity import unfit
from cardiac_jax.anatomy.wall_check import measure
from cardiac_jax.data import resample
from cardiac_jax.data.labels import wall_labels
from cardiac_jax.data.stack import Stack

SLICES = 32  # projected per call: stacks are padded to a multiple, so that the program compiles once
TRIES = 64  # masks of the bank tested per call if a projected mask fails on the file's grid
MODES = ("invalid", "all", "none")


class ProjectedSlices(NamedTuple):
    """Results for the N slices with any of the structures, apex to base.

    Attributes:
      index: `[N]`, index of the slice in the canonical stack.
      before, after: `[N]` bool, whether the slice passed the check before and after projection.
      alpha: `[N]`, step of the code towards its neighbour in the bank; NaN if the slice was not projected.
      from_bank: `[N]` bool, whether the projected mask failed on the file's grid and a mask of the bank replaced it.
    """

    index: np.ndarray
    before: np.ndarray
    after: np.ndarray
    alpha: np.ndarray
    from_bank: np.ndarray


def project_stack(
    prior: Prior, labels: Stack, classes: Sequence[str], mode: str = "invalid"
) -> tuple[Stack, ProjectedSlices]:
    """Returns a label map `[Z, H, W]` with valid structures in every slice that has any, and the changes.

    If pixels are not square, or their size is out of the check's range, slices are checked on the prior's grid.

    Args:
      classes: names by label value; they include all structures of the prior.
      mode: "invalid": invalid slices are projected; "all": valid slices are also replaced by their reconstructions, as
        published; "none": slices are only checked.
    """
    stack = labels.data.copy()
    _, *pixel_mm = labels.spacing_mm
    drawn = prior.spec.to_maps(stack, prior.spec.label_values(classes))
    index = np.flatnonzero(drawn.any((1, 2)))
    masks = drawn[index]
    before = _passes(prior, masks, pixel_mm)
    todo = np.flatnonzero(~before) if mode == "invalid" else np.arange(len(index))
    alpha, from_bank = np.full(len(index), np.nan), np.zeros(len(index), bool)
    after = before.copy()
    if mode != "none" and len(todo):
        new, alpha[todo], from_bank[todo] = _projected(prior, masks[todo], pixel_mm)
        after[todo] = _passes(prior, new, pixel_mm)
        for at, mask in zip(todo, new, strict=True):
            stack[index[at]] = prior.spec.to_labels(stack[index[at]], mask, classes)
    return labels.with_data(stack), ProjectedSlices(index, before, after, alpha, from_bank)


def open_slices(
    prior: Prior, stack: np.ndarray, pixel_mm: Sequence[float], classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the area of the myocardium in mm2 `[Z]` and whether it is C-shaped `[Z]`, for each slice of `stack`."""
    muscle = np.isin(stack, wall_labels(classes))
    small = _on_grid(prior, muscle, pixel_mm)
    parts = [measure(jnp.asarray(part), prior.spacing_mm) for part in _groups(small)]
    c_shaped = np.concatenate([np.asarray(part.is_c_shaped) for part in parts])[: len(small)]
    return muscle.sum((1, 2)) * float(np.prod(pixel_mm)), c_shaped


def _projected(prior: Prior, masks: np.ndarray, pixel_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Valid masks `[N, H, W]`, alpha `[N]`, and whether each is a mask of the bank `[N]`."""
    ways = [_Way(prior, mask, pixel_mm) for mask in masks]
    small = np.stack([way.to_grid(mask) for way, mask in zip(ways, masks, strict=True)])
    parts = [prior.project(jnp.asarray(part)) for part in _groups(small)]
    found = np.concatenate([np.asarray(part.masks) for part in parts])
    alpha = np.concatenate([np.asarray(part.alpha) for part in parts])[: len(small)]
    back = np.stack([way.to_file(mask) for way, mask in zip(ways, found, strict=False)])
    passed = _passes(prior, back, pixel_mm)
    for i in np.flatnonzero(~passed):
        back[i] = _from_bank(prior, ways[i], small[i], back[i])
    return back, alpha, ~passed


def _from_bank(prior: Prior, way: "_Way", mask: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """The mask of the bank with the nearest code that passes on the file's grid; `otherwise` if none passes."""
    code = np.asarray(prior.encode(jnp.asarray(mask)[None]))
    order = np.argsort(np.square(np.asarray(prior.bank.codes) - code).sum(1), kind="stable")
    packed = np.asarray(prior.bank.masks)
    for start in range(0, len(order), TRIES):
        some = np.asarray(unpack(jnp.asarray(packed[order[start : start + TRIES]]), prior.size[1]))
        for placed in (way.to_file, way.to_file_whole):
            there = np.stack([placed(one) for one in some])
            passed = np.flatnonzero(_passes(prior, there, way.pixel_mm))
            if passed.size:
                return there[passed[0]]
    return otherwise


class _Way:
    """Resampling between a slice of the file and the prior's grid about the mask's centre: linear, then argmax."""

    def __init__(self, prior: Prior, mask: np.ndarray, pixel_mm: Sequence[float]) -> None:
        self.pixel_mm, self._shape = pixel_mm, mask.shape
        self._centre: list[float] = np.argwhere(prior.spec.centring_mask(mask)).mean(0).tolist()
        self._ratio = [prior.spacing_mm / mm for mm in pixel_mm]
        self._middle = [(size - 1) / 2 for size in prior.size]

    def to_grid(self, mask: np.ndarray) -> np.ndarray:
        weights = []
        for centre, middle, ratio, pixels in zip(self._centre, self._middle, self._ratio, self._shape, strict=True):
            onto = centre + (np.arange(2 * middle + 1) - middle) * ratio
            weights.append(resample.matrix(onto, pixels, ratio, cubic=False))
        return _resampled(mask, *weights)

    def to_file(self, mask: np.ndarray) -> np.ndarray:
        return self._to_file(mask, self._centre)

    def to_file_whole(self, mask: np.ndarray) -> np.ndarray:
        """As `to_file`, shifted so that `mask` is inside the file's image, if the image is large enough."""
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
        return _resampled(mask, *weights)


def _resampled(mask: np.ndarray, rows: sparse.csr_array, columns: sparse.csr_array) -> np.ndarray:
    """Argmax of linearly interpolated one-hot labels; background in a tie."""
    labels = range(1, max(int(mask.max()), 1) + 1)
    shares = [(columns @ (rows @ (mask == label).astype(np.float32)).T).T for label in labels]
    return np.stack([1 - sum(shares), *shares]).argmax(0).astype(mask.dtype)


def _on_grid(prior: Prior, masks: np.ndarray, pixel_mm: Sequence[float]) -> np.ndarray:
    """Masks `[N, H, W]` resampled to the prior's grid, each about its own centre."""
    small = np.zeros((len(masks), *prior.size), masks.dtype)
    for i in np.flatnonzero(masks.any((1, 2))):
        small[i] = _Way(prior, masks[i], pixel_mm).to_grid(masks[i])
    return small


def _groups(masks: np.ndarray) -> list[np.ndarray]:
    """Groups of `SLICES` masks; the last is padded with empty masks."""
    filled = np.concatenate([masks, np.zeros((-len(masks) % SLICES, *masks.shape[1:]), masks.dtype)])
    return np.split(filled, len(filled) // SLICES)


def _passes(prior: Prior, masks: np.ndarray, pixel_mm: Sequence[float]) -> np.ndarray:
    """Whether masks `[N, H, W]` pass on the file's grid, or on the prior's if the check does not support the pixels."""
    if unfit(pixel_mm[0], pixel_mm[1], prior.spec.pixel_mm):
        masks, pixel_mm = _on_grid(prior, masks, pixel_mm), (prior.spacing_mm, prior.spacing_mm)
    return prior.spec.is_valid(masks, (pixel_mm[0] + pixel_mm[1]) / 2, prior.limits)
