"""CETUS in the layout of its documentation: the phantom writes it, the data set reads it, evaluation measures it."""

import csv
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cardiac_jax.data.check import check
from cardiac_jax.data.io import formats, write
from cardiac_jax.data.load import load
from cardiac_jax.data.orientation import orientation
from cardiac_jax.data.preprocess import Grid, prepare, to_native_grid
from cardiac_jax.data.sets import dataset, phantom
from cardiac_jax.errors import InputError
from cardiac_jax.phantom import ultrasound
from cardiac_jax.runs.evaluate import evaluate_maps
from tests import images

CETUS = dataset("cetus")
GRID = np.diag([-2.0, -2.0, 2.0, 1.0])


def patient(root: Path, number: int, phases: tuple[str, ...] = ("ED", "ES")) -> Path:
    folder = root / f"Patient{number}"
    for phase in phases:
        write.write_array(folder / f"Patient{number}_{phase}.mhd", images.image().astype(np.uint8), GRID)
        label = np.zeros((12, 10, 4), np.uint8)
        label[3 : 8 if phase == "ED" else 6, 2:7, 1:3] = 1
        write.write_array(folder / f"Patient{number}_{phase}_truth.mhd", label, GRID)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Two coarse patients of the phantom."""
    root = tmp_path_factory.mktemp("cetus")
    files = phantom.write(root, "cetus", 2, 3, spacing_mm=(4.0, 4.0))
    assert [f.name for f in files[:4]] == [f"Patient1_{n}.mhd" for n in ("ED", "ED_truth", "ES", "ES_truth")]
    return root


def test_what_the_phantom_writes_is_read_again(written):
    records = CETUS.find(written)
    assert [(r.id, r.patient, r.phase) for r in records] == [
        (f"Patient{n}_{phase}", f"Patient{n}", phase) for n in (1, 2) for phase in ("ED", "ES")
    ]
    findings = check(CETUS, written)
    assert not findings.problems and len(findings.rows) == 4
    assert not any("not read" in note for note in findings.notes), "voxels in .raw belong to their header"
    for record, volume in zip(records[:2], ultrasound.scan(3, 0, "normal", spacing_mm=4.0), strict=True):
        case = load(record, CETUS, labelled=True)
        assert case.label is not None and not case.frame.apex_known and case.spacing_mm == (4.0, 4.0, 4.0)
        np.testing.assert_array_equal(case.images["US"], np.rint(volume.image).T)
        np.testing.assert_array_equal(case.label, volume.label.T)
        np.testing.assert_allclose(case.affine, volume.affine)
        np.testing.assert_array_equal(case.images["US"] > 0, volume.field.T)
    with (written / "cases.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["group"] for row in rows] == ["normal", "infarct"] and rows[0]["id"] == "Patient1"
    for row in rows:
        edv, esv, ef = (float(row[key]) for key in ("lv_edv_ml", "lv_esv_ml", "ef"))
        assert ef == pytest.approx(1 - esv / edv, abs=2e-3)


def test_a_case_comes_back_from_the_networks_grid(written, tmp_path):
    """From the file to a grid and back, and into a pair of files on the image's grid."""
    case = load(CETUS.find(written)[0], CETUS, labelled=True)
    assert case.label is not None
    grid = Grid((4.0, 4.0, 4.0), (*case.shape,))
    prepared = prepare(case, grid, ("US",))
    assert prepared.label is not None and (prepared.label == 1).sum() == (case.label == 1).sum()
    back = to_native_grid((prepared.label == 1)[..., None].astype(np.float32), prepared.geometry, 0.0)[..., 0] > 0.5
    np.testing.assert_array_equal(back, case.label == 1)
    write.write_label(tmp_path / "p.mhd", case.stack(case.label), CETUS.labels, case.source)
    again, image = formats.read(tmp_path / "p.mhd"), formats.read(case.source)
    np.testing.assert_allclose(again.affine, image.affine)
    np.testing.assert_array_equal(again.data, formats.read(case.source.with_name("Patient1_ED_truth.mhd")).data)


def test_no_axis_is_turned_whatever_the_affine_says():
    tilted = images.affine(("R", "A", "S"), (1.0, 1.0, 1.0), tilt=0.5)
    for affine in (GRID, tilted):
        assert orientation(affine, CETUS.slice_order) == ((2, 1, 0), (False, False, False), False)


def test_records_of_one_patient_and_of_one_image(tmp_path, monkeypatch):
    folder = patient(tmp_path, 7)
    monkeypatch.chdir(folder)
    for root in (folder, Path(".")):
        assert [r.id for r in CETUS.find(root)] == ["Patient7_ED", "Patient7_ES"]
    (record,) = CETUS.find(Path("Patient7_ES.mhd"))
    assert (record.id, record.phase) == ("Patient7_ES", "ES") and record.label is not None
    (folder / "Patient7_ES_truth.mhd").unlink()
    assert CETUS.find(folder)[1].label is None
    with pytest.raises(InputError, match="is not named"):
        CETUS.find(folder / "Patient7_ED_truth.mhd")


def test_other_label_values_are_refused(tmp_path):
    folder = patient(tmp_path, 1)
    label = formats.read(folder / "Patient1_ED_truth.mhd").data * np.uint8(255)
    write.write_array(folder / "Patient1_ED_truth.mhd", label, GRID)
    with pytest.raises(InputError, match=r"unknown label values 255 \(50 voxels\); known are 0, 1"):
        load(CETUS.find(tmp_path)[0], CETUS)


def test_what_is_missing_is_named_and_other_patients_are_read(tmp_path):
    patient(tmp_path, 1)
    (patient(tmp_path, 2, ("ED",)) / "Patient2_ED.mhd").unlink()
    (tmp_path / "Patient3").mkdir()
    (tmp_path / "Patient3" / "Patient3_frame01.mhd").touch()
    (tmp_path / "Patient3" / "Patient3_ED_truth.vtk").touch()
    (patient(tmp_path, 4) / "Patient4_ES.raw").unlink()
    found = check(CETUS, tmp_path)
    assert [row.id for row in found.rows] == ["Patient1_ED", "Patient1_ES", "Patient4_ED"]
    problems = {Path(p.where).name: p.problem for p in found.problems}
    assert problems["Patient2_ED_truth.mhd"] == "has no image Patient2_ED.mhd"
    assert "of the first release" in problems["Patient3"] and problems["Patient4_ES.raw"] == "no such file"
    with pytest.raises(InputError, match="has no image"):
        CETUS.find(tmp_path)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"size": (40, 40)}, "size: is that of the field of view"),
        ({"spacing_mm": (1.0, 2.0)}, "are isotropic"),
        ({"misalign_mm": 2.0}, "a 3D scan has no breath-holds"),
        ({"sequences": ["LGE"]}, "layout cetus takes US"),
    ],
)
def test_options_that_the_layout_lacks_are_refused(given, problem, tmp_path):
    with pytest.raises(InputError, match=problem):
        phantom.write(tmp_path / "out", "cetus", 1, 0, **given)
    assert not (tmp_path / "out").exists()


def test_evaluation_of_label_maps_gives_both_phases_and_the_ejection_fraction(tmp_path):
    """One error: Patient2 has one layer too much at ES, 40 voxels of 8 mm3 instead of 30; 50 at ED."""
    truth, pred = tmp_path / "truth", tmp_path / "pred"
    for number in (1, 2, 3):
        folder = patient(truth, number)
        for phase in ("ED", "ES"):
            label = formats.read(folder / f"Patient{number}_{phase}_truth.mhd").data.copy()
            if number == 2 and phase == "ES":
                label[6, 2:7, 1:3] = 1  # 40 voxels instead of 30
            write.write_array(pred / f"Patient{number}_{phase}.nii.gz", label, GRID)
    console = Console(width=200, record=True)
    results = evaluate_maps(pred, truth, tmp_path / "out", name="cetus", console=console)
    volumes = {str(row["case"]): (row["volume_truth_ml"], row["volume_pred_ml"]) for row in results.rows}
    assert volumes["Patient2_ED"] == pytest.approx((0.4, 0.4)) and volumes["Patient2_ES"] == pytest.approx((0.24, 0.32))
    assert all(row["location"] == "" for row in results.measured.slices) and not results.measured.segments
    text = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    lines = {row[0]: row[1:] for row in rows}
    # Dice at ES: 1, 1 and 2 * 30 / 70; the volume is 0.08 ml too large in one of three
    assert lines["Dice"][0].startswith("1.000") and lines["Dice"][1].startswith("0.952")
    error = np.array([0.0, 0.08, 0.0])
    assert lines["volume, bias ± LOA (ml)"] == ["0.00 ± 0.00", f"{error.mean():.2f} ± {1.96 * error.std(ddof=1):.2f}"]
    fraction = np.array([0.0, -20.0, 0.0])  # EF 40 % in truth, 20 % predicted in Patient2
    assert lines["EF, bias ± LOA (%)"] == [f"{fraction.mean():.2f} ± {1.96 * fraction.std(ddof=1):.2f}", "-"]
