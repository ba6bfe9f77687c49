"""The phantom's left atrium: one body with four veins, imaged axially, and real NRRD on disk."""

import csv
from functools import lru_cache

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.ndimage import label as components

from cardiac_jax.data.io import formats
from cardiac_jax.data.sets import phantom as phantom_files
from cardiac_jax.phantom import atrium, axial, heart, patient, tissue

SIDE_MM = 2.5


@lru_cache
def scan(case: int) -> axial.Scan:
    """An axial scan of the atria on a coarse grid."""
    return axial.scan(4, case, spacing_mm=(SIDE_MM, SIDE_MM), size=(96, 80), slices=28, snr=40.0)


def test_an_atrial_scan_is_reproducible_and_leaves_the_ventricles_alone():
    first, again = (axial.scan(4, 0, spacing_mm=(4.0, 4.0), size=(48, 40)) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    assert first.image.shape == (48, 40, 14) and first.image.dtype == np.float32
    assert not np.allclose(first.image, axial.scan(4, 1, spacing_mm=(4.0, 4.0), size=(48, 40)).image)
    person = patient.draw(4, 0)
    assert atrium.build(person).ablated == first.ablated
    assert heart.build(person, 0.0).atrium is None


@pytest.mark.parametrize("case", range(3))
def test_the_left_atrium_is_one_body_on_the_valve_with_four_veins(case):
    taken = scan(case)
    cavity = taken.label == 1
    assert nib.aff2axcodes(taken.affine) == ("L", "P", "S")
    assert 20 < taken.la_ml < 140
    numbered, _ = components(cavity)
    sizes = np.bincount(numbered.ravel())[1:]
    assert sizes.max() > 0.97 * sizes.sum()
    # It sits on the left ventricle, which lies below it, in front and to the left.
    ventricle = taken.tissue == tissue.LV
    assert (binary_dilation(cavity, iterations=2) & (ventricle | (taken.tissue == tissue.VALVE))).any()
    offset = np.argwhere(cavity).mean(axis=0) - np.argwhere(ventricle).mean(axis=0)
    assert offset[0] < 0 and offset[1] > 0 and offset[2] > 0
    # Veins leave it to both sides and reach further back than the body's middle.
    shape = atrium.build(patient.draw(4, case))
    ends = np.array([vein.end - shape.centre for vein in shape.veins])
    assert sorted(ends[:, 0] > 0) == [False, False, True, True]
    assert (np.linalg.norm(ends / shape.half_axes, axis=1) > 1.3).all()
    across = np.flatnonzero(cavity.any(axis=(1, 2)))
    assert (across[-1] - across[0]) * SIDE_MM > 2 * shape.half_axes[0] + 4


def test_blood_of_the_atrium_is_bright_its_scar_brighter_and_fat_suppressed():
    for case in range(2):
        taken = scan(case)
        levels = {
            code: float(np.median(taken.image[taken.tissue == code]))
            for code in (tissue.LA, tissue.RA, tissue.MYO, tissue.FAT, tissue.SCAR)
        }
        assert levels[tissue.LA] > 1.5 * levels[tissue.MYO] and levels[tissue.LA] > 1.6 * levels[tissue.FAT]
        assert levels[tissue.RA] == pytest.approx(levels[tissue.LA], rel=0.25)  # only its shape tells it apart
        brightest = [np.quantile(taken.image[taken.tissue == code], 0.9) for code in (tissue.SCAR, tissue.LA)]
        assert brightest[0] > brightest[1]  # the wall is thin, most of its voxels are full of something else too
        rim = binary_dilation(taken.label == 1, iterations=3)
        assert (taken.tissue[~rim] == tissue.SCAR).sum() <= 0.35 * (taken.tissue == tissue.SCAR).sum()


def test_ablated_atria_enhance_more():
    enhanced = {True: [], False: []}
    for case in (0, 1, 2, 4):
        taken = axial.scan(8, case, spacing_mm=(2.5, 2.5), size=(56, 48), slices=22)
        enhanced[taken.ablated].append(taken.enhanced_percent)
    assert len(enhanced[True]) == 2
    assert np.mean(enhanced[True]) > 1.5 * np.mean(enhanced[False])


def test_lasc_layout(tmp_path):
    written = phantom_files.write(tmp_path, "lasc", 1, 4, spacing_mm=(3.0, 2.5), size=(64, 56), slices=20)
    assert [p.relative_to(tmp_path).as_posix() for p in written] == [
        "patient001/lgemri.nrrd",
        "patient001/laendo.nrrd",
        "cases.csv",
    ]
    image, label = (formats.read(p) for p in written[:2])
    expected = axial.scan(4, 0, spacing_mm=(3.0, 2.5), size=(64, 56), slices=20)
    assert image.data.dtype == label.data.dtype == np.uint8 and image.spacing_mm == (3.0, 3.0, 2.5)
    np.testing.assert_array_equal(image.affine, np.diag([-3, -3, 2.5, 1]))
    np.testing.assert_array_equal(image.data, np.clip(np.rint(expected.image), 0, 255))
    np.testing.assert_array_equal(label.data, 255 * expected.label)
    with written[2].open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["id"], row["group"]) == ("patient001", patient.group_of(4, 0))
    assert float(row["la_ml"]) == pytest.approx((label.data == 255).sum() * 22.5e-3, abs=1e-3)
