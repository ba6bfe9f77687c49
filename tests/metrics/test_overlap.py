"""Dice, Jaccard and balanced accuracy: by hand, against SimpleITK, on the host and compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from cardiac_jax.metrics import overlap


def _random_pair(seed: int, shape: tuple[int, ...] = (9, 8, 7)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, shape).astype(np.uint8)
    pred = np.where(rng.random(shape) < rng.random(), truth, rng.integers(0, 4, shape)).astype(np.uint8)
    return pred, truth


def test_hand_counted():
    truth = np.array([[1, 1, 1, 0], [2, 2, 0, 0]])
    pred = np.array([[1, 1, 0, 0], [2, 0, 2, 2]])
    counts = overlap.counts(pred, truth, (1, 2, 3))
    np.testing.assert_array_equal(counts.true_positive, [2, 1, 0])
    np.testing.assert_array_equal(counts.false_positive, [0, 2, 0])
    np.testing.assert_array_equal(counts.false_negative, [1, 1, 0])
    np.testing.assert_allclose(overlap.dice_of(counts), [4 / 5, 2 / 5, np.nan])
    np.testing.assert_allclose(overlap.jaccard_of(counts), [2 / 3, 1 / 4, np.nan])
    # Sensitivity and specificity: 2 of 3 and 5 of 5; 1 of 2 and 4 of 6; the third class has no sensitivity.
    balanced = overlap.balanced_accuracy_of(counts, truth.size)
    np.testing.assert_allclose(balanced, [(2 / 3 + 1) / 2, (1 / 2 + 4 / 6) / 2, np.nan])


def test_balanced_accuracy_where_a_half_is_undefined():
    truth, pred = np.array([0, 1, 1]), np.array([2, 0, 0])
    counts = overlap.counts(pred, truth, (1, 2))
    # Class 1: none of 2 found, none of 1 spared falsely; class 2 is not in the truth.
    np.testing.assert_allclose(overlap.balanced_accuracy_of(counts, 3), [0.5, np.nan])
    everywhere = np.ones(4, int)
    assert np.isnan(overlap.balanced_accuracy_of(overlap.counts(everywhere, everywhere, (1,)), 4)).all()
    with pytest.raises(ValueError, match="cannot hold 2 of one class"):
        overlap.balanced_accuracy_of(counts, 1)


def test_balanced_accuracy_of_a_batch_takes_the_voxels_of_each():
    pred, truth = (np.stack(maps) for maps in zip(*(_random_pair(seed, (6, 7)) for seed in range(2)), strict=True))
    truth[0, :2] = 255
    voxels = (truth != 255).sum(axis=(1, 2))
    host = overlap.Counts(
        *(np.asarray(c) for c in overlap.counts_per_class(jnp.asarray(pred), jnp.asarray(truth), (1, 2)))
    )
    got = overlap.balanced_accuracy_of(host, voxels[:, None])
    want = [
        overlap.balanced_accuracy_of(overlap.counts(p, t, (1, 2)), int(v))
        for p, t, v in zip(pred, truth, voxels, strict=True)
    ]
    np.testing.assert_array_equal(got, want)


def test_class_in_one_map_only_scores_zero():
    truth, pred = np.array([0, 1, 1]), np.array([2, 0, 0])
    counts = overlap.counts(pred, truth, (1, 2))
    np.testing.assert_array_equal(overlap.dice_of(counts), [0.0, 0.0])
    np.testing.assert_array_equal(overlap.jaccard_of(counts), [0.0, 0.0])


def test_unannotated_voxels_do_not_count():
    truth = np.array([1, 1, 255, 255, 0])
    pred = np.array([1, 0, 1, 0, 1])
    # Left with truth 1 1 0 against 1 0 1: one hit, one false alarm, one miss.
    np.testing.assert_allclose(overlap.dice_of(overlap.counts(pred, truth, (1,))), [0.5])
    batched = overlap.dice_per_class(jnp.asarray(pred)[None], jnp.asarray(truth)[None], (1,))
    np.testing.assert_allclose(batched, [[0.5]])


@pytest.mark.parametrize("block", range(10))
def test_agrees_with_simpleitk(block: int):
    for seed in range(20 * block, 20 * (block + 1)):
        pred, truth = _random_pair(seed)
        counts = overlap.counts(pred, truth, (1, 2, 3))
        dice, jaccard = overlap.dice_of(counts), overlap.jaccard_of(counts)
        balanced = overlap.balanced_accuracy_of(counts, truth.size)
        measure = sitk.LabelOverlapMeasuresImageFilter()
        measure.Execute(sitk.GetImageFromArray(pred), sitk.GetImageFromArray(truth))  # its target is the truth
        for i, label in enumerate((1, 2, 3)):
            assert dice[i] == pytest.approx(measure.GetDiceCoefficient(label), abs=1e-6)
            assert jaccard[i] == pytest.approx(measure.GetJaccardCoefficient(label), abs=1e-6)
            missed, false = measure.GetFalseNegativeError(label), measure.GetFalsePositiveError(label)
            assert balanced[i] == pytest.approx(1 - (missed + false) / 2, abs=1e-6)


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 5)])
def test_compiled_equals_host(shape: tuple[int, ...]):
    pairs = [_random_pair(seed, shape) for seed in range(3)]
    pairs.append((np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)))
    pairs[0][1][0] = 255
    pred, truth = (np.stack(maps) for maps in zip(*pairs, strict=True))
    counts, voxels = [overlap.counts(p, t, (1, 2, 3)) for p, t in pairs], [(t != 255).sum() for _, t in pairs]
    expected = {
        overlap.dice_per_class: [overlap.dice_of(c) for c in counts],
        overlap.jaccard_per_class: [overlap.jaccard_of(c) for c in counts],
        overlap.balanced_accuracy_per_class: [
            overlap.balanced_accuracy_of(c, v) for c, v in zip(counts, voxels, strict=True)
        ],
    }
    for measure, want in expected.items():
        got = jax.jit(measure, static_argnums=2)(pred, truth, (1, 2, 3))
        np.testing.assert_allclose(got, want, atol=1e-6)
        assert np.isnan(got[-1]).all() and np.isfinite(got[:-1]).all()


def test_counts_of_slices_add_up_to_the_volume():
    pred, truth = _random_pair(5)
    per_slice = overlap.counts_per_class(jnp.asarray(pred), jnp.asarray(truth), (1, 2, 3))
    volume = overlap.Counts(*(np.asarray(c).sum(0) for c in per_slice))
    np.testing.assert_array_equal(volume, overlap.counts(pred, truth, (1, 2, 3)))


def test_per_slice_follows_the_axis():
    truth = np.zeros((2, 2, 3), np.uint8)
    truth[..., 0] = 1
    truth[0, 0, 1] = 1
    pred = np.zeros_like(truth)
    pred[..., 0] = 1
    np.testing.assert_allclose(overlap.dice_per_slice(pred, truth, (1,)), [[1.0], [0.0], [np.nan]])
    # Along x: slice 0 holds 2 hits and 1 miss (4/5), slice 1 holds 2 hits.
    np.testing.assert_allclose(overlap.dice_per_slice(pred, truth, (1,), axis=0), [[0.8], [1.0]])


@given(st.integers(0, 2**32 - 1))
def test_symmetric_bounded_and_tied_to_each_other(seed: int):
    pred, truth = _random_pair(seed, (5, 4))
    forth, back = (overlap.dice_of(overlap.counts(*p, (1, 2, 3))) for p in ((pred, truth), (truth, pred)))
    np.testing.assert_array_equal(forth, back)
    jaccard = overlap.jaccard_of(overlap.counts(pred, truth, (1, 2, 3)))
    np.testing.assert_allclose(forth, 2 * jaccard / (1 + jaccard), atol=1e-12)
    assert np.all((np.nan_to_num(forth) >= 0) & (np.nan_to_num(forth) <= 1))


def test_shapes_must_match():
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        overlap.counts(np.zeros(2, int), np.zeros(3, int), (1,))
