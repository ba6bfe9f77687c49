"""Boundary distances: by hand, and against dense distance transforms in 1D, 2D and 3D, anisotropic voxels."""

import numpy as np
import pytest
from scipy import ndimage

from cardiac_jax.metrics import surface


def _blob(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A ragged mask, often at the edge, sometimes hollow or in pieces or one voxel; never empty."""
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0, 2))
    mask = smooth > np.quantile(smooth, rng.uniform(0.4, 0.98))
    mask[tuple(rng.integers(0, n) for n in shape)] = True
    return mask


def _dense(pred: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Both directed sets, read off distance maps of the whole image."""
    edges = [surface.boundary(mask) for mask in (pred, truth)]
    maps = [ndimage.distance_transform_edt(~edge, sampling=spacing_mm) for edge in edges]
    return maps[1][edges[0]], maps[0][edges[1]]


def _all(pred: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[float, float, float]:
    distances = surface.surface_distances(pred, truth, spacing_mm)
    return surface.hausdorff_mm(distances), surface.hausdorff_mm(distances, 95), surface.average_mm(distances)


@pytest.mark.parametrize("block", range(10))
def test_agrees_with_distance_maps(block: int):
    for seed in range(20 * block, 20 * (block + 1)):
        rng = np.random.default_rng(seed)
        shape = tuple(rng.integers(4, 16, size=1 + seed % 3))
        spacing_mm = tuple(rng.uniform(0.5, 9.0, size=len(shape)))
        pred, truth = _blob(rng, shape), _blob(rng, shape)
        got, want = surface.surface_distances(pred, truth, spacing_mm), _dense(pred, truth, spacing_mm)
        for ours, theirs in zip(got, want, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.4, 1.4, 10.0), (50.0, 0.3, 1.0)])
def test_far_masks_agree_too(spacing_mm: tuple[float, float, float]):
    """Beyond the voxels that are looked at one by one: corners of a long box, each with a piece near the other."""
    pred, truth = np.zeros((20, 24, 60), bool), np.zeros((20, 24, 60), bool)
    pred[:4, :5, :6], pred[12, 12, 58] = True, True
    truth[-4:, -6:, -5:], truth[3, 3, 30] = True, True
    got, want = surface.surface_distances(pred, truth, spacing_mm), _dense(pred, truth, spacing_mm)
    for ours, theirs in zip(got, want, strict=True):
        assert ours.max() > 2 * surface._shells(spacing_mm).distance_mm[-1]  # a tree was asked
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("scale", [(1.4,), (1.0, 1.0), (1.4, 10.0), (10.0, 1.4, 1.4), (0.2, 3.0, 7.0)])
def test_shells_leave_no_nearer_step_out(scale: tuple[float, ...]):
    shells = surface._shells(scale)
    far = shells.distance_mm[-1]
    assert shells.distance_mm[0] == 0.0 and (np.diff(shells.distance_mm) > 0).all()
    reach = int(far / min(scale)) + 1
    every = np.indices((2 * reach + 1,) * len(scale)).reshape(len(scale), -1).T - reach
    within = np.sqrt(((every * scale) ** 2).sum(axis=1)) <= far
    looked_at = {tuple(step) for steps in shells.steps for step in steps.tolist()}
    assert looked_at == {tuple(step) for step in every[within].tolist()}


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
