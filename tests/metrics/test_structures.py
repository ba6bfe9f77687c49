"""Unions of classes, core scar, and their rows: places in the heart, interpolated volumes, by hand."""

import math

import numpy as np
import pytest

from cardiac_jax.data.labels import wall_labels
from cardiac_jax.metrics import structures
from cardiac_jax.metrics.measures import measure_case

CLASSES = ("background", "RV", "Myo", "LV", "oedema", "scar")
SPACING_MM = (10.0, 2.0, 2.5)  # 0.05 ml a voxel


def _heart() -> np.ndarray:
    """Slices 1 to 4 of 6: a wall of 8 x 8 about a pool of 4 x 4; first row of 3 and 4 scar, second oedema."""
    labels = np.zeros((6, 20, 20), np.uint8)
    labels[1:5, 4:12, 4:12] = 2
    labels[1:5, 6:10, 6:10] = 3
    labels[3:5, 4, 4:12] = 5
    labels[3:5, 5, 4:12] = 4
    return labels


def test_what_structures_are_made_of():
    made = structures.made_of(CLASSES)
    assert made == {"whole LV": (2, 4, 5, 3), "myocardium": (2, 4, 5), "oedema": (4,), "enhancement": (5,)}
    assert structures.made_of(("background", "RV", "Myo", "LV")) == {"whole LV": (2, 3)}
    assert structures.made_of(("background", "LA")) == {} and wall_labels(("background", "scar")) == ()
    assert wall_labels(("background", "Scar", "MYO")) == (2, 1)


def test_core_scar_is_half_of_the_maximum_of_each_maps_own_enhancement():
    truth, pred = _heart(), _heart()
    image = np.full(truth.shape, 20.0, np.float32)
    image[3, 4, 4:12] = [100, 60, 51, 49, 40, 31, 29, 20]
    image[4, 4, 4:12] = 10
    image[0] = 5000  # the blood and the body do not count
    pred[3, 4, 4] = 2  # misses the brightest voxel: half of 60 is 30
    found = {part.name: part for part in structures.parts(pred, truth, CLASSES, image)}["core scar"]
    assert np.argwhere(found.truth == 1).tolist() == [[3, 4, x] for x in (4, 5, 6)]
    assert np.argwhere(found.pred == 1).tolist() == [[3, 4, x] for x in (5, 6, 7, 8, 9)]
    truth[3, 4, 4] = 255  # nobody said what the brightest voxel is: it decides in neither map
    found = {part.name: part for part in structures.parts(_heart(), truth, CLASSES, image)}["core scar"]
    assert np.argwhere(found.truth == 1).tolist() == [[3, 4, x] for x in (5, 6, 7, 8, 9)]
    assert found.truth[3, 4, 4] == 255 and np.argwhere(found.pred == 1).tolist()[0] == [3, 4, 5]


def test_without_intensities_as_acquired_there_is_no_core_scar():
    names = [part.name for part in structures.parts(_heart(), _heart(), CLASSES, np.full((6, 20, 20), -1.0))]
    assert names == [part.name for part in structures.parts(_heart(), _heart(), CLASSES)]
    assert "core scar" not in names
    empty = np.where(_heart() == 5, 2, _heart()).astype(np.uint8)
    (core,) = [p for p in structures.parts(empty, empty, CLASSES, np.full((6, 20, 20), -1.0)) if p.name == "core scar"]
    assert not core.pred.any() and not core.truth.any(), "where nothing enhances, nothing is core"


def test_scar_has_the_thirds_of_the_heart():
    truth, pred = _heart(), _heart()
    pred[1, 4, 4:12] = 5  # scar where there is none, in the heart
    pred[0, 4, 4:12] = 5  # and below it
    rows = structures.part_slice_rows(structures.parts(pred, truth, CLASSES), SPACING_MM)
    found = [(r["slice"], r["location"], r["status"]) for r in rows if r["structure"] == "enhancement"]
    # The heart's slices 1 | 2, 3 | 4.
    assert found == [(1, "apex", "spurious"), (3, "middle", "ok"), (4, "base", "ok")]
    apex = next(r for r in rows if r["structure"] == "enhancement" and r["slice"] == 1)
    assert apex["dice"] == 0.0 and apex["hd_mm"] == math.inf
    whole = [r for r in rows if r["structure"] == "whole LV"]
    assert [r["slice"] for r in whole] == [1, 2, 3, 4] and all(r["dice"] == 1.0 for r in whole)
    walls = [r for r in rows if r["structure"] == "myocardium"]
    assert all(r["volume_truth_ml"] == pytest.approx((64 - 16) * 0.05) for r in walls)


def test_volumes_are_interpolated_between_slices():
    truth, pred = _heart(), _heart()
    pred[4, 4] = np.where(pred[4, 4] == 5, 2, pred[4, 4])
    parts = structures.parts(pred, truth, CLASSES)
    rows = {r["structure"]: r for r in structures.volume_rows(pred, truth, SPACING_MM, CLASSES, parts)}
    assert list(rows) == ["RV", "Myo", "LV", "whole LV", "myocardium", "oedema", "enhancement"]
    assert rows["whole LV"]["interpolated_volume_truth_ml"] == pytest.approx(
        4 * 64 * 0.05
    )  # empty slices beyond both ends
    assert rows["enhancement"]["interpolated_volume_truth_ml"] == pytest.approx(2 * 8 * 0.05)
    assert rows["enhancement"]["interpolated_volume_pred_ml"] == pytest.approx(8 * 0.05)
    # Of slices 1 to 4 alone the first and the last count half; slice 2, annotated in part, is filled by 1 and 3.
    cut = truth[1:5].copy()
    cut[1, 0, 0] = 255
    (ml,) = (
        r["interpolated_volume_truth_ml"]
        for r in structures.volume_rows(cut, cut, SPACING_MM, CLASSES)
        if r["structure"] == "LV"
    )
    assert ml == pytest.approx((1 + 1.5 + 0.5) * 16 * 0.05)  # slices 1, 3, 4 at 0, 2, 3: reaches 1, 1 + 1/2, 1/2
    unknown = structures.volume_rows(cut, np.full_like(cut, 255), SPACING_MM, CLASSES)
    assert unknown and all(math.isnan(r["interpolated_volume_truth_ml"]) for r in unknown)
    others = structures.volume_rows(cut * 0 + 1, cut * 0 + 1, SPACING_MM, ("background", "scar"))
    assert [r["structure"] for r in others] == ["scar"], "without a heart a scar is a structure like any other"


def test_clinical_rows_have_core_scar_where_there_is_an_image():
    labels = _heart()
    image = np.where(labels == 5, 80.0, 10.0)
    image[4] *= 0.25
    rows = {(r["measure"], r["unit"]): r for r in measure_case(labels, labels, SPACING_MM, CLASSES, image).clinical}
    assert rows["core scar volume", "ml"]["truth"] == pytest.approx(8 * 0.05)
    assert rows["scar", "% of myocardium"]["pred"] == pytest.approx(100 * 16 / (4 * 48))
    assert rows["core scar", "% of myocardium"]["pred"] == pytest.approx(100 * 8 / (4 * 48))
    without = {
        (r["measure"], r["unit"]): r["truth"] for r in measure_case(labels, labels, SPACING_MM, CLASSES).clinical
    }
    assert set(rows) - set(without) == {("core scar volume", "ml"), ("core scar", "% of myocardium")}
    assert without["scar", "% of myocardium"] == rows["scar", "% of myocardium"]["truth"]
