"""Channels of nnU-Net, and the account of every entry of a folder, the same for all data sets."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from cardiac_jax.data.check import check
from cardiac_jax.data.discover import discover, records_of
from cardiac_jax.data.load import load
from cardiac_jax.data.sets import dataset, folder
from cardiac_jax.data.sets.channels import sequence
from cardiac_jax.data.sets.entries import account
from cardiac_jax.errors import InputError
from tests import images
from tests.data.sets.test_acdc import patient as acdc_patient


def channels(root: Path, *names: str) -> Path:
    for k, name in enumerate(names):
        images.save(root / "imagesTs" / f"{name}.nii.gz", images.image(seed=k))
    return root / "imagesTs"


def describe(root: Path, **content) -> None:
    (root / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def sequences(root: Path, order=()) -> dict[str, list[str]]:
    return {r.id: list(r.images) for r in folder.survey(root, order)[0]}


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("LGE", "LGE"), ("DE-MRI", "LGE"), ("late gadolinium enhancement", "LGE"), ("LGE_PSIR", "LGE"),
        ("C0", "bSSFP"), ("cine SSFP", "cine"), ("T2w", "T2"), ("MRI", None), ("model", None), ("T1", None),
    ],
)  # fmt: skip
def test_names_of_channels(name, known):
    assert sequence(name) == known


@pytest.mark.parametrize("key", ["channel_names", "modality"])
def test_channels_are_named_by_the_description_here_or_above(tmp_path, key):
    root = channels(tmp_path, "a_0000", "a_0001", "b_0000", "b_0001", "c_0001")
    describe(tmp_path, **{key: {"0": "bSSFP", "1": "LGE MRI"}})
    expected = {"a": ["bSSFP", "LGE"], "b": ["bSSFP", "LGE"], "c": ["LGE"]}
    assert sequences(root) == expected
    shutil.move(tmp_path / "dataset.json", root)
    assert sequences(root) == expected
    (alone,) = folder.find(root / "a_0001.nii.gz")
    assert (alone.id, list(alone.images)) == ("a", ["LGE"])
    describe(root, **{key: {"0": "LGE"}})
    records, problems = folder.survey(root)
    assert not records and len(problems) == 3
    assert "a_0001.nii.gz: is channel 1 of a, but only 1 channels have names" in str(problems[0])


def test_without_names_one_channel_is_enough_and_several_are_refused(tmp_path):
    root = channels(tmp_path, "a_0000", "b_0000")
    assert sequences(root) == {"a": ["image"], "b": ["image"]}
    channels(tmp_path, "a_0000", "b_0000", "b_0001")
    records, problems = folder.survey(root)
    assert [r.id for r in records] == ["a"] and len(problems) == 1
    assert "is one of several channels of b: name them in a dataset.json" in str(problems[0])
    assert sequences(root, ("T2", "LGE")) == {"a": ["T2"], "b": ["T2", "LGE"]}
    assert [r.id for r in discover(folder.of_channels(("T2", "LGE")), root).records] == ["a", "b"]


def test_numbers_that_are_no_channels(tmp_path):
    """Cases numbered from 1, and the Decathlon's files without a channel."""
    root = channels(tmp_path, "heart_0001", "heart_0002")
    assert sequences(root) == {"heart_0001": ["image"], "heart_0002": ["image"]}
    describe(tmp_path, modality={"0": "LGE"})
    assert sequences(root) == {"heart_0001": ["LGE"], "heart_0002": ["LGE"]}
    describe(tmp_path, modality={"0": "MRI"})
    assert sequences(root) == {"heart_0001": ["image"], "heart_0002": ["image"]}


def test_only_the_sequences_that_are_asked_for_are_read(tmp_path):
    """The layout of MS-CMRSeg, each sequence on its own grid, as a plain folder."""
    images.save(tmp_path / "p_LGE.nii.gz", images.image())
    images.save(tmp_path / "p_C0.nii.gz", images.image((6, 5, 3)))
    (tmp_path / "p_T2.nii.gz").write_bytes(b"damaged")
    (record,) = folder.find(tmp_path)
    assert list(load(record, folder.DATASET, ("LGE",)).images) == ["LGE"]
    with pytest.raises(InputError, match=r"p_T2\.nii\.gz"):
        load(record, folder.DATASET, ("T2",))


# --- every entry is accounted for


def spoil(root: Path, image: Path) -> dict[str, str]:
    """Puts into a folder of images what may lie there; entry -> words that must be said about it."""
    (root / "notes.txt").write_text("x", encoding="utf-8")
    (root / "._image.nii.gz").write_bytes(b"resource fork")
    (root / "old").mkdir()
    shutil.copy(image, root / "old" / "copy.nii.gz")
    (root / "slice.dcm").write_bytes(bytes(128) + b"DICM")
    (root / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    shutil.copy(image, root / "other_probabilities.nii.gz")
    shutil.copy(image, root / "other_seg.nii.gz")
    return {
        "notes.txt": "other files (notes.txt)",
        "._image.nii.gz": "hidden files (._image.nii.gz)",
        "old": "folders (old)",
        "DICOMDIR": "DICOM files (DICOMDIR, slice.dcm)",
        "other_probabilities.nii.gz": "probabilities that predict wrote (other_probabilities.nii.gz)",
        "other_seg.nii.gz": "label maps (other_seg.nii.gz)",
    }


@pytest.mark.parametrize("name", ["mscmr", "acdc", "lasc", "myops"])
def test_one_rule_for_all_data_sets(tmp_path, name):
    data = dataset(name)
    if name == "acdc":
        image = acdc_patient(tmp_path, 1) / "patient001_frame01.nii.gz"
    else:
        stem = {"mscmr": "patient1_LGE", "lasc": "scan/lgemri", "myops": "myops_training_101_DE"}[name]
        image = images.save(tmp_path / f"{stem}.nii", images.image())
        if name == "lasc":
            image = image.rename(image.with_suffix(".nrrd"))
    clean = discover(data, tmp_path)
    assert clean.records and not clean.notes and not clean.problems
    said = spoil(image.parent, image)
    found = discover(data, tmp_path)
    assert [r.id for r in found.records] == [r.id for r in clean.records] and not found.problems
    (line,) = found.notes
    prefix = "" if image.parent == tmp_path else f"{image.parent.name}/"
    for words in said.values():
        first, _, rest = words.partition("(")
        assert f"{first}({prefix}{rest.replace(', ', f', {prefix}')}" in line
    twin = image.with_name(image.name.replace(".nii.gz", ".nii") if image.name.endswith(".gz") else f"{image.name}.gz")
    if name == "lasc":
        twin = image.with_suffix(".mha")
    shutil.copy(image, twin)
    (image.parent / "gone.nii.gz").symlink_to("nowhere.nii.gz")
    problems = " / ".join(map(str, discover(data, tmp_path).problems))
    assert "are files of one name: keep one" in problems and "gone.nii.gz: is a broken link to nowhere" in problems
    with pytest.raises(InputError):
        records_of(data, tmp_path)
    assert len(check(data, tmp_path).problems) == 2


def test_a_plain_folder_is_accounted_for_too(tmp_path):
    image = images.save(tmp_path / "a.nii.gz", images.image())
    said = spoil(tmp_path, image)
    del said["DICOMDIR"]
    for name in ("slice.dcm", "DICOMDIR"):
        (tmp_path / name).unlink()  # beside them, the folder would be a series
    found = discover(dataset("folder"), tmp_path)
    assert [r.id for r in found.records] == ["a"] and all(words in found.notes[0] for words in said.values())
    shutil.copy(image, tmp_path / "b.nii.gz")
    shutil.copy(image, tmp_path / "b.nii")
    found = discover(dataset("folder"), tmp_path)
    assert [r.id for r in found.records] == ["a"] and len(found.problems) == 1


def test_a_name_that_is_not_utf_8_is_one_line(tmp_path):
    image = images.save(tmp_path / "a.nii.gz", images.image())
    shutil.copy(image, os.fsdecode(os.fsencode(tmp_path) + b"/patient_\xe9.nii.gz"))
    found = discover(dataset("folder"), tmp_path)
    assert [r.id for r in found.records] == ["a"]
    (problem,) = found.problems
    assert str(problem).encode() and "patient_\\xe9.nii.gz: has a name that is not UTF-8" in str(problem)
    faults, notes = account(tmp_path, [image])
    assert len(faults) == 1 and not notes


def test_a_patient_in_two_splits_is_left_out_and_named(tmp_path):
    for side, number in (("training", 1), ("training", 2), ("testing", 1)):
        acdc_patient(tmp_path / side, number)
    found = discover(dataset("acdc"), tmp_path)
    assert {r.patient for r in found.records} == {"patient002"}
    assert any("patient patient001 is in test and in train" in str(problem) for problem in found.problems)


def test_a_series_and_a_file_have_nothing_beside_them(tmp_path):
    image = images.save(tmp_path / "a.nii.gz", images.image())
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    found = discover(dataset("folder"), image)
    assert [r.id for r in found.records] == ["a"] and not found.notes
    assert np.array_equal(load(found.records[0], folder.DATASET).images["image"].shape, (4, 10, 12))
