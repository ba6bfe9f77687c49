"""MyoPS in its publisher's layout: three sequences on one grid, oedema and scar."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cardiac_jax.data.check import check
from cardiac_jax.data.io import formats
from cardiac_jax.data.load import load
from cardiac_jax.data.preprocess import Grid, prepare
from cardiac_jax.data.sets import dataset, mscmr, phantom
from cardiac_jax.errors import InputError
from tests import images

MYOPS = dataset("myops")
SEQUENCES = ("bSSFP", "LGE", "T2")
AS_IT_IS = (0.0, 0.0, 0.0)


def gold() -> np.ndarray:
    label = np.zeros((12, 10, 4), np.int16)
    for row, value in enumerate((200, 500, 600, 1220, 2221), 2):
        label[row, 2:8] = value
    return label


def patient(root: Path, number: int, gold_folder: str | None = "train25_myops_gd", name: str = "training") -> str:
    stem = f"myops_{name}_{number}"
    for seed, code in enumerate(("C0", "DE", "T2")):
        images.save(root / f"{stem}_{code}.nii.gz", images.image(seed=seed))
    if gold_folder is not None:
        images.save(root.parent / gold_folder / f"{stem}_gd.nii.gz", gold())
    return stem


def test_cases_carry_three_sequences_and_six_classes(tmp_path):
    patient(tmp_path / "train25", 102)
    patient(tmp_path / "train25", 101)
    patient(tmp_path / "test20", 201, None, "test")
    records = MYOPS.find(tmp_path)
    assert [(r.id, r.split) for r in records] == [
        ("myops_test_201", "test"),
        ("myops_training_101", "train"),
        ("myops_training_102", "train"),
    ]
    assert all(tuple(r.images) == SEQUENCES for r in records) and records[0].label is None
    assert not check(MYOPS, tmp_path).problems
    case = load(records[1], MYOPS, labelled=True)
    assert case.label is not None
    for value, k in {0: 0, 600: 1, 200: 2, 500: 3, 1220: 4, 2221: 5}.items():
        np.testing.assert_array_equal(case.stack(case.label).to_file() == k, gold() == value)
    assert MYOPS.classes == (*mscmr.DATASET.classes, "oedema", "scar")
    for seed, sequence in enumerate(SEQUENCES):  # C0 is bSSFP, DE is LGE
        np.testing.assert_array_equal(case.stack(case.images[sequence]).to_file(), images.image(seed=seed))


def test_other_places_of_the_annotation_and_one_file(tmp_path, monkeypatch):
    patient(tmp_path / "train25", 101, "train25_gd")
    patient(tmp_path / "flat", 102, "flat")
    for root in (tmp_path, tmp_path / "train25"):
        assert MYOPS.find(root)[0].label == tmp_path / "train25_gd" / "myops_training_101_gd.nii.gz"
    (flat,) = MYOPS.find(tmp_path / "flat")
    assert flat.label is not None
    monkeypatch.chdir(tmp_path / "train25")
    for root in (Path("."), Path("myops_training_101_T2.nii.gz")):
        (record,) = MYOPS.find(root)
        assert record.label is not None and tuple(record.images) == SEQUENCES
    with pytest.raises(InputError, match="is not named myops_"):
        MYOPS.find(tmp_path / "train25_gd" / "myops_training_101_gd.nii.gz")


def test_faults_are_named_and_the_other_cases_are_read(tmp_path):
    root = tmp_path / "train25"
    for number in range(101, 106):
        patient(root, number)
    (root / "myops_training_101_T2.nii.gz").unlink()
    (tmp_path / "train25_myops_gd" / "myops_training_102_gd.nii.gz").unlink()
    images.save(root / "myops_training_103_DE.nii.gz", images.image(), images.affine(origin_mm=(0.0, 0.0, 0.0)))
    odd = gold()
    odd[0, 0, 0] = 1221
    images.save(tmp_path / "train25_myops_gd" / "myops_training_104_gd.nii.gz", odd)
    found = check(MYOPS, tmp_path)
    assert [row.id for row in found.rows] == ["myops_training_105"]
    assert [
        str(Path(p.where).relative_to(tmp_path)) + ": " + p.problem.split("; known")[0] for p in found.problems
    ] == [
        "train25/myops_training_101_T2.nii.gz: no such file",
        "train25: case myops_training_102 has no label file",
        "train25/myops_training_103_DE.nii.gz: lies elsewhere than the image myops_training_103_C0.nii.gz: "
        "affines put a corner 37.4 mm apart",
        "train25_myops_gd/myops_training_104_gd.nii.gz: has unknown label values 1221 (1 voxels)",
    ]
    # One sequence can be asked for: then the others need not be there.
    assert len(check(MYOPS, tmp_path, ("bSSFP",)).problems) == 2


def test_the_phantom_in_this_layout(tmp_path):
    phantom.write(tmp_path, "myops", 2, 3, spacing_mm=(2.0, 13.0), size=(112, 112))
    found = check(MYOPS, tmp_path)
    assert not found.problems and [row.id for row in found.rows] == ["myops_training_101", "myops_training_102"]
    for row in found.rows:
        assert row.shape == (5, 112, 112) and all(n > 20 for n in row.voxels)  # oedema and scar in every case
    case = load(MYOPS.find(tmp_path)[0], MYOPS, SEQUENCES, labelled=True)
    prepared = prepare(case, Grid(AS_IT_IS, (96, 96)), SEQUENCES)
    assert prepared.image.shape == (5, 96, 96, 3)


def test_the_real_patients(real_data, monkeypatch):
    """Every file is read once; all sequences lie on one grid; slices go from apex to base, the RV lies on the left."""
    reads: Counter[Path] = Counter()
    read = formats.read

    def counting(path: Path, part: str = ""):
        reads[path] += 1
        return read(path, part)

    monkeypatch.setattr(formats, "read", counting)
    found = check(MYOPS, real_data / "myops")
    assert not found.problems and len(found.rows) == 25
    assert len(reads) == 100 and set(reads.values()) == {1}
    assert all(row.fully_annotated == row.shape[0] and min(row.voxels) > 0 for row in found.rows)
    for record in MYOPS.find(real_data / "myops"):
        prepared = prepare(load(record, MYOPS, SEQUENCES), Grid(AS_IT_IS, (240, 240)), SEQUENCES)
        assert prepared.label is not None
        rv = (prepared.label == 1).sum(axis=(1, 2))
        assert rv[0] < rv[-1], record.id
        right, left = (np.argwhere(prepared.label == k)[:, 2].mean() for k in (1, 3))
        assert right + 15 < left, record.id
