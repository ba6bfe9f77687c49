"""Prediction of complete cases on the network's grid, optionally averaged over mirrored copies."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cardiac_jax.core.types import Output
from cardiac_jax.data.preprocess import Prepared
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.inference.tiles import predict_tiled
from cardiac_jax.metrics.overlap import counts, dice_of
from cardiac_jax.train.loop import Validate

Predict = Callable[[np.ndarray], np.ndarray]
"""Type of `image [B, *S, C] -> probabilities [B, *S, K]`."""

BATCH = 16
"""Slices per call; every call has this many, so that the program compiles once."""


def predict_slices(predict: Predict, image: np.ndarray, flips: bool = False) -> np.ndarray:
    """Returns probabilities `[Z, H, W, K]` of `image [Z, H, W, C]`, predicted by a 2D network.

    With `flips`, they are the mean over the image and its three in-plane mirrored copies, each mirrored back.
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
    """Returns probabilities `[Z, H, W, K]` of `image [Z, H, W, C]`, predicted by a 3D network; `flips` as above."""
    mirrored = [(), (2,), (3,), (2, 3)] if flips else [()]
    return np.mean([np.flip(predict(np.flip(image[None], axes)), axes)[0] for axes in mirrored], axis=0)


def predict_grid(
    predict: Predict,
    image: np.ndarray,
    size: Sequence[int],
    flips: bool = False,
    overlap: float = 0.5,
    scale: Sequence[int] = (),
) -> np.ndarray:
    """Returns the prediction `[Z, H, W, K]` of a prepared image `[Z, H, W, C]`.

    An image larger than `size` is predicted in tiles, blended by Gaussian weights.

    Args:
      size: input size of the network, `(H, W)` or `(Z, H, W)`.
      overlap: share of a tile's size by which tiles overlap.
      scale: voxels of the output per voxel of the input along each axis; (): 1.

    Raises:
      InputError: the output is finer than the image and the image does not have `size`.
    """
    over = predict_volume if len(size) == 3 else predict_slices
    if image.shape[:-1][-len(size) :] == tuple(size):
        return over(predict, image, flips)

    if any(factor != 1 for factor in scale):
        problem = f"an output finer than the image is predicted in one piece: {image.shape[:-1]} is not {tuple(size)}"
        raise InputError("data.tile_overlap", problem)

    def tile(tiles: np.ndarray) -> np.ndarray:
        return np.stack([over(predict, one, flips) for one in tiles])

    return predict_tiled(tile, image[None], (*image.shape[:1], *size)[-3:], overlap)[0]


def validator(
    predict: Callable[[Any, np.ndarray], Mapping[str, np.ndarray]],
    outputs: Sequence[Output],
    cases: Sequence[Prepared],
    spec: DataSpec,
) -> Validate:
    """Returns a function that scores an output on validation cases, on the network's grid, tiled as in evaluation.

    The scores are 3D Dice, averaged over cases: `dice/<structure>`, and their mean `dice`.
    """
    known = {output.name: output for output in outputs}

    def validate(variables: Any, name: str) -> dict[str, float]:
        assert known[name].kind == "labels", f"no score is known of an output of kind {known[name].kind}"
        rows = []
        for case in cases:
            assert case.label is not None
            run = partial(_one_output, predict, variables, name)
            labels = predict_grid(run, case.image, spec.size, overlap=spec.tile_overlap).argmax(-1)
            rows.append(dice_of(counts(labels, case.label, range(1, spec.classes_count))))
        mean = np.nanmean(np.array(rows), axis=0) if rows else np.full(spec.classes_count - 1, np.nan)
        scores = {f"dice/{name}": float(value) for name, value in zip(spec.classes[1:], mean, strict=True)}
        return {**scores, "dice": float(np.mean(mean))}

    return validate


def _one_output(
    predict: Callable[[Any, np.ndarray], Mapping[str, np.ndarray]], variables: Any, name: str, image: np.ndarray
) -> np.ndarray:
    return predict(variables, image)[name]
