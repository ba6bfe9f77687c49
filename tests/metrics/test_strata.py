"""Thirds of a heart and of a cohort: by hand, through the orientation of a file, with unannotated slices."""

import math

import numpy as np
import pytest

from cardiac_jax.data.orientation import orientation, to_canonical
from cardiac_jax.metrics import strata
from cardiac_jax.metrics.evaluate import evaluate_case

CLASSES = ("background", "RV", "Myo", "LV")
SPACING_MM = (10.0, 1.5, 2.0)


def _stack(slices: int = 8) -> np.ndarray:
    """Myo in 1..6, LV in 2..6 of 8 slices, RV nowhere; squares that grow by one pixel a slice."""
    truth = np.zeros((slices, 24, 24), np.uint8)
    for z in range(1, 7):
        truth[z, 4 : 10 + z, 4 : 10 + z] = 2
        if z > 1:
            truth[z, 6 : 8 + z, 6 : 8 + z] = 3
    return truth


@pytest.mark.parametrize(
    ("n", "want"),
    [(0, []), (1, [1]), (2, [0, 2]), (3, [0, 1, 2]), (4, [0, 1, 1, 2]), (5, [0, 0, 1, 2, 2]), (6, [0, 0, 1, 1, 2, 2])],
)
def test_thirds(n: int, want: list[int]):
    assert strata.thirds(n).tolist() == want


def test_thirds_are_as_even_as_can_be_and_in_order():
    for n in range(1, 40):
        found = strata.thirds(n)
        assert (np.diff(found) >= 0).all() and np.ptp(np.bincount(found, minlength=3)) <= 1


def test_every_structure_has_its_own_thirds():
    rows = strata.slice_rows(_stack(), _stack(), SPACING_MM, CLASSES)
    places = {
        name: [(row["slice"], row["location"]) for row in rows if row["structure"] == name] for name in CLASSES[1:]
    }
    assert places["Myo"] == [(1, "apex"), (2, "apex"), (3, "middle"), (4, "middle"), (5, "base"), (6, "base")]
    assert places["LV"] == [(2, "apex"), (3, "apex"), (4, "middle"), (5, "base"), (6, "base")]
    assert places["RV"] == []


def test_slices_are_measured_in_2d():
    truth, pred = _stack(), _stack()
    pred[3] = np.roll(truth[3], 2, axis=0)  # two rows of 1.5 mm
    row = next(row for row in strata.slice_rows(pred, truth, SPACING_MM, CLASSES) if row["slice"] == 3)
    # Myo of slice 3: 9 x 9 around a cavity of 5 x 5, 56 pixels. Both maps share 7 x 9 pixels of the square, and of
    # these 7 x 5 lie in one cavity or the other.
    assert row["structure"] == "Myo" and row["dice"] == pytest.approx(2 * (63 - 35) / 112)
    assert row["hd_mm"] == pytest.approx(3.0)
    assert row["volume_truth_ml"] == pytest.approx(56 * 30 / 1000)
    volume = {r["structure"]: r for r in evaluate_case(pred, truth, SPACING_MM, CLASSES, slice_axis=0)}
    assert volume["Myo"]["dice"] > row["dice"]


def test_slice_rows_of_one_structure_add_up_to_its_volume():
    truth, pred = _stack(), np.roll(_stack(), 1, axis=2)
    rows = strata.slice_rows(pred, truth, SPACING_MM, CLASSES)
    whole = {row["structure"]: row for row in evaluate_case(pred, truth, SPACING_MM, CLASSES, slice_axis=0)}
    for name in ("Myo", "LV"):
        for column in ("volume_truth_ml", "volume_pred_ml"):
            assert sum(r[column] for r in rows if r["structure"] == name) == pytest.approx(whole[name][column])


def test_missed_slices_count_and_spurious_ones_have_no_place():
    truth, pred = _stack(), _stack()
    pred[1] = 0
    pred[0, :3, :3] = 2
    rows = [row for row in strata.slice_rows(pred, truth, SPACING_MM, CLASSES) if row["structure"] == "Myo"]
    assert [row["slice"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert (rows[0]["status"], rows[0]["dice"], rows[0]["hd_mm"]) == ("missed", 0.0, math.inf)


def test_partly_annotated_slices_are_measured_where_they_are_annotated():
    truth = _stack()
    truth[4, 0], truth[5, :, 12:] = 255, 255
    rows = strata.slice_rows(_stack(), truth, SPACING_MM, CLASSES)
    by_slice = {row["slice"]: row for row in rows if row["structure"] == "LV"}
    assert by_slice[4]["dice"] == 1.0 and by_slice[4]["hd_mm"] == 0.0
    assert by_slice[4]["volume_truth_ml"] == pytest.approx(36 * 0.03), "the unknown row lies apart from the heart"
    assert by_slice[5]["dice"] == 1.0 and by_slice[5]["hd_mm"] == 0.0
    assert math.isnan(by_slice[5]["volume_truth_ml"]) and by_slice[5]["annotation"] == "partial"


@pytest.mark.parametrize("slice_order", ["base_first", "apex_first"])
def test_the_file_decides_where_the_apex_is(slice_order: str):
    frame = orientation(np.diag([2.0, 1.5, 10.0, 1.0]), slice_order)
    file = np.zeros((24, 24, 8), np.uint8)
    file[4:9, 4:9, :3] = 2  # the three first slices of the file
    file[4:9, 4:9, 1] = 0
    truth = to_canonical(file, frame)
    rows = strata.slice_rows(truth, truth, frame.of((2.0, 1.5, 10.0)), CLASSES)
    first = 0 if slice_order == "apex_first" else 7
    assert {row["slice"]: row["location"] for row in rows} == (
        {first: "apex", first + 2: "base"} if first == 0 else {first: "base", first - 2: "apex"}
    )


def test_tertiles_by_true_volume():
    sizes = {"a": 30.0, "b": 10.0, "c": 20.0, "d": 20.0, "e": 90.0, "f": 0.0}
    rows = [{"case": case, "structure": "LV", "volume_truth_ml": size} for case, size in sizes.items()]
    rows += [{"case": case, "structure": "RV", "volume_truth_ml": -size} for case, size in sizes.items()]
    assert strata.tertiles(rows, "LV") == {
        "f": "lower",
        "b": "lower",
        "c": "middle",
        "d": "middle",
        "a": "upper",
        "e": "upper",
    }
    assert strata.tertiles([], "LV") == {}


def test_union_is_one_structure():
    labels = np.array([0, 1, 2, 3, 255], np.uint8)
    np.testing.assert_array_equal(strata.union(labels, (2, 3)), [0, 0, 1, 1, 255])
    assert strata.union(labels, (2, 3)).dtype == np.uint8


def test_what_is_no_stack_is_refused():
    with pytest.raises(ValueError, match=r"not \[Z, H, W\]"):
        strata.slice_rows(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8), (1, 1), CLASSES)
