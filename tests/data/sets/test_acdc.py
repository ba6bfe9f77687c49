"""ACDC in its publisher's layout: two phases a patient, slices from base to apex, one fault named per patient."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cardiac_jax.data import splits
from cardiac_jax.data.check import check
from cardiac_jax.data.io import formats
from cardiac_jax.data.load import load
from cardiac_jax.data.preprocess import Grid, prepare
from cardiac_jax.data.sets import acdc, dataset, phantom
from cardiac_jax.errors import InputError
from cardiac_jax.phantom import ACDC_GROUP
from tests import images

ACDC = dataset("acdc")
SHAPE = (12, 10, 4)
AS_IT_IS = (0.0, 0.0, 0.0)


def patient(root: Path, number: int, info: str = "ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\n") -> Path:
    """One sound patient: frames 1 and 12 with their labels, and the whole beat."""
    folder = root / f"patient{number:03d}"
    label = np.zeros(SHAPE, np.uint8)
    label[2:4, 2:8], label[4:7, 2:8], label[7:9, 2:8] = 1, 2, 3
    for frame in (1, 12):
        stem = f"{folder.name}_frame{frame:02d}"
        images.save(folder / f"{stem}.nii.gz", images.image(seed=frame))
        images.save(folder / f"{stem}_gt.nii.gz", label)
    images.save(folder / f"{folder.name}_4d.nii.gz", images.image((*SHAPE, 3)))
    (folder / acdc.INFO).write_text(info, encoding="utf-8")
    return folder


def test_a_record_for_each_phase_with_group_and_folder(tmp_path):
    patient(tmp_path / "training", 2)
    patient(tmp_path / "training", 1, "ED: 1\nES: 12\n")
    patient(tmp_path / "testing", 101, "ED: 1\nES: 12\nGroup: NEW\n")
    records = ACDC.find(tmp_path)
    assert [(r.id, r.patient, r.phase, r.group, r.split) for r in records] == [
        ("patient001_ED", "patient001", "ED", None, "train"),
        ("patient001_ES", "patient001", "ES", None, "train"),
        ("patient002_ED", "patient002", "ED", "DCM", "train"),
        ("patient002_ES", "patient002", "ES", "DCM", "train"),
        ("patient101_ED", "patient101", "ED", "NEW", "test"),
        ("patient101_ES", "patient101", "ES", "NEW", "test"),
    ]
    assert [r.images["cine"].name for r in records[:2]] == ["patient001_frame01.nii.gz", "patient001_frame12.nii.gz"]
    found = check(ACDC, tmp_path)
    assert not found.problems and [row.id for row in found.rows] == [r.id for r in records]
    assert found.rows[0].voxels == (480 - 4 * 6 * 7, 48, 72, 48)
    assert [r.split for r in ACDC.find(tmp_path / "training")] == ["train"] * 4
    chosen = splits.split(ACDC.find(tmp_path / "training"), 0, 0, 2)
    assert len(chosen.train) == len(chosen.val) == 1


def test_one_patients_folder_and_one_frame(tmp_path, monkeypatch):
    folder = patient(tmp_path, 7)
    for root in (tmp_path, folder):
        assert [r.id for r in ACDC.find(root)] == ["patient007_ED", "patient007_ES"]
    (alone,) = ACDC.find(folder / "patient007_frame12.nii.gz")
    assert (alone.id, alone.phase) == ("patient007_ES", "ES")
    monkeypatch.chdir(folder)
    assert [r.id for r in ACDC.find(Path("."))] == ["patient007_ED", "patient007_ES"]
    assert [r.id for r in ACDC.find(Path("patient007_frame01.nii.gz"))] == ["patient007_ED"]
    images.save(folder / "patient007_frame05.nii.gz", images.image())
    for name, words in {
        "patient007_frame05.nii.gz": "neither of the frames",
        "patient007_frame01_gt.nii.gz": "is not named",
        "patient007_4d.nii.gz": "is not named",
    }.items():
        with pytest.raises(InputError, match=words) as caught:
            ACDC.find(folder / name)
        assert caught.value.where == str(folder / name)


def test_an_info_in_any_encoding_and_frames_in_any_spelling(tmp_path):
    text = "ED: 1\r\nES: 12\r\nGroup: DCM\r\n"
    for number, content in enumerate(
        (b"\xef\xbb\xbf" + text.encode(), text.encode(), (text + "Note: n\xe9\r\n").encode("latin-1")), 1
    ):
        (patient(tmp_path, number) / acdc.INFO).write_bytes(content)
    folder = patient(tmp_path, 4)
    (folder / "patient004_frame01.nii.gz").rename(folder / "patient004_frame1.nii.gz")
    (folder / "patient004_frame12_gt.nii.gz").rename(folder / "patient004_frame0012_gt.NII.GZ")
    found = check(ACDC, tmp_path)
    assert not found.problems and not found.notes and len(found.rows) == 8
    assert {row.group for row in found.rows} == {"DCM"} and all(row.annotated == 4 for row in found.rows)
    images.save(folder / "patient004_frame01.nii.gz", images.image())
    (problem,) = check(ACDC, tmp_path).problems
    assert "is frame 1, as is patient004_frame01.nii.gz" in str(problem)


BROKEN = {  # what is done to a patient's folder, the file or folder at fault, words of the message
    "no Info.cfg": (lambda f: (f / "Info.cfg").unlink(), "Info.cfg", "no such file"),
    "no ED": (
        lambda f: (f / "Info.cfg").write_text("ES: 12\nGroup: DCM\n", encoding="utf-8"),
        "Info.cfg",
        "lacks the key ED",
    ),
    "no ES": (lambda f: (f / "Info.cfg").write_text("ED: 1\n", encoding="utf-8"), "Info.cfg", "lacks the key ES"),
    "empty": (lambda f: (f / "Info.cfg").write_text("", encoding="utf-8"), "Info.cfg", "lacks the key ED"),
    "no number": (
        lambda f: (f / "Info.cfg").write_text("ED: one\nES: 12\n", encoding="utf-8"),
        "Info.cfg",
        "gives ED as 'one'",
    ),
    "one frame twice": (
        lambda f: (f / "Info.cfg").write_text("ED: 12\nES: 12\n", encoding="utf-8"),
        "Info.cfg",
        "gives the same frame as ED and ES",
    ),
    "5,000 digits": (
        lambda f: (f / "Info.cfg").write_text(f"ED: {'9' * 5000}\nES: 12\n", encoding="utf-8"),
        "Info.cfg",
        "expected a frame number",
    ),
    "not a list": (lambda f: (f / "Info.cfg").write_text("<html>\n", encoding="utf-8"), "Info.cfg", "not a list of"),
    "binary": (lambda f: (f / "Info.cfg").write_bytes(b"\xff\xfe\x00"), "Info.cfg", "cannot be read"),
    "no frame": (lambda f: (f / "patient002_frame12.nii.gz").unlink(), "patient002_frame12.nii.gz", "no such file"),
    "no label": (lambda f: (f / "patient002_frame01_gt.nii.gz").unlink(), "", "case patient002_ED has no label file"),
    "4D frame": (
        lambda f: (f / "patient002_4d.nii.gz").replace(f / "patient002_frame01.nii.gz"),
        "patient002_frame01.nii.gz",
        "is 4D",
    ),
    "unknown label": (
        lambda f: images.save(f / "patient002_frame01_gt.nii.gz", np.full(SHAPE, 255, np.uint8)),
        "patient002_frame01_gt.nii.gz",
        r"unknown label values 255 \(480 voxels\); known are 0, 1, 2, 3",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_is_named_and_the_other_patients_are_read(tmp_path, name):
    patient(tmp_path, 1)
    folder = patient(tmp_path, 2)
    spoil, culprit, words = BROKEN[name]
    spoil(folder)
    found = check(ACDC, tmp_path)
    assert [p.where for p in found.problems] == [str(folder / culprit)]
    with pytest.raises(InputError, match=words):
        raise found.problems[0]
    assert {"patient001_ED", "patient001_ES"} <= {row.id for row in found.rows}
    if culprit == acdc.INFO:  # without the frames there is no record, so training refuses at once
        with pytest.raises(InputError, match=words):
            ACDC.find(tmp_path)


def test_labels_of_the_testing_folder_may_be_missing(tmp_path):
    folder = patient(tmp_path / "testing", 101, "ED: 1\nES: 12\n")
    (folder / "patient101_frame01_gt.nii.gz").unlink()
    found = check(ACDC, tmp_path)
    assert not found.problems and [row.annotated for row in found.rows] == [0, 4]


def test_the_phantom_in_this_layout(tmp_path):
    phantom.write(tmp_path, "acdc", 2, 3, spacing_mm=(2.5, 10.0), size=(88, 80), misalign_mm=0.0, frames=8)
    assert not check(ACDC, tmp_path).problems
    records = ACDC.find(tmp_path)
    assert len(records) == 4 and all(r.group in ACDC_GROUP.values() for r in records)
    for diastole, systole in zip(records[::2], records[1::2], strict=True):
        cavity = []
        for record in (diastole, systole):
            prepared = prepare(load(record, ACDC), Grid(AS_IT_IS, (80, 88)), ("cine",))
            assert prepared.label is not None and prepared.phase == record.phase
            lv = (prepared.label == 3).sum(axis=(1, 2))
            held = np.flatnonzero(lv)
            third = len(held) // 3
            assert lv[held[:third]].mean() < lv[held[-third:]].mean()  # from apex to base
            right, left = (np.argwhere(prepared.label == k)[:, 2].mean() for k in (1, 3))
            assert right < left  # the right ventricle is shown on the left
            cavity.append(lv.sum())
        assert cavity[1] < cavity[0]
        beat = formats.nifti.read(diastole.images["cine"].parent / f"{diastole.patient}_4d.nii.gz").data
        assert beat.shape[3] == 8
        for record, frame in ((diastole, 0), (systole, int(systole.images["cine"].name[-9:-7]) - 1)):
            np.testing.assert_array_equal(beat[..., frame], formats.read(record.images["cine"]).data)


def test_the_real_patients(real_data, monkeypatch):
    """Every file is read once; slices run from base to apex, as the docstring says."""
    reads: Counter[Path] = Counter()
    read = formats.read

    def counting(path: Path, part: str = ""):
        reads[path] += 1
        return read(path, part)

    monkeypatch.setattr(formats, "read", counting)
    found = check(ACDC, real_data / "acdc")
    assert not found.problems and len(found.rows) == 80
    assert len(reads) == 160 and set(reads.values()) == {1}
    assert Counter(row.group for row in found.rows) == dict.fromkeys(("NOR", "DCM", "HCM", "MINF", "RV"), 16)
    exceptions = []
    for record in ACDC.find(real_data / "acdc"):
        if record.phase == "ED":
            case = load(record, ACDC)
            label, shown = case.label, prepare(case, Grid(AS_IT_IS, (256, 256)), ("cine",)).label
            assert label is not None and shown is not None
            right, left = (np.argwhere(shown == k)[:, 2].mean() for k in (1, 3))
            assert right + 8 < left, record.id  # the right ventricle lies at smaller columns, as in the other sets
            lv, rv = ((label == k).sum(axis=(1, 2))[::-1] for k in (3, 1))  # as in the file
            held = np.flatnonzero(lv)
            third = max(1, len(held) // 3)
            if lv[held[:third]].mean() < lv[held[-third:]].mean():
                exceptions.append(record.patient)
                assert rv[:3].sum() > 2 * rv[3:].sum()
    assert exceptions == ["patient047"]
