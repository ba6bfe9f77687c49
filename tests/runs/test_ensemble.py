"""Several runs predict together: the mean of their probabilities, then the first one's decoder; nothing else changes.

The runs are made by hand, with random weights of different seeds.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import nibabel as nib
import numpy as np
import pytest

from cardiac_jax import systems
from cardiac_jax.core.step import init_state
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.runs.restore import restore_all
from cardiac_jax.train.checkpoint import Checkpoints
from tests import tiny

CLASSES, RAW = ("background", "RV", "Myo", "LV"), (0, 600, 200, 500)


class Room(NamedTuple):
    """Two runs, another of other classes, and what commands wrote to `out`."""

    runs: list[Path]
    other: Path
    out: Path
    before: dict[str, int]


def save(workdir: Path, seed: int, classes: tuple[str, ...] = CLASSES, largest: tuple[str, ...] = ()) -> Path:
    """A run of the plain U-Net with random weights."""
    config = tiny.config("unet", post__largest=largest)
    spec = DataSpec(
        "phantom", classes, RAW[: len(classes)], ("LGE",), "affine", (0, 8.0, 8.0), tiny.SIZE, (9,) * len(classes)
    )
    rng, system = np.random.default_rng(seed), systems.build_system(config, spec)

    def drawn(path, leaf) -> np.ndarray:
        sharp = rng.normal(0, 1, leaf.shape) if "kernel" in jax.tree_util.keystr(path) else np.ones(leaf.shape)
        return sharp.astype(leaf.dtype)

    state = jax.tree_util.tree_map_with_path(drawn, jax.eval_shape(lambda: init_state(system, seed)))
    splits = {"train": ["patient1", "patient2"], "val": ["patient3"], "test": ["patient4"]}
    about = {"config": config.to_dict(), "data": dataclasses.asdict(spec), "fits": {}, "splits": splits, "code": {}}
    checkpoints = Checkpoints(workdir, writing=True)
    checkpoints.save(10, state, about, 0.5)
    checkpoints.close()
    return workdir


def files(runs: list[Path]) -> dict[str, int]:
    """Every file of the runs, and when it was written."""
    return {str(p): p.stat().st_mtime_ns for run in runs for p in sorted(run.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def room(tmp_path_factory, patients, env) -> Room:
    root = tmp_path_factory.mktemp("ensemble")
    runs = [save(root / f"run{seed}", seed) for seed in range(2)]
    other = save(root / "other", 0, CLASSES[:3])
    before, out = files([*runs, other]), root / "out"
    (root / "images").mkdir()
    shutil.copy(patients / "test" / "patient4_LGE.nii.gz", root / "images")

    def predict(members: list[Path], name: str) -> list[str | Path]:
        flags = (f"--input={root / 'images'}", f"--output={out / name}", "--probabilities")
        return tiny.command("predict", "--workdir=" + ",".join(map(str, members)), *flags)

    together = ",".join(map(str, runs))
    commands = [
        *(predict([run], run.name) for run in runs),
        predict(runs, "all"),
        predict([runs[0], other], "mixed"),
        tiny.command(
            "evaluate",
            f"--workdir={together}",
            "--split=test",
            f"--data.root={patients}",
            f"--out={out / 'evaluation'}",
        ),
    ]
    *fine, mixed, evaluated = tiny.run_all(commands, env)
    for done in (*fine, evaluated):
        assert done.returncode == 0, done.stderr
    assert mixed.returncode == 2
    assert mixed.stderr.splitlines()[-1] == f"error: {other}: segments other classes than {runs[0]}"
    assert not (out / "mixed").exists()
    return Room(runs, other, out, before)


def read(path: Path) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj)


def test_an_ensemble_predicts_the_mean_of_the_probabilities(room):
    name = "patient4_probabilities.nii.gz"
    single = np.stack([read(room.out / run.name / name) for run in room.runs])
    found = read(room.out / "all" / name)
    np.testing.assert_allclose(found, single.mean(0), atol=1e-6)
    for one, other in zip(single, np.roll(single, 1, 0), strict=True):
        assert np.abs(one - other).mean() > 1e-3, "members that agree would hide which of them were used"
    labels = read(room.out / "all" / "patient4.nii.gz")
    np.testing.assert_array_equal(labels, np.array(RAW)[found.argmax(-1)])
    assert any((read(room.out / run.name / "patient4.nii.gz") != labels).any() for run in room.runs)


def test_an_ensemble_is_evaluated_as_it_predicts_and_its_members_are_named(room):
    written = read(room.out / "evaluation" / "predictions" / "patient4.nii.gz")
    np.testing.assert_array_equal(written, read(room.out / "all" / "patient4.nii.gz"))
    about = json.loads((room.out / "evaluation" / "cases.json").read_text(encoding="utf-8"))["about"]
    assert about["members"] == [str(run.resolve()) for run in room.runs]
    assert about["workdir"] == about["members"][0]


def test_prediction_and_evaluation_write_nothing_into_a_run(room):
    assert files([*room.runs, room.other]) == room.before


def test_members_must_have_the_same_classes(room):
    assert [member.workdir for member in restore_all(room.runs[:2])] == room.runs[:2]
    with pytest.raises(InputError, match=r"other: segments other classes than .*run1"):
        restore_all([room.runs[1], room.other])
