"""Pairs of masks, random and real, and what SimpleITK makes of them."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import nibabel
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from cardiac_jax.metrics.evaluate import evaluate_case

SHAPES = ((9, 10, 6), (12, 1, 8), (5, 4, 14), (13, 12, 9))
SPACINGS_MM = ((1.4, 1.4, 10.0), (10.0, 1.4, 1.4), (1.0, 1.0, 1.0), (0.7, 2.3, 5.1))
N_PAIRS = 200
T = TypeVar("T")


class Pair(NamedTuple):
    """Two masks `[X, Y, Z]` of one grid."""

    pred: np.ndarray
    truth: np.ndarray
    spacing_mm: tuple[float, float, float]


@cache
def random_pair(i: int) -> Pair:
    """Ragged masks, most of them at the edge, some in pieces or one voxel; three pairs in 20 hold an empty one."""
    rng = np.random.default_rng(i)
    shape = SHAPES[i % len(SHAPES)]

    def mask(empty: bool) -> np.ndarray:
        smooth = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0, 2))
        drawn = smooth > np.quantile(smooth, rng.uniform(0.4, 0.98))
        drawn[tuple(rng.integers(0, n) for n in shape)] = True
        return drawn & (not empty)

    return Pair(mask(i % 20 in (1, 3)), mask(i % 20 in (2, 3)), SPACINGS_MM[(i // len(SHAPES)) % len(SPACINGS_MM)])


@cache
def real_pairs(root: Path) -> list[Pair]:
    """Three structures of six patients, ED: against ES, and against themselves moved by some voxels."""
    patients = sorted((root / "acdc").iterdir())[::7]
    assert len(patients) == 6
    found = []
    for patient in patients:
        images = [nibabel.load(file) for file in sorted(patient.glob("*_gt.nii.gz"))]
        truth, es = (np.asarray(image.dataobj).astype(np.uint8) for image in images)
        spacing_mm = tuple(float(s) for s in images[0].header.get_zooms()[:3])
        preds = (es, np.roll(truth, (2, -1, 1), (0, 1, 2)))
        found += [Pair(pred == label, truth == label, spacing_mm) for pred in preds for label in (1, 2, 3)]
    return found


PAIRS = [random_pair(i) for i in range(N_PAIRS)]


_KEPT: dict[tuple[str, int], tuple[Pair, object]] = {}


def kept_by_pair(of: Callable[[Pair], T]) -> Callable[[Pair], T]:
    """Computes what several tests want of one pair once; the pair is kept, so that its id stays its own."""

    def value(pair: Pair) -> T:
        key = of.__name__, id(pair)
        if key not in _KEPT:
            _KEPT[key] = pair, of(pair)
        return cast(T, _KEPT[key][1])

    return value


@kept_by_pair
def ours(pair: Pair) -> dict[str, float]:
    maps = (mask.astype(np.uint8) for mask in (pair.pred, pair.truth))
    (row,) = evaluate_case(*maps, pair.spacing_mm, ("background", "it"))
    return {name: float(value) for name, value in row.items() if isinstance(value, float)}


def itk_image(mask: np.ndarray, spacing_mm: tuple[float, ...], frame: int = 0) -> sitk.Image:
    image = sitk.GetImageFromArray(np.pad(mask, frame).astype(np.uint8))
    image.SetSpacing(spacing_mm[::-1])
    return image


@kept_by_pair
def itk_contours(pair: Pair) -> list[sitk.Image]:
    images = (itk_image(mask, pair.spacing_mm, frame=1) for mask in (pair.pred, pair.truth))
    return [sitk.LabelContour(image, fullyConnected=False) for image in images]


@kept_by_pair
def itk_distances(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Both directed sets from exact distance maps of ITK's contours."""
    contours = itk_contours(pair)
    edges = [sitk.GetArrayFromImage(contour) > 0 for contour in contours]
    maps = [
        np.abs(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(c, squaredDistance=False, useImageSpacing=True)))
        for c in contours
    ]
    maps = [np.where(edge, 0.0, far) for edge, far in zip(edges, maps, strict=True)]
    return maps[1][edges[0]], maps[0][edges[1]]
