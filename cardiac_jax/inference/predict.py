"""Prediction of complete cases on the network's grid."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from cardiac_jax.core.types import Output
from cardiac_jax.data.axes import along, between
from cardiac_jax.data.preprocess import Prepared
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.inference.region import OVERLAP, Region, central, choose, crop_of, look
from cardiac_jax.inference.tiles import predict_tiled
from cardiac_jax.metrics.overlap import counts, dice_of
from cardiac_jax.metrics.restoration import RADIUS, psnr, ssim
from cardiac_jax.train.loop import Validate

Predict = Callable[[np.ndarray], np.ndarray]
"""Type of `image [B, *S, C] -> probabilities [B, *S, K]`."""

BATCH = 16
"""Slices per call; every call has this many, so that the program compiles once."""
IMAGE_SCORES = ("ssim", "psnr")
SCORE_OF = {"ssim": jax.jit(ssim), "psnr": jax.jit(psnr)}


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


def pooled(values: np.ndarray, scale: Sequence[int], first: int = 1) -> np.ndarray:
    """Returns the means of a finer output `[B, *S, K]` over each voxel of the image; `first`: the first axis of S.

    Args:
      scale: voxels of the output per voxel of the image along each axis; (): 1.
    """
    for axis, factor in enumerate(scale, start=first):
        if factor != 1:
            values = np.moveaxis(values, axis, 0)
            values = np.moveaxis(values.reshape(-1, factor, *values.shape[1:]).mean(axis=1), 0, axis)
    return values


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
    """Returns a function that scores an output on validation cases, on the grid of their labels or finer images.

    They are covered as in evaluation. An output of another grid is first interpolated linearly. Scores of labels are 3D
    Dice, averaged over cases: `dice/<structure>`, and their mean `dice`; those of images are `ssim` and `psnr` (dB),
    against the high-resolution image in the intensity scale of the network's input.

    Raises:
      InputError: an image would be validated, but a case has no high-resolution image or fewer voxels than SSIM needs.
    """
    known = {output.name: output for output in outputs}
    score = {"labels": _dice, "image": _similarity}
    for output in outputs:
        if output.kind == "image" and output.score in IMAGE_SCORES:
            _refuse_unscored(cases)

    def validate(variables: Any, name: str) -> dict[str, float]:
        output = known[name]
        run = partial(_one_output, predict, variables, name)
        find = partial(_pooled_output, run, output.scale) if output.kind == "labels" else None
        rows = []
        for case in cases:
            region = region_of(find, case.image, spec.size, "", spec.tile_overlap)
            found = predict_region(run, case.image, region, spec.size, spec.tile_overlap, output.scale)
            rows.append(score[output.kind](found, case, region, output.scale, spec))
        names = [f"dice/{name}" for name in spec.classes[1:]] if output.kind == "labels" else list(IMAGE_SCORES)
        mean = np.nanmean(np.array(rows), axis=0) if rows else np.full(len(names), np.nan)
        scores = {key: float(value) for key, value in zip(names, mean, strict=True)}
        return {**scores, "dice": float(np.mean(mean))} if output.kind == "labels" else scores

    return validate


def _dice(found: np.ndarray, case: Prepared, region: Region, scale: Sequence[int], spec: DataSpec) -> np.ndarray:
    """Dice of each structure of a case, background outside the region."""
    assert case.label is not None
    labels = np.zeros(case.label.shape, np.uint8)
    inside = _on(labels.shape, case, region)
    labels[inside] = _resampled(found, region, scale, labels[inside].shape).argmax(-1)
    return dice_of(counts(labels, case.label, range(1, spec.classes_count)))


def _similarity(found: np.ndarray, case: Prepared, region: Region, scale: Sequence[int], spec: DataSpec) -> np.ndarray:
    """SSIM and PSNR of a case's region."""
    assert case.fine is not None
    truth = case.fine[_on(case.fine.shape[:3], case, region)]
    image = _resampled(found, region, scale, truth.shape[:3])
    pair = [np.moveaxis(part[..., : truth.shape[-1]], -1, 0).astype(np.float32) for part in (image, truth)]
    return similarity(*pair)


def similarity(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns `IMAGE_SCORES` of float32 images `[C, Z, H, W]`, means over channels; the range is that of `truth`."""
    span = np.ptp(truth, axis=(1, 2, 3))
    return np.array([np.mean(SCORE_OF[name](image, truth, span)) for name in IMAGE_SCORES], np.float64)


def _on(shape: Sequence[int], case: Prepared, region: Region) -> tuple[slice, ...]:
    """The region of a prepared image, in an array of `shape` on a grid that may be finer."""
    factors = [n // k for n, k in zip(shape, case.image.shape[:3], strict=True)]
    return tuple(slice(s * f, (s + k) * f) for s, k, f in zip(region.start, region.size, factors, strict=True))


def _resampled(found: np.ndarray, region: Region, scale: Sequence[int], wanted: Sequence[int]) -> np.ndarray:
    """An output `[z, h, w, K]`, `scale` times finer than its region, interpolated to `wanted` voxels."""
    if found.shape[:3] == tuple(wanted):
        return found
    factors = (*(1,) * (3 - len(scale)), *scale)
    weights = [between(k, f, n // k) for k, f, n in zip(region.size, factors, wanted, strict=True)]
    return along(found.astype(np.float32), weights)


def _refuse_unscored(cases: Sequence[Prepared]) -> None:
    for case in cases:
        if case.fine is None:
            problem = f"case {case.id} has no high-resolution image, or data.intensity cannot be undone (z_score can)"
            raise InputError("validation part", f"{problem}: the image that is predicted cannot be scored")
        if min(case.fine.shape[:3]) <= 2 * RADIUS:
            size = " x ".join(map(str, case.fine.shape[:3]))
            raise InputError("data.size", f"SSIM needs {2 * RADIUS + 1} voxels along every axis, not {size}")


def _pooled_output(run: Predict, scale: Sequence[int], image: np.ndarray) -> np.ndarray:
    """The output on the grid of the image."""
    return pooled(run(image), scale)


def _one_output(
    predict: Callable[[Any, np.ndarray], Mapping[str, np.ndarray]], variables: Any, name: str, image: np.ndarray
) -> np.ndarray:
    return predict(variables, image)[name]
