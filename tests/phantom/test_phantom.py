"""The phantom: reproducible, anatomically sound, physically plausible, and real NIfTI on disk."""

import csv
from functools import lru_cache

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.ndimage import label as components

from cardiac_jax import phantom
from cardiac_jax.data.load import load
from cardiac_jax.data.orientation import orientation
from cardiac_jax.data.sets import phantom as phantom_files
from cardiac_jax.errors import InputError
from cardiac_jax.phantom import axial, heart, patient, tissue

# thick slices on a coarse grid: the anatomy of the default stack at a fraction of its cost
COARSE = {"spacing_mm": (2.0, 9.0), "size": (88, 88)}
# coarser still, for what does not depend on the anatomy: files, random numbers, the frames of a beat
ROUGH = {"spacing_mm": (4.0, 9.0), "size": (56, 56)}


@lru_cache
def still(case: int, sequence: str = "LGE", phase: str = "ED", group: str | None = None) -> phantom.Exam:
    """A coarse stack without breath-hold errors."""
    return phantom.simulate(4, case, sequence, phase, group, misalign_mm=0.0, twin=False, **COARSE)


@lru_cache
def twin(case: int) -> tuple[phantom.Exam, phantom.Stack]:
    """The examination of `still(case)` with its high-resolution twin."""
    exam = phantom.simulate(4, case, misalign_mm=0.0, **COARSE)
    assert exam.twin is not None
    return exam, exam.twin


def in_centre(pathology: np.ndarray, value: int) -> np.ndarray:
    """Voxels of one class away from its in-plane border, where there is no partial volume in plane."""
    rest = pathology != value
    return ~binary_dilation(rest, np.ones((3, 3, 1), bool))


def median(exam: phantom.Exam, value: int) -> float:
    return float(np.median(exam.image[in_centre(exam.stack.pathology, value)]))


def test_same_arguments_give_the_same_examination_bit_for_bit():
    first, again = (phantom.simulate(9, 2, twin=False, **ROUGH) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.stack.pathology, again.stack.pathology)
    np.testing.assert_array_equal(first.affine, again.affine)


@pytest.mark.parametrize("other", [(9, 3), (10, 2)])
def test_another_case_or_seed_is_another_patient(other):
    first, second = (phantom.simulate(*who, twin=False, **ROUGH) for who in ((9, 2), other))
    assert not np.allclose(first.affine, second.affine)
    assert first.lv_ml != second.lv_ml


def test_twin_does_not_change_the_stack():
    np.testing.assert_array_equal(twin(1)[0].image, still(1).image)


def test_a_case_does_not_depend_on_how_many_are_written(tmp_path):
    few, many = tmp_path / "few", tmp_path / "many"
    for root, count in ((few, 1), (many, 2)):
        phantom_files.write(root, "mscmr", count, 3, shares=(1, 0, 0), **ROUGH)
    for name in ("train/patient1_LGE.nii.gz", "train/patient1_LGE_manual.nii.gz"):
        assert (few / name).read_bytes() == (many / name).read_bytes()


def test_every_block_of_five_cases_holds_every_group_once():
    for block in range(4):
        groups = [patient.group_of(11, 5 * block + n) for n in range(5)]
        assert sorted(groups) == sorted(phantom.GROUPS)


@pytest.mark.parametrize("group", phantom.GROUPS)
def test_volumes_and_ejection_fraction_belong_to_the_group(group):
    # limits a little wider than clinical ranges: LV EDV and EF, RV EDV
    limits = {
        "normal": ((100, 180), (0.54, 0.72), (105, 195)),
        "dilated": ((185, 330), (0.13, 0.40), (115, 225)),
        "hypertrophic": ((80, 155), (0.58, 0.78), (90, 170)),
        "infarct": ((115, 235), (0.22, 0.50), (100, 190)),
        "rv_abnormal": ((85, 170), (0.48, 0.68), (190, 315)),
    }[group]
    for case in range(3):
        person = patient.draw(1, case, group)
        diastole, systole = (heart.build(person, contraction) for contraction in (0.0, 1.0))
        found = (diastole.lv_ml, 1 - systole.lv_ml / diastole.lv_ml, diastole.rv_ml)
        for value, (low, high) in zip(found, limits, strict=True):
            assert low <= value <= high
        # muscle is incompressible: its volume changes little over the beat, papillary muscles aside
        assert systole.myo_ml == pytest.approx(diastole.myo_ml, rel=0.2)
        assert 60 < diastole.myo_ml < 300


def test_label_volumes_agree_with_the_geometry_they_were_drawn_from():
    exam, fine = twin(2)
    voxel_ml = np.prod(fine.spacing_mm) / 1000
    assert (fine.label == 3).sum() * voxel_ml == pytest.approx(exam.lv_ml, rel=0.08)
    assert (fine.label == 1).sum() * voxel_ml == pytest.approx(exam.rv_ml, rel=0.10)


def test_systole_is_smaller_and_keeps_grid_and_group():
    diastole, systole = still(0), still(0, phase="ES")
    np.testing.assert_array_equal(diastole.affine, systole.affine)
    emptied = 1 - (systole.label == 3).sum() / (diastole.label == 3).sum()
    assert emptied == pytest.approx(diastole.ef, abs=0.08)
    assert diastole.group == systole.group


@pytest.mark.parametrize("case", range(3))
def test_structures_are_connected_and_the_wall_separates_the_left_ventricle(case):
    _, fine = twin(case)
    label = fine.label
    for value in (1, 2, 3):
        numbered, count = components(label == value)
        largest = np.bincount(numbered.ravel())[1:].max()
        assert count and largest >= 0.98 * (label == value).sum()
    # towards the base the cavity opens to the atrium; over the apical two thirds it touches nothing but the wall
    frame = orientation(fine.affine, "affine")
    upright = np.flip(label, 2) if frame.flips[0] else label
    planes = np.flatnonzero((upright == 3).any((0, 1)))
    apical = upright[..., : planes[0] + 2 * len(planes) // 3]
    cavity = apical == 3
    neighbours = apical[binary_dilation(cavity, np.ones((3, 3, 1), bool)) & ~cavity]
    assert np.mean(neighbours == 2) > 0.99


@pytest.mark.parametrize("case", range(2))
def test_twin_reduced_to_the_thick_slices_is_the_stack(case):
    exam = phantom.simulate(6, case, misalign_mm=0.0, spacing_mm=(1.25, 10.0), size=(96, 96), slices=10, snr=1e4)
    assert exam.twin is not None
    assert exam.twin.label.shape == (96, 96, 50)
    np.testing.assert_allclose(exam.twin.spacing_mm, (1.25, 1.25, 2.0))
    # the centre of five planes is the centre of the slice
    slab = exam.twin.affine @ [7, 9, 12, 1]
    np.testing.assert_allclose(slab, exam.affine @ [7, 9, 2, 1], atol=1e-9)
    for value in (1, 2, 3):
        reduced = (exam.twin.label == value).reshape(96, 96, 10, 5).mean(-1) > 0.5
        mask = exam.label == value
        assert 2 * (reduced & mask).sum() / (reduced.sum() + mask.sum()) > 0.9
    image = exam.twin.image.reshape(96, 96, 10, 5).mean(-1)
    assert np.corrcoef(image.ravel(), exam.image.ravel())[0, 1] > 0.9


def test_misalignment_moves_slices_of_the_stack_but_not_the_twin():
    moved = phantom.simulate(4, 1, misalign_mm=4.0, **COARSE)
    aligned, fine = twin(1)
    assert moved.twin is not None
    np.testing.assert_array_equal(moved.twin.label, fine.label)
    centres = [np.array([np.mean(np.argwhere(e.label[..., z] == 3), 0) for z in range(3, 7)]) for e in (moved, aligned)]
    assert np.linalg.norm(centres[0] - centres[1], axis=1).max() * 2.0 > 2.0


@pytest.mark.parametrize("group", ["normal", "hypertrophic"])
def test_blood_is_brighter_than_wall_except_on_black_blood_t2(group):
    for sequence, brighter in (("LGE", True), ("bSSFP", True), ("cine", True), ("T2", False)):
        exam = still(2, sequence, group=group)
        assert (median(exam, 3) > 1.3 * median(exam, 2)) == brighter
        assert (median(exam, 2) > 1.3 * median(exam, 3)) != brighter


def acute() -> int:
    """The first case whose infarct is acute and large."""
    return next(c for c in range(40) if (p := patient.draw(4, c, "infarct")).acute and p.territory == "LAD")


def test_scar_is_bright_and_oedema_shows_on_t2():
    case = acute()
    late, t2 = still(case, "LGE", group="infarct"), still(case, "T2", group="infarct")
    np.testing.assert_array_equal(late.stack.pathology, t2.stack.pathology)  # co-registered
    scar, wall, blood = (late.stack.tissue == tissue.SCAR, late.stack.tissue == tissue.MYO, late.label == 3)
    bright, dark, pool = (float(np.median(late.image[m])) for m in (scar, wall, blood))
    assert bright > 2 * dark
    assert 0.6 < bright / pool < 2.5  # as bright as blood, or brighter: what makes LGE hard
    swollen = t2.image[t2.stack.tissue == tissue.OEDEMA]
    assert np.median(swollen) > 1.15 * np.median(t2.image[t2.stack.tissue == tissue.MYO])


@pytest.mark.parametrize("territory", ["LAD", "RCA", "LCX"])
def test_infarct_grows_from_the_endocardium_in_its_own_territory(territory):
    case = next(c for c in range(60) if patient.draw(2, c, "infarct").territory == territory)
    scar = heart.build(patient.draw(2, case, "infarct"), 0.0).scar
    inside = scar.outer > 0.1
    assert inside.any()
    assert np.all(scar.inner[inside] <= 0)  # begins at the endocardium wherever it is
    angle = np.broadcast_to(heart.ANGLE, inside.shape)[inside & (heart.T > 0.35)]
    centre = np.rad2deg(np.angle(np.exp(1j * angle).mean()))
    expected = {"LAD": 55, "RCA": -75, "LCX": 168}[territory]
    assert abs((centre - expected + 180) % 360 - 180) < 40


def test_only_groups_with_a_reason_for_it_have_scar():
    assert still(0, group="normal").scar_percent == 0
    assert still(acute(), group="infarct").scar_percent > 2


def test_affines_are_oblique_and_their_axis_codes_vary():
    codes, apex_first = set(), set()
    for case in range(8):
        exam = phantom.simulate(2, case, twin=False, spacing_mm=(6.0, 10.0), size=(32, 32))
        direction = exam.affine[:3, :3] / exam.stack.spacing_mm
        np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-12)
        assert np.abs(direction).max() < 0.98  # no axis along the patient's
        codes.add(nib.aff2axcodes(exam.affine))
        apex_first.add(orientation(exam.affine, "affine").flips[0])
    assert len(codes) >= 4
    assert apex_first == {True, False}


def test_the_slice_order_read_from_the_affine_runs_from_apex_to_base():
    for case in range(3):
        exam = phantom.simulate(4, case, misalign_mm=0.0, twin=False, slices=14, **COARSE)
        upright = np.flip(exam.label, 2) if orientation(exam.affine, "affine").flips[0] else exam.label
        area = (upright == 3).sum((0, 1))
        planes = np.flatnonzero(area)
        assert area[planes[0]] < 0.7 * area[planes[len(planes) // 2]]  # the apex is the small end
        atria = np.isin(exam.stack.tissue, (tissue.LA, tissue.RA)).sum((0, 1))
        atria = atria[::-1] if orientation(exam.affine, "affine").flips[0] else atria
        assert atria.sum() > 20 and np.argmax(atria) > planes[len(planes) // 2]


def test_mscmr_layout_reopens_with_geometry_groups_and_splits(tmp_path):
    written = phantom_files.write(tmp_path, "mscmr", 4, 5, sequences=("LGE", "T2"), shares=(2, 1, 1), **ROUGH)
    assert all(p.is_file() for p in written) and not list(tmp_path.rglob(".*"))
    image = nib.load(tmp_path / "train/patient1_LGE.nii.gz")
    assert image.get_data_dtype() == np.int16
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
    assert image.header.get_xyzt_units()[0] == "mm"
    expected = phantom.simulate(5, 0, "LGE", twin=False, **ROUGH)
    np.testing.assert_allclose(image.get_sform(), expected.affine, atol=1e-3)
    np.testing.assert_allclose(image.get_qform(), expected.affine, atol=1e-2)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), np.rint(expected.image))
    manual = np.asanyarray(nib.load(tmp_path / "train/patient1_LGE_manual.nii.gz").dataobj)
    assert set(np.unique(manual)) == {0, 200, 500, 600}

    records = phantom_files.DATASET.find(tmp_path)
    assert [r.split for r in records] == ["train", "train", "val", "test"]
    assert [r.group for r in records] == [patient.group_of(5, case) for case in range(4)]
    case = load(records[0], phantom_files.DATASET, labelled=True)
    assert set(case.images) == {"LGE", "T2"}
    assert case.label is not None
    np.testing.assert_array_equal(case.stack(case.label).to_file(), expected.label)


def test_table_of_cases_holds_the_truth(tmp_path):
    phantom_files.write(tmp_path, "mscmr", 1, 5, **ROUGH)
    with (tmp_path / "cases.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    exam = phantom.simulate(5, 0, "LGE", twin=False, **ROUGH)
    assert (row["id"], row["group"], row["pathology"]) == ("patient1", exam.group, exam.pathology)
    assert float(row["ef"]) == pytest.approx(exam.ef, abs=1e-3)
    assert float(row["scar_percent"]) == pytest.approx(exam.scar_percent, abs=1e-3)


def test_myops_layout_carries_scar_and_oedema_on_one_grid(tmp_path):
    phantom_files.write(tmp_path, "myops", 1, 4, **ROUGH)
    names = [f"train25/myops_training_101_{s}.nii.gz" for s in ("C0", "DE", "T2")]
    gold = nib.load(tmp_path / "train25_myops_gd/myops_training_101_gd.nii.gz")
    for name in names:
        np.testing.assert_array_equal(nib.load(tmp_path / name).affine, gold.affine)
    stack = {**ROUGH, "slices": 5, "thickness": 0.6, "acute": True}
    truth = phantom.simulate(4, 0, "LGE", group="infarct", twin=False, **stack).stack.pathology
    raw = np.asanyarray(gold.dataobj)
    for canonical, number in enumerate((0, 600, 200, 500, 1220, 2221)):
        np.testing.assert_array_equal(raw == number, truth == canonical)
    assert {1220, 2221} <= set(np.unique(raw))  # every patient of this layout has an acute infarct


def test_acdc_layout_has_two_frames_their_numbers_and_the_beat(tmp_path):
    phantom_files.write(tmp_path, "acdc", 1, 5, frames=8, **ROUGH)
    folder = tmp_path / "patient001"
    info = dict(line.split(": ") for line in (folder / "Info.cfg").read_text(encoding="utf-8").splitlines())
    beat = nib.load(folder / "patient001_4d.nii.gz")
    assert beat.shape[3] == int(info["NbFrame"]) == 8
    cavity = []
    for phase in ("ED", "ES"):
        stem = f"patient001_frame{int(info[phase]):02d}"
        image, label = (nib.load(folder / f"{stem}{end}.nii.gz") for end in ("", "_gt"))
        np.testing.assert_array_equal(image.affine, np.diag([-4, -4, 9, 1]))
        np.testing.assert_array_equal(image.affine, beat.affine)
        np.testing.assert_array_equal(np.asanyarray(beat.dataobj)[..., int(info[phase]) - 1], image.dataobj)
        drawn = np.asanyarray(label.dataobj)
        assert image.shape == drawn.shape and set(np.unique(drawn)) == {0, 1, 2, 3}
        cavity.append((drawn == 3).sum(axis=(0, 1)))
    assert cavity[1].sum() < cavity[0].sum()
    held = np.flatnonzero(cavity[0])
    assert cavity[0][held[:2]].sum() > 2 * cavity[0][held[-2:]].sum()  # from base to apex
    assert info["Group"] == patient.ACDC_GROUP[patient.group_of(5, 0)]


def test_a_beat_empties_and_fills_and_its_ends_are_the_two_phases():
    beat = phantom.cine(4, 0, 8, misalign_mm=1.0, slices=6, **ROUGH)
    volume = np.array([exam.lv_ml for exam in beat])
    systole = int(volume.argmin())
    assert systole == 3 and volume.argmax() == 0
    assert (np.diff(volume[: systole + 1]) < 0).all() and (np.diff(volume[systole:]) >= 0).all()
    assert volume[systole] / volume[0] == pytest.approx(1 - beat[0].ef, abs=1e-6)
    assert [exam.phase for exam in beat] == ["ED", None, None, "ES", None, None, None, None]
    for frame, phase in ((0, "ED"), (3, "ES")):
        alone = phantom.simulate(4, 0, "cine", phase, twin=False, misalign_mm=1.0, slices=6, **ROUGH)
        np.testing.assert_array_equal(beat[frame].image, alone.image)
        np.testing.assert_array_equal(beat[frame].label, alone.label)
    lung = np.all([exam.stack.tissue == 0 for exam in beat], axis=0)
    still_there = np.corrcoef([exam.image[lung] for exam in beat])
    assert still_there.min() > 0.9  # one acquisition: the body does not move, brightness is the same


def test_slices_with_gaps_blur_less():
    grid = {"spacing_mm": (2.0, 13.0), "size": (112, 112), "slices": 5}
    whole, thin = (phantom.simulate(4, 1, **grid, thickness=t, misalign_mm=0.0, twin=False) for t in (1.0, 0.4))
    np.testing.assert_array_equal(whole.affine, thin.affine)
    assert not np.array_equal(whole.label, thin.label)
    assert 2 * ((whole.label == 3) & (thin.label == 3)).sum() / sum((e.label == 3).sum() for e in (whole, thin)) > 0.9


def test_twins_layout_pairs_thick_and_thin_slices(tmp_path):
    phantom_files.write(tmp_path, "hr", 1, 5, spacing_mm=(2.5, 10.0), size=(48, 48), slices=8)
    for phase in ("ED", "ES"):
        low, high = (nib.load(tmp_path / f"twins/patient1_{phase}_{grid}.nii.gz") for grid in ("lr", "hr"))
        assert low.shape == (48, 48, 8) and high.shape == (96, 96, 40)
        for grid, image in (("lr", low), ("hr", high)):
            label = nib.load(tmp_path / f"twins/patient1_{phase}_{grid}_label.nii.gz")
            np.testing.assert_array_equal(label.affine, image.affine)
            assert set(np.unique(np.asanyarray(label.dataobj))) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "call",
    [
        lambda root: phantom.simulate(0, 0, "T1"),
        lambda root: phantom.simulate(0, 0, phase="mid"),
        lambda root: phantom.simulate(0, 0, group="ill"),
        lambda root: phantom.simulate(0, -1),
        lambda root: phantom.simulate(0, 0, size=(0, 8)),
        lambda root: phantom.simulate(0, 0, spacing_mm=(1.0, -8.0)),
        lambda root: phantom_files.write(root, "bids", 1, 0),
        lambda root: phantom_files.write(root, "mscmr", 0, 0),
        lambda root: phantom_files.write(root, "mscmr", 1, 0, sequences=("cine",)),
        lambda root: phantom_files.write(root, "mscmr", 1, 0, groups=("ill",)),
        lambda root: phantom_files.write(root, "lasc", 1, 0, sequences=("cine",)),
        lambda root: phantom_files.write(root, "lasc", 1, 0, misalign_mm=1.0),
        lambda root: phantom_files.write(root, "lasc", 1, 0, slices=0),
        lambda root: phantom_files.write(root, "acdc", 1, 0, frames=3),
        lambda root: phantom.cine(0, 0, 8, slices=0),
        lambda root: phantom.simulate(0, 0, thickness=0.0),
        lambda root: axial.scan(0, 0, spacing_mm=(0.0, 1.0)),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_written(call, tmp_path):
    with pytest.raises(InputError):
        call(tmp_path)
    assert not list(tmp_path.iterdir())
