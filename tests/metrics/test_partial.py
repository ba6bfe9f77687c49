"""Partly annotated gold standards: boundaries, volumes and clinical measures of what is known, and of nothing else."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from benchmarks import partial_annotation
from cardiac_jax.metrics import annotation, measures, structures, surface
from cardiac_jax.metrics.agreement import measured_pairs
from cardiac_jax.metrics.evaluate import evaluate_case
from tests.ventricle import LV, MYO, SPACING_MM, ring, stack

CLASSES = ("background", "RV", "Myo", "LV")


def _heart() -> np.ndarray:
    """`[10, H, W]`: a tapering ventricle in slices 1 to 8."""
    rings = [ring(10 + 2 * z, 18 + 2 * z) for z in range(8)]
    return np.pad(stack(*rings), ((1, 1), (0, 0), (0, 0)))


def _rows(pred: np.ndarray, truth: np.ndarray) -> dict:
    return {str(row["structure"]): row for row in evaluate_case(pred, truth, SPACING_MM, CLASSES, slice_axis=0)}


def _contour_mm(pred: np.ndarray, truth: np.ndarray) -> tuple[list[float], float]:
    """Distances of both directions between 2D contours, pooled, by dense distance maps; and their larger 95th."""
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (pred, truth)]
    maps = [ndimage.distance_transform_edt(~edge, sampling=SPACING_MM[1:]) for edge in edges]
    directed = [maps[1][edges[0]], maps[0][edges[1]]]
    return np.concatenate(directed).tolist(), max(np.percentile(one, 95) for one in directed)


def test_every_voxel_known_is_the_same_as_no_mask():
    rng = np.random.default_rng(0)
    for _ in range(20):
        pred, truth = rng.random((2, 5, 7, 6)) > 0.5
        ours = surface.surface_distances(
            pred, truth, SPACING_MM, surface.annotated(np.ones(pred.shape, bool), SPACING_MM)
        )
        for got, want in zip(ours, surface.surface_distances(pred, truth, SPACING_MM), strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("z", [1, 4, 8])
def test_one_annotated_slice_of_a_stack_is_measured_along_its_contour(z: int):
    truth = _heart()
    pred = np.roll(truth, 3, axis=2)
    partly = np.full_like(truth, 255)
    partly[z] = truth[z]
    row = _rows(pred, partly)["LV"]
    pooled, hd95 = _contour_mm(pred[z] == LV, truth[z] == LV)
    assert row["asd_mm"] == pytest.approx(np.mean(pooled)) and row["hd95_mm"] == pytest.approx(hd95)
    assert (row["surface_slices"], row["slices"], row["annotation"]) == (1, 10, "partial")


@pytest.mark.parametrize("kept", [2, 3, 4])
def test_hiding_slices_leaves_distances_in_their_range(kept: int):
    """The whole face of a slice beside a hidden one was boundary, at distance 0: ASD fell with every slice hidden."""
    truth = _heart()
    pred = np.roll(truth, 3, axis=2)
    whole = _rows(pred, truth)["LV"]
    partly = truth.copy()
    partly[[z for z in range(1, 9) if z % kept]] = 255
    row = _rows(pred, partly)["LV"]
    assert whole["asd_mm"] / 2 < row["asd_mm"] < 2 * whole["asd_mm"]  # of as few as two slices
    assert row["hd95_mm"] == pytest.approx(whole["hd95_mm"], abs=SPACING_MM[2])
    before = np.where(partly == 255, 0, partly), np.where(partly == 255, 0, pred)  # what was done with hidden slices
    assert row["asd_mm"] > 1.5 * _rows(before[1], before[0])["LV"]["asd_mm"]


def test_an_annotated_slice_stands_for_those_beside_it():
    rng = np.random.default_rng(0)
    truth, pred = rng.integers(0, 4, (2, 9, 12, 12)).astype(np.uint8)
    partly = truth.copy()
    partly[[1, 2, 3, 5, 6, 8]] = 255  # 0, 4 and 7 are left; 8 lies beyond them
    stands = [0, 0, 0, 4, 4, 4, 7, 7]  # in the middle between two the lower one
    filled = _rows(pred[stands], truth[stands])
    for name, row in _rows(pred[:8], partly[:8]).items():
        assert [row[c] for c in ("hd_mm", "hd95_mm", "asd_mm")] == [
            filled[name][c] for c in ("hd_mm", "hd95_mm", "asd_mm")
        ]
    assert math.isfinite(_rows(pred, partly)["LV"]["asd_mm"])


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_a_distance_within_a_slice_is_exact_where_it_is_short(share: float):
    """Whatever is hidden: up to the length that is clear of it, a distance is that of the complete annotation."""
    rng, given, clear_px = np.random.default_rng(int(100 * share)), 0, surface.CLEAR_MM - 2
    for _ in range(60):
        truth = ndimage.gaussian_filter(rng.normal(size=(40, 40)), 3) > 0
        smooth = ndimage.gaussian_filter(rng.normal(size=(40, 40)), 4)
        known = smooth >= np.quantile(smooth, share)
        pred = np.zeros((40, 40), bool)
        pred[tuple(rng.integers(0, 40, 2))] = True
        dense = surface.surface_distances(pred, truth, (1.0, 1.0)).pred_to_truth
        partial = surface.surface_distances(pred, truth, (1.0, 1.0), surface.annotated(known, (1.0, 1.0))).pred_to_truth
        if partial.size and np.isfinite(partial).all():
            given += 1
            assert partial >= dense - 1e-12
            assert partial == pytest.approx(dense) or partial > clear_px
    assert given > 8


def test_unknown_voxels_are_no_boundary_of_either_map():
    truth = np.zeros((9, 20), bool)
    truth[2:7, 2:17] = True
    known = np.ones_like(truth)
    known[:, 12:] = False  # the right part of the block is not annotated
    inside = surface.boundary(truth, known)
    assert inside[2:7, 2].all() and inside[[2, 6], 2:12].all()
    assert not inside[3:6, 3:].any() and not inside[:, 12:].any()
    found = surface.surface_distances(
        np.roll(truth, 1, axis=1), truth, (1.0, 1.0), surface.annotated(known, (1.0, 1.0))
    )
    # Trusted up to column 6: left end and both sides of the truth, and those of the prediction a column further.
    assert [len(d) for d in found] == [5 + 2 * 3, 5 + 2 * 4] and max(map(np.max, found)) == 1.0


def test_scribbles_have_overlap_and_no_distances():
    truth = np.full((3, 12, 12), 255, np.uint8)
    truth[:, 6, 4:8], truth[:, 2, 4:8], truth[:, 0, :] = LV, MYO, 0
    pred = np.zeros_like(truth)
    pred[:, 1:11, 1:11], pred[:, 4:9, 3:9] = MYO, LV
    rows = _rows(pred, truth)
    assert rows["LV"]["dice"] == 1.0 and rows["LV"]["status"] == "ok"
    assert all(math.isnan(rows["LV"][name]) for name in ("hd_mm", "hd95_mm", "asd_mm", "surface_dice"))
    # Nobody drew a right ventricle and nobody said that there is none.
    assert rows["RV"]["status"] == "unknown" and math.isnan(rows["RV"]["hd_mm"]) and math.isnan(rows["RV"]["dice"])
    wrong = pred.copy()
    wrong[:, 0] = 1  # but where background was drawn there is none
    assert _rows(wrong, truth)["RV"]["dice"] == 0.0 and math.isnan(_rows(wrong, truth)["RV"]["hd_mm"])


@pytest.mark.parametrize("spacing_z", [1.0, 8.0])
def test_one_slice_has_contours_in_2d_whatever_its_thickness(spacing_z: float):
    truth = ring(20, 30)
    pred = np.roll(truth, 2, axis=1)
    rows = evaluate_case(pred[None], truth[None], (spacing_z, *SPACING_MM[1:]), CLASSES, slice_axis=0)
    for label, row in enumerate(rows, 1):
        pooled, hd95 = _contour_mm(pred == label, truth == label)
        assert row["asd_mm"] == pytest.approx(np.mean(pooled)) and row["hd95_mm"] == pytest.approx(hd95)
    assert rows[2]["volume_truth_ml"] == pytest.approx((truth == LV).sum() * spacing_z * 1.4**2 / 1000)
    turned = np.moveaxis(pred[None], 0, 2), np.moveaxis(truth[None], 0, 2)
    assert evaluate_case(*turned, (*SPACING_MM[1:], spacing_z), CLASSES) == rows


def test_unknown_voxels_apart_from_the_heart_take_no_volume():
    truth = _heart()
    framed = np.pad(truth, ((0, 0), (4, 4), (4, 4)), constant_values=255)
    beyond = np.pad(truth, ((3, 0), (0, 0), (0, 0)), constant_values=255)  # slice 0 of the heart is empty
    beside, scribbled, nothing = truth.copy(), truth.copy(), np.zeros_like(truth)
    beside[0] = scribbled[4, 0] = 255
    scribbled[4, ring(20, 30) > 0] = 255
    nothing[3] = 255
    assert [annotation.incomplete(one) for one in (truth, framed, beyond, beside, scribbled, nothing)] == [
        False,
        False,
        False,
        True,
        True,
        True,
    ]
    want = _rows(truth, truth)["LV"]["volume_truth_ml"]
    assert _rows(np.where(framed == 255, 0, framed), framed)["LV"]["volume_truth_ml"] == pytest.approx(want)
    assert all(math.isnan(v) for k, v in _rows(truth, beside)["LV"].items() if "volume" in k)


def test_clinical_measures_of_a_partly_annotated_case_are_not_numbers_and_say_so():
    truth = _heart()
    partly = truth.copy()
    partly[3] = 255
    whole, part = (measures.measure_case(truth, one, SPACING_MM, CLASSES) for one in (truth, partly))
    assert [r["measure"] for r in whole.clinical] == [r["measure"] for r in part.clinical]
    assert {r["status"] for r in whole.clinical} == {"ok"} and {r["status"] for r in part.clinical} == {
        "partly annotated"
    }
    assert all(math.isnan(r[by]) for r in part.clinical for by in ("pred", "truth"))
    assert all(math.isnan(v) for r in part.segments for v in r.values() if isinstance(v, float))
    assert not any(
        len(both.pred) for both in measured_pairs([{**row, "case": "a"} for row in part.clinical]).values()
    ), "nothing agrees perfectly"
    rows = [
        {"patient": "p", "phase": phase, **row} for phase, one in (("ED", whole), ("ES", part)) for row in one.clinical
    ]
    found = {r["measure"]: r for r in measures.function_rows(rows)}
    assert math.isnan(found["LV EF"]["truth"]) and found["LV EF"]["status"] == "partly annotated"
    assert found["LV EDV"]["truth"] == pytest.approx((truth == LV).sum() * math.prod(SPACING_MM) / 1000)


def test_a_volume_means_one_thing_and_the_interpolated_one_has_another_name():
    truth = _heart()[3:8]  # the heart reaches both ends of the stack
    pred = np.roll(truth, 1, axis=1)
    parts = structures.parts(pred, truth, CLASSES)
    case, clinical = _rows(pred, truth), measures.measure_case(pred, truth, SPACING_MM, CLASSES).clinical
    volumes = {r["structure"]: r for r in structures.volume_rows(pred, truth, SPACING_MM, CLASSES, parts)}
    by_measure = {r["measure"]: r for r in clinical}
    for name in CLASSES[1:]:
        assert by_measure[f"{name} volume"]["truth"] == pytest.approx(case[name]["volume_truth_ml"])
        assert by_measure[f"{name} volume"]["pred"] == pytest.approx(case[name]["volume_pred_ml"])
    assert volumes["LV"]["interpolated_volume_truth_ml"] < case["LV"]["volume_truth_ml"]
    assert not any(key.startswith("volume") for row in volumes.values() for key in row)
    assert {row["method"] for row in volumes.values()} == {"nearest neighbour between slices (Abramson 2020)"}


def test_a_gap_is_interpolated_and_an_end_is_not():
    truth = _heart()
    gap, end = truth.copy(), truth.copy()
    gap[4], end[8:] = 255, 255
    for given, known in ((truth, True), (gap, True), (end, False)):
        (row,) = (r for r in structures.volume_rows(truth, given, SPACING_MM, CLASSES) if r["structure"] == "LV")
        assert math.isfinite(row["interpolated_volume_truth_ml"]) == known


def test_real_cases_have_distances_of_one_range(real_data: Path):
    """MS-CMRSeg's gold standards moved by 3 columns: 25 patients annotated in part, 5 in full, and these with gaps."""
    found = {name: partial_annotation.measured(maps, 3) for name, maps in partial_annotation.groups(real_data).items()}
    assert [len(next(iter(values.values()))) for values in found.values()] == [25, 5, 5, 5]
    part, whole, *thinned = ({column: np.mean(v) for column, v in values.items()} for values in found.values())
    for one, within in ((part, 1.5), *((one, 1.15) for one in thinned)):
        for column, value in one.items():
            assert whole[column] / within < value < whole[column] * within, column
    assert part["hd95_mm 3D"] == pytest.approx(whole["hd95_mm 3D"], rel=0.05)
