"""Wall thickness and AHA segments: rings, offset ellipses and open rings of known thickness, turned and anisotropic."""

import numpy as np
import pytest
from scipy.spatial import KDTree

from cardiac_jax.data import load
from cardiac_jax.data.orientation import COLUMNS, ROWS, orientation, to_canonical
from cardiac_jax.data.sets import DATASETS
from cardiac_jax.metrics import wall
from tests import images
from tests.ventricle import LV, MYO, RV, SIZE, SPACING_MM, apart, polar, ring, stack

# Where each basal wall's middle lies with mid septum at 180 degrees, counterclockwise from the right (Cerqueira 2002).
MIDDLES = {1: 90, 2: 150, 3: 210, 4: 270, 5: 330, 6: 30, 13: 90, 14: 180, 15: 270, 16: 0}


def test_names():
    segments = wall.bullseye_segments()
    assert [s.number for s in segments] == list(range(1, 18))
    names = {s.number: s.name for s in segments}
    assert names[1] == "basal anterior" and names[9] == "mid inferoseptal" and names[12] == "mid anterolateral"
    assert names[14] == "apical septal" and names[17] == "apex"
    for number, middle in MIDDLES.items():
        s = segments[number - 1]
        assert (s.start_deg + s.width_deg / 2) % 360 == middle
    assert all(sum(s.width_deg for s in segments if s.level == level) == 360 for level in ("basal", "mid", "apical"))


@pytest.mark.parametrize("turn", [0.0, 25.0, -70.0])
def test_numbers_turn_with_the_septum(turn: float):
    for number, middle in MIDDLES.items():
        level = wall.APICAL if number >= 13 else wall.BASAL
        septum, off = np.deg2rad(180 + turn), 44 if number >= 13 else 29
        around = np.deg2rad(middle + turn + np.array([-off, 0, off]))
        assert wall.segment_numbers(level, around, septum).tolist() == [number] * 3
        if level == wall.BASAL:
            assert wall.segment_numbers(wall.MID, around, septum).tolist() == [number + 6] * 3
    assert wall.segment_numbers(wall.APEX, np.zeros(2), np.nan).tolist() == [17, 17]
    assert wall.segment_numbers(wall.MID, np.zeros(2), np.nan).tolist() == [0, 0]


@pytest.mark.parametrize("inner, outer", [(20, 30), (24, 30), (12, 26), (29, 32)])
@pytest.mark.parametrize("in_plane", [(1.4, 1.4), (1.2, 1.7)])
def test_ring(inner: float, outer: float, in_plane: tuple[float, float]):
    spacing_mm = (10.0, *in_plane)
    found = wall.wall_thickness(
        stack(*[ring(inner, outer, 200, spacing_mm, (0.3 * z, -0.2)) for z in range(6)]), spacing_mm
    )
    # The edges of a mask of pixels are known to half of one; a segment averages over some 15 mm of them.
    np.testing.assert_allclose(found.segment_mm[:16], outer - inner, atol=max(in_plane) / 4)
    np.testing.assert_allclose(found.slice_mm, outer - inner, atol=max(in_plane) / 10)
    np.testing.assert_allclose(found.endo_mm.mean(axis=1), inner, atol=0.2)
    assert np.isnan(found.segment_mm[16])  # no slice of wall below the cavity
    np.testing.assert_allclose(np.rad2deg(found.frame.insertions_rad), [[140, 260]] * 6, atol=2.5)
    np.testing.assert_allclose(np.rad2deg(found.frame.septum_rad), 200, atol=2)


def _offset_ellipse(a: float, b: float, thickness: float, turn_deg: float) -> np.ndarray:
    """A wall of one thickness everywhere about an elliptic cavity: all within `thickness` of the ellipse."""
    radius, angle = polar()
    turned = np.deg2rad(angle - turn_deg)
    x, y = radius * np.cos(turned), radius * np.sin(turned)
    around = np.linspace(0, 2 * np.pi, 4000)
    distance, _ = KDTree(np.stack([a * np.cos(around), b * np.sin(around)], 1)).query(np.stack([x, y], -1))
    inside = (x / a) ** 2 + (y / b) ** 2 < 1
    label = np.where(distance < thickness, MYO, 0).astype(np.uint8)
    label[inside] = LV
    return label


@pytest.mark.parametrize("turn_deg", [0.0, 33.0])
def test_a_wall_that_rays_cross_obliquely_is_not_measured_too_thick(turn_deg: float):
    label = _offset_ellipse(30, 18, 8, turn_deg)
    found = wall.wall_thickness(label[None], SPACING_MM)
    along_rays = found.epi_mm[0] - found.endo_mm[0]
    # A ray and the ellipse's normal are atan((a^2 - b^2) / 2ab) = 28 degrees apart at most: 8 mm look like 9.
    assert np.convolve(along_rays, np.ones(9) / 9, "valid").max() > 8.7
    assert found.slice_mm[0] == pytest.approx(8, abs=0.1)
    np.testing.assert_allclose(found.ray_mm[0], 8, atol=1.0)  # the flat side holds five or six rows: 7 or 8.4 mm
    assert along_rays.mean() > found.slice_mm[0] + 0.3


@pytest.mark.parametrize("number", range(1, 17))
def test_a_thick_segment_is_found_under_its_number(number: int):
    turn = 35.0
    within = 45 if number >= 13 else 30
    middle = MIDDLES[number if number <= 6 or number >= 13 else number - 6] + turn
    outer = 28 + 6.0 * (apart(polar()[1], middle) < within)
    thick, plain = ring(20, outer, 180 + turn), ring(20, 28.0, 180 + turn)
    level = 2 if number <= 6 else 1 if number <= 12 else 0
    found = wall.wall_thickness(stack(*[thick if z == level else plain for z in range(3)]), SPACING_MM).segment_mm
    assert found[:16].argmax() == number - 1
    assert found[number - 1] > 12.5 and np.delete(found[:16], number - 1).max() < 9.5


def test_the_anterior_wall_is_where_the_affine_says():
    for codes in (("P", "S", "R"), ("L", "S", "P"), ("S", "P", "L"), ("I", "A", "R")):
        affine = images.affine(codes, (1.4, 1.4, 10.0))
        shape = (SIZE, SIZE, 3)
        at = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
        world = at @ affine[:3, :3].T
        axis = affine[:3, 2] / 10.0
        rows, columns = (v - axis * (v @ axis) for v in (ROWS, COLUMNS))
        down, right = world @ rows / np.linalg.norm(rows), world @ columns / np.linalg.norm(columns)
        radius = np.sqrt(np.maximum((world**2).sum(-1) - (world @ axis) ** 2, 0))
        angle = np.rad2deg(np.arctan2(-down, right))
        outer = 26 + 8.0 * (apart(angle, 90) < 30)  # towards the head
        label = np.where((radius < outer + 12) & (apart(angle, 180) < 60), RV, 0)
        label[radius < outer], label[radius < 18] = MYO, LV
        frame = orientation(affine, "affine")
        found = wall.wall_thickness(to_canonical(label, frame), frame.of((1.4, 1.4, 10.0)))
        assert {found.segment_mm[:6].argmax() + 1, found.segment_mm[6:12].argmax() + 7} == {1, 7}, codes
        assert np.isfinite(found.segment_mm[:16]).all()


def test_a_mirrored_volume_has_no_numbers():
    label = stack(*[ring(20, 28, 170)] * 3)
    found = wall.wall_thickness(label[:, :, ::-1], SPACING_MM)
    assert np.isnan(found.segment_mm).all() and not found.ray_segment.any()
    np.testing.assert_allclose(found.slice_mm, 8, atol=0.1)


def test_levels_are_thirds_of_the_cavity_and_the_apex_lies_below_it():
    cap, slices = ring(0, 9, None), [ring(20, 28)] * 7
    found = wall.wall_thickness(stack(np.zeros_like(cap), cap, cap, *slices, 0 * cap), SPACING_MM)
    # Centres of seven slices at 1/14, 3/14, 5/14, ...: two lie below 1/3, the next three below 2/3.
    assert found.frame.level.tolist() == [0, 17, 17, 13, 13, 7, 7, 7, 1, 1, 0]
    assert found.segment_mm[16] == 20.0  # two slices of 10 mm
    assert np.isnan(found.slice_mm[[0, 1, 2, 10]]).all()
    numbers = wall.segment_map(stack(0 * cap, cap, cap, *slices, 0 * cap), SPACING_MM, found.frame)
    assert set(np.unique(numbers[1:3])) == {0, 17} and set(np.unique(numbers[-2])) == {0, 1, 2, 3, 4, 5, 6}
    np.testing.assert_array_equal(numbers[3:10] > 0, np.stack(slices) == MYO)


def test_myocardium_far_below_the_cavity_is_not_the_apex():
    cap, slices = ring(0, 9, None), [ring(20, 28)] * 3
    found = wall.wall_thickness(stack(cap, 0 * cap, cap, *slices), SPACING_MM)
    assert found.frame.level.tolist() == [0, 0, 17, 13, 7, 1] and found.segment_mm[16] == 10.0


def test_segments_of_a_ring_are_equal_in_area():
    label = stack(*[ring(20, 30, 155)] * 3)
    numbers = wall.segment_map(label, SPACING_MM, wall.wall_thickness(label, SPACING_MM).frame)
    area_mm2 = np.bincount(numbers.ravel(), minlength=18) * 1.4**2
    np.testing.assert_allclose(area_mm2[1:13], np.pi * (30**2 - 20**2) / 6, rtol=0.08)
    np.testing.assert_allclose(area_mm2[13:17], np.pi * (30**2 - 20**2) / 4, rtol=0.08)


@pytest.mark.parametrize("gap_deg", [30, 140])
def test_an_open_base_stays_finite(gap_deg: float):
    base = ring(20, 28)
    base[(apart(polar()[1], 60) < gap_deg / 2) & (base == MYO)] = 0
    found = wall.wall_thickness(stack(ring(20, 28), ring(20, 28), base), SPACING_MM)
    met = np.isfinite(found.ray_mm[2])
    assert met.sum() == pytest.approx(360 - gap_deg, abs=6)
    assert not np.isinf(found.ray_mm).any() and np.nanmax(found.ray_mm) < 9.2
    np.testing.assert_allclose(found.slice_mm, 8, atol=0.25)


def test_a_segment_in_the_gap_has_no_thickness():
    base = ring(20, 28)
    base[(apart(polar()[1], 30) < 35) & (base == MYO)] = 0  # all of segment 6
    found = wall.wall_thickness(stack(ring(20, 28), ring(20, 28), base), SPACING_MM).segment_mm
    assert np.isnan(found[5]) and np.isfinite(np.delete(found[:16], 5)).all()


def test_without_right_ventricle_slices_are_measured_and_segments_are_not():
    found = wall.wall_thickness(stack(ring(0, 9, None), *[ring(20, 28, None)] * 3), SPACING_MM)
    assert np.isnan(found.segment_mm[:16]).all() and found.segment_mm[16] == 10.0
    np.testing.assert_allclose(found.slice_mm[1:], 8, atol=0.1)
    assert np.isnan(found.frame.septum_rad).all()


def test_a_slice_without_right_ventricle_takes_the_nearest_septum():
    label = stack(ring(20, 28, None), ring(20, 28, 150), ring(20, 28, 210), ring(20, 28, None))
    found = np.rad2deg(wall.wall_thickness(label, SPACING_MM).frame.septum_rad)
    np.testing.assert_allclose(found, [150, 150, 210, 210], atol=2)


def test_holes_in_the_contact_and_stray_right_ventricle_do_not_move_the_insertions():
    plane, angle = ring(20, 28), polar()[1]
    plane[(apart(angle, 150) < 6) & (plane == RV)] = 0
    plane[(apart(angle, 0) < 8) & (plane == 0) & (polar()[0] < 34)] = RV
    found = wall.wall_thickness(plane[None], SPACING_MM).frame.insertions_rad
    np.testing.assert_allclose(np.rad2deg(found), [[120, 240]], atol=2.5)


def test_too_little_contact_and_contact_all_around_are_no_insertion():
    little, around = ring(20, 28, None), ring(20, 28, None)
    radius, angle = polar()
    ringed = (radius >= 28) & (radius < 38)
    little[ringed & (apart(angle, 180) < 8)] = RV
    around[ringed] = RV
    for plane in (little, around):
        found = wall.wall_thickness(plane[None], SPACING_MM)
        assert np.isnan(found.frame.insertions_rad).all() and np.isnan(found.segment_mm).all()
        assert found.slice_mm[0] == pytest.approx(8, abs=0.1)


def test_papillary_muscle_and_stray_pieces_are_not_wall():
    plain = ring(20, 28)
    busy, (radius, angle) = plain.copy(), polar()
    busy[(apart(angle, 40) < 14) & (radius > 9) & (radius < 14)] = MYO
    busy[(apart(angle, -50) < 8) & (radius > 36) & (radius < 41)] = MYO
    busy[2:6, 2:6] = LV
    want, got = (wall.wall_thickness(p[None], SPACING_MM) for p in (plain, busy))
    assert np.hypot(*(got.frame.centre - want.frame.centre)[0]) < 1.5
    np.testing.assert_allclose(got.ray_mm, want.ray_mm, atol=0.5)


def test_unannotated_slices_are_left_out_and_keep_their_place():
    label = stack(*[ring(20, 28)] * 6)
    label[1, 0, 0] = 255  # somewhere, far from the heart
    found = wall.wall_thickness(label, SPACING_MM)
    assert found.frame.level.tolist() == [13, 0, 7, 7, 1, 1]
    assert np.isnan(found.slice_mm).tolist() == [False, True, False, False, False, False]


def test_wall_at_the_edge_of_the_image_ends_there():
    label = ring(20, 28)[:, 26:]  # cuts through the wall on the left
    found = wall.wall_thickness(label[None], SPACING_MM)
    assert np.isfinite(found.slice_mm).all() and np.nanmax(found.ray_mm) < 9


@pytest.mark.parametrize("kept", [(), (LV,), (MYO,), (RV,), (LV, RV), (MYO, RV)])
def test_degenerate_volumes_have_no_thickness(kept: tuple[int, ...]):
    label = stack(*[ring(20, 28)] * 3)
    found = wall.wall_thickness(np.where(np.isin(label, kept), label, 0), SPACING_MM)
    assert np.isnan(found.segment_mm).all() and np.isnan(found.slice_mm).all()


def test_one_voxel_of_each():
    label = np.zeros((1, 5, 5), np.uint8)
    label[0, 2, 1:4] = RV, MYO, LV
    found = wall.wall_thickness(label, SPACING_MM)
    assert not np.isinf(found.ray_mm).any() and np.nanmax(found.ray_mm) < 3


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="volume"):
        wall.wall_thickness(np.zeros((4, 4), np.uint8), SPACING_MM)


def test_real_hearts_have_plausible_walls(real_data):
    sets = DATASETS["mscmr"]
    records = [r for r in sets.find(real_data / "mscmr") if r.split == "val"]
    assert records
    for record in records:
        case = load.load(record, sets, ("LGE",), labelled=True)
        assert case.label is not None
        found = wall.wall_thickness(case.label, case.spacing_mm)
        assert ((found.segment_mm[:16] > 4) & (found.segment_mm[:16] < 20)).all(), case.id
        assert np.nanmax(found.ray_mm) < 30 and np.cos(found.frame.septum_rad).max() < 0, case.id
