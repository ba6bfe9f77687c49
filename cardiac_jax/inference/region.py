"""Which part of a prepared image is predicted: the box about the heart, the central box, or all of it in tiles.

A network takes an image of fixed size, and training crops images about their centre. A larger image can show the heart
elsewhere. Prediction therefore first looks for foreground in tiles over the whole image, in a few slices if the network
is 2D, and then predicts the box that holds it. If the central box holds it, this is the box of training.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cardiac_jax.errors import InputError
from cardiac_jax.inference.tiles import predict_tiled
from cardiac_jax.ops.pieces import kept

CROPS = ("heart", "centre", "tiles")
"""Ways to cover an image that is larger than the network's input: `--crop`."""
SLICES = 4
"""Number of slices in which a 2D network looks for the heart, evenly spaced."""
OVERLAP = 0.5
"""Share of a tile's size by which tiles overlap, unless `data.tile_overlap` says otherwise."""
MARGIN = 1 / 16
"""Width of the rim of a box, as a share of the box, that should hold no foreground."""
CENTRAL_MARGIN = 1 / 64
"""The same for the central box, which is kept wherever it holds the heart: networks are trained on it."""
TOLERANCE = 0.01
"""Share of the foreground that a box may hold less than the best box does."""
ELSEWHERE = 0.05
"""Share of the foreground outside the box that is worth a note: below, it is mostly single false voxels."""
AT_BORDER = 0.001
"""Share of the foreground at the border of the box that is worth a note."""


class Region(NamedTuple):
    """A part of a prepared image.

    Attributes:
      start: first voxel along Z, H, W.
      size: number of voxels along Z, H, W.
      tiled: it is predicted in tiles, not in one piece.
      notes: what may be missing, a sentence each.
    """

    start: tuple[int, int, int]
    size: tuple[int, int, int]
    tiled: bool = False
    notes: tuple[str, ...] = ()


def crop_of(crop: str, tile_overlap: float) -> str:
    """Returns one of `CROPS`; for "" what the configuration asks for: tiles if `data.tile_overlap` is above 0.

    Raises:
      InputError: `crop` is unknown.
    """
    if crop and crop not in CROPS:
        raise InputError("--crop", f"{crop!r} is not one of {', '.join(CROPS)}")
    return crop or ("tiles" if tile_overlap else "heart")


def central(shape: Sequence[int], size: Sequence[int]) -> Region:
    """Returns the box of `size`, (H, W) or (Z, H, W), in the middle of an image of `shape` (Z, H, W)."""
    depth, height, width = (*shape[: 3 - len(size)], *size)
    z, h, w = ((s - k) // 2 for s, k in zip(shape, (depth, height, width), strict=True))
    return Region((z, h, w), (depth, height, width))


def look(
    predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray, size: Sequence[int], overlap: float, batch: int
) -> np.ndarray:
    """Returns where a network sees foreground in `image [Z, H, W, C]`: bool `[Z, H, W]`, or `[n, H, W]` if it is 2D.

    Args:
      predict: `[B, *size, C] -> probabilities [B, *size, K]`, background first.
      size: of the network's input.
      overlap: share of a tile's size by which tiles overlap.
      batch: tiles per call.
    """
    if len(size) == 3:
        return predict_tiled(predict, image[None], size, overlap, batch)[0].argmax(-1) > 0
    number = min(SLICES, len(image))
    rows = ((np.arange(number) + 0.5) * len(image) / number).astype(int)
    return predict_tiled(predict, image[rows], size, overlap, batch).argmax(-1) > 0


def choose(found: np.ndarray, shape: Sequence[int], size: Sequence[int]) -> Region:
    """Returns the box of `size` in an image of `shape` that holds most of the largest piece of `found`, with a margin.

    Smaller pieces are mostly false, so far from the heart. The central box is preferred. Of equal boxes, it is the one
    in their middle.

    Args:
      found: bool `[Z, H, W]`, or `[n, H, W]` with only some of the slices if `size` is (H, W).
      shape: (Z, H, W).
      size: (H, W) or (Z, H, W), at most `shape`.
    """
    middle = central(shape, size)
    if not found.any():
        return middle._replace(notes=("no foreground was found in the whole image; its centre is predicted",))
    box = (*found.shape[: 3 - len(size)], *size)
    heart = kept(found, 1, corners=True)
    start = (0,) * (3 - len(size)) + middle.start[3 - len(size) :]
    held = _held(heart, box, CENTRAL_MARGIN)
    if held[start] < (1 - TOLERANCE) * held.max():
        held = _held(heart, box, MARGIN)
        places = np.argwhere(held >= (1 - TOLERANCE) * held.max())
        start = tuple(int(k) for k in places[((places - places.mean(axis=0)) ** 2).sum(axis=1).argmin()])
    z, h, w = (*middle.start[: 3 - len(size)], *start[3 - len(size) :])
    inside = tuple(slice(s, s + k) for s, k in zip(start, box, strict=True))
    lost = 1 - found[inside].sum() / found.sum()
    if lost <= ELSEWHERE:
        return Region((z, h, w), middle.size)
    what = f"outside the box of {' x '.join(map(str, size))} voxels that is predicted"
    note = f"{lost:.0%} of the foreground found in the whole image lies {what}; --crop=tiles predicts everything"
    return Region((z, h, w), middle.size, notes=(note,))


def at_border(labels: np.ndarray, region: Region, shape: Sequence[int]) -> tuple[str, ...]:
    """Returns a note if foreground touches a face of the region beyond which the image goes on, or if there is none.

    Args:
      labels: of the region, `[Z, H, W]`.
      shape: of the image, (Z, H, W).
    """
    rim = np.zeros(labels.shape, bool)
    for axis, (start, size, whole) in enumerate(zip(region.start, region.size, shape, strict=True)):
        plane = np.moveaxis(rim, axis, 0)
        plane[0] |= start > 0
        plane[-1] |= start + size < whole
    foreground = labels > 0
    if not foreground.any():
        empty = rim.any() and not region.notes
        return ("no foreground was found in the predicted part, the centre of the image",) if empty else ()
    share = (foreground & rim).sum() / foreground.sum()
    if share <= AT_BORDER:
        return ()
    return (f"{share:.1%} of the foreground touches the border of the predicted part: the heart may go on beyond it",)


def _held(found: np.ndarray, box: Sequence[int], margin: float) -> np.ndarray:
    """Number of foreground voxels in every box, without its rim except where the box ends with the image."""
    total = np.pad(found.astype(np.int64), [(1, 0)] * found.ndim)
    for axis, (whole, size) in enumerate(zip(found.shape, box, strict=True)):
        first = np.arange(whole - size + 1)
        rim = int(size * margin)
        low, high = np.where(first > 0, first + rim, 0), np.where(first + size < whole, first + size - rim, whole)
        total = np.cumsum(total, axis=axis)
        total = np.take(total, high, axis) - np.take(total, low, axis)
    return total
