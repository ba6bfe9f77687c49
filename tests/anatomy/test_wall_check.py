"""The anatomical check: against scipy and scikit-image on blobs, noise and real slices, and by hand on hard shapes."""

from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from cardiac_jax.anatomy import wall_check
from cardiac_jax.anatomy.wall_check import Limits, Verdict, check
from tests import anatomy_reference as reference
from tests.anatomy_reference import blobs

SIZE, SPACING_MM = 48, 1.4
LIMITS = Limits()
HALVES = slice(64), slice(64, None)
BATCH = 64  # of every batch here but those in other frames: compiled once


def _polar() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    return np.hypot(y, x), np.arctan2(y, x)


def _ring(inner: float = 10.0, outer: float = 16.0) -> np.ndarray:
    radius, _ = _polar()
    return (radius >= inner) & (radius < outer)


def _c_shape(opening_rad: float) -> np.ndarray:
    return _ring() & (np.abs(_polar()[1]) > opening_rad / 2)


def _check(masks: list[np.ndarray] | np.ndarray, limits: Limits = LIMITS) -> Verdict:
    """The first masks of one batch of `BATCH`."""
    batch = np.zeros((BATCH, *np.shape(masks)[1:]), bool)
    batch[: len(masks)] = masks
    return jax.tree.map(lambda values: np.asarray(values)[: len(masks)], check(batch, SPACING_MM, limits))


def _agree(
    masks: np.ndarray,
    verdict: Verdict,
    spacing_mm: float = SPACING_MM,
    limits: Limits = LIMITS,
    pools: np.ndarray | None = None,
) -> None:
    """Every measured value and every verdict equals that of the reference."""
    lengths = float(limits.pocket_mm), float(limits.tip_mm)
    given = [None] * len(masks) if pools is None else pools
    expected = [reference.measure(mask, spacing_mm, *lengths, pool) for mask, pool in zip(masks, given, strict=True)]
    for name, values in verdict.measured._asdict().items():
        want = [getattr(one, name) for one in expected]
        np.testing.assert_allclose(np.asarray(values)[: len(masks)], want, rtol=1e-5, atol=1e-5, err_msg=name)
    judged = [reference.verdict(one, limits) for one in expected]
    for name in Verdict._fields[:-1]:
        want = [one[name] for one in judged]
        np.testing.assert_array_equal(np.asarray(getattr(verdict, name))[: len(masks)], want, err_msg=name)


@pytest.mark.parametrize("block", range(2))
def test_agrees_with_the_reference_on_blobs(block: int):
    masks = blobs(block, BATCH, (SIZE, SIZE))
    _agree(masks, check(masks, SPACING_MM, LIMITS))


def test_agrees_with_the_reference_on_noise():
    rng = np.random.default_rng(0)
    masks = rng.random((BATCH, SIZE, SIZE)) < np.linspace(0.002, 0.998, BATCH)[:, None, None]
    _agree(masks, check(masks, SPACING_MM, LIMITS))


def test_agrees_with_the_reference_on_rings_of_every_defect():
    """Rings bent, cracked, thinned, opened and spotted, with pools as large or not: near the limits, valid and not."""
    rng = np.random.default_rng(1)
    radius, angle = _polar()
    masks, pools = [], []
    for _ in range(2 * BATCH):
        bend = rng.choice([0.0, 1.0, 2.5]) * np.sin(rng.integers(2, 6) * angle + rng.uniform(0, 6))
        wall = rng.uniform(1.2, 4.0) - rng.choice([0, 1, 4]) * np.exp(-((angle / rng.uniform(0.05, 0.6)) ** 2))
        middle = rng.uniform(7, 17)
        mask = (np.abs(radius + bend - middle) < wall) & (np.abs(angle) > rng.choice([0, 0, 0.5, 1.2]))
        masks.append(mask ^ (rng.random(mask.shape) < rng.choice([0, 0, 0, 0.003])))
        pool = (radius + bend < middle - rng.choice([0, 0, 0, 6])) & (rng.random(mask.shape) > rng.choice([0, 0, 0.01]))
        pools.append(pool & (np.abs(angle) > rng.choice([0, 0, 0.3])) | (radius + rng.choice([0, 0, -14]) < -12))
    limits = LIMITS._replace(mean_wall_mm=9.0, area_mm2=2000.0, least_area_mm2=700.0, widest_opening=0.9)
    verdicts = [check(np.stack(masks[half]), SPACING_MM, limits, np.stack(pools[half])) for half in HALVES]
    for half, verdict in zip(HALVES, verdicts, strict=True):
        _agree(np.stack(masks[half]), verdict, limits=limits, pools=np.stack(pools[half]))
    both = jax.tree.map(lambda *values: np.concatenate(values), *verdicts)
    for name in Verdict._fields[:-1]:  # a test in which everything passes, or fails, would say little
        if name != "circularity":
            assert 0 < getattr(both, name).mean() < 1, name


def test_large_frames_are_checked_whole_or_cropped():
    """Masks that fit into the small frame, in all corners; the same with one mask as large as the frame."""
    rng = np.random.default_rng(2)
    masks = np.zeros((32, 84, 80), bool)
    for mask in masks:
        y, x = rng.integers(0, 84 - SIZE + 1), rng.integers(0, 80 - SIZE + 1)
        mask[y : y + SIZE, x : x + SIZE] = blobs(int(rng.integers(1000)), 1, (SIZE, SIZE))[0]
    masks[0] = False
    masks[1, -1, -1] = masks[2, 0, 0] = True
    small = check(masks.astype(np.uint8) * 7, SPACING_MM, LIMITS)
    _agree(masks, small)
    masks[3] = blobs(0, 1, (84, 80))[0] | (np.indices((84, 80)).sum(0) == 0)
    whole = check(masks.astype(np.uint8) * 7, SPACING_MM, LIMITS)
    _agree(masks, whole)
    others = np.arange(len(masks)) != 3
    # lengths are differences of distances in mm: the tolerance of `_agree`
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(np.asarray(a)[others], np.asarray(b)[others], rtol=1e-6, atol=1e-5),
        small,
        whole,
    )


def test_a_plain_ring():
    verdict = _check([_ring()])
    m = verdict.measured
    assert verdict.valid[0] and m.has_cavity[0] and not m.is_c_shaped[0]
    assert (m.objects[0], m.disconnected_px[0], m.holes_px[0], m.area_px[0]) == (1, 0, 0, _ring().sum())
    # Radii 10 and 16: 6 pixels of wall, give or take the pixels' corners; a digital disc is at most 1 pixel dented.
    assert m.thickness_mm[0] == pytest.approx(6 * 1.4, abs=1.0)
    assert m.circularity[0] == pytest.approx(1.0, abs=0.05)
    assert max(m.endo_concavity_mm[0], m.epi_concavity_mm[0]) <= 1.4 + 1e-5


@pytest.mark.parametrize("wall, passes", [(1, False), (2, True), (4, True)])
def test_thickness_of_a_square_ring_is_its_pixels_of_wall(wall: int, passes: bool):
    mask = np.zeros((SIZE, SIZE), bool)
    mask[10:40, 8:38] = True
    mask[13 : 40 - wall, 13:33] = False  # thinnest below
    verdict = _check([mask], LIMITS._replace(endo_concavity_mm=99.0))
    assert verdict.measured.thickness_mm[0] == pytest.approx(min(wall, 3) * 1.4, abs=1e-5)  # 3 pixels above
    assert verdict.thickness[0] == passes


@pytest.mark.parametrize("depth_px", [1, 2, 3, 5])
@pytest.mark.parametrize("side", ["epi", "endo"])
def test_depth_of_a_square_dent(side: str, depth_px: int):
    mask = np.zeros((SIZE, SIZE), bool)
    mask[4:44, 4:44] = True
    mask[14:34, 14:34] = False
    if side == "epi":
        mask[20:32, 44 - depth_px : 44] = False
    else:
        mask[18:30, 34 - depth_px : 34] = True
    verdict = _check([mask])
    value = getattr(verdict.measured, f"{side}_concavity_mm")[0]
    assert value == pytest.approx(depth_px * 1.4)
    assert verdict.valid[0] == (depth_px * 1.4 <= 4.0)
    assert getattr(verdict, f"{side}cardium")[0] == verdict.valid[0]


def test_c_shapes_pass_by_flag_and_a_crack_is_no_c():
    shapes = [_c_shape(1.2), _c_shape(3.1), _c_shape(0.12), _ring()]
    allowed, forbidden = _check(shapes), _check(shapes, LIMITS._replace(c_shaped=False))
    np.testing.assert_array_equal(allowed.measured.is_c_shaped, [True, True, True, False])
    np.testing.assert_array_equal(allowed.valid, [True, False, False, True])
    np.testing.assert_array_equal(allowed.opening, [True, False, True, True])
    np.testing.assert_array_equal(forbidden.valid, [False, False, False, True])
    np.testing.assert_array_equal(forbidden.shape, forbidden.valid)
    # The chord of 1.2 rad at radius 16 is 18 pixels; the crack is two wide.
    assert allowed.measured.opening_mm[0] == pytest.approx(2 * 16 * np.sin(0.6) * 1.4, rel=0.25)
    assert allowed.measured.opening_mm[2] == pytest.approx(2 * 1.4)
    assert (allowed.measured.objects == 1).all() and (allowed.measured.holes_px == 0).all()


def test_the_ratio_of_an_opening_tells_how_much_of_the_ring_is_missing():
    """Cut straight across the middle: the diameter, by that of half a disc; turned by 45 degrees, the same."""
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    halves = [_ring() & (x < 0), _ring() & (x + y < 0)]
    m = _check(halves).measured
    np.testing.assert_allclose(m.opening_ratio, np.sqrt(2), rtol=0.07)
    np.testing.assert_allclose(m.opening_mm, 20 * SPACING_MM, atol=1.5 * SPACING_MM)
    assert not _check(halves).valid.any()


def test_wall_and_pool_are_judged_together():
    """A ring with its pool; without; with a gap; a pool beside it; in pieces; a C, its pool too small, too far."""
    radius, angle = _polar()
    ring, c_shape = _ring(), _c_shape(1.2)
    inside = radius < 10
    pocket = (np.abs(angle) <= 0.6) & (radius < 17) | inside
    chord = 16 * np.cos(0.6)
    x = np.indices((SIZE, SIZE))[1] - (SIZE - 1) / 2
    lid = pocket & (x <= chord)
    cases = [
        (ring, inside, set()),
        (ring, inside & False, {"pool_gap"}),
        (ring, radius < 8, {"pool_gap"}),
        (ring, inside | (radius > 20), {"pool_outside", "pool_pieces"}),
        (ring, inside & (np.abs(x) > 1), {"pool_gap", "pool_pieces"}),
        (c_shape, lid, set()),
        (c_shape, lid & (x < chord - 4), {"pool_gap"}),
        (c_shape, lid | ((x > chord) & (x < chord + 5) & (np.abs(angle) < 0.3)), {"pool_outside"}),
    ]
    walls, pools = np.zeros((2, BATCH, SIZE, SIZE), bool)
    walls[: len(cases)], pools[: len(cases)] = [case[0] for case in cases], [case[1] for case in cases]
    verdict = check(walls, SPACING_MM, LIMITS, pools)
    failed = [{n for n in Verdict._fields[1:-1] if not np.asarray(getattr(verdict, n))[i]} for i in range(len(cases))]
    assert failed == [expected for _, _, expected in cases]


def test_a_speck_is_no_heart():
    speck, small = np.zeros((SIZE, SIZE), bool), _polar()[0] < 4.2
    speck[20, 20] = True
    np.testing.assert_array_equal(_check([speck, small, _polar()[0] < 6]).least_area, [False, False, True])


def test_tips_of_a_c_are_not_judged_but_its_back_is():
    thin = _c_shape(1.2)
    thin[(_polar()[0] < 15) & (np.abs(_polar()[1]) > 2.5)] = False  # the back, 1 pixel
    tip = _c_shape(1.2)
    tip[(_polar()[0] < 14) & (np.abs(_polar()[1]) < 0.8)] = False
    verdict = _check([thin, tip])
    np.testing.assert_array_equal(verdict.thickness, [False, True])
    assert verdict.measured.is_c_shaped.all()


def test_a_hole_in_the_wall_is_counted_and_the_cavity_is_not():
    mask = _ring(8, 18)
    mask[SIZE // 2, 10:12] = False
    both = _c_shape(1.2)
    both[SIZE // 2, 10] = False
    verdict = _check([mask, both])
    np.testing.assert_array_equal(verdict.measured.holes_px, [2, 1])
    np.testing.assert_array_equal(verdict.measured.is_c_shaped, [False, True])
    np.testing.assert_array_equal(verdict.holes, [False, False])
    assert _check([mask], LIMITS._replace(holes_px=2)).valid[0]


def test_pieces():
    bridge = np.zeros((SIZE, SIZE), bool)
    bridge[5:20, 5:20] = bridge[28:43, 28:43] = True
    apart = bridge.copy()
    bridge[np.arange(19, 29), np.arange(19, 29)] = True  # one pixel wide, by corners
    verdict = _check([bridge, apart])
    np.testing.assert_array_equal(verdict.measured.objects, [1, 2])
    np.testing.assert_array_equal(verdict.measured.disconnected_px, [0, 225])
    island = _ring()
    island[SIZE // 2, SIZE // 2] = True
    verdict = _check([island, island], LIMITS._replace(objects=2))
    assert verdict.measured.objects[0] == 2 and verdict.measured.disconnected_px[0] == 1
    assert verdict.objects[0] and not verdict.valid[0]


def test_a_wall_that_holds_at_a_corner_closes_the_ring_and_is_thin():
    mask = np.zeros((SIZE, SIZE), bool)
    mask[8:40, 8:40] = True
    mask[13:35, 13:35] = False
    mask[8:13, 20:24] = False  # a gap in the wall, bridged by a chain of corners
    mask[[8, 9, 10, 11], [20, 21, 22, 23]] = True
    mask[12, 24] = True
    m = _check([mask]).measured
    assert m.objects[0] == 1 and m.has_cavity[0] and not m.is_c_shaped[0]
    assert m.thickness_mm[0] == pytest.approx((np.sqrt(2) - 1) * 1.4, abs=1e-4)


def test_a_ring_cut_by_the_edge_of_the_image_is_open():
    mask = np.roll(_ring(), -18, axis=1)
    mask[:, SIZE - 18 :] = False
    verdict = _check([mask])
    assert verdict.measured.is_c_shaped[0]
    # The centre is 5.5 pixels from the edge, which cuts a chord of 2 sqrt(10^2 - 5.5^2) = 16.7 pixels.
    assert verdict.measured.opening_mm[0] == pytest.approx(16.7 * 1.4, abs=1.5)


def test_solid_and_empty_masks_pass_by_flag():
    masks = [_polar()[0] < 9, np.zeros((SIZE, SIZE), bool)]
    np.testing.assert_array_equal(_check(masks).valid, [True, False])
    other = _check(masks, LIMITS._replace(solid=False, empty=True))
    np.testing.assert_array_equal(other.valid, [False, True])
    assert np.isinf(other.measured.thickness_mm).all() and not other.measured.has_cavity.any()
    assert other.measured.area_px[1] == 0 and other.measured.circularity[1] == 0


def test_what_is_too_thick_or_too_large_is_no_heart():
    """A disc of radius r is a wall of r; a ring of radii r and R one of R - r; both are pi R^2 large."""
    masks = [_polar()[0] < 17, _polar()[0] < 19, _ring(2, 19), _ring(2, 21), _ring(14, 21)]
    verdict = _check(masks)
    radii = np.array([[0, 17], [0, 19], [2, 19], [2, 21], [14, 21]]) * SPACING_MM
    np.testing.assert_allclose(verdict.measured.mean_wall_mm, radii[:, 1] - radii[:, 0], rtol=0.02)
    np.testing.assert_allclose(verdict.measured.filled_mm2, np.pi * radii[:, 1] ** 2, rtol=0.02)
    np.testing.assert_array_equal(verdict.mean_wall, [True, False, True, False, True])
    np.testing.assert_array_equal(verdict.valid, verdict.mean_wall)
    limits = LIMITS._replace(area_mm2=2000.0)  # of radius 25.2 mm
    np.testing.assert_array_equal(_check(masks, limits).area, [True, False, False, False, False])


def test_judging_what_was_measured_under_other_limits():
    masks = blobs(9, BATCH, (SIZE, SIZE))
    loose = LIMITS._replace(
        objects=99, disconnected_px=999, holes_px=999, endo_concavity_mm=30.0, epi_concavity_mm=30.0
    )
    strict = check(masks, SPACING_MM, LIMITS)
    again = jax.jit(wall_check.judge)(strict.measured, loose)
    want = check(masks, SPACING_MM, loose)
    jax.tree.map(np.testing.assert_array_equal, again, want)
    assert want.valid.sum() > strict.valid.sum()


def _real_masks(root: Path) -> dict[float, list[np.ndarray]]:
    """Myocardium, blood and right ventricle of every fully annotated slice, cropped, by pixel size in mm."""
    masks: dict[float, list[np.ndarray]] = {}
    files = [path for name in ("acdc", "mscmr", "myops") for path in sorted((root / name).rglob("*.nii.gz"))]
    for path in files:
        if not path.name.endswith(("_gt.nii.gz", "_manual.nii.gz", "_gd.nii.gz")):
            continue
        image = nib.Nifti1Image.from_filename(path)
        spacing_mm = round(float(image.header.get_zooms()[0]), 2)
        for plane in np.moveaxis(np.asarray(image.dataobj), 2, 0):
            if (plane == 255).any():  # not annotated throughout
                continue
            for labels in ((2, 200, 1220, 2221), (3, 500), (1, 600)):
                mask = np.isin(plane, labels)
                if mask.any():
                    masks.setdefault(spacing_mm, []).append(mask[ndimage.find_objects(mask.astype(int))[0]])
    return masks


def test_agrees_with_the_reference_on_real_slices(real_data: Path):
    real = _real_masks(real_data)
    everything = [mask for masks in real.values() for mask in masks]
    assert len(everything) >= 2000
    frame = np.max([mask.shape for mask in everything], axis=0)
    valid = 0
    for spacing_mm, cropped in real.items():
        batch = np.zeros((-(-len(cropped) // 128) * 128, *frame), bool)
        for place, mask in zip(batch, cropped, strict=False):
            place[: mask.shape[0], : mask.shape[1]] = mask
        verdict = check(batch, spacing_mm, LIMITS)
        _agree(batch[: len(cropped)], verdict, spacing_mm)
        valid += int(verdict.valid.sum())
    assert 0.3 * len(everything) < valid < len(everything)
