"""Lesions: by hand, and against components and overlaps of SimpleITK."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from cardiac_jax.metrics.evaluate import evaluate_case, unions
from cardiac_jax.metrics.lesions import is_lesion, lesions

MYOPS = ("background", "RV", "Myo", "LV", "oedema", "scar")


def _touched(mask: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """Number of lesions of `mask` and of those that `other` touches, by ITK's components and maxima of labels."""
    component = sitk.ConnectedComponentImageFilter()
    component.FullyConnectedOn()
    numbered = component.Execute(sitk.GetImageFromArray(mask.astype(np.uint8)))
    overlap = sitk.LabelStatisticsImageFilter()
    overlap.Execute(sitk.GetImageFromArray(other.astype(np.uint8)), numbered)
    labels = [label for label in overlap.GetLabels() if label]
    return len(labels), sum(overlap.GetMaximum(label) > 0 for label in labels)


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_simpleitk(seed: int):
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.normal(size=(2, 6, 20, 20)), (0, 0.7, 1, 1))
    truth, pred = (field > np.quantile(field, q) for field, q in zip(fields, rng.uniform(0.9, 0.995, 2), strict=True))
    found = lesions(pred, truth)
    assert (found.truth, found.detected) == _touched(truth, pred)
    assert (found.pred, found.right) == _touched(pred, truth)
    assert found.truth > 2


def test_by_hand():
    truth, pred = np.zeros((2, 3, 20, 20), bool)
    truth[0, 2, 2], truth[1, 3, 3] = True, True  # one lesion: they touch at a corner
    truth[1, 10:12, 10:14], truth[2, 18, 18] = True, True
    pred[1, 3, 3:12], pred[1, 11, 13:16] = True, True  # two of the three
    pred[0, 0, 19] = True  # and one too many
    found = lesions(pred, truth)
    assert found == (3, 3, 2, 2)
    assert (found.sensitivity, found.precision, found.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    none = np.zeros_like(truth)
    assert math.isnan(lesions(none, none).f1)
    assert lesions(none, truth).f1 == 0.0 == lesions(pred, none).f1
    assert math.isnan(lesions(none, truth).precision) and lesions(none, truth).sensitivity == 0.0


def test_unions_are_scored_as_one_structure():
    truth = np.zeros((3, 12, 12), np.uint8)
    truth[:, 2:10, 2:10], truth[:, 4:8, 4:8] = 2, 3
    truth[1, 2, 2:10], truth[1, 3, 2:10] = 5, 4
    pred = truth.copy()
    pred[1, 2, 2:10], pred[1, 3, 2:10] = 4, 5  # scar and oedema exchanged
    rows = {row["structure"]: row for row in evaluate_case(pred, truth, (8.0, 1.0, 1.0), MYOPS, slice_axis=0)}
    assert rows["scar"]["dice"] == rows["oedema"]["dice"] == 0.0
    for name in ("scar + oedema", "myocardium"):
        assert (rows[name]["dice"], rows[name]["hd_mm"], rows[name]["volume_abs_error_ml"]) == (1.0, 0.0, 0.0)
    assert rows["myocardium"]["volume_truth_ml"] == pytest.approx(3 * 48 * 8 / 1000)
    assert rows["Myo"]["volume_truth_ml"] == pytest.approx((3 * 48 - 16) * 8 / 1000)
    assert rows["scar + oedema"]["lesion_f1"] == 1.0 and math.isnan(rows["myocardium"]["lesion_f1"])
    assert unions(("background", "RV", "Myo", "LV")) == {}
    assert [is_lesion(name) for name in ("Scar", "scar + oedema", "LV", "myocardium")] == [True, True, False, False]
