"""Scar: thresholds on intensities drawn from known distributions, sectors of known depth, what does not enhance."""

import math

import numpy as np
import pytest
from skimage.draw import disk

from cardiac_jax.metrics import scar, wall
from tests.ventricle import MYO, SPACING_MM, apart, polar, ring, stack

LABEL = stack(*[ring(20, 30, 180)] * 6)
MYOCARDIUM = LABEL == MYO
RADIUS, ANGLE = polar()


def _image(seed: int = 0, mean: float = 100.0, sd: float = 10.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, sd, LABEL.shape)


def _sector(middle_deg: float, half_deg: float, from_mm: float = 0.0, to_mm: float = 99.0) -> np.ndarray:
    """bool `[Z, H, W]`: part of the wall, the same in all slices."""
    return ((apart(ANGLE, middle_deg) < half_deg) & (from_mm <= RADIUS) & (to_mm > RADIUS)) & MYOCARDIUM


@pytest.mark.parametrize("n", range(2, 7))
def test_threshold_by_standard_deviations(n: int):
    image, remote = _image(), _sector(0, 60)
    mean, sd = image[remote].mean(), image[remote].std()
    brighter = _sector(180, 40)
    image[brighter] = mean + 4.5 * sd
    image[~MYOCARDIUM] = 1000
    found = scar.beyond_sd(image, MYOCARDIUM, n, remote)
    assert not (found & ~MYOCARDIUM).any()
    assert found[brighter].all() == (n <= 4) and found[brighter].any() == (n <= 4)
    np.testing.assert_array_equal(found, MYOCARDIUM & (image > mean + n * sd))


@pytest.mark.parametrize("share_of_circle", [0.0, 0.1, 0.25, 0.4])
def test_remote_myocardium_is_found(share_of_circle: float):
    image, bright = _image(1), _sector(70, 180 * share_of_circle)
    image[bright] += 90
    remote = scar.remote_myocardium(image, MYOCARDIUM)
    assert not (remote & (bright | ~MYOCARDIUM)).any()
    values = image[remote]
    # All normal myocardium but the few voxels beyond 3 SD: mean and SD are those drawn from.
    assert remote.sum() > 0.98 * (MYOCARDIUM & ~bright).sum()
    assert values.mean() == pytest.approx(100, abs=0.6) and values.std() == pytest.approx(10, abs=0.5)
    found = scar.beyond_sd(image, MYOCARDIUM, 5)
    np.testing.assert_array_equal(found, bright)


def test_half_maximum_splits_core_from_grey_zone():
    image, core, grey = _image(2, 20, 4), _sector(0, 30), _sector(0, 45) & ~_sector(0, 30)
    image[core], image[grey] = 300, 140
    image[core & (RADIUS < 22)] = 160
    drawn = core | grey
    for enhancement in (drawn, None):
        found = scar.core_scar(image, MYOCARDIUM, enhancement)
        np.testing.assert_array_equal(found, core)
    image[0, 0, 0] = image[tuple(np.argwhere(LABEL == 3)[0])] = 5000  # blood and what lies outside do not count
    np.testing.assert_array_equal(scar.core_scar(image, MYOCARDIUM, drawn | ~MYOCARDIUM), core)
    amounts = scar.quantify(core, drawn, MYOCARDIUM, SPACING_MM)
    wall_ml = math.pi * (30**2 - 20**2) * 60 / 1000
    assert amounts.myocardium_ml == pytest.approx(wall_ml, rel=0.01)
    assert amounts.core_ml == pytest.approx(wall_ml / 6, rel=0.03)
    assert amounts.grey_ml == pytest.approx(wall_ml / 12, rel=0.05)
    assert amounts.scar_ml == pytest.approx(wall_ml / 4, rel=0.03)
    assert (amounts.scar_percent, amounts.core_percent) == pytest.approx((25, 100 / 6), rel=0.03)


def test_half_of_the_maximum_counts_as_core():
    image = np.array([[10.0, 49.9, 50.0, 100.0]])
    found = scar.core_scar(image, np.ones((1, 4), bool), np.array([[0, 1, 1, 1]]))
    assert found.tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("image", [_image(3), np.full(LABEL.shape, 7.0), np.zeros(LABEL.shape)])
def test_no_enhancement_is_no_scar(image: np.ndarray):
    nothing = np.zeros(LABEL.shape, bool)
    for found in (
        scar.core_scar(image, MYOCARDIUM),
        scar.core_scar(image, MYOCARDIUM, nothing),
        scar.beyond_sd(image, MYOCARDIUM, 6),
    ):
        assert not found.any()
    amounts = scar.quantify(nothing, nothing, MYOCARDIUM, SPACING_MM)
    assert amounts[:3] == (0, 0, 0) and amounts[4:] == (0, 0) and amounts.myocardium_ml > 0
    found = scar.transmurality(nothing, LABEL, SPACING_MM, wall.wall_thickness(LABEL, SPACING_MM))
    np.testing.assert_array_equal(found.extent, [0] * 16 + [np.nan])
    np.testing.assert_array_equal(found.area, [0] * 16 + [np.nan])


def test_no_myocardium():
    nothing = np.zeros(LABEL.shape, bool)
    assert not scar.beyond_sd(_image(), nothing, 2).any() and not scar.core_scar(_image(), nothing).any()
    assert not scar.remote_myocardium(_image(), nothing).any()
    amounts = scar.quantify(MYOCARDIUM, MYOCARDIUM, nothing, SPACING_MM)
    assert amounts[:4] == (0, 0, 0, 0) and math.isnan(amounts.scar_percent) and math.isnan(amounts.core_percent)


def test_bad_thresholds_are_refused():
    with pytest.raises(ValueError, match="2 to 6"):
        scar.beyond_sd(_image(), MYOCARDIUM, 7)
    with pytest.raises(ValueError, match="remote region"):
        scar.beyond_sd(_image(), MYOCARDIUM, 2, np.zeros(LABEL.shape, bool))
    with pytest.raises(ValueError, match="as acquired"):
        scar.core_scar(_image(0, -5, 0.1), MYOCARDIUM, MYOCARDIUM)


@pytest.mark.parametrize("turn", [0.0, 40.0])
@pytest.mark.parametrize("to_mm", [22.5, 25.0, 30.0])
def test_transmurality(turn: float, to_mm: float):
    label = stack(*[ring(20, 30, 180 + turn)] * 6)
    measured = wall.wall_thickness(label, SPACING_MM)
    bright = (apart(ANGLE, 30 + turn) < 30) & (to_mm > RADIUS) & (label == MYO)  # anterolateral: 6, 12
    bright |= (apart(ANGLE, 270 + turn) < 20) & (to_mm > RADIUS) & (np.arange(6) < 2)[:, None, None]  # apical inferior
    found = scar.transmurality(bright, label, SPACING_MM, measured)
    depth, area = (to_mm - 20) / 10, (to_mm**2 - 20**2) / (30**2 - 20**2)
    # Rays along the ragged sides of a sector meet part of its depth: few of them, and more for a narrow sector.
    np.testing.assert_allclose(found.extent[[5, 11]], depth, atol=0.06)
    assert found.extent[14] == pytest.approx(depth, abs=0.1)
    np.testing.assert_allclose(found.area[[5, 11]], area, atol=0.06)
    # Of 90 degrees of the apical inferior wall 40 are scarred, of the lateral wall 45.
    np.testing.assert_allclose(found.area[[14, 15]], [area * 40 / 90, area * 45 / 90], atol=0.06)
    untouched = [0, 1, 2, 3, 6, 7, 8, 9]
    assert found.area[untouched].max() < 0.02
    assert np.isnan(found.extent[16]) and np.isnan(found.area[16])


def test_transmural_scar_is_transmural_wherever_the_edges_of_pixels_lie():
    measured = wall.wall_thickness(LABEL, SPACING_MM)
    found = scar.transmurality(MYOCARDIUM, LABEL, SPACING_MM, measured)
    np.testing.assert_array_equal(found.extent[:16], 1.0)
    np.testing.assert_array_equal(found.area[:16], 1.0)


def test_scar_of_the_apex_has_an_area_and_no_depth():
    cap = np.zeros(LABEL.shape[1:], np.uint8)
    cap[disk((36, 36), 9)] = MYO
    label = np.concatenate([cap[None], LABEL])
    bright = np.zeros(label.shape, bool)
    bright[0, :36] = True
    found = scar.transmurality(bright, label, SPACING_MM, wall.wall_thickness(label, SPACING_MM))
    want = (cap[:36] == MYO).sum() / (cap == MYO).sum()
    assert found.area[16] == pytest.approx(want) and np.isnan(found.extent[16])


def test_without_right_ventricle_no_segment_is_known():
    label = stack(*[ring(20, 30, None)] * 3)
    found = scar.transmurality(label == MYO, label, SPACING_MM, wall.wall_thickness(label, SPACING_MM))
    assert np.isnan(found.extent).all() and np.isnan(found.area).all()
