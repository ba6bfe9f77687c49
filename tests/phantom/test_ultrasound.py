"""The ultrasound phantom: reproducible, true volumes, Rayleigh speckle that widens with depth, exact field of view."""

from functools import lru_cache

import numpy as np
import pytest

from cardiac_jax.errors import InputError
from cardiac_jax.phantom import echo, patient, tissue, ultrasound
from cardiac_jax.phantom.sector import Sector, beams

COARSE_MM = 3.0


CASES = {"normal": 0, "dilated": 1, "infarct": 2}


@lru_cache
def scan(group: str) -> tuple[ultrasound.Volume, ultrasound.Volume]:
    return ultrasound.scan(3, CASES[group], group, spacing_mm=COARSE_MM)


def centres_mm(volume: ultrasound.Volume) -> list[np.ndarray]:
    """Probe coordinates x, y, z of the voxel centres."""
    index = np.stack([*np.indices(volume.image.shape), np.ones(volume.image.shape)])
    x, y, z, _ = np.tensordot(np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine, index, 1)
    return [x, y, z]


def test_same_arguments_give_the_same_volumes_bit_for_bit():
    again = ultrasound.scan(3, 0, "normal", spacing_mm=COARSE_MM)
    for first, second in zip(scan("normal"), again, strict=True):
        for one, other in zip(first[:4], second[:4], strict=True):
            np.testing.assert_array_equal(one, other)


def test_another_case_or_seed_is_another_patient_and_phases_differ_in_speckle():
    ed, es = scan("normal")
    assert ed.image.shape == es.image.shape and ed.setting == es.setting
    np.testing.assert_array_equal(ed.field, es.field)
    assert np.corrcoef(ed.image[ed.field], es.image[ed.field])[0, 1] < 0.9
    for other in (ultrasound.scan(4, 0, "normal", spacing_mm=COARSE_MM)[0], scan("dilated")[0]):
        assert other.lv_ml != ed.lv_ml and other.setting != ed.setting


@pytest.mark.parametrize("group", CASES)
def test_volumes_of_the_label_are_those_of_the_heart(group):
    ed, es = scan(group)
    for volume in (ed, es):
        measured = volume.label.sum() * COARSE_MM**3 / 1000
        assert measured == pytest.approx(volume.lv_ml, rel=0.015)
        assert (volume.label.astype(bool) & volume.field).sum() > 0.97 * volume.label.sum()
    person = patient.draw(3, CASES[group], group)
    assert ed.lv_ml == pytest.approx(person.edv_ml, rel=1e-3)
    assert (ed.phase, es.phase, ed.group) == ("ED", "ES", group)
    assert ed.ef == es.ef == pytest.approx(1 - es.lv_ml / ed.lv_ml)


def test_the_field_of_view_is_a_pyramid_between_two_spheres_and_all_else_is_zero():
    volume = scan("normal")[0]
    x, y, z = centres_mm(volume)
    radius = np.sqrt(x**2 + y**2 + z**2)
    far = radius[volume.field].max()
    wide, high = (np.abs(np.arctan2(c, y))[volume.field].max() for c in (x, z))
    inside = (radius >= ultrasound.NEAR_MM) & (radius <= far) & (y > 0)
    inside &= (np.abs(np.arctan2(x, y)) <= wide) & (np.abs(np.arctan2(z, y)) <= high)
    np.testing.assert_array_equal(volume.field, inside)
    np.testing.assert_array_equal(volume.image > 0, volume.field)
    assert volume.image[volume.field].min() >= echo.BLACK and volume.image.max() <= echo.WHITE
    assert 0.5 < wide < 0.9 and 0.5 < high < 0.9 and far < 221


def test_the_apex_is_at_the_top_and_the_wall_is_brighter_than_the_cavity():
    """The short axis is smaller near the probe; the ring about the cavity is brighter than its inside in every case."""
    for group in CASES:
        for volume in scan(group):
            x, y, z = centres_mm(volume)
            cavity = volume.label.astype(bool)
            low, high = y[cavity].min(), y[cavity].max()
            at = [cavity & (np.abs(y - (low + f * (high - low))) < 0.06 * (high - low)) for f in (0.1, 0.6)]
            assert at[0].sum() < 0.75 * at[1].sum() and low > 8
            middle = [c[cavity].mean() for c in (x, z)]
            r = np.hypot(x - middle[0], z - middle[1])
            shell = volume.field & (y > 35) & (y < high - 10)
            core = shell & cavity & (r < 9)
            ring = shell & ~cavity & (r < 1.25 * r[shell & cavity].max())
            assert np.median(volume.image[ring]) > np.median(volume.image[core]) + 15


def test_envelope_of_homogeneous_tissue_is_rayleigh():
    amplitude = np.full((96, 64, 64), 2.0, np.float32)
    real, imaginary = echo.speckle(amplitude, (1.4, 1.2, 1.2), np.random.default_rng(0))
    envelope = np.hypot(real, imaginary)[8:-8, 8:-8, 8:-8]
    assert envelope.std() / envelope.mean() == pytest.approx(np.sqrt(4 / np.pi - 1), abs=0.012)  # 0.523
    assert np.square(envelope).mean() == pytest.approx(4.0, rel=0.03)
    assert envelope.mean() == pytest.approx(2.0 * np.sqrt(np.pi) / 2, rel=0.02)


def test_speckle_on_voxels_keeps_its_contrast_and_widens_with_depth():
    """Lateral width of the autocorrelation in mm, near and far; the axial one stays nearly the same."""
    sector = Sector(0.4, 0.4, 10.0, 110.0)
    grid = beams(sector, 0.45, np.deg2rad(0.75), 4)
    psf = echo.Psf(0.65, np.deg2rad(1.0))
    echoes = echo.speckle(np.ones(grid.shape, np.float32), psf.samples(grid), np.random.default_rng(1))
    lateral, axial = [], []
    for depth in (35.0, 100.0):
        x, y, z = np.meshgrid(np.arange(-12, 12, 0.5), np.arange(depth - 6, depth + 6, 0.5), np.arange(-10, 10, 0.5))
        held = np.stack([grid.at(part, x.ravel(), y.ravel(), z.ravel()).reshape(x.shape) for part in echoes])
        envelope = np.hypot(*held)
        assert envelope.std() / envelope.mean() == pytest.approx(0.523, abs=0.06)
        field = held[0] + 1j * held[1]
        power = np.mean(np.abs(field) ** 2)
        # a Gaussian kernel of SD s gives the correlation exp(-(d / 2 s)^2) at distance d
        for widths, axis, step in ((lateral, 1, 4), (axial, 0, 2)):
            n = field.shape[axis]
            near, moved = field.take(range(n - step), axis), field.take(range(step, n), axis)
            correlation = np.real(np.mean(near * np.conj(moved))) / power
            widths.append(0.5 * step / (2 * np.sqrt(-np.log(correlation))))
    assert lateral[0] == pytest.approx(35 * psf.angle, rel=0.3)
    assert lateral[1] == pytest.approx(100 * psf.angle, rel=0.25)
    assert lateral[1] / lateral[0] == pytest.approx(100 / 35, rel=0.3)
    assert 1.0 < axial[1] / axial[0] < 1.7


def test_points_on_the_beams_are_found_again():
    """`at` inverts `distance_mm` and `angles`: values that are the coordinates are interpolated to them."""
    grid = beams(Sector(0.5, 0.4, 5.0, 120.0), 1.0, 0.02, 2)
    r, (azimuth, elevation) = grid.distance_mm(), grid.angles()
    points = (r[5:-5:9, None, None, None] * grid.directions()[None, 4:-4:7, 4:-4:7]).reshape(-1, 3).T
    radius = np.broadcast_to(r[:, None, None], grid.shape)
    np.testing.assert_allclose(grid.at(radius, *points), np.linalg.norm(points, axis=0), rtol=1e-4)
    wide = np.broadcast_to(azimuth[:, None], grid.shape)
    np.testing.assert_allclose(grid.at(wide, *points), np.arctan2(points[0], points[1]), atol=1e-4)
    high = np.broadcast_to(elevation, grid.shape)
    np.testing.assert_allclose(grid.at(high, *points), np.arctan2(points[2], points[1]), atol=1e-4)
    assert r[0] <= 5.0 and r[-1] >= 120.0 and azimuth[-1] >= 0.5 and elevation[-1] >= 0.4


def test_shadow_drop_out_and_attenuation_darken_what_they_should():
    grid = beams(Sector(0.6, 0.6, 5.0, 120.0), 2.0, 0.05, 0)
    plain = echo.Setting(
        echo.Psf(1.0, 0.05), 0, 50, 0, (0.0, 0.0), -30, 0.1, 3, 8, -25, (0.0, 0.3, 0.0), (), (0.0,) * 4
    )
    still = np.zeros(grid.shape, np.float32)
    reference = echo.transmission_db(grid, plain, still)
    r, (azimuth, elevation) = grid.distance_mm(), grid.angles()
    shadow = echo.Shadow(-0.4, 0.0, (0.1, 0.2), 40.0, 15.0)
    lost = reference - echo.transmission_db(grid, plain._replace(shadows=(shadow,)), still)
    behind = np.abs(azimuth + 0.4) < 0.05, np.abs(elevation) < 0.08
    np.testing.assert_allclose(lost[r > 50][:, behind[0]][:, :, behind[1]], 15.0, atol=1e-3)
    np.testing.assert_allclose(lost[r < 40], 0.0, atol=1e-3)
    np.testing.assert_allclose(lost[:, azimuth > -0.25], 0.0, atol=1e-3)
    lateral = reference - echo.transmission_db(grid, plain._replace(dropout=(0.0, 0.3, 12.0)), still)
    np.testing.assert_allclose(lateral[:, azimuth < 0.29], 0.0, atol=1e-3)
    np.testing.assert_allclose(lateral[:, azimuth > 0.55], 12.0, atol=1e-3)
    deep = reference - echo.transmission_db(grid, plain._replace(attenuation_db_mm=0.1), still)
    np.testing.assert_allclose(np.diff(deep[:, 3, 3]), 0.1 * np.diff(r), atol=1e-3)
    middle = len(azimuth) // 2
    assert reference[0, 0, middle] < reference[0, middle, middle] - 2, "elements send less to the side"


def test_compression_is_logarithmic_between_black_and_white():
    levels = echo.compress(echo.from_db(np.array([echo.PEAK_DB + 20, echo.PEAK_DB, echo.PEAK_DB - 25, -100.0])), 0, 50)
    np.testing.assert_allclose(levels, [255, 255, 128, 1], atol=0.01)
    assert echo.AMPLITUDE[tissue.MYO] == 1.0 and echo.AMPLITUDE[tissue.LV] < 0.05


@pytest.mark.parametrize(
    ("given", "problem"),
    [((-1, None, 1.0), "must not be negative"), ((0, "healthy", 1.0), "not a group"), ((0, None, 0.0), "positive")],
)
def test_what_cannot_be_simulated_is_refused(given: tuple[int, str | None, float], problem: str):
    seed, group, spacing_mm = given
    with pytest.raises(InputError, match=problem):
        ultrasound.scan(seed, 0, group, spacing_mm=spacing_mm)
