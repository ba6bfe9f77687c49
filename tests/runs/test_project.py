"""The command that makes a folder of label maps valid, with the prior of a checkpoint; and what a user can do wrong.

The checkpoint is made by hand: networks of zeros, and a bank of rings. Every code is 0 and decodes to nothing, so each
projection ends at the nearest code of the bank.
"""

import dataclasses
import functools
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from cardiac_jax import systems
from cardiac_jax.anatomy import anatomical_prior
from cardiac_jax.anatomy.validity import failures
from cardiac_jax.core.step import init_state
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.runs import project
from cardiac_jax.runs.restore import restore
from cardiac_jax.train.checkpoint import Checkpoints
from experiments.acsnet import get_config
from tests import images, rings, tiny

CLASSES, RAW = ("background", "Myo", "LV"), (0, 200, 500)
PIXEL_MM, SHAPE = 1.6, (40, 44)
GRID_MM = (0.0, rings.SPACING_MM, rings.SPACING_MM)
GRID = images.affine(spacing_mm=(PIXEL_MM, PIXEL_MM, 9.0))
NO_DICE = "anatomically invalid slices: before 2, after {}, of 3"
EMPTIED = "; 1 refused and emptied"


class Room(NamedTuple):
    """`run` has learnt a prior, `plain` has none."""

    root: Path
    run: Path
    plain: Path
    env: dict[str, str]


def save(workdir: Path, config, described: DataSpec, fits: dict[str, Any], **bank: np.ndarray) -> Path:
    """A checkpoint of zeros, but for what is given of the bank; `fits` are the figures beside it."""
    system = systems.build_system(config, described)
    like = jax.eval_shape(lambda: init_state(system, 0, ema=config.train.ema > 0))
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    for name, value in bank.items():
        held = state.variables["autoencoder"]["bank"]
        assert held[name].shape == np.shape(value)
        held[name] = np.asarray(value, held[name].dtype)
    checkpoints = Checkpoints(workdir, writing=True)
    about = {"config": config.to_dict(), "data": dataclasses.asdict(described), "fits": fits}
    checkpoints.save(10, state, about, 0.5)
    checkpoints.close()
    return workdir


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Room:
    root = tmp_path_factory.mktemp("project")
    config = get_config("data=phantom,preset=smoke")
    codes = np.array([[3.0, 1.0], [0.1, 0.5], [-1.0, 1.0], [2.0, 2.0]])
    with config.unlocked():
        config.data.update({"size": (4, 32, 32), "spacing_mm": GRID_MM})
        config.model.update({"box": (4, 32, 32), "filters": 1})
        config.localiser.filters = 1
        config.prior.update({"size": rings.SIZE, "code": 2, "features": (1, 1, 1), "bank": len(codes)})
    described = DataSpec(
        "mscmr",
        CLASSES,
        RAW,
        ("LGE",),
        "affine",
        GRID_MM,
        (4, 32, 32),
        (9, 9, 9),
        append_clahe=True,
    )
    bank = {name: rings.bank(codes)[name] for name in ("codes", "masks")}
    run = save(root / "run", config, described, rings.fits(), **bank)
    held = tiny.config("unet")
    other = DataSpec("phantom", ("background", "Myo"), (0, 200), ("LGE",), "affine", (0.0, 8.0, 8.0), tiny.SIZE, (9, 9))
    return Room(root, run, save(root / "plain", held, other, {}), tiny.environment(1, tiny.kept_cache(__name__)))


def stack() -> np.ndarray:
    """Classes `[X, Y, Z]`: a pool without myocardium, a ring, and a ring that is cut in two."""
    ring = rings.ring(SHAPE, (20, 22), 7, 11)
    classes = np.array([0, 0, 1, 2], np.uint8)[ring]
    halves = classes.copy()
    halves[19:21] = 0
    return np.stack([np.where(classes == 1, 0, classes), classes, halves], -1)


def write(folder: Path, name: str, labels: np.ndarray, values: tuple[int, ...]) -> Path:
    return images.save(folder / f"{name}.nii.gz", np.array(values, np.int16)[labels], GRID)


@pytest.fixture(scope="module")
def folders(room: Room) -> dict[str, Path]:
    """Label maps in several codings, gold standards of the same names, and a data set."""
    truth = stack()
    truth[..., 2] = truth[..., 1]
    own, coded, myo, cohort = (room.root / name for name in ("own", "coded", "myo", "cohort"))
    for name in ("patient1", "patient2"):
        write(own, name, stack(), RAW)
    write(coded, "a", stack(), (0, 7, 9))
    write(myo, "a", np.where(stack() == 1, 1, 0), (0, 7))
    write(room.root / "truth", "a", truth, (0, 7, 9))
    for name in ("patient1", "patient2"):
        images.save(cohort / "train" / f"{name}_LGE.nii.gz", images.image((*SHAPE, 3)), GRID)
        write(cohort / "train", f"{name}_LGE_manual", truth, RAW)
    ignored = stack().astype(np.int16)
    ignored[0, 0, 0] = 255
    images.save(room.root / "ignored" / "a.nii.gz", ignored, GRID)
    return {"own": own, "coded": coded, "myo": myo, "cohort": cohort, "truth": room.root / "truth"}


@pytest.fixture(scope="module")
def done(room: Room, folders: dict[str, Path]):
    """Commands by name, each as it ended."""
    own, coded, new = folders["own"], folders["coded"], room.root / "new"

    def command(source: Path, *words: str, run: Path = room.run, to: Path = new):
        return tiny.command("project", f"--workdir={run}", f"--input={source}", f"--output={to}", *words)

    commands = {
        "judged": command(
            own, "--project=none", f"--truth={folders['cohort']}", "--data.name=mscmr", to=room.root / "out" / "judged"
        ),
        "no folder": command(room.root / "nowhere"),
        "no run": command(own, run=room.root / "nowhere"),
        "no prior": command(own, run=room.plain),
        "no number": command(coded, "--labels=Myo=x"),
        "onto itself": command(own, to=own),
        "no output": tiny.command("project", f"--workdir={room.run}", f"--input={own}"),
    }
    before = {path: path.read_bytes() for path in own.iterdir()}
    found = dict(zip(commands, tiny.run_all(list(commands.values()), room.env), strict=True))
    assert {path: path.read_bytes() for path in own.iterdir()} == before
    return found


@pytest.fixture(scope="module")
def restored():
    """`restore`, which brings a run to life once."""
    return functools.cache(restore)


@pytest.fixture(scope="module")
def called(room: Room, folders: dict[str, Path], restored):
    """`project_folder` in this process, with the run and its prior brought to life once; all it prints, by lines."""
    made: list[anatomical_prior.Prior | None] = []

    def prior_of(*given: Any) -> anatomical_prior.Prior | None:
        if not made:
            made.append(anatomical_prior.prior_of(*given))
        return made[0]

    def call(source: Path, to: str, **options) -> list[str]:
        console = Console(file=io.StringIO(), width=1000)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(project, "restore", lambda run, which: restored(run))
            patch.setattr(project, "prior_of", prior_of)
            project.project_folder(room.run, source, room.root / "out" / to, console=console, **options)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue().strip().splitlines()

    return call


def read(path: Path) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj)


def test_the_command_judges_and_measures(room: Room, done):
    assert done["judged"].returncode == 0, done["judged"].stderr
    for name in ("patient1.nii.gz", "patient2.nii.gz"):
        np.testing.assert_array_equal(read(room.root / "out" / "judged" / name), np.array(RAW)[stack()])
    line = done["judged"].stderr.strip().splitlines()[-1]
    assert line.startswith("anatomically invalid slices: before 4, after 4, of 6; Dice Myo +0.0000 (0.982)"), line


def test_every_slice_is_valid_and_only_invalid_ones_are_changed(room: Room, folders, called):
    lines = called(folders["own"], "own", truth=folders["cohort"], name="mscmr")
    before = np.array(RAW)[stack()]
    for name in ("patient1.nii.gz", "patient2.nii.gz"):
        out = read(room.root / "out" / "own" / name)
        np.testing.assert_array_equal(out[..., 1], before[..., 1])
        assert not out[..., 0].any(), "refused"
        assert set(np.unique(out[..., 2])) == set(RAW)
        assert failures((before[..., 2] == 200)[None], PIXEL_MM).any()
        ends = (out[..., 2] == 200)[None], PIXEL_MM
        assert not failures(*ends, pools=(out[..., 2] == 500)[None]).any()
        np.testing.assert_allclose(nib.Nifti1Image.from_filename(room.root / "out" / "own" / name).affine, GRID)
    assert "patient1.nii.gz: 3 slices, invalid before 2, after 0" in lines
    assert "patient1.nii.gz: refused and emptied: slices 0 along axis 2 of the file, counted from 0" in lines
    assert any(line.startswith("limits in use: objects 1, ") and "least wall 125 mm2" in line for line in lines)
    counts = "anatomically invalid slices: before 4, after 0, of 6; 2 refused and emptied"
    assert lines[-1].startswith(f"{counts}; Dice Myo ")


def test_the_last_line_has_the_dice_before_and_after(room: Room, folders, called):
    line = called(folders["coded"], "coded", labels={"myo": 7, "LV": 9}, truth=folders["truth"])[-1]
    assert line.startswith(f"{NO_DICE.format(0)}{EMPTIED}; Dice Myo ")
    after, truth, drawn = read(room.root / "out/coded/a.nii.gz"), read(folders["truth"] / "a.nii.gz"), stack()
    for name, k, value in (("Myo", 1, 7), ("LV", 2, 9)):
        gold = truth == value
        was, now = (2 * (mask & gold).sum() / (mask.sum() + gold.sum()) for mask in (drawn == k, after == value))
        said = re.search(rf"{name} ([+-][\d.]+) \(([\d.]+)\)", line)
        assert said is not None
        assert float(said[1]) == pytest.approx(now - was, abs=1e-4)
        assert float(said[2]) == pytest.approx(now, abs=1e-3)


def test_files_of_the_wall_alone_stay_so(room: Room, folders, called):
    assert called(folders["myo"], "myo", labels={"Myo": 7})[-1] == (
        "anatomically invalid slices: before 1, after 0, of 2"
    )
    called(folders["coded"], "coded", labels={"Myo": 7, "LV": 9})
    myo, whole = (read(room.root / "out" / name / "a.nii.gz") for name in ("myo", "coded"))
    np.testing.assert_array_equal(myo, np.where(whole == 7, 7, 0))


def test_modes(room: Room, folders, called):
    lines = {}
    for mode in ("invalid", "none", "all"):
        lines[mode] = called(folders["coded"], mode, labels={"Myo": 7, "LV": 9}, mode=mode)[-1]
    ended = NO_DICE.format(0) + EMPTIED
    assert lines == {"invalid": ended, "none": NO_DICE.format(2), "all": ended}
    kept, judged, restored = (read(room.root / "out" / name / "a.nii.gz") for name in lines)
    np.testing.assert_array_equal(judged, np.array([0, 7, 9])[stack()])
    assert (restored[..., 1] != kept[..., 1]).any()
    np.testing.assert_array_equal(restored[..., 2], kept[..., 2])


@pytest.mark.parametrize(
    "source, options, named",
    [
        ("coded", {"labels": {"LV": 9}}, "--labels: names no value of Myo"),
        ("coded", {"labels": {"Myo": 7, "LV": 7}}, "--labels: gives two structures one value"),
        ("coded", {"labels": {"Myo": 7, "LV": 0}}, "--labels: gives two structures one value"),
        ("coded", {}, "a.nii.gz: has unknown label values 7"),
        ("own", {"mode": "some"}, "--project: 'some' is not one of invalid, all, none"),
        ("own", {"truth": "truth"}, "patient1.nii.gz: has no gold standard of the same name"),
        ("ignored", {"labels": {"Myo": 1, "LV": 2}}, "a.nii.gz: has unknown label values 255"),
    ],
)
def test_what_cannot_be_used_is_named(room: Room, folders, called, source: str, options, named: str):
    if "truth" in options:
        options = {**options, "truth": folders["truth"]}
    with pytest.raises(InputError) as error:
        called(room.root / source, "new", **options)
    assert named in str(error.value)
    assert not (room.root / "out" / "new").exists()


@pytest.mark.parametrize(
    "name, named",
    [
        ("no folder", "nowhere: no such folder"),
        ("no run", "nowhere: no checkpoints here"),
        ("no prior", "plain: a run of srscn, which learns no anatomical prior"),
        ("no number", "--labels: 'Myo=x' is not written name=value"),
        ("onto itself", "--output: is the folder of the label maps"),
        ("no output", "--output: is required"),
    ],
)
def test_a_mistake_is_one_line_with_status_2_and_writes_nothing(room: Room, done, name: str, named: str):
    process = done[name]
    assert process.returncode == 2 and not process.stdout
    lines = process.stderr.splitlines()
    assert lines[-1].startswith("error: ") and named in lines[-1]
    assert "Traceback" not in process.stderr
    assert not list((room.root / "new").rglob("*.nii.gz"))


def test_structures_that_the_prior_does_not_know_stay_where_the_wall_is_not(room: Room, folders, called):
    """The same maps with an RV beside, and where the new wall will be: coded 600, unknown to the prior."""
    drawn = np.array([0, 7, 9])[stack()]
    called(folders["coded"], "coded", labels={"Myo": 7, "LV": 9})
    after = read(room.root / "out" / "coded" / "a.nii.gz")
    free = (drawn == 0) & (after == 0)
    rv = np.zeros_like(free)
    rv[:4] = free[:4]
    taken = (drawn == 0) & (after != 0)
    with_rv = np.where(rv | taken, 600, drawn)
    images.save(room.root / "extra" / "a.nii.gz", with_rv.astype(np.int16), GRID)
    called(room.root / "extra", "extra", labels={"RV": 600, "LV": 9, "myo": 7})
    found = read(room.root / "out" / "extra" / "a.nii.gz")
    assert rv.any()
    np.testing.assert_array_equal(found, np.where(rv, 600, after.astype(np.int16)))


def test_what_only_a_prior_can_do_is_refused_without_one(room: Room, restored):
    with pytest.raises(InputError, match=r"^--trim: .*plain is a run of srscn, which learns no anatomical prior"):
        restore(room.plain, post={"trim": True})
    assert restore(room.plain, post={}).decoders["probabilities"].summary().about() == {}
    with pytest.raises(InputError, match=r"^post\.project: 'some' is not one of"):
        restore(room.run, post={"project": "some"})
    own = restore(room.run, post={"trim": True, "project": "all"})
    assert own.decoders["probabilities"].summary().about()["which"] == "all, trimmed at the base"
    assert restored(room.run).decoders["probabilities"].summary().about()["which"] == "invalid"
