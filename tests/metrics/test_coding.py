"""Predictions that code their structures by other values than the gold standard."""

from itertools import permutations

import numpy as np
import pytest

from cardiac_jax.core.types import IGNORE
from cardiac_jax.metrics.coding import confusion, other_coding
from tests import hearts

CLASSES = ("background", "RV", "Myo", "LV")
CODE = np.array([0.0, 0.0, 0.0, 0.0])


def heart(shift: int = 0) -> np.ndarray:
    return np.roll(hearts.heart(CODE, (48, 48), (24, 24)), shift, 0)


def test_voxels_are_counted_by_both_classes_where_they_are_annotated():
    pred, truth = np.array([0, 1, 2, 2, 1]), np.array([0, 1, 1, IGNORE, 2])
    np.testing.assert_array_equal(confusion(pred, truth, 3), [[1, 0, 0], [0, 1, 1], [0, 1, 0]])


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_every_permutation_is_found_and_the_right_order_is_no_warning(order):
    coded = np.array([0, *order])[heart(1)]
    line = other_coding(confusion(coded, heart(), 4), CLASSES)
    if order == (1, 2, 3):
        assert line == ""
        return
    for value, name in zip(order, CLASSES[1:], strict=True):
        assert (f"{CLASSES[value]} as {name}" in line) == (CLASSES[value] != name)


def test_a_bad_segmentation_is_no_other_coding():
    rng = np.random.default_rng(0)
    assert other_coding(confusion(rng.integers(0, 4, (48, 48)), heart(), 4), CLASSES) == ""
    assert other_coding(confusion(np.zeros((48, 48), int), heart(), 4), CLASSES) == ""
    assert other_coding(confusion(heart(20), heart(), 4), CLASSES) == ""
    assert other_coding(np.zeros((4, 4), int), CLASSES) == ""
