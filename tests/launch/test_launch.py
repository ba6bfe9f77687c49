"""The commands as a user runs them, on four small patients: train, go on, evaluate, predict, study; and mistakes."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest

from cardiac_jax.data.io.write import lock
from cardiac_jax.data.splits import FILE
from cardiac_jax.ops.cpu.switch import PLAIN
from cardiac_jax.report import sections
from cardiac_jax.report.collect import collect
from cardiac_jax.report.options import Options
from cardiac_jax.train import checkpoint, log
from cardiac_jax.train.checkpoint import Checkpoints
from tests import tiny

UNET_STEPS = tiny.KEYS["train.steps"]
STEPS = tiny.KEYS["prior.steps"] + UNET_STEPS
STUDY = "--config=experiments/srscn.py:preset=smoke"


class Room(NamedTuple):
    """Where the commands of this file work; `run` is of SRSCN, `unet` of a U-Net, which most of them use."""

    root: Path
    data: Path
    run: Path
    unet: Path
    env: dict[str, str]


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Room:
    """The phantom, and SRSCN and a U-Net trained on it without interruption."""
    root = tmp_path_factory.mktemp("launch")
    env = tiny.environment(2, tiny.kept_cache(__name__))
    made = Room(root, tiny.phantom_at(root), root / "run", root / "unet", env)
    commands = tiny.train(made.data, made.run), tiny.train(made.data, made.unet, method="unet")
    for done in tiny.run_all(commands, env):
        assert done.returncode == 0, done.stderr
    return made


def tree(folder: Path) -> dict[str, int]:
    """Every file of a folder and when it was written."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()}


def written(folder: Path) -> dict[str, int]:
    """What costs time to make: checkpoints, and what evaluation measured."""
    return {name: at for name, at in tree(folder).items() if "checkpoints" in name or "evaluation" in name}


# --- training


def test_a_run_leaves_what_it_promises(room):
    names = {path.name for path in room.run.iterdir()}
    assert names == {".lock", "checkpoints", "config.json", "log.jsonl", "data.json", FILE}
    config = json.loads((room.run / "config.json").read_text(encoding="utf-8"))
    assert (config["method"], config["train"]["steps"]) == ("srscn", tiny.KEYS["train.steps"])
    split = json.loads((room.run / FILE).read_text(encoding="utf-8"))
    assert split == {"train": ["patient1", "patient2"], "val": ["patient3"], "test": ["patient4"]}
    about = Checkpoints(room.run).about(STEPS)
    assert about["splits"] == split
    assert about["config"] == config
    assert {"cardiac-jax", "sources", "jax"} <= about["code"].keys()


def test_the_log_has_every_step_raw_and_weighted_terms_and_speed(room):
    lines = log.read_log(room.run / "log.jsonl")
    train = [line for line in lines if line["split"] == "train"]
    assert [line["step"] for line in train] == list(range(1, STEPS + 1))
    assert {line["stage"] for line in train} == {"prior", "segmentation"}
    last = train[-1]
    for key in ("loss", "segmentation", "shape", "shape_weighted", "position", "position_weighted", "grad_norm"):
        assert np.isfinite(last[key]), key
    np.testing.assert_allclose(
        last["loss"], last["segmentation"] + last["shape_weighted"] + last["position_weighted"], rtol=1e-5
    )
    assert last["steps_per_s"] > 0 and 0 <= last["waiting_share"] < 1 and last["peak_memory_mb"] > 10
    val = [line["step"] for line in lines if line["split"] == "val"]
    assert val == [tiny.KEYS["prior.steps"] + n for n in (4, 8)]


class Study(NamedTuple):
    """A study whose U-Net was stopped, then killed; what went on with it said. SRSCN had been trained before."""

    root: Path
    words: list[str]
    said: str


@pytest.fixture(scope="module")
def study(room) -> Study:
    """The study gets SIGTERM in the U-Net, its training kill -9 when it goes on; then the study goes on to the end."""
    root = room.root / "study"
    shutil.copytree(room.run, root / "srscn")
    unet = root / "unet"
    # As `study` writes it: an experiment without a method of its own, and every override.
    words = [STUDY, f"--config.data.root={room.data}", *tiny.overrides(), f"--workdir={root}"]
    command = tiny.command("study", *words, "--only=unet,srscn")
    with tiny.start(command, room.env) as process:
        tiny.signal_at(process, unet / "log.jsonl", 3, signal.SIGTERM)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert f"--workdir={unet}" in said.splitlines()[-1]
    assert 3 <= (Checkpoints(unet).latest() or 0) < UNET_STEPS
    with tiny.start(tiny.train(room.data, unet, method="unet"), room.env) as process:
        tiny.signal_at(process, unet / "log.jsonl", 5, signal.SIGKILL)
        _, said = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, said
    done = tiny.run(command, room.env)
    assert done.returncode == 0, done.stderr
    return Study(root, words, done.stderr)


def test_stopped_and_killed_and_gone_on_with_it_ends_in_the_same_bits(room, study):
    """SIGTERM, then kill -9 at any moment: two commands and a third."""
    paths = room.unet, study.root / "unet"
    sums = [Checkpoints(path).about(UNET_STEPS)["sha256"] for path in paths]
    assert sums[0] == sums[1]
    losses = [
        [(line["step"], line["loss"]) for line in log.read_log(path / "log.jsonl") if line["split"] == "train"]
        for path in paths
    ]
    assert losses[0] == losses[1]


# --- evaluation and prediction


@pytest.fixture(scope="module")
def inputs(room) -> Path:
    """Images to predict: one in the geometry of the phantom, one oblique, with unequal voxels and codes of its own."""
    folder = room.root / "inputs"
    folder.mkdir()
    source = room.data / "test" / "patient4_LGE.nii.gz"
    shutil.copy(source, folder / "plain_LGE.nii.gz")
    image = nib.load(source)
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-3.5, 4.5, 9.0])
    affine[:3, 3] = (31, -17, 5)
    voxels = np.asarray(image.dataobj)[:40, 3:, ::-1]
    other = nib.Nifti1Image(voxels, affine)
    other.set_qform(affine, code=1)
    other.set_sform(affine, code=2)
    nib.save(other, folder / "oblique.nii")
    return folder


@pytest.fixture(scope="module")
def predicted(room, inputs) -> Path:
    """Of all of them, of one file with probabilities, of one averaged over copies; and the test split evaluated."""
    out, moved = room.root / "out", room.root / "moved"
    shutil.copytree(room.data, moved)

    def predict(*words: str) -> list[str | Path]:
        return tiny.command("predict", f"--workdir={room.unet}", *words)

    commands = [
        predict(f"--input={inputs}", f"--output={out / 'all'}"),
        predict(f"--input={inputs / 'oblique.nii'}", f"--output={out / 'one'}", "--probabilities"),
        predict(f"--input={inputs / 'oblique.nii'}", f"--output={out / 'tta'}", "--probabilities", "--tta=2"),
        tiny.command(
            "evaluate", f"--workdir={room.unet}", "--split=test", f"--data.root={moved}", f"--out={out / 'test'}"
        ),
    ]
    # With the operations in the forms of a CPU, as users run them.
    for done in tiny.run_all(commands, {**room.env, PLAIN: "0"}):
        assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize(("name", "source"), [("plain", "plain_LGE.nii.gz"), ("oblique", "oblique.nii")])
def test_a_prediction_lies_on_the_grid_of_its_image(predicted, inputs, name, source):
    image, label = nib.load(inputs / source), nib.load(predicted / "all" / f"{name}.nii.gz")
    assert label.shape == image.shape
    np.testing.assert_allclose(label.affine, image.affine, atol=1e-5)
    np.testing.assert_allclose(label.header.get_zooms(), image.header.get_zooms(), rtol=1e-6)
    for code in ("qform_code", "sform_code", "xyzt_units"):
        assert label.header[code] == image.header[code], code
    assert set(np.unique(np.asarray(label.dataobj))) <= {0, 200, 500, 600}
    names = ["dataset.json", "oblique.nii.gz", "plain.nii.gz"]
    assert sorted(p.name for p in (predicted / "all").iterdir()) == names


def test_one_file_is_predicted_as_in_the_folder_and_its_probabilities_explain_the_labels(predicted, inputs):
    one, among = (np.asarray(nib.load(predicted / at / "oblique.nii.gz").dataobj) for at in ("one", "all"))
    np.testing.assert_array_equal(one, among)
    held = nib.load(predicted / "one" / "oblique_probabilities.nii.gz")
    probabilities = np.asarray(held.dataobj)
    assert probabilities.shape == (*one.shape, 4)
    np.testing.assert_allclose(held.affine, nib.load(inputs / "oblique.nii").affine, atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-4)
    np.testing.assert_array_equal(np.array([0, 600, 200, 500])[probabilities.argmax(-1)], one)


def test_copies_change_the_probabilities(predicted):
    plain, averaged = (
        np.asarray(nib.load(predicted / at / "oblique_probabilities.nii.gz").dataobj) for at in ("one", "tta")
    )
    assert plain.shape == averaged.shape
    np.testing.assert_allclose(averaged.sum(-1), 1, atol=1e-4)
    assert 0 < np.abs(plain - averaged).mean() < 0.5


def test_evaluation_measures_the_runs_own_split_wherever_the_data_lies(predicted):
    folder = predicted / "test"
    names = {path.name for path in folder.iterdir()}
    kinds = ("cases", "slices", "clinical", "segments", "volumes", "validity")
    tables = {f"{kind}.{suffix}" for kind in kinds for suffix in ("csv", "json")}
    assert names == {*tables, "table.md", "overlay.png", "predictions"}
    held = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    rows = held["rows"]
    assert {row["case"] for row in rows} == {"patient4"}
    assert len((folder / "cases.csv").read_text(encoding="utf-8").splitlines()) == 1 + len(rows)
    assert [path.name for path in (folder / "predictions").iterdir()] == ["patient4.nii.gz"]


def test_label_maps_of_another_program_are_measured_like_our_own(predicted, room, tmp_path):
    """What a checkpoint wrote, given back as plain files: the same rows, be the truth a data set or a folder."""
    ours = json.loads((predicted / "test" / "cases.json").read_text(encoding="utf-8"))
    truth = tmp_path / "truth"
    truth.mkdir()
    shutil.copy(room.data / "test" / "patient4_LGE_manual.nii.gz", truth / "patient4.nii.gz")
    given = f"--pred={predicted / 'test' / 'predictions'}"
    as_set = [given, f"--truth={room.data}", "--data.name=phantom", "--method=other", f"--out={tmp_path / 'set'}"]
    as_folder = [given, f"--truth={truth}", f"--out={tmp_path / 'folder'}"]
    for done in tiny.run_all([tiny.command("evaluate", *words) for words in (as_set, as_folder)], room.env):
        assert done.returncode == 0, done.stderr
    held = json.loads((tmp_path / "set" / "cases.json").read_text(encoding="utf-8"))
    assert held["rows"] == ours["rows"]
    assert held["about"]["name"] == "other" and held["about"]["missing"] == ["patient1", "patient2", "patient3"]
    plain = json.loads((tmp_path / "folder" / "cases.json").read_text(encoding="utf-8"))
    assert [row["structure"] for row in plain["rows"]] == ["label 200", "label 500", "label 600"]
    assert sorted(row["dice"] for row in plain["rows"]) == sorted(row["dice"] for row in ours["rows"])
    compared = sections.overview(collect([tmp_path / "set", predicted / "test"], "test"), Options("unet", {}, ()))
    assert [row[0].text for row in compared.tables[0].rows] == ["other", "unet"]


# --- study


def test_a_study_goes_on_where_it_was_stopped_compares_and_does_nothing_twice(room, study):
    assert study.said.count("going on from step") == 1 and study.said.count("trained already") == 1
    text = (study.root / "report" / "report.html").read_text(encoding="utf-8")
    assert "unet" in text and "srscn" in text
    assert "published" not in text, "simulated patients stand beside no paper"
    for name in ("report/numbers.json", "report/cases.csv", "srscn/evaluation_val/cases.csv"):
        assert (study.root / name).stat().st_size > 100, name
    held = written(study.root)
    again = tiny.run(tiny.command("study", *study.words, "--only=unet"), room.env)
    assert again.returncode == 0, again.stderr
    assert written(study.root) == held
    assert "evaluating" not in again.stderr and again.stderr.count("trained already") == 1


# --- what a user can do wrong


def wrong(room: Room) -> dict[str, tuple[list[str | Path], str]]:
    """Command and what its one line must name."""
    new, run, config = room.root / "new", room.unet, "--config=experiments/srscn.py:method=unet,preset=smoke"
    data = f"--config.data.root={room.data}"
    train = lambda *words: tiny.command("train", *words)  # noqa: E731
    own = [*tiny.train(room.data, run, method="unet")]
    damaged, coded = room.root / "damaged", room.root / "coded"
    if not damaged.exists():
        shutil.copytree(run, damaged)
        for path in checkpoint.folder(damaged).rglob("*"):
            if path.is_file() and path.stat().st_size > 5000:
                content = bytearray(path.read_bytes())
                content[len(content) // 2] ^= 1
                path.write_bytes(content)
        shutil.copytree(room.data, coded)
        for path in coded.rglob("*_manual.nii.gz"):
            label = nib.load(path)
            raw = np.asarray(label.dataobj)
            nib.save(nib.Nifti1Image((raw // 100).astype(np.int16), label.affine), path)
    evaluate = lambda *words: tiny.command("evaluate", f"--out={new}", *words)  # noqa: E731
    predict = lambda *words: tiny.command("predict", f"--workdir={run}", *words)  # noqa: E731
    image = room.data / "test" / "patient4_LGE.nii.gz"
    return {
        "no workdir": (train(config, data), "--workdir"),
        "no config": (train(f"--workdir={new}"), "--config"),
        "no such experiment": (train("--config=experiments/none.py", f"--workdir={new}"), "experiments/none.py"),
        "unknown key": (train(config, data, f"--workdir={new}", "--config.train.stepz=3"), "stepz"),
        "wrong type": (train(config, data, f"--workdir={new}", "--config.train.steps=many"), "train.steps=many"),
        "unknown method": (train("--config=experiments/srscn.py:method=resnet", f"--workdir={new}"), "resnet"),
        "unknown argument": (train("--config=experiments/srscn.py:model=unet", f"--workdir={new}"), "model"),
        "unknown flag": (train(config, f"--workdir={new}", "--wrkdir=x"), "wrkdir"),
        "stray word": (train(config, f"--workdir={new}", "go"), "go"),
        "no data root": (train(config, "--config.data.root=", f"--workdir={new}"), "data.root"),
        "no data": (
            train(config, "--config.data.name=mscmr", f"--config.data.root={new / 'data'}", f"--workdir={new}"),
            str(new / "data"),
        ),
        "unknown data": (train(config, data, "--config.data.name=brain", f"--workdir={new}"), "data.name"),
        "wrong classes": (train(config, f"--config.data.root={coded}", f"--workdir={new}"), str(coded)),
        "wrong size": (train(config, data, "--config.data.size=(30,31)", f"--workdir={new}"), "input of size (30, 31)"),
        "size is one number": (train(config, data, "--config.data.size=96", f"--workdir={new}"), "data.size"),
        "no batch": (train(config, data, "--config.train.batch_size=0", f"--workdir={new}"), "train.batch_size"),
        "uneven parts": (train(config, data, "--config.train.accumulate=3", f"--workdir={new}"), "train.accumulate"),
        "one process too many": (
            train(config, data, f"--workdir={new}", "--coordinator=localhost:1", "--processes=2", "--process=2"),
            "--process",
        ),
        "workdir is a file": (train(config, data, f"--workdir={room.data / 'cases.csv'}"), "cases.csv"),
        "workdir in use": (tiny.train(room.data, room.root / "used"), f"in use by another run (process {os.getpid()})"),
        "configuration changed": ([*own, "--config.optim.lr=0.5"], "optim.lr"),
        "seed changed": ([*own, "--config.seed=1"], "seed"),
        "nothing to evaluate": (evaluate(f"--workdir={new}"), str(new)),
        "no such checkpoint": (evaluate(f"--workdir={run}", "--checkpoint=3"), f"latest and steps {UNET_STEPS}"),
        "damaged checkpoint": (evaluate(f"--workdir={damaged}"), str(damaged / "checkpoints" / str(UNET_STEPS))),
        "unknown split": (evaluate(f"--workdir={run}", "--split=valid"), "--split"),
        "no labels": (
            evaluate(f"--workdir={run}", "--data.name=folder", f"--data.root={room.data / 'test'}", "--split=all"),
            "patient4",
        ),
        "evaluation of wrong classes": (evaluate(f"--workdir={run}", f"--data.root={coded}"), str(coded)),
        "evaluation of other patients": (
            evaluate(f"--workdir={run}", f"--data.root={_only_test(room)}"),
            "val",
        ),
        "prediction without truth": (
            evaluate(f"--pred={room.data / 'test'}", f"--truth={_only_test(room) / 'test'}", "--data.name=phantom"),
            "patient4_LGE",
        ),
        "two things to measure": (evaluate(f"--pred={run}", f"--workdir={run}"), "--pred"),
        "report of nothing": (tiny.command("report", f"--runs={room.data}", f"--out={new}"), str(room.data)),
        "report of no folder": (tiny.command("report", f"--runs={new / 'none'}", f"--out={new}"), "none"),
        "no output": (predict(f"--input={image}"), "--output"),
        "no input": (predict(f"--input={new / 'none.nii.gz'}", f"--output={new}"), "none.nii.gz"),
        "no image": (predict(f"--input={room.data / 'cases.csv'}", f"--output={new}"), "cases.csv"),
        "over the image": (predict(f"--input={_plain(room)}", f"--output={_plain(room)}"), "overwritten"),
        "codes without a place": (tiny.command("codes", f"--workdir={run}"), "--output"),
        "codes of no data": (tiny.command("codes", f"--output={new}"), "--data.name"),
        "codes of a run without prior": (
            tiny.command("codes", f"--workdir={run}", f"--output={new}"),
            "a run of unet, which has no autoencoder of label maps",
        ),
        "study of one method": (tiny.command("study", config, f"--workdir={new}"), "method"),
        "study of an unknown method": (tiny.command("study", STUDY, f"--workdir={new}", "--only=resnet"), "resnet"),
    }


def _only_test(room: Room) -> Path:
    """The data set without the patients of training and validation."""
    folder = room.root / "only_test"
    if not folder.exists():
        shutil.copytree(room.data / "test", folder / "test")
        shutil.copy(room.data / "cases.csv", folder)
    return folder


def _plain(room: Room) -> Path:
    """A folder whose image has the very name that its prediction would get."""
    folder = room.root / "plain"
    folder.mkdir(exist_ok=True)
    if not (folder / "scan.nii.gz").exists():
        shutil.copy(room.data / "test" / "patient4_LGE.nii.gz", folder / "scan.nii.gz")
    return folder


def test_every_mistake_is_one_line_with_status_2_and_leaves_nothing(room):
    cases = wrong(room)
    before = {folder: tree(folder) for folder in (room.unet, room.data, room.root / "plain")}
    with lock(room.root / "used"):
        found = tiny.run_all([command for command, _ in cases.values()], room.env)
    bad = {}
    for (name, (_, named)), done in zip(cases.items(), found, strict=True):
        lines = done.stderr.splitlines()
        # Above the error there may be notes of progress, never a trace of the program.
        told = bool(lines) and lines[-1].startswith("error: ") and named in lines[-1]
        if done.returncode != 2 or not told or "Traceback" in done.stderr or done.stdout:
            bad[name] = (done.returncode, done.stderr[-600:])
    assert not bad, "\n".join(f"{name}: {code}\n{text}" for name, (code, text) in bad.items())
    left = [path for path in (room.root / "new").rglob("*") if path.is_file() and path.name != ".lock"]
    assert not left
    for folder, held in before.items():
        now = tree(folder)
        assert {name for name in now.keys() | held.keys() if now.get(name) != held.get(name)} <= {".lock"}, folder
