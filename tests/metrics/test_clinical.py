"""Volumes, ventricular function and mass: cylinders whose volume is known, gaps between slices, what is not there."""

import math

import numpy as np
import pytest
import SimpleITK as sitk

from cardiac_jax.metrics import clinical
from tests.ventricle import LV, MYO, RV, SPACING_MM, ring, stack


def _cylinder(radius_mm: float, height_mm: float, tilt_rad: float, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Voxels whose centre lies in a cylinder, tilted out of the third axis towards the first."""
    shape = [math.ceil(2 * (radius_mm + height_mm / 2) / s) + 2 for s in spacing_mm]
    x, y, z = ((i - (n - 1) / 2) * s for i, n, s in zip(np.indices(shape), shape, spacing_mm, strict=True))
    along = x * np.sin(tilt_rad) + z * np.cos(tilt_rad)
    across = x * np.cos(tilt_rad) - z * np.sin(tilt_rad)
    return (np.hypot(across, y) < radius_mm) & (np.abs(along) < height_mm / 2)


@pytest.mark.parametrize("tilt_rad", [0.0, 0.5, 1.2])
@pytest.mark.parametrize("spacing_mm", [(1.4, 1.4, 10.0), (1.0, 1.7, 3.0)])
def test_cylinder(tilt_rad: float, spacing_mm: tuple[float, ...]):
    # 90 mm are nine slices of 10 mm; tilted, the steps of slices cost the little that is allowed here.
    mask = _cylinder(30, 90, tilt_rad, spacing_mm)
    want_ml = math.pi * 30**2 * 90 / 1000
    assert clinical.volume_ml(mask, spacing_mm) == pytest.approx(want_ml, rel=0.015)
    assert clinical.interpolated_volume_ml(mask, spacing_mm) == pytest.approx(
        clinical.volume_ml(mask, spacing_mm), rel=1e-12
    )  # empty slices lie above and below


def test_volume_agrees_with_simpleitk():
    mask = np.random.default_rng(0).random((9, 8, 7)) > 0.6
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing((10.0, 1.3, 1.4)[::-1])
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(image)
    assert clinical.volume_ml(mask, (10.0, 1.3, 1.4)) == pytest.approx(shape.GetPhysicalSize(1) / 1000, rel=1e-9)


def _towers(*voxels: int) -> np.ndarray:
    """`[10, 1, Z]`: so many voxels in each slice; of 10 x 5 x 20 mm each is 1 ml."""
    return np.stack([np.arange(10) < n for n in voxels], axis=-1)[:, None]


def test_first_and_last_slice_count_half():
    # Intervals of one slice spacing between centres, split in the middle: 8/2 + 6 + 4/2.
    assert clinical.interpolated_volume_ml(_towers(8, 6, 4), (10, 5, 20)) == pytest.approx(12)
    assert clinical.volume_ml(_towers(8, 6, 4), (10, 5, 20)) == pytest.approx(18)


def test_a_gap_is_filled_from_both_sides():
    mask = _towers(0, 8, 3, 9, 4, 0)
    annotated = np.array([True, True, False, False, True, True])
    # Slices 1 and 4 reach half way into the gap: 1/2 + 3/2 spacings each; what lies in the gap is not looked at.
    assert clinical.interpolated_volume_ml(mask, (10, 5, 20), annotated=annotated) == pytest.approx(2 * 8 + 2 * 4)


def test_interpolation_agrees_with_a_finely_resampled_stack():
    rng = np.random.default_rng(1)
    area, annotated = rng.integers(0, 11, 9), rng.random(9) > 0.3
    at = np.flatnonzero(annotated)
    z = np.linspace(at[0], at[-1], 400_001)
    fine = area[at[np.abs(z[:, None] - at).argmin(axis=1)]].mean() * (at[-1] - at[0])
    got = clinical.interpolated_volume_ml(_towers(*area), (10, 5, 20), annotated=annotated)
    assert got == pytest.approx(fine, rel=1e-4)


def test_few_slices():
    one = np.array([False, True, False])
    assert clinical.interpolated_volume_ml(_towers(8, 6, 4), (10, 5, 20), annotated=one) == pytest.approx(6)
    assert clinical.interpolated_volume_ml(_towers(8, 6, 4), (10, 5, 20), annotated=~one) == pytest.approx(8 + 4)
    assert clinical.interpolated_volume_ml(_towers(8, 6, 4), (10, 5, 20), annotated=np.zeros(3, bool)) == 0


def test_slices_may_lie_along_any_axis():
    mask = np.moveaxis(_towers(8, 6, 4), -1, 0)
    assert clinical.interpolated_volume_ml(mask, (20, 10, 5), slice_axis=0) == pytest.approx(12)


def test_function_of_both_ventricles():
    ed = stack(*[ring(25, 33, 160)] * 8)
    es = stack(*[ring(15, 28, 160)] * 8)
    found = clinical.function(ed, es, SPACING_MM)
    assert set(found) == {"LV", "RV"}
    # Cylinders of 80 mm: 157.1 ml, of which (15 / 25)^2 stay.
    lv = found["LV"]
    assert lv.edv_ml == pytest.approx(math.pi * 25**2 * 80 / 1000, rel=0.01)
    assert lv.ef == pytest.approx(1 - 0.6**2, abs=0.01)
    assert lv.sv_ml == pytest.approx(lv.edv_ml - lv.esv_ml)
    # A third of the ring of 12 mm about each epicardium.
    want_ml = [math.pi * ((r + 12) ** 2 - r**2) / 3 * 80 / 1000 for r in (33, 28)]
    assert found["RV"][:2] == pytest.approx(want_ml, rel=0.02)
    assert clinical.mass_g(ed == MYO, SPACING_MM) == pytest.approx(
        1.05 * math.pi * (33**2 - 25**2) * 80 / 1000, rel=0.01
    )


def test_a_ventricle_that_was_not_found_has_no_ejection_fraction():
    empty, es = np.zeros((2, 4, 4), np.uint8), np.full((2, 4, 4), LV, np.uint8)
    found = clinical.function(empty, es, (10.0, 1.0, 1.0))
    assert found["LV"][:3] == pytest.approx((0.0, 0.32, -0.32)) and math.isnan(found["LV"].ef)
    assert found["RV"][:3] == (0.0, 0.0, 0.0) and math.isnan(found["RV"].ef)
    assert clinical.function_of(100.0, 0.0).ef == 1.0
    assert clinical.function_of(100.0, 130.0).ef == pytest.approx(-0.3)


def test_only_ventricles_that_have_a_class():
    label = np.array([[1, 1, 2]], np.uint8)
    found = clinical.function(label, label, (1.0, 1.0), ("background", "LV", "Myo"))
    assert list(found) == ["LV"] and found["LV"].edv_ml == pytest.approx(0.002) and found["LV"].ef == 0.0
    swapped = clinical.function(np.array([[RV]]), np.array([[0]]), (1.0, 1.0))
    assert swapped["RV"].ef == 1.0


def test_mismatch_is_refused():
    label = np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match="differ in shape"):
        clinical.function(label, label[:1], (1.0, 1.0))
    with pytest.raises(ValueError, match="not annotated"):
        clinical.function(label, np.full_like(label, 255), (1.0, 1.0))
    with pytest.raises(ValueError, match="do not match"):
        clinical.volume_ml(label, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="slices"):
        clinical.interpolated_volume_ml(label, (1.0, 1.0), annotated=np.ones(2, bool))
