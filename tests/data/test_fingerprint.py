"""A run is not resumed on other data without a word."""

import shutil

import pytest

from cardiac_jax.data import fingerprint
from cardiac_jax.data.sets import dataset
from cardiac_jax.errors import InputError
from tests import images


def test_the_file_that_changed_is_named_wherever_the_data_lie(tmp_path):
    for number in (1, 2):
        images.patient(tmp_path / "data", number, seed=number)
    run = tmp_path / "run"
    run.mkdir()

    def held(root):
        files = fingerprint.files_of(dataset("mscmr").find(root), ("LGE",))
        return files, fingerprint.digests(files)

    files, before = held(tmp_path / "data")
    assert len(before) == 4
    fingerprint.refuse_changes(run, files, before)  # of a version that wrote none
    fingerprint.keep(run, before)
    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    fingerprint.refuse_changes(run, *held(tmp_path / "moved"))
    image, label = images.patient(tmp_path / "moved", 2, seed=9)
    with pytest.raises(InputError, match=r"patient2 LGE has other content since the run in .*; use another") as error:
        fingerprint.refuse_changes(run, *held(tmp_path / "moved"))
    assert error.value.where == str(image)
    label.unlink()
    with pytest.raises(InputError, match=r"\(and 1 more files\)"):
        fingerprint.refuse_changes(run, *held(tmp_path / "moved"))
    images.patient(tmp_path / "data", 3)
    with pytest.raises(InputError, match="patient3 LGE is new"):
        fingerprint.refuse_changes(run, *held(tmp_path / "data"))
