"""Whole trainings: what is refused leaves nothing behind; data without whole slices; tiles; more steps."""

import functools
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from cardiac_jax import systems
from cardiac_jax.core.types import Config
from cardiac_jax.data import cohort
from cardiac_jax.data.sets import dataset
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.runs.train import train_run
from cardiac_jax.train import log
from cardiac_jax.train.checkpoint import Checkpoints
from experiments.acsnet import get_config
from tests import tiny
from tests.runs.conftest import unet_command

QUIET = Console(quiet=True)


def acsnet(root: Path, **keys) -> Config:
    """A small ACSNet; `keys` with `__` for the dot."""
    held = get_config("data=phantom,preset=smoke")
    with held.unlocked():
        held.data.update({"root": str(root), "size": (4, 48, 48), "spacing_mm": (0.0, 4.0, 4.0)})
        held.model.update({"filters": 1, "box": (4, 32, 32)})
        held.localiser.filters = 1
        held.prior.update({"size": (32, 32), "features": (2, 2, 2), "steps": 4, "bank": 20, "batch_size": 4})
        held.update_from_flattened_dict({key.replace("__", "."): value for key, value in keys.items()})
    return held.lock()


def left_in(workdir: Path) -> list[Path]:
    return [path for path in workdir.rglob("*") if path.is_file()]


@pytest.fixture(scope="session")
def partly(tmp_path_factory, patients) -> Path:
    """The same patients without one slice annotated in full in the training part."""
    root = tmp_path_factory.mktemp("partly") / "phantom"
    shutil.copytree(patients, root)
    for path in (root / "train").glob("*_manual.nii.gz"):
        label = nib.Nifti1Image.from_filename(path)
        raw = np.asarray(label.dataobj).copy()
        raw[22:28, 22:28] = 255  # the middle, which no crop leaves out
        nib.save(nib.Nifti1Image(raw, label.affine), path)
    return root


# --- refused


REFUSED: dict[str, Callable[[Path, Path], tuple[Config, str]]] = {
    "no type": lambda data, partly: (small(data, model__dtype="float8"), "model.dtype"),
    "no size": lambda data, partly: (
        small(data, data__size=(30, 31)),
        "data.size: 'unet' cannot be run on an input of size (30, 31)",
    ),
    "no batch": lambda data, partly: (small(data, train__batch_size=0), "train.batch_size"),
    "no optimiser": lambda data, partly: (small(data, optim__name="newton"), "optim.name"),
    "no structure": lambda data, partly: (small(data, post__largest=("atrium",)), "post.largest"),
    "no overlap": lambda data, partly: (small(data, data__tile_overlap=1.0), "data.tile_overlap"),
    "no source": lambda data, partly: (small(data, init__segmenter="nowhere"), "nowhere"),
    "no network": lambda data, partly: (small(data, init__autoencoder="nowhere"), "init.autoencoder"),
    "no parts": lambda data, partly: (small(data, train__accumulate=5), "train.accumulate"),
    "no whole slice": lambda data, partly: (small(partly, "srnn"), "is annotated in full"),
    "too many components": lambda data, partly: (acsnet(data, prior__components=12), "prior.components: 12 components"),
}


def small(data: Path, method: str = "unet", **keys) -> Config:
    return tiny.config(method, data__root=str(data), **keys)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_nothing(name: str, patients, partly, tmp_path):
    config, said = REFUSED[name](patients, partly)
    with pytest.raises(InputError) as error:
        train_run(config, tmp_path / "run", QUIET)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not left_in(tmp_path / "run")


@pytest.fixture(scope="module")
def done(tmp_path_factory, patients, partly, unet, env):
    """Commands by name, one after the other, each as it ended; and the folder they worked in."""
    root = tmp_path_factory.mktemp("train")
    shutil.copytree(unet, root / "longer")
    net = "tests.examples.two_layers:two_layers"
    short = f"--config.model.net={net}", "--config.augmentation=False", "--config.train.steps=1"
    plain = unet_command(patients, root / "tiled", *short)
    # Its spacing is left out: a tuple given twice is joined.
    words = ("--config.data.tile_overlap=0.5", "--config.data.spacing_mm=(0.0,0.0,0.0)")
    tiled = [*(word for word in plain if "data.spacing_mm" not in str(word)), *words]
    commands = {
        "refused": [*tiled, "--config.optim.name=newton"],
        "partly": unet_command(partly, root / "partly", *short),
        "longer": unet_command(patients, root / "longer", "--config.train.steps=3"),
        "shorter": unet_command(patients, root / "longer", "--config.train.steps=2"),
        "longer, and another": unet_command(
            patients, root / "longer", "--config.train.steps=4", "--config.optim.lr=0.5"
        ),
        "tiled": tiled,
        "evaluated": tiny.command(
            "evaluate",
            f"--workdir={root / 'tiled'}",
            "--checkpoint=latest",
            f"--data.root={patients}",
            f"--out={root / 'out'}",
            f"--use={net}",
        ),
    }
    return root, dict(zip(commands, tiny.run_all(list(commands.values()), env), strict=True))


def test_a_mistake_can_be_mended_in_the_same_folder(done):
    root, found = done
    assert found["refused"].returncode == 2
    assert found["tiled"].returncode == 0, found["tiled"].stderr
    assert Checkpoints(root / "tiled").latest() == 1


def test_labels_outside_the_crop_are_said_and_validation_sees_the_whole_image(patients):
    chosen = dataset("phantom")
    records = chosen.find(patients)
    for size, cut in (((4, 4), True), ((20, 20), False)):
        for side in ("train", "val"):
            console = Console(file=io.StringIO(), width=300)
            cases = cohort.prepared(records, chosen, tiny.spec(size), console, side)
            assert isinstance(console.file, io.StringIO)
            said = console.file.getvalue()
            assert said.startswith(f"{side}: in 4 of 4 cases, labelled voxels lie outside") == cut == bool(said)
            whole = cut and side == "val"
            assert {case.image.shape[1:3] for case in cases} == {(24, 24) if whole else size}


# --- trained


def test_a_plain_unet_learns_from_slices_that_are_annotated_in_part(done):
    root, found = done
    assert found["partly"].returncode == 0, found["partly"].stderr
    losses = [line["loss"] for line in log.read_log(root / "partly" / "log.jsonl") if line["split"] == "train"]
    assert len(losses) == 1 and np.isfinite(losses).all()


def test_a_finished_run_goes_on_for_more_steps_but_not_for_fewer(done):
    root, found = done
    assert found["longer"].returncode == 0, found["longer"].stderr
    assert "going on from step 2" in found["longer"].stderr
    assert Checkpoints(root / "longer").latest() == 3
    steps = [line["step"] for line in log.read_log(root / "longer" / "log.jsonl") if line["split"] == "train"]
    assert steps == [1, 2, 3]
    assert json.loads((root / "longer" / "config.json").read_text(encoding="utf-8"))["train"]["steps"] == 3
    for name, key in {"shorter": "train.steps=3, not 2", "longer, and another": "optim.lr=0.001, not 0.5"}.items():
        assert found[name].returncode == 2, name
        assert f"this run was started with {key}; use another --workdir" in found[name].stderr, name


def test_validation_in_tiles_scores_as_evaluation_does(done):
    """Spacing is kept, so both see the same voxels, of one patient."""
    root, found = done
    for name in ("tiled", "evaluated"):
        assert found[name].returncode == 0, found[name].stderr
    (line,) = (line for line in log.read_log(root / "tiled" / "log.jsonl") if line["split"] == "val")
    rows = json.loads((root / "out" / "cases.json").read_text(encoding="utf-8"))["rows"]
    measured = {row["structure"]: row["dice"] for row in rows}
    assert measured.keys() == {"RV", "Myo", "LV"}
    for structure, dice in measured.items():
        assert line[f"dice/{structure}"] == pytest.approx(dice, abs=1e-6), structure
    assert any(dice > 0 for dice in measured.values())


# --- ACSNet's prior


def spec() -> DataSpec:
    grid, size = (0.0, 4.0, 4.0), (4, 48, 48)
    classes, raw = ("background", "Myo", "LV"), (0, 200, 500)
    return DataSpec("phantom", classes, raw, ("LGE",), "affine", grid, size, (9, 9, 9), append_clahe=True)


def test_the_type_of_computations_reaches_acsnets_autoencoder_and_a_mixture_may_have_more_components(patients):
    """More than are tried by default; ten are kept where fewer are wanted."""
    mask = jnp.ones((1, 32, 32, 1)) * (jnp.arange(32) < 20)[None, None, :, None]
    codes = {}
    for dtype, components in (("float32", 12), ("bfloat16", 3)):
        system = systems.build_system(acsnet(patients, model__dtype=dtype, prior__components=components), spec())
        (net,) = (net for net in system.nets if net.name == "autoencoder")
        assert net.module.dtype == jnp.dtype(dtype) and net.module.components == max(components, 10)
        init = jax.jit(functools.partial(net.module.init, train=False), compiler_options=tiny.QUICK)
        encode = jax.jit(functools.partial(net.module.apply, train=False, method="encode"), compiler_options=tiny.QUICK)
        codes[dtype] = encode(init(jax.random.key(0), mask), mask)
    assert codes["bfloat16"].dtype == jnp.float32
    apart = np.abs(codes["float32"] - codes["bfloat16"])
    assert 0 < apart.max() < 0.05 * np.abs(codes["float32"]).max()
