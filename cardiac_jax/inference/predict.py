"""Prediction of complete cases on the network's grid."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cardiac_jax.core.types import Output
from cardiac_jax.data.preprocess import Prepared
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.inference.region import OVERLAP, Region, central, choose, crop_of, look
from cardiac_jax.inference.tiles import predict_tiled
from cardiac_jax.metrics.overlap import counts, dice_of
from cardiac_jax.train.loop import Validate

Predict = Callable[[np.ndarray], np.ndarray]
"""Type of `image [B, *S, C] -> probabilities [B, *S, K]`."""

BATCH = 16
"""Slices per call; every call has this many, so that the program compiles once."""


def predict_slices(predict: Predict, image: np.ndarray) -> np.ndarray:
    """Returns probabilities `[Z, H, W, K]` of `image [Z, H, W, C]`, predicted by a 2D network."""
    parts = []
    for start in range(0, len(image), BATCH):
        rows = np.minimum(np.arange(start, start + BATCH), len(image) - 1)
        parts.append(predict(image[rows])[: len(image) - start])
    return np.concatenate(parts)


def predict_volume(predict: Predict, image: np.ndarray) -> np.ndarray:
    """Returns probabilities `[Z, H, W, K]` of `image [Z, H, W, C]`, predicted by a 3D network."""
    return predict(image[None])[0]


def region_of(predict: Predict | None, image: np.ndarray, size: Sequence[int], crop: str, overlap: float) -> Region:
    """Returns the part of a prepared image `[Z, H, W, C]` that is predicted.

    Args:
      predict: gives probabilities of a label map, on the grid of its input; None: there are none.
      size: input size of the network, `(H, W)` or `(Z, H, W)`.
      crop: one of `region.CROPS`, or "" (see `region.crop_of`).
      overlap: share of a tile's size by which tiles overlap; 0: `region.OVERLAP`.

    Raises:
      InputError: `crop` is unknown.
    """
    shape = image.shape[:-1]
    crop = crop_of(crop, overlap)
    middle = central(shape, size)
    if middle.size == shape or crop == "centre":
        return middle
    if crop == "tiles":
        return Region((0, 0, 0), middle.size if middle.size == shape else shape, tiled=True)
    if predict is None:
        return middle._replace(notes=("no label map is predicted that shows where the heart is: the centre is used",))
    batch = 1 if len(size) == 3 else BATCH
    return choose(look(predict, image, size, overlap or OVERLAP, batch), shape, size)


def predict_region(
    predict: Predict, image: np.ndarray, region: Region, size: Sequence[int], overlap: float, scale: Sequence[int] = ()
) -> np.ndarray:
    """Returns the prediction `[z, h, w, K]` of a region of a prepared image `[Z, H, W, C]`.

    Args:
      region: from `region_of`.
      size: input size of the network, `(H, W)` or `(Z, H, W)`.
      overlap: share of a tile's size by which tiles overlap; 0: `region.OVERLAP`.
      scale: voxels of the output per voxel of the input along each axis; (): 1.

    Raises:
      InputError: the output is finer than the image and the region is tiled.
    """
    over = predict_volume if len(size) == 3 else predict_slices
    if not region.tiled:
        inside = tuple(slice(s, s + k) for s, k in zip(region.start, region.size, strict=True))
        return over(predict, image[inside])
    if any(factor != 1 for factor in scale):
        problem = f"an output finer than the image is predicted in one piece: {image.shape[:-1]} is not {tuple(size)}"
        raise InputError("--crop", f"{problem}; take --crop=centre")

    def tile(tiles: np.ndarray) -> np.ndarray:
        return np.stack([over(predict, one) for one in tiles])

    return predict_tiled(tile, image[None], (*image.shape[:1], *size)[-3:], overlap or OVERLAP)[0]


def validator(
    predict: Callable[[Any, np.ndarray], Mapping[str, np.ndarray]],
    outputs: Sequence[Output],
    cases: Sequence[Prepared],
    spec: DataSpec,
) -> Validate:
    """Returns a function that scores an output on validation cases, on the network's grid, covered as in evaluation.

    The scores are 3D Dice, averaged over cases: `dice/<structure>`, and their mean `dice`.
    """
    known = {output.name: output for output in outputs}

    def validate(variables: Any, name: str) -> dict[str, float]:
        assert known[name].kind == "labels", f"no score is known of an output of kind {known[name].kind}"
        run = partial(_one_output, predict, variables, name)
        rows = []
        for case in cases:
            assert case.label is not None
            region = region_of(run, case.image, spec.size, "", spec.tile_overlap)
            labels = np.zeros(case.label.shape, np.uint8)
            inside = tuple(slice(s, s + k) for s, k in zip(region.start, region.size, strict=True))
            labels[inside] = predict_region(run, case.image, region, spec.size, spec.tile_overlap).argmax(-1)
            rows.append(dice_of(counts(labels, case.label, range(1, spec.classes_count))))
        mean = np.nanmean(np.array(rows), axis=0) if rows else np.full(spec.classes_count - 1, np.nan)
        scores = {f"dice/{name}": float(value) for name, value in zip(spec.classes[1:], mean, strict=True)}
        return {**scores, "dice": float(np.mean(mean))}

    return validate


def _one_output(
    predict: Callable[[Any, np.ndarray], Mapping[str, np.ndarray]], variables: Any, name: str, image: np.ndarray
) -> np.ndarray:
    return predict(variables, image)[name]
