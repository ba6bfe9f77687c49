"""Label maps made valid, on their own grid (Abramson, Popescu et al. 2020, stage 3), or refused.

`Prior.spec` defines the guaranteed structures: the left ventricle (wall, and pool where the files have it) or the whole
heart. A slice that fails the check

1. is tidied (`tidy.py`: one piece each, no holes, the cavity as pool, small cuts closed), which keeps what was drawn;
   if it still fails,
2. is centred on the prior's grid, projected, resampled to the file's grid and completed with its pool; if it fails
   there, because the file has other pixels, or lost the pool that was drawn, it is replaced by the nearest mask of the
   bank that passes there, if necessary shifted away from the image border;
3. is refused if there is no wall or only crumbs, more than a heart was drawn, nothing passes, or the result shares less
   than `AGREEMENT` with what was drawn: a heart made from a speck would be invented. A refused slice is emptied of the
   structures, and reported.

Walls are open only in the `BASAL` most basal slices, as in the gold standards; a projected wall is closed. "Mask" means
a label map if there are several structures.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from cardiac_jax.anatomy.anatomical_prior import Prior
from cardiac_jax.anatomy.projection import unpack
from cardiac_jax.anatomy.tidy import LV, agreement, filled, is_connected, wall_of
from cardiac_jax.anatomy.validity import BATCH, unfit
from cardiac_jax.anatomy.wall_check import measure
from cardiac_jax.data import resample
from cardiac_jax.data.labels import wall_labels
from cardiac_jax.data.stack import Stack
from cardiac_jax.ops.pieces import kept

SLICES = 32  # projected per call: stacks are padded to a multiple, so that the program compiles once
TRIES = 64  # masks of the bank tried at the drawn place and within the image before the next ones are
BASAL = 3  # number of most basal slices with a heart whose wall may be open
CLOSE_MM = 3.0  # radius of the closing that joins what is left of a wall
POOL_MM2 = 38.0  # a drawn pool of this area must not be lost; of a hundred slices of ACDC one has a smaller one
CRUMBS = 0.2  # share of the drawn wall that its largest piece has at least; noise has less
LARGEST_MM2 = 12_500.0  # of what was drawn, filled; both ventricles of ACDC's largest heart have 12,000
AGREEMENT = 0.5  # smallest Dice with what was drawn, of the outline or of the wall
MODES = ("invalid", "all", "none")


class ProjectedSlices(NamedTuple):
    """Results for the N slices with any of the structures, apex to base.

    Attributes:
      index: `[N]`, index of the slice in the canonical stack.
      before, after: `[N]` bool, whether the slice passed the check before and passes it afterwards; a refused slice
        passes neither.
      alpha: `[N]`, step of the code towards its neighbour in the bank; NaN if the slice was not projected.
      from_bank: `[N]` bool, whether the projected mask failed on the file's grid and a mask of the bank replaced it.
      tidied: `[N]` bool, whether the slice passed after it had been tidied.
      refused: `[N]` bool, whether the slice was emptied.
    """

    index: np.ndarray
    before: np.ndarray
    after: np.ndarray
    alpha: np.ndarray
    from_bank: np.ndarray
    tidied: np.ndarray
    refused: np.ndarray


def project_stack(
    prior: Prior, labels: Stack, classes: Sequence[str], mode: str = "invalid"
) -> tuple[Stack, ProjectedSlices]:
    """Returns a label map `[Z, H, W]` whose slices have valid structures or none, and the changes.

    If pixels are not square, or their size is out of the check's range, lengths are checked on the prior's grid, pieces
    and holes on the file's.

    Args:
      classes: names by label value; they include all structures of the prior.
      mode: "invalid": invalid slices are made valid; "all": valid slices are also replaced by their reconstructions, as
        published; "none": slices are only checked.
    """
    stack = labels.data.copy()
    _, *pixel_mm = labels.spacing_mm
    maps = prior.spec.to_slices(stack, classes)
    index = np.flatnonzero(maps.any((1, 2)))
    maps = maps[index]
    file = _File(prior, pixel_mm)
    basal = index > index.max(initial=0) - BASAL
    before = file.passes(maps, basal)
    none = np.zeros(len(index), bool)
    found = ProjectedSlices(index, before, before.copy(), np.full(len(index), np.nan), none, none.copy(), none.copy())
    if mode == "none":
        return labels, found
    new = maps.copy()
    _tidy(file, new, basal, found)
    _project(file, new, maps, ~found.after if mode == "invalid" else ~found.tidied, found)
    for k in np.flatnonzero(~found.after):
        found.refused[k], new[k] = True, 0
    for k in np.flatnonzero((new != maps).any((1, 2)) | ~before):
        stack[index[k]] = prior.spec.to_labels(stack[index[k]], new[k], classes)
    return labels.with_data(stack), found


def open_slices(
    prior: Prior, stack: np.ndarray, pixel_mm: Sequence[float], classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the area of the myocardium in mm2 `[Z]` and whether it is C-shaped `[Z]`, for each slice of `stack`."""
    muscle = np.isin(stack, wall_labels(classes))
    small = _on_grid(prior, muscle, pixel_mm)
    parts = [measure(jnp.asarray(part), prior.spacing_mm) for part in _groups(small)]
    c_shaped = np.concatenate([np.asarray(part.is_c_shaped) for part in parts])[: len(small)]
    return muscle.sum((1, 2)) * float(np.prod(pixel_mm)), c_shaped


class _File:
    """The check and the completion of slice maps on the grid of a file."""

    def __init__(self, prior: Prior, pixel_mm: Sequence[float]) -> None:
        self.prior, self.pixel_mm = prior, pixel_mm
        self.spacing_mm = (pixel_mm[0] + pixel_mm[1]) / 2
        self.is_fit = not unfit(pixel_mm[0], pixel_mm[1], prior.spec.pixel_mm)

    def passes(self, maps: np.ndarray, may_open: np.ndarray | None = None) -> np.ndarray:
        """Whether slice maps `[N, H, W]` pass; those in `may_open [N]` with an open wall too."""
        spec, limits = self.prior.spec, self.prior.limits
        small = maps if self.is_fit else _on_grid(self.prior, maps, self.pixel_mm)
        spacing_mm = self.spacing_mm if self.is_fit else self.prior.spacing_mm
        may_open = np.zeros(len(maps), bool) if may_open is None else may_open & limits.c_shaped
        passed = spec.is_valid(small, spacing_mm, limits._replace(c_shaped=may_open))
        for k in [] if self.is_fit else np.flatnonzero(passed):
            passed[k] = self._is_whole(maps[k])
        return passed

    def _is_whole(self, slice_map: np.ndarray) -> bool:
        """Whether a slice map is connected and not too small on the file's own grid, whatever its pixels."""
        wall, pixel_mm2, limits = wall_of(slice_map), self.pixel_mm[0] * self.pixel_mm[1], self.prior.limits
        heart = filled(wall | (slice_map == LV))
        large = wall.sum() * pixel_mm2 >= limits.least_wall_mm2 and heart.sum() * pixel_mm2 >= limits.least_area_mm2
        return is_connected(slice_map) and bool(large or not wall.any())

    def had_pool(self, maps: np.ndarray) -> np.ndarray:
        """Whether slice maps `[N, H, W]` as drawn have a pool, no speck."""
        least_px = POOL_MM2 / (self.pixel_mm[0] * self.pixel_mm[1])
        return np.array([kept(one == LV, 1, corners=True).sum() >= least_px for one in maps], bool)

    def is_heart_like(self, slice_map: np.ndarray) -> bool:
        """Whether a slice map as drawn has what is modelled, no mere crumbs of wall, nothing larger than a heart."""
        wall, pixel_mm2 = wall_of(slice_map), self.pixel_mm[0] * self.pixel_mm[1]
        solid = filled(kept(slice_map > 0, 1, corners=True))
        crumbs = kept(wall, 1, corners=True).sum() < CRUMBS * wall.sum()
        modelled = bool(self.prior.spec.shape_of(slice_map).any())
        return modelled and not crumbs and bool(solid.sum() * pixel_mm2 <= LARGEST_MM2)

    def tidied(self, maps: np.ndarray, close_mm: float) -> np.ndarray:
        """Slice maps `[N, H, W]` tidied on the file's grid, or on the prior's if the check does not support the pixels.

        Not one by one: the cavities of a batch are found in the time of one.
        """
        prior, spec = self.prior, self.prior.spec
        if self.is_fit or not len(maps):
            return spec.tidied(maps, self.spacing_mm, prior.limits, close_mm)
        main = [np.where(kept(one > 0, 1, corners=True), one, 0).astype(one.dtype) for one in maps]
        ways = [_Way(prior, one, self.pixel_mm) for one in main]
        small = np.stack([way.to_grid(one) for way, one in zip(ways, main, strict=True)])
        tidy = spec.tidied(small, prior.spacing_mm, prior.limits, close_mm)
        return np.stack([way.to_file(one) for way, one in zip(ways, tidy, strict=True)])

    def placed(
        self, to_file: Sequence[Callable[[np.ndarray], np.ndarray]], masks: np.ndarray, former: np.ndarray
    ) -> np.ndarray:
        """Slice maps `[N, H, W]` on the file's grid of masks `[N, *size]` of the prior, each by its own `to_file`."""
        prior, spec = self.prior, self.prior.spec
        if not self.is_fit:
            none = np.zeros((len(masks), *prior.size), former.dtype)
            masks = spec.completed(masks, none, prior.spacing_mm, prior.limits)
        there = np.stack([to(mask) for to, mask in zip(to_file, masks, strict=True)])
        return spec.completed(there, former, self.spacing_mm, prior.limits) if self.is_fit else there


def _tidy(file: _File, new: np.ndarray, basal: np.ndarray, found: ProjectedSlices) -> None:
    """Tidies the slices that fail, in place, as they are or else closed; the result is kept if it passes."""
    for close_mm in (0.0, CLOSE_MM):
        todo = np.flatnonzero(~found.after & file.prior.spec.shape_of(new).any((1, 2)))
        if not todo.size:
            return
        tidy = file.tidied(new[todo], close_mm)
        passed = file.passes(tidy, basal[todo]) & _has_pool(tidy, file.had_pool(new[todo]))
        for k, one, ok in zip(todo, tidy, passed, strict=True):
            if ok and agreement(one, new[k]) >= AGREEMENT:
                new[k] = one
                found.tidied[k] = found.after[k] = True


def _project(file: _File, new: np.ndarray, drawn: np.ndarray, which: np.ndarray, found: ProjectedSlices) -> None:
    """Projects the slices in `which`, in place."""
    prior, spec = file.prior, file.prior.spec
    todo = np.flatnonzero(which & np.array([file.is_heart_like(one) for one in drawn], bool))
    if not todo.size:
        return
    clean = drawn[todo]
    failed = np.flatnonzero(~found.before[todo])
    for i, one in zip(failed, file.tidied(clean[failed], CLOSE_MM), strict=True):
        clean[i] = one if spec.shape_of(one).any() else clean[i]
    ways = [_Way(prior, one, file.pixel_mm) for one in clean]
    small = np.stack([way.to_grid(spec.shape_of(one)) for way, one in zip(ways, clean, strict=True)])
    parts = [prior.project(jnp.asarray(part)) for part in _groups(small)]
    masks, alpha = (np.concatenate([np.asarray(part[i]) for part in parts])[: len(small)] for i in (0, 1))
    back = file.placed([way.to_file for way in ways], masks, clean)
    had_pool = file.had_pool(drawn[todo])
    passed = file.passes(back) & _has_pool(back, had_pool)
    lost = np.flatnonzero(~passed)
    others = _from_bank(file, [ways[i] for i in lost], small[lost], clean[lost], had_pool[lost])
    replaced = dict(zip(lost.tolist(), others, strict=True))
    for i, k in enumerate(todo):
        found.alpha[k], found.from_bank[k] = alpha[i], not passed[i]
        result = replaced.get(i, back[i])
        if result is not None and agreement(result, drawn[k]) >= AGREEMENT:
            new[k], found.after[k] = result, True


def _has_pool(maps: np.ndarray, asked: np.ndarray | bool) -> np.ndarray:
    """Whether slice maps `[N, H, W]` have a pool where it is `asked`: a ventricle must not become solid."""
    return (maps == LV).any((1, 2)) | ~np.asarray(asked, bool)


def _from_bank(
    file: _File, ways: Sequence["_Way"], masks: np.ndarray, former: np.ndarray, had_pool: np.ndarray
) -> list[np.ndarray | None]:
    """For each slice the mask of the bank with the nearest code that passes on the file's grid; None if none passes.

    The slices share the batches of the check: a batch takes as long as one mask, and one of the nearest mostly passes.
    """
    prior = file.prior
    packed, codes = np.asarray(prior.bank.masks), np.asarray(prior.bank.codes)

    def candidates(way: "_Way", mask: np.ndarray) -> Iterator[tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]]:
        code = np.asarray(prior.encode(jnp.asarray(mask)[None]))
        order = np.argsort(np.square(codes - code).sum(1), kind="stable")
        for start in range(0, len(order), TRIES):
            some = np.asarray(unpack(jnp.asarray(packed[order[start : start + TRIES]]), prior.size[1]))
            yield from itertools.product((way.to_file, way.to_file_whole), some)

    found: list[np.ndarray | None] = [None] * len(ways)
    waiting = {i: candidates(way, mask) for i, (way, mask) in enumerate(zip(ways, masks, strict=True))}
    while waiting:
        share = max(BATCH // len(waiting), 1)
        tried = [(i, *one) for i, left in waiting.items() for one in itertools.islice(left, share)]
        if not tried:
            break
        which = np.array([i for i, _, _ in tried])
        there = file.placed([place for _, place, _ in tried], np.stack([mask for *_, mask in tried]), former[which])
        passed = file.passes(there) & _has_pool(there, had_pool[which])
        for i in list(waiting):
            if (passed & (which == i)).any():
                found[i] = there[int((passed & (which == i)).argmax())]
                del waiting[i]
    return found


class _Way:
    """Resampling between a slice of the file and the prior's grid about the mask's centre: linear, then argmax.

    `mask` is a slice map; masks of the prior and slice maps are resampled.
    """

    def __init__(self, prior: Prior, mask: np.ndarray, pixel_mm: Sequence[float]) -> None:
        self.pixel_mm, self._shape = pixel_mm, mask.shape
        core = np.asarray(prior.spec.centring_mask(prior.spec.shape_of(mask)))
        self._centre: list[float] = np.argwhere(core if core.any() else mask > 0).mean(0).tolist()
        self._ratio = [prior.spacing_mm / mm for mm in pixel_mm]
        self._middle = [(size - 1) / 2 for size in prior.size]

    def to_grid(self, mask: np.ndarray) -> np.ndarray:
        weights = []
        for centre, middle, ratio, pixels in zip(self._centre, self._middle, self._ratio, self._shape, strict=True):
            onto = centre + (np.arange(2 * middle + 1) - middle) * ratio
            weights.append(resample.matrix(onto, pixels, ratio, cubic=False))
        return _resampled(mask, *weights)

    def to_file(self, mask: np.ndarray) -> np.ndarray:
        return _resampled(mask, *self._weights)

    @cached_property
    def _weights(self) -> list[sparse.csr_array]:
        return self._weights_at(self._centre)

    def to_file_whole(self, mask: np.ndarray) -> np.ndarray:
        """As `to_file`, shifted so that `mask` is inside the file's image, if the image is large enough."""
        centre = []
        for axis, (at, middle, ratio) in enumerate(zip(self._centre, self._middle, self._ratio, strict=True)):
            held = np.flatnonzero(mask.any(1 - axis)) - middle
            low, high = (np.array([0.5, -0.5]) - held[[0, -1]]) * ratio + [-0.5, self._shape[axis] - 0.5]
            centre.append(np.clip(at, low, high) if low <= high else (low + high) / 2)
        return _resampled(mask, *self._weights_at(centre))

    def _weights_at(self, at: Sequence[float]) -> list[sparse.csr_array]:
        """Weights of rows and columns that resample a mask to the file's grid, its middle at this place."""
        weights = []
        for centre, middle, ratio, pixels in zip(at, self._middle, self._ratio, self._shape, strict=True):
            onto = (np.arange(pixels) - centre) / ratio + middle
            weights.append(resample.matrix(onto, round(2 * middle + 1), 1 / ratio, cubic=False))
        return weights


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
