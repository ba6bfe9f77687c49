"""Prediction of whole cases: slices in batches over the devices, optionally averaged over mirrored copies."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from cardiac_jax.data.preprocess import Prepared
from cardiac_jax.inference.tiles import predict_tiled
from cardiac_jax.metrics.overlap import counts, dice_of
from cardiac_jax.train.loop import Validate

Predict = Callable[[np.ndarray], np.ndarray]
"""`image [B, *S, C] -> probabilities [B, *S, K]`."""

BATCH = 16
"""Slices handed to the devices at once; every call has this many, so that one program serves all."""


def predict_slices(predict: Predict, image: np.ndarray, flips: bool = False) -> np.ndarray:
    """`image [Z, H, W, C] -> probabilities [Z, H, W, K]`.

    With `flips`, the mean over the image and its three in-plane mirrorings, each mirrored back.
    """
    mirrored = [(), (1,), (2,), (1, 2)] if flips else [()]
    summed = []
    for axes in mirrored:
        parts = []
        for start in range(0, len(image), BATCH):
            rows = np.minimum(np.arange(start, start + BATCH), len(image) - 1)
            parts.append(predict(np.flip(image[rows], axes))[: len(image) - start])
        summed.append(np.flip(np.concatenate(parts), axes))
    return np.mean(summed, axis=0)


def predict_volume(predict: Predict, image: np.ndarray, flips: bool = False) -> np.ndarray:
    """The same for a network of volumes, `[Z, H, W, C] -> [Z, H, W, K]`, mirrored in plane."""
    mirrored = [(), (2,), (3,), (2, 3)] if flips else [()]
    return np.mean([np.flip(predict(np.flip(image[None], axes)), axes)[0] for axes in mirrored], axis=0)


def predict_grid(
    predict: Predict, image: np.ndarray, size: Sequence[int], flips: bool = False, overlap: float = 0.5
) -> np.ndarray:
    """A prepared case, `[Z, H, W, C] -> [Z, H, W, K]`: slices or a volume, as `size` has it.

    An image larger than `size` is predicted in tiles that share `overlap` of their size, blended by Gaussian weights.
    """
    over = predict_volume if len(size) == 3 else predict_slices
    if image.shape[:-1][-len(size) :] == tuple(size):
        return over(predict, image, flips)

    def tile(tiles: np.ndarray) -> np.ndarray:
        return np.stack([over(predict, one, flips) for one in tiles])

    return predict_tiled(tile, image[None], (*image.shape[:1], *size)[-3:], overlap)[0]


def validator(
    predict: Callable[[Any, np.ndarray], np.ndarray],
    cases: Sequence[Prepared],
    classes: Sequence[str],
    size: Sequence[int],
) -> Validate:
    """Dice in 3D per case on the network's grid, averaged over cases: `dice/<structure>` and their mean, `dice`."""

    def validate(variables: Any) -> dict[str, float]:
        rows = []
        for case in cases:
            assert case.label is not None
            labels = predict_grid(partial(predict, variables), case.image, size).argmax(-1)
            rows.append(dice_of(counts(labels, case.label, range(1, len(classes)))))
        mean = np.nanmean(np.array(rows), axis=0) if rows else np.full(len(classes) - 1, np.nan)
        scores = {f"dice/{name}": float(value) for name, value in zip(classes[1:], mean, strict=True)}
        return {**scores, "dice": float(np.mean(mean))}

    return validate
