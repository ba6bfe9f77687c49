"""Finding cases on disk: MS-CMRSeg in its folders, and any folder of images."""

import pytest

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.check import check
from cardiac_jax.data.io import formats
from cardiac_jax.data.load import load
from cardiac_jax.data.orientation import SLICE_ORDERS
from cardiac_jax.data.preprocess import Grid, prepare
from cardiac_jax.data.sets import DATASETS, dataset
from cardiac_jax.errors import InputError
from tests import images


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_is_sound(name, tmp_path):
    data = dataset(name)
    assert data.name == name and data.classes[0] == "background" and data.slice_order in SLICE_ORDERS
    assert {c for c in data.labels.values() if c != IGNORE} <= set(range(len(data.classes)))
    with pytest.raises(InputError):
        data.find(tmp_path)


def test_mscmr_folders_flat_and_single_file(tmp_path):
    images.patient(tmp_path / "train", 2)
    images.patient(tmp_path / "train", 10)
    images.patient(tmp_path / "val", 7)
    images.save(tmp_path / "val" / "patient7_C0.nii.gz", images.image())
    find = dataset("mscmr").find
    records = find(tmp_path)
    assert [(r.id, r.split) for r in records] == [
        ("patient10", "train"),
        ("patient2", "train"),
        ("patient7", "val"),
    ]
    assert list(records[2].images) == ["LGE", "bSSFP"] and list(records[0].images) == ["LGE"]
    assert [r.id for r in find(tmp_path / "train")] == ["patient10", "patient2"]
    assert {r.split for r in find(tmp_path / "train")} == {"train"}
    (alone,) = find(tmp_path / "val" / "patient7_C0.nii.gz")
    assert list(alone.images) == ["bSSFP"] and alone.label is None
    (drawn,) = find(tmp_path / "val" / "patient7_LGE.nii.gz")
    assert drawn.label is not None and drawn.label.name == "patient7_LGE_manual.nii.gz"
    (tmp_path / "flat").mkdir()
    images.patient(tmp_path / "flat", 3)
    assert [(r.id, r.split) for r in find(tmp_path / "flat")] == [("patient3", None)]


def test_patients_without_the_table_of_the_phantom_are_not_simulated(tmp_path):
    """Real patients in the layout of the phantom must not be recorded as phantom, wherever the root points."""
    image, _ = images.patient(tmp_path / "train", 1)
    find, folder = dataset("phantom").find, tmp_path / "train"
    for root in (tmp_path, folder, image):
        with pytest.raises(InputError) as caught:
            find(root)
        problem = "holds no cases.csv: it is not a simulated phantom; name its data set with data.name"
        assert (caught.value.where, caught.value.problem) == (str(root), problem)
    (tmp_path / "cases.csv").write_text("id,group\npatient1,DCM\n", encoding="utf-8")
    for root in (tmp_path, folder, image):
        assert [(r.id, r.group, r.split) for r in find(root)] == [("patient1", "DCM", "train")]


def test_a_label_without_its_image_names_the_image(tmp_path):
    image, _ = images.patient(tmp_path, 5)
    image.unlink()
    found = check(dataset("mscmr"), tmp_path)
    assert [p.where for p in found.problems] == [str(image)] and "no such file" in found.problems[0].problem


def test_folder_groups_sequences_and_passes_over_the_rest(tmp_path):
    for name in ("a_LGE.nii.gz", "a_T2.nii.gz", "b.nrrd", "c.mha", ".hidden.nii", "a_LGE_manual.nii.gz"):
        path = tmp_path / name
        path.write_bytes(formats.encode(path, images.image(), images.affine()))
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    data = dataset("folder")
    records = data.find(tmp_path)
    assert [(r.id, list(r.images)) for r in records] == [
        ("a", ["LGE", "T2"]),
        ("b", ["image"]),
        ("c", ["image"]),
    ]
    assert all(r.label is None for r in records)
    prepared = prepare(load(records[1], data), Grid((0.0, 0.0, 0.0), (8, 8)), ("LGE",))
    assert prepared.image.shape == (4, 8, 8, 1) and prepared.label is None
    assert not check(data, tmp_path).problems
    path = tmp_path / "b.nii"
    path.write_bytes(formats.encode(path, images.image(), images.affine()))
    with pytest.raises(InputError, match=r"same case and sequence as b\.nii"):
        data.find(tmp_path)


def test_check_of_the_real_sets_finds_no_problem(real_data):
    found = check(dataset("mscmr"), real_data / "mscmr", ("LGE",))
    assert not found.problems
    train = [row for row in found.rows if row.split == "train"]
    assert len(train) == 25 and sum(row.fully_annotated for row in train) == 95
    assert all(row.fully_annotated == row.shape[0] for row in found.rows if row.split == "val")
