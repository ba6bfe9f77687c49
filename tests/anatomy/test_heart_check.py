"""The check of a whole slice: against scipy and scikit-image on blobs, hearts, real slices; by hand on defects."""

from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest

from cardiac_jax.anatomy import heart_check, heart_measure
from cardiac_jax.anatomy.heart_check import Limits, Verdict, check
from tests import criteria_reference as reference
from tests.anatomy_reference import blobs

SIZE, SPACING_MM, BATCH = 64, 1.4, 64
RV, MYO, LV = 1, 2, 3
LIMITS = Limits()
CRITERIA = Verdict._fields[1:-1]
Y, X = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
RADIUS, ANGLE = np.hypot(Y, X), np.arctan2(Y, X)


def _heart(inner: float = 8, outer: float = 13, right: float = 11) -> np.ndarray:
    """An LV in a ring of Myo, the RV to the left of it."""
    labels = np.where(np.hypot(Y, X + 12) < right, RV, 0)
    labels[outer > RADIUS] = MYO
    labels[inner > RADIUS] = LV
    return labels


def _edited(where: np.ndarray, label: int, base: np.ndarray | None = None) -> np.ndarray:
    return np.where(where, label, _heart() if base is None else base)


def _check(maps: list[np.ndarray] | np.ndarray, limits: Limits = LIMITS) -> Verdict:
    """The first maps of one batch of `BATCH`."""
    batch = np.zeros((BATCH, *np.shape(maps)[1:]), np.uint8)
    batch[: len(maps)] = maps
    return jax.tree.map(lambda values: np.asarray(values)[: len(maps)], check(batch, SPACING_MM, limits))


def _failures(maps: list[np.ndarray], limits: Limits = LIMITS) -> list[set[str]]:
    verdict = _check(maps, limits)
    failures = [{name for name in CRITERIA if not getattr(verdict, name)[i]} for i in range(len(maps))]
    assert [not names for names in failures] == verdict.valid.tolist()
    return failures


def _agree(maps: np.ndarray, verdict: Verdict, spacing_mm: float = SPACING_MM, limits: Limits = LIMITS) -> None:
    """Every measured value and every verdict equals that of the reference."""
    expected = [reference.measure(labels, spacing_mm, float(limits.mouth_mm)) for labels in maps]
    for name, values in verdict.measured._asdict().items():
        want = [getattr(one, name) for one in expected]
        np.testing.assert_allclose(np.asarray(values)[: len(maps)], want, rtol=1e-5, atol=1e-5, err_msg=name)
    judged = [reference.verdict(one, limits) for one in expected]
    for name in Verdict._fields[:-1]:
        want = [one[name] for one in judged]
        np.testing.assert_array_equal(np.asarray(getattr(verdict, name))[: len(maps)], want, err_msg=name)


def _blobs(seed: int, number: int, shape: tuple[int, int]) -> np.ndarray:
    """Three ragged structures, one over the other in any order, some absent."""
    rng = np.random.default_rng(seed)
    maps = np.zeros((number, *shape), np.uint8)
    for turn in range(3):
        order = rng.permuted(np.tile([0, RV, MYO, LV], (number, 1)), axis=1)[:, 0]
        masks = blobs(3 * seed + turn, number, shape)
        maps = np.where(masks & (order > 0)[:, None, None], order[:, None, None], maps)
    return maps.astype(np.uint8)


@pytest.mark.parametrize("seed", range(2))
def test_agrees_with_the_reference_on_blobs(seed: int):
    """No label of ours is background."""
    maps = _blobs(seed, BATCH, (SIZE, SIZE))
    _agree(maps, check(np.where((maps == 0) & (seed > 0), np.uint8(255), maps), SPACING_MM, LIMITS))


def test_agrees_with_the_reference_on_noise():
    rng = np.random.default_rng(0)
    maps = rng.integers(1, 4, (BATCH, SIZE, SIZE)) * (
        rng.random((BATCH, SIZE, SIZE)) < np.linspace(0, 1, BATCH)[:, None, None]
    )
    _agree(maps, check(maps.astype(np.uint8), SPACING_MM, LIMITS))


def _flawed(rng: np.random.Generator) -> np.ndarray:
    """A heart with up to three flaws: near the limits, valid and not."""
    inner, wall, gap = rng.uniform(5, 10), rng.choice([0.8, 1.5, 3, 5]), rng.choice([0, 0, 0, 1.5, 3])
    bend = rng.choice([0, 0, 1.5, 3]) * np.sin(rng.integers(2, 6) * ANGLE + rng.uniform(0, 6))
    outer = inner + wall + bend * rng.integers(2)
    labels = np.where((np.hypot(Y, X + 12) < rng.uniform(7, 17)) & (outer + gap <= RADIUS), RV, 0)
    labels[outer > RADIUS] = MYO
    labels[inner + bend > RADIUS] = LV
    for _ in range(rng.integers(0, 3)):
        spot = np.hypot(Y - rng.uniform(-13, 13), X - rng.uniform(-20, 13)) < rng.choice([0.8, 1.5, 3])
        ray = np.abs(Y - rng.uniform(-9, 9) - X * rng.normal()) < rng.choice([0.5, 1, 2])
        side = (X if rng.random() < 0.5 else Y) > rng.uniform(-8, 14)
        place = [spot, ray & (rng.uniform(-1, 1) * X > 0), side, np.abs(ANGLE) < rng.uniform(0, 2.5)][rng.integers(4)]
        labels[place & np.isin(labels, rng.choice(4, rng.integers(1, 5)))] = rng.choice([0, 0, RV, MYO, LV])
    return np.roll(labels, rng.choice([0, 0, 12, 25], 2), (0, 1)) * (rng.random() > 0.03)


def test_agrees_with_the_reference_on_flawed_hearts():
    rng = np.random.default_rng(1)
    maps = np.stack([_flawed(rng) for _ in range(3 * BATCH)])
    parts = maps.reshape(3, BATCH, SIZE, SIZE)
    verdicts = [_check(part) for part in parts]
    for part, verdict in zip(parts, verdicts, strict=True):
        _agree(part, verdict)
    for name in Verdict._fields[:-1]:  # a test in which everything passes, or fails, would say little
        share = np.mean([getattr(verdict, name) for verdict in verdicts])
        assert share > 0 and (share < 1 or name == "myo_circularity"), name
    opened = np.concatenate([verdict.measured.opening_mm for verdict in verdicts])
    inner = np.concatenate([verdict.measured.lv_inner_px for verdict in verdicts])
    assert ((opened >= 5) & (inner <= 1)).sum() > 5 and ((opened >= 5) & (inner > 1)).sum() > 5


def test_large_frames_and_several_blocks_are_measured_whole_or_cropped(monkeypatch):
    """What is measured is counted here alone: `tests/anatomy/test_wall_check.py` checks in large frames for real."""

    def counted(rv, myo, lv, spacing_mm, mouth_mm):
        assert spacing_mm.dtype == np.float32 and mouth_mm == LIMITS.mouth_mm
        return (*heart_measure.count(rv, myo, lv), np.full(rv.shape[2] * 32, rv.shape[0], np.int32))

    monkeypatch.setattr(heart_measure, "_measure_planes", counted)
    measure = jax.jit(lambda labels: heart_measure.measure.__wrapped__(labels, SPACING_MM, LIMITS.mouth_mm))
    rng = np.random.default_rng(2)
    maps = np.zeros((heart_measure.BLOCK + 3, 104, 100), np.uint8)
    for labels in maps:
        y, x = rng.integers(0, 104 - SIZE + 1), rng.integers(0, 100 - SIZE + 1)
        labels[y : y + SIZE, x : x + SIZE] = _flawed(rng)
    maps[0, -1, -1] = LV
    for large in (False, True):
        if large:
            maps[3] = _blobs(0, 1, (104, 100))[0]
            maps[3, [0, -1], [0, -1]] = RV
        *pixels, frame = measure(maps)
        for found, label in zip(pixels, (RV, MYO, LV), strict=True):
            np.testing.assert_array_equal(found, (maps == label).sum((1, 2)))
        assert (frame[3] > 100) == large and (np.asarray(frame) < 100).sum() >= 3


_CUT = _edited(X > 6, 0)  # near the base: a C of Myo, the LV flush with its tips
_LINE = np.abs(Y) < 1
_DEFECTS = {
    "none": (_heart(), set()),
    "no RV": (_edited(_heart() == RV, 0), set()),
    "below the cavity": (_edited(_heart() == LV, MYO), set()),
    "RV alone": (_edited(_heart() != RV, 0), set()),
    "empty": (np.zeros((SIZE, SIZE), int), {"structures"}),
    "LV without Myo": (_edited(_heart() == MYO, 0), {"structures", "lv_touches_background", "opening"}),
    "ring without LV": (_edited(_heart() == LV, 0), {"myo_holes"}),
    "hole in the RV": (_edited(np.hypot(Y, X + 18) < 1, 0), {"rv_holes"}),
    "hole in the wall": (_edited(np.hypot(Y, X - 10) < 1, 0), {"myo_holes"}),
    "hole in the LV": (_edited(RADIUS < 1, 0), {"lv_holes", "lv_touches_background"}),
    "gap at the endocardium": (
        _edited((X > 6) & (np.abs(Y) < 3) & (_heart() == LV), 0),
        {"lv_myo_holes", "lv_touches_background"},
    ),
    "gap in the groove": (_edited((RADIUS < 15) & (X < -10) & (np.abs(Y) < 4) & (_heart() == RV), 0), {"rv_myo_holes"}),
    "RV apart": (_edited((RADIUS < 15) & (_heart() == RV), 0), {"rv_myo_apart"}),
    "RV island": (_edited(np.hypot(Y, X + 26) < 1, RV), {"rv_disconnected"}),
    "Myo island": (_edited(np.hypot(Y, X - 16) < 1, MYO), {"myo_disconnected"}),
    "LV island in the wall": (_edited(np.hypot(Y, X - 10) < 1, LV), {"lv_disconnected"}),
    "septal defect": (_edited((X < -7) & (X > -14) & (np.abs(Y) < 2), RV), {"lv_touches_rv", "myo_concavity"}),
    "broken ring": (_edited((X > 7) & (np.abs(Y) < 1), 0), {"lv_touches_background", "myo_concavity"}),
    "base": (_CUT, set()),
    "LV behind the opening": (_edited((X > 0) & (_CUT == LV), 0, _CUT), {"lv_touches_background", "myo_concavity"}),
    "less than half a ring": (
        _edited((np.abs(ANGLE) < 2.2) & (_heart() == MYO), 0),
        {"lv_touches_background", "opening"},
    ),
    "half a heart": (_edited(X > 0, 0), {"opening"}),
    "a wall of one pixel": (_edited(RADIUS > 1, 0, np.full((SIZE, SIZE), MYO)), {"least_area"}),
    "dent in the LV": (_edited((X > 3) & (np.abs(Y) < 3) & (_heart() == LV), MYO), {"lv_concavity"}),
    "dent in the wall": (_edited((X > 11) & (np.abs(Y) < 4), 0, _heart(8, 16)), {"myo_concavity"}),
    "thin LV": (np.where(_LINE & (np.abs(X) < 20), LV, np.where(RADIUS < 28, MYO, 0)), {"lv_circularity"}),
    "thin Myo": (np.where(_LINE & (np.abs(X) < 30), MYO, 0), {"myo_circularity"}),
    "RV all around": (np.where((RADIUS > 26) & (RADIUS < 30) & (np.abs(ANGLE) > 0.5), RV, 0), {"rv_concavity"}),
}


def test_every_defect_fails_its_own_criteria():
    found = dict(zip(_DEFECTS, _failures([labels for labels, _ in _DEFECTS.values()]), strict=True))
    assert found == {name: expected for name, (_, expected) in _DEFECTS.items()}
    assert set().union(*found.values()) == set(CRITERIA)


def test_kinds_of_slices_pass_by_flag():
    maps = [_DEFECTS[name][0] for name in ("none", "no RV", "below the cavity", "RV alone", "empty", "base")]
    strict = LIMITS._replace(no_rv=False, no_lv=False, rv_alone=False, c_shaped=False)
    structures = {"structures"}
    want = [set(), structures, structures, structures, structures, {"lv_touches_background"}]
    assert _failures(maps, strict) == want
    assert _failures(maps, LIMITS._replace(empty=True)) == [set()] * 6


def test_one_pixel_of_contact_is_forgiven_two_are_not():
    """A channel through the septum, one pixel wide, reaches the LV at its corner, then at its side."""
    labels = np.zeros((SIZE, SIZE), int)
    labels[20:44, 20:44] = MYO
    labels[24:40, 26:40] = LV
    labels[20:44, 8:20] = RV
    corner, side = labels.copy(), labels.copy()
    corner[23, 20:26] = RV  # diagonal to the LV's corner at (24, 26)
    side[30, 20:26] = RV  # beside (30, 26), diagonal to (29, 26) and (31, 26)
    verdict = _check([labels, corner, side], LIMITS._replace(myo_concavity_mm=99.0))
    np.testing.assert_array_equal(verdict.measured.lv_rv_px, [0, 1, 3])
    np.testing.assert_array_equal(verdict.valid, [True, True, False])


def test_sizes_by_hand():
    """Squares: LV of 10 x 10 in a wall of 4, the RV of 8 x 6 at a distance of two pixels; an opening of 10."""
    labels = np.zeros((SIZE, SIZE), int)
    labels[20:38, 20:38] = MYO
    labels[24:34, 24:34] = LV
    labels[24:32, 12:18] = RV
    opened = labels.copy()
    opened[24:34, 34:38] = LV  # up to the wall's outer face
    m = _check([labels, opened]).measured
    np.testing.assert_array_equal(m.rv_px, [48, 48])
    np.testing.assert_array_equal(m.myo_px, [18 * 18 - 100, 18 * 18 - 140])
    np.testing.assert_array_equal(m.lv_px, [100, 140])
    np.testing.assert_allclose(m.rv_gap_mm, 2 * SPACING_MM, rtol=1e-6)
    np.testing.assert_array_equal(m.lv_background_px, [0, 10])
    np.testing.assert_array_equal(m.lv_inner_px, [0, 0])
    np.testing.assert_allclose(m.opening_mm, [0, 10 * SPACING_MM], rtol=1e-6)
    np.testing.assert_allclose(m.open_share, [0, 10 / (2 * 14 + 2 * 8)], rtol=1e-6)
    for name in ("rv", "myo", "lv"):
        np.testing.assert_array_equal(getattr(m, f"{name}_concavity_mm"), 0)


def test_judging_what_was_measured_under_other_limits():
    maps = _blobs(9, BATCH, (SIZE, SIZE))
    names = ("holes_px", "between_px", "gap_px", "disconnected_px", "lv_rv_px", "lv_background_px")
    loose = LIMITS._replace(**dict.fromkeys(names, 9999))
    strict = check(maps, SPACING_MM, LIMITS)
    again = jax.jit(heart_check.judge)(strict.measured, loose)
    want = check(maps, SPACING_MM, loose)
    jax.tree.map(np.testing.assert_array_equal, again, want)
    assert want.valid.sum() > strict.valid.sum()


def test_agrees_with_the_reference_on_real_slices_which_pass(real_data: Path):
    """Gold standards of ACDC: at most a few of a hundred fail."""
    maps: dict[float, list[np.ndarray]] = {}
    for path in sorted((real_data / "acdc").rglob("*_gt.nii.gz")):
        image = nib.Nifti1Image.from_filename(path)
        planes = np.moveaxis(np.asarray(image.dataobj), 2, 0).astype(np.uint8)
        spacing_mm = round(float(image.header.get_zooms()[0]), 2)
        maps.setdefault(spacing_mm, []).extend(plane[_box(plane)] for plane in planes if plane.any())
    everything = [labels for of_one in maps.values() for labels in of_one]
    assert len(everything) >= 500
    frame = np.max([labels.shape for labels in everything], axis=0)
    failures = dict.fromkeys(("valid", *CRITERIA), 0)
    for spacing_mm, cropped in maps.items():
        batch = np.zeros((-(-len(cropped) // 128) * 128, *frame), np.uint8)
        for place, labels in zip(batch, cropped, strict=False):
            place[: labels.shape[0], : labels.shape[1]] = labels
        verdict = check(batch, spacing_mm, LIMITS)
        _agree(batch[: len(cropped)], verdict, spacing_mm)
        for name in failures:
            failures[name] += int((~getattr(verdict, name)[: len(cropped)]).sum())
    print(f"of {len(everything)} gold standards fail:", {name: n for name, n in failures.items() if n})
    assert failures["valid"] <= 0.05 * len(everything)


def _box(plane: np.ndarray) -> tuple[slice, slice]:
    """The bounding box of what is labelled."""
    rows, columns = np.flatnonzero(plane.any(1)), np.flatnonzero(plane.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
