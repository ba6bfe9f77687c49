"""A run that was stopped, wherever and however, and goes on ends in the same bits as one that was not."""

import functools
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from rich.console import Console

from cardiac_jax.core.step import init_state
from cardiac_jax.core.types import System, TrainState, Variables
from cardiac_jax.data.pipeline import Examples
from cardiac_jax.nets.registry import NETS
from cardiac_jax.systems import build_system
from cardiac_jax.train import checkpoint, devices, log, loop
from cardiac_jax.train.checkpoint import Checkpoints
from cardiac_jax.transforms import shape_model
from experiments import acnn
from tests import small_nets, tiny, toys
from tests.toy_systems import AXIS, differ, plain, same, system

PRIOR, SEGMENTATION = 3, 5
SCORES = (0.6, 0.4, 0.3, 0.5, 0.4)
"""Of every validation of a run, in order: two in the prior, the first the better, three in the segmentation."""
QUIET = Console(quiet=True)


@functools.cache
def small() -> System:
    """The toy of every transform, with dropout, a jitter as augmentation, and a schedule; two validated stages."""
    whole = system(axis_name=AXIS, dropout=0.25)
    stages = zip(whole.stages, (PRIOR, SEGMENTATION), strict=True)
    return whole._replace(stages=tuple(s._replace(steps=n, validate="probabilities") for s, n in stages))


@functools.cache
def alone() -> System:
    """A segmenter alone, with dropout; one validated stage of as many steps."""
    whole, stage = plain(axis_name=AXIS, dropout=0.25)
    return whole._replace(stages=(stage._replace(steps=PRIOR + SEGMENTATION, validate="probabilities"),))


def go(workdir: Path, seen: list[Any] | None = None, of: Callable[[], System] = small) -> int:
    """Trains in `workdir`, or goes on there, with batches that do not divide among the devices.

    `seen` receives the variables that every validation is given.
    """
    batch = toys.batch(14)
    examples = Examples({name: batch[name] for name in ("image", "label", "position", "fully_annotated")})
    train = {
        "batch_size": 11,
        "accumulate": 1,
        "ema": 0.9,
        "eval_every": 2,
        "log_every": 1,
        "keep_best": 1,
        "patience": 0,
    }
    config = ConfigDict({"seed": 5, "train": {**train, "tensorboard": False}})

    def validate(variables: Variables, output: str) -> dict[str, float]:
        assert output == "probabilities"
        if seen is not None:
            seen.append(devices.fetch(variables))
        return {"dice": SCORES[sum(line["split"] == "val" for line in log.read_log(workdir / "log.jsonl"))]}

    return loop.train(of(), config, examples, validate, workdir, {}, QUIET)


@pytest.fixture(scope="module", autouse=True)
def compiled_once() -> Iterator[None]:
    """Every `go` of this process takes the same compiled steps; the commands that are killed compile their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "compile_train", functools.cache(devices.compile_train))
        yield


def final(workdir: Path) -> TrainState:
    """The state at the end of a run."""
    like = jax.eval_shape(lambda: init_state(small(), 5, ema=True))
    return devices.fetch(Checkpoints(workdir).restore(PRIOR + SEGMENTATION, like))


def sums(workdir: Path) -> dict[str, str]:
    """sha256 of every leaf at the end of a run."""
    held = Checkpoints(workdir)
    assert held.latest() == PRIOR + SEGMENTATION
    return held.about(PRIOR + SEGMENTATION)["sha256"]


def losses(workdir: Path) -> dict[int, float]:
    lines = [line for line in log.read_log(workdir / "log.jsonl") if line["split"] == "train"]
    assert len({line["step"] for line in lines}) == len(lines)
    return {line["step"]: line.get("loss", line.get("segment/loss")) for line in lines}


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> tuple[Path, list[Any]]:
    """The run that nothing stopped, and the variables of its validations."""
    workdir, seen = tmp_path_factory.mktemp("whole"), []
    assert go(workdir, seen) == 0
    return workdir, seen


@pytest.fixture(scope="module")
def whole(watched) -> Path:
    """The run that nothing stopped."""
    return watched[0]


def test_a_run_is_reproducible(whole, tmp_path):
    assert go(tmp_path) == 0
    assert sums(tmp_path) == sums(whole)


def test_an_earlier_stage_ends_with_the_weights_of_its_best_validation(watched):
    """Its average of the parameters too; nothing but that stage's network is put back."""
    workdir, seen = watched
    state, name = final(workdir), "autoencoder"
    assert len(seen) == len(SCORES)
    differ(seen[1][name], seen[0][name])
    same(state.variables[name], seen[0][name])
    same(state.ema[name]["params"], seen[0][name]["params"])
    same(seen[2][name], seen[0][name])  # what the last stage is given
    differ(state.variables["segmenter"], seen[0]["segmenter"])


def test_the_best_weights_lie_in_the_checkpoint(watched):
    workdir, seen = watched
    best = final(workdir).best
    assert set(best) == {"prior"}, "of the last stage the best checkpoint is kept"
    assert best["prior"]["score"] == np.float32(0.6)
    assert set(best["prior"]["nets"]) == {"autoencoder"}
    same(best["prior"]["nets"]["autoencoder"], seen[0]["autoencoder"])
    assert Checkpoints(workdir).pick("best") == PRIOR + 4


def test_a_finished_run_does_nothing_again(whole):
    before = {path: path.stat().st_mtime_ns for path in checkpoint.folder(whole).rglob("*")}
    assert go(whole) == 0
    assert {path: path.stat().st_mtime_ns for path in checkpoint.folder(whole).rglob("*")} == before


def test_stopped_after_every_single_step_it_ends_in_the_same_bits(whole, tmp_path, monkeypatch):
    """In the prior, between the stages, and in the segmentation; the log is that of the uninterrupted run."""
    write = log.Log.write

    def stopping(self, step, **values):
        write(self, step, **values)
        if values["split"] == "train":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(log.Log, "write", stopping)
    for step in range(1, PRIOR + SEGMENTATION):
        assert go(tmp_path) == signal.SIGTERM
        assert Checkpoints(tmp_path).latest() == step
    assert go(tmp_path) == 0  # a signal in the last step changes nothing: all is done
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert sums(tmp_path) == sums(whole)
    assert losses(tmp_path) == losses(whole)
    assert sorted(losses(whole)) == list(range(1, PRIOR + SEGMENTATION + 1))


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_a_signal_near_the_end_of_a_stage_does_not_hang(taken, tmp_path, monkeypatch):
    """The thread has then made its last batches, which nobody will ask for."""
    write = log.Log.write

    def stopping(self, step, **values):
        write(self, step, **values)
        if step == taken:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(log.Log, "write", stopping)
    assert go(tmp_path) == signal.SIGTERM
    assert Checkpoints(tmp_path).latest() == taken


def test_a_second_interrupt_leaves_at_once():
    before = signal.getsignal(signal.SIGINT)  # ignored in a shell's background job
    with pytest.raises(KeyboardInterrupt), loop.StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.number == signal.SIGINT
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


# --- kill -9

KILL = """
import json, os, signal, sys, threading, time
from pathlib import Path
from tests.train.test_resume import alone, checkpoint, go

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def run(where, workdir):
    folder = checkpoint.folder(workdir)
    def poll():
        while not list(folder.glob("4.*tmp*/state/**/*")):
            time.sleep(0)
        die()
    rename = os.rename
    def renamed(source, target, *args, **kwargs):
        last = str(target) == str(folder / "4")
        if last and where == "before the commit":
            die()
        rename(source, target, *args, **kwargs)
        if last and where == "after the commit":
            die()
    os.rename = os.replace = renamed
    if where == "amid the files":
        threading.Thread(target=poll, daemon=True).start()
    go(workdir, of=alone)

ended = []
for where, workdir in zip(sys.argv[1::2], map(Path, sys.argv[2::2])):
    child = os.fork()  # before any device is used; what is imported is imported once
    if child == 0:
        run(where, workdir)
        os._exit(0)
    ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(ended))
"""
PLACES = ("amid the files", "before the commit", "after the commit")


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory) -> Path:
    """The same run to its end."""
    workdir = tmp_path_factory.mktemp("never_killed")
    assert go(workdir, of=alone) == 0
    return workdir


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> dict[str, Path]:
    """A run killed at each place of its second save."""
    found = {where: tmp_path_factory.mktemp("killed") for where in PLACES}
    done = tiny.run(["-c", KILL, *(word for pair in found.items() for word in pair)], dict(os.environ))
    assert done.returncode == 0 and json.loads(done.stdout) == [-signal.SIGKILL] * len(PLACES), done.stderr
    return found


@pytest.mark.parametrize("where", PLACES)
def test_killed_in_mid_save_it_goes_on_to_the_same_bits(where, never_killed, killed):
    workdir = killed[where]
    left = {path.name for path in checkpoint.folder(workdir).iterdir()}
    assert ("4" in left) == (where == "after the commit"), left
    assert any("tmp" in name for name in left) == (where != "after the commit"), left
    assert Checkpoints(workdir).latest() == (4 if where == "after the commit" else 2)
    assert go(workdir, of=alone) == 0
    assert sums(workdir) == sums(never_killed)
    assert not [path for path in checkpoint.folder(workdir).iterdir() if "tmp" in path.name]


# --- ACNN: four stages, of which the third trains two networks and pools a loss over the batch


@functools.cache
def restoring() -> System:
    """Super-resolution with the prior on codes, of the smallest networks; two steps in each of its four stages."""
    config = acnn.get_config("task=sr,method=acnn,preset=smoke")
    keys: dict[str, object] = {"prior.code": 2, "augmentation": False}
    keys |= {f"{group}.steps": 2 for group in ("prior", "predictor", "joint", "train")}
    with config.unlocked():
        config.model.filters = 1
        config.update_from_flattened_dict(keys)
    grid = {"spacing_mm": (4.0, 2.0, 2.0), "size": (2, 4, 4), "target_scale": (2, 1, 1), "frequency": (3, 2, 1)}
    spec = tiny.spec(classes=("background", "Myo", "LV"), labels=(0, 1, 2), **grid)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETS, config.model.net, small_nets.small)
        patch.setattr(shape_model, "ShapeAutoencoder", small_nets.Coder)
        patch.setattr(shape_model, "Predictor", small_nets.Guess)
        whole = build_system(config, spec)
    return whole._replace(stages=tuple(stage._replace(validate="") for stage in whole.stages))


def go_restoring(workdir: Path) -> int:
    """Trains `restoring`, or goes on, with a batch that does not divide among the devices."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, (6, 4, 4, 4)).astype(np.uint8)
    fine = (label + rng.normal(0, 0.3, label.shape)).astype(np.float32)[..., None]
    flags = {name: np.ones(6, np.float32) for name in ("fully_annotated", "real_case")}
    examples = Examples({"image": fine[:, ::2], "label": label, "fine": fine, **flags})
    settings = {"batch_size": 5, "accumulate": 1, "ema": 0.0, "eval_every": 10, "log_every": 1, "keep_best": 1}
    config = ConfigDict({"seed": 5, "train": {**settings, "patience": 0, "tensorboard": False}})
    return loop.train(restoring(), config, examples, lambda variables, output: {}, workdir, {}, QUIET)


def test_acnn_stopped_inside_every_stage_ends_in_the_same_bits(tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert [stage.name for stage in restoring().stages] == ["prior", "predictor", "joint", "super_resolution"]
    assert go_restoring(whole) == 0
    write = log.Log.write

    def stopping(self, step, **values):
        write(self, step, **values)
        if step % 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(log.Log, "write", stopping)
    for step in (1, 3, 5, 7):
        assert go_restoring(stopped) == signal.SIGTERM
        assert Checkpoints(stopped).latest() == step
    assert go_restoring(stopped) == 0
    assert Checkpoints(stopped).about(8)["sha256"] == Checkpoints(whole).about(8)["sha256"]
