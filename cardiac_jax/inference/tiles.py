"""Prediction of large volumes in tiles, blended by Gaussian weights. Host side, NumPy."""

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product
from math import ceil

import numpy as np

SIGMA = 1 / 8
"""Standard deviation of the weights, as a fraction of the tile size."""


def tiles(shape: Sequence[int], size: Sequence[int], overlap: float) -> np.ndarray:
    """Returns first voxels [N, n] of the fewest evenly spaced tiles of `size` that cover `shape`, last axis fastest.

    Neighbours overlap by at least the share `overlap`, in [0, 1), of a tile, or by all but one voxel. Along an axis
    shorter than the tile there is one tile, centred on the volume, with a negative start.

    Raises:
      ValueError: a size is not positive, or `overlap` is not in [0, 1).
    """
    starts = _starts(shape, size, overlap)
    return np.array(list(product(*starts)), np.int64).reshape(-1, len(starts))


def predict_tiled(
    predict: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    size: Sequence[int],
    overlap: float = 0.5,
    batch: int = 1,
) -> np.ndarray:
    """Returns the prediction [B, *S, K] of `image` [B, *S, C]: at each voxel the weighted mean of the tiles there.

    Args:
      predict: [batch, *size, C] -> [batch, *size, K]; the shape is always the same, so that it compiles once.
      image: padded by 0 where it is smaller than a tile.
      size: size of a tile.
      overlap: least share of a tile that neighbours have in common.
      batch: tiles per call; the last call is padded with copies of the last tile.

    Raises:
      ValueError: `batch`, a size or the number of examples is not positive, or `overlap` is not in [0, 1).
    """
    shape = image.shape[1:-1]
    starts = _starts(shape, size, overlap)
    if batch < 1 or not len(image):
        raise ValueError(f"batches of {batch} tiles of {len(image)} examples")
    before = [max(-first[0], 0) for first in starts]
    pads = [(b, max(k - s, 0) - b) for b, s, k in zip(before, shape, size, strict=True)]
    padded = np.pad(image, [(0, 0), *pads, (0, 0)])
    lines = [_weights(first + b, k) for first, b, k in zip(starts, before, size, strict=True)]
    places = list(product(range(len(image)), *(range(len(first)) for first in starts)))

    def box(place: tuple[int, ...]) -> tuple[int | slice, ...]:
        corner = [first[i] + b for first, i, b in zip(starts, place[1:], before, strict=True)]
        return (place[0], *(slice(c, c + k) for c, k in zip(corner, size, strict=True)))

    out = None
    for begin in range(0, len(places), batch):
        chosen = [places[min(i, len(places) - 1)] for i in range(begin, begin + batch)]
        parts = np.asarray(predict(np.stack([padded[box(place)] for place in chosen])))
        if out is None:
            out = np.zeros((*padded.shape[:-1], parts.shape[-1]), np.result_type(parts.dtype, np.float32))
        for place, part in zip(chosen[: len(places) - begin], parts, strict=False):
            weight = reduce(np.multiply.outer, [line[i] for line, i in zip(lines, place[1:], strict=True)])
            out[box(place)] += part * weight[..., None].astype(out.dtype)
    assert out is not None
    return out[(slice(None), *(slice(b, b + s) for b, s in zip(before, shape, strict=True)))]


def _starts(shape: Sequence[int], size: Sequence[int], overlap: float) -> list[np.ndarray]:
    """Starts of the tiles along each axis, ascending."""
    if len(shape) != len(size) or min(shape) < 1 or min(size) < 1:
        raise ValueError(f"no tiles of size {tuple(size)} in a volume of {tuple(shape)}")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap {overlap} is not in [0, 1)")
    starts = []
    for s, k in zip(shape, size, strict=True):
        step = max(k - ceil(k * overlap - 1e-9), 1)
        if s <= k:
            starts.append(np.array([(s - k) // 2]))
        else:
            count = ceil((s - k) / step) + 1
            starts.append(np.arange(count) * (s - k) // (count - 1))
    return starts


def _weights(starts: np.ndarray, size: int) -> np.ndarray:
    """Gaussian weights [N, size] of the tiles along one axis, divided by their sum at each voxel.

    Tiles and Gaussians are products over the axes, so the sum of the weights at a voxel is the product of the sums per
    axis: weights that sum to one along each axis sum to one in the volume.
    """
    bell = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (SIGMA * size)) ** 2)
    total = np.zeros(starts[-1] + size)
    for start in starts:
        total[start : start + size] += bell
    return np.stack([bell / total[start : start + size] for start in starts])
