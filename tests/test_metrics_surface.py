"""Boundary distances: by hand, against SimpleITK and scikit-image on random masks, anisotropic voxels."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from skimage.metrics import hausdorff_distance

from cardiac_jax.metrics import surface


def _blob(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A ragged mask, often at the edge, sometimes hollow or in pieces or one voxel; never empty."""
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0, 2))
    mask = smooth > np.quantile(smooth, rng.uniform(0.4, 0.98))
    mask[tuple(rng.integers(0, n) for n in shape)] = True
    return mask


def _by_simpleitk(pred: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[float, float, float]:
    """HD, HD95 and ASD from ITK's contours and exact distance maps, in a frame of background."""

    def image(mask: np.ndarray) -> sitk.Image:
        out = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
        out.SetSpacing(spacing_mm[::-1])
        return out

    contours = [sitk.LabelContour(image(mask), fullyConnected=False) for mask in (pred, truth)]
    arrays = [sitk.GetArrayFromImage(c) > 0 for c in contours]
    maps = [
        sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(c, squaredDistance=False, useImageSpacing=True))
        for c in contours
    ]
    maps = [np.where(edge, 0.0, np.abs(m)) for edge, m in zip(arrays, maps, strict=True)]
    forth, back = maps[1][arrays[0]], maps[0][arrays[1]]
    return (
        max(forth.max(), back.max()),
        max(np.percentile(forth, 95), np.percentile(back, 95)),
        (forth.sum() + back.sum()) / (forth.size + back.size),
    )


def _all(pred: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[float, float, float]:
    distances = surface.surface_distances(pred, truth, spacing_mm)
    return surface.hausdorff_mm(distances), surface.hausdorff_mm(distances, 95), surface.average_mm(distances)


@pytest.mark.parametrize("block", range(10))
def test_agrees_with_simpleitk(block: int):
    for seed in range(20 * block, 20 * (block + 1)):
        rng = np.random.default_rng(seed)
        shape = tuple(rng.integers(4, 16, size=2 + seed % 2))
        spacing_mm = tuple(rng.uniform(0.5, 9.0, size=len(shape)))
        pred, truth = _blob(rng, shape), _blob(rng, shape)
        # ITK computes in float32: the agreement asked for is relative to distances of up to 100 mm.
        np.testing.assert_allclose(
            _all(pred, truth, spacing_mm), _by_simpleitk(pred, truth, spacing_mm), rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("seed", range(8))
def test_hausdorff_agrees_with_scikit_image(seed: int):
    rng = np.random.default_rng(seed)
    pred, truth = _blob(rng, (9, 11, 8)), _blob(rng, (9, 11, 8))
    want = hausdorff_distance(surface.boundary(pred), surface.boundary(truth))  # unit spacing only
    assert _all(pred, truth, (1.0, 1.0, 1.0))[0] == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_boundary_is_mask_less_erosion(ndim: int):
    mask = _blob(np.random.default_rng(ndim), (9, 8, 7)[:ndim])
    eroded = ndimage.binary_erosion(mask, ndimage.generate_binary_structure(ndim, 1))
    np.testing.assert_array_equal(surface.boundary(mask), mask & ~eroded)


def test_two_parallel_sheets():
    pred, truth = np.zeros((6, 5, 4), bool), np.zeros((6, 5, 4), bool)
    pred[1], truth[4] = True, True
    # Every voxel is boundary and finds its twin 3 voxels of 2.5 mm away.
    np.testing.assert_allclose(_all(pred, truth, (2.5, 1.0, 1.0)), (7.5, 7.5, 7.5))


def test_one_stray_voxel_raises_hd_but_not_hd95():
    truth = np.zeros((30, 50), bool)
    truth[5:8, 0:30] = True  # 3 x 30 voxels; its boundary is all but the 28 inside the middle row: 62
    pred = truth.copy()
    pred[5, 40] = True  # 11 pixels of 2 mm from the nearest, (5, 29)
    hd, hd95, asd = _all(pred, truth, (7.0, 2.0))
    assert hd == pytest.approx(22.0)
    assert hd95 == 0.0
    assert asd == pytest.approx(22.0 / (62 + 63))


def test_percentile_is_taken_per_direction_and_the_larger_one_kept():
    pred, truth = np.zeros(40, bool), np.zeros(40, bool)
    truth[[0, 2]] = True
    pred[[0, 2, 12]] = True
    # Prediction to truth: 0, 0, 10, whose linear 95th percentile is 9; truth to prediction: 0, 0.
    # Pooled, the five distances would give 8.
    hd, hd95, asd = _all(pred, truth, (1.0,))
    assert (hd, hd95, asd) == (10.0, pytest.approx(9.0), 2.0)


def test_identical_masks_are_at_distance_zero():
    mask = _blob(np.random.default_rng(1), (8, 8, 8))
    assert _all(mask, mask, (1.0, 2.0, 3.0)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("swap", [False, True])
def test_one_empty_is_infinite(swap: bool):
    full, empty = np.ones((3, 3), bool), np.zeros((3, 3), bool)
    pair = (empty, full) if swap else (full, empty)
    assert _all(*pair, (1.0, 1.0)) == (np.inf, np.inf, np.inf)


def test_both_empty_is_not_a_number():
    empty = np.zeros((3, 3), bool)
    assert np.isnan(_all(empty, empty, (1.0, 1.0))).all()


def test_order_of_arguments_does_not_matter():
    rng = np.random.default_rng(7)
    pred, truth = _blob(rng, (7, 9, 8)), _blob(rng, (7, 9, 8))
    np.testing.assert_allclose(_all(pred, truth, (3.0, 1.0, 2.0)), _all(truth, pred, (3.0, 1.0, 2.0)), rtol=1e-14)


@pytest.mark.parametrize("truth_shape, spacing", [((3, 4), (1.0, 1.0)), ((3, 3), (1.0,))])
def test_mismatch_is_refused(truth_shape: tuple[int, ...], spacing: tuple[float, ...]):
    with pytest.raises(ValueError, match="do not match"):
        surface.surface_distances(np.ones((3, 3), bool), np.ones(truth_shape, bool), spacing)
