"""Rows of one case: values by hand, degenerate structures, unannotated slices, real annotations."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from cardiac_jax.metrics.evaluate import evaluate_case

CLASSES = ("background", "RV", "Myo", "LV")


def _by_structure(pred: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)):
    return {row["structure"]: row for row in evaluate_case(pred, truth, spacing_mm, CLASSES)}


def test_values_and_volumes_by_hand():
    truth = np.zeros((8, 8, 2), np.uint8)
    truth[2:6, 2:6] = 3  # 4 x 4 x 2 = 32 voxels
    pred = np.zeros_like(truth)
    pred[3:7, 2:6] = 3  # moved by one voxel of 2 mm: 24 in common
    row = _by_structure(pred, truth, (2.0, 1.5, 5.0))["LV"]
    assert row["status"] == "ok"
    assert row["dice"] == pytest.approx(48 / 64)
    assert row["jaccard"] == pytest.approx(24 / 40)
    assert row["volume_truth_ml"] == row["volume_pred_ml"] == pytest.approx(32 * 15 / 1000)
    # Of 96 voxels outside the truth 8 are called LV.
    assert row["balanced_accuracy"] == pytest.approx((24 / 32 + 88 / 96) / 2)
    # Two slices, both outermost, so all 32 voxels are boundary; the 8 of the row left behind are 2 mm away.
    assert (row["hd_mm"], row["hd95_mm"]) == (2.0, 2.0)
    assert row["asd_mm"] == pytest.approx(2.0 * 8 / 32)


def test_every_status_and_its_values():
    truth = np.zeros((6, 6, 1), np.uint8)
    pred = np.zeros_like(truth)
    truth[0, 0], pred[5, 5] = 1, 3
    rows = _by_structure(pred, truth)
    assert [rows[name]["status"] for name in CLASSES[1:]] == ["missed", "absent", "spurious"]
    for name in ("RV", "LV"):
        assert rows[name]["dice"] == 0.0
        assert rows[name]["hd_mm"] == rows[name]["hd95_mm"] == rows[name]["asd_mm"] == np.inf
    assert all(np.isnan(rows["Myo"][key]) for key in ("dice", "jaccard", "hd_mm", "hd95_mm", "asd_mm"))
    assert rows["RV"]["volume_pred_ml"] == 0.0
    assert rows["RV"]["volume_truth_ml"] == pytest.approx(1e-3)
    assert (rows["RV"]["volume_error_ml"], rows["LV"]["volume_error_ml"]) == pytest.approx((-1e-3, 1e-3))
    assert rows["RV"]["balanced_accuracy"] == 0.5  # nothing found, nothing called in vain
    assert np.isnan(rows["LV"]["balanced_accuracy"]) and np.isnan(rows["Myo"]["balanced_accuracy"])


def test_partly_annotated_slices_count_where_they_are_annotated():
    truth = np.zeros((6, 6, 3), np.uint8)
    truth[1:4, 1:4, :2] = 2
    truth[..., 2] = 255
    truth[2, 2, 2] = 2  # one stroke in a slice nobody outlined
    pred = np.zeros_like(truth)
    pred[1:4, 1:4, :2] = 2
    pred[0:6, 0:6, 2] = 2  # as if the heart filled that slice: only the stroke can be judged
    row = _by_structure(pred, truth)["Myo"]
    assert (row["slices"], row["surface_slices"], row["annotation"]) == (3, 2, "partial")
    assert row["dice"] == 1.0
    assert row["hd_mm"] == 0.0
    assert np.isnan([row["volume_pred_ml"], row["volume_truth_ml"], row["volume_error_ml"]]).all()


@pytest.mark.parametrize("spacing_mm", [(1.4, 1.4, 10.0), (1.0, 2.0, 3.0)])
@pytest.mark.parametrize("margin", [0, 9])
def test_background_around_the_heart_changes_true_negatives_only(spacing_mm: tuple[float, ...], margin: int):
    rng = np.random.default_rng(3)
    pred, truth = rng.integers(0, 4, (2, 7, 6, 5)).astype(np.uint8)
    truth[:3, :2] = 255
    rows = evaluate_case(pred, truth, spacing_mm, CLASSES, slice_axis=0)
    framed = evaluate_case(np.pad(pred, margin), np.pad(truth, margin), spacing_mm, CLASSES, slice_axis=0)
    assert len(rows) == len(framed) == 3
    for label, (row, wide) in enumerate(zip(rows, framed, strict=True), 1):
        alike = set(row) - {"balanced_accuracy", "specificity", "slices", "surface_slices"}
        for column in alike:
            np.testing.assert_equal(wide[column], row[column])
        assert (row["surface_slices"], wide["surface_slices"]) == (4, 4 + 2 * margin)
        known = np.pad(truth, margin) != 255
        p, t = np.pad(pred, margin)[known] == label, np.pad(truth, margin)[known] == label
        assert wide["balanced_accuracy"] == pytest.approx((p[t].mean() + (~p[~t]).mean()) / 2)


def test_no_whole_slice_leaves_distances_unmeasured():
    truth = np.full((3, 3, 2), 255, np.uint8)
    truth[1, 1] = 1
    row = _by_structure(np.ones_like(truth), truth)["RV"]
    assert (row["status"], row["dice"], row["surface_slices"]) == ("ok", 1.0, 0)
    assert np.isnan(row["hd_mm"]) and np.isnan(row["asd_mm"])


@pytest.mark.parametrize("which", ["prediction", "truth"])
def test_labels_without_a_name_are_refused(which: str):
    good, bad = np.zeros((2, 2, 1), np.uint8), np.full((2, 2, 1), 7, np.uint8)
    with pytest.raises(ValueError, match=rf"{which}.*\[7\]"):
        _by_structure(*((bad, good) if which == "prediction" else (good, bad)))


def test_real_annotations_agree_with_simpleitk(real_data: Path):
    sitk = pytest.importorskip("SimpleITK")
    files = sorted((real_data / "mscmr" / "val").glob("*_LGE_manual.nii.gz"))
    assert files
    raw = {600: 1, 200: 2, 500: 3, 255: 255}
    for file in files:
        image = nibabel.load(file)
        values = np.asarray(image.dataobj)
        truth = np.select([values == k for k in raw], list(raw.values()), 0).astype(np.uint8)
        truth[..., (truth == 255).any((0, 1))] = 0
        pred = np.roll(truth, (3, -2, 1), (0, 1, 2))
        spacing_mm = tuple(float(s) for s in image.header.get_zooms()[:3])
        rows = _by_structure(pred, truth, spacing_mm)
        for label, name in enumerate(CLASSES[1:], 1):
            edges = []
            for array in (pred, truth):
                mask = sitk.GetImageFromArray(np.pad(array == label, 1).astype(np.uint8))
                mask.SetSpacing(spacing_mm[::-1])
                edges.append(sitk.LabelContour(mask, fullyConnected=False))
            measure = sitk.HausdorffDistanceImageFilter()
            measure.Execute(*edges)
            assert rows[name]["hd_mm"] == pytest.approx(measure.GetHausdorffDistance(), rel=1e-6)
