"""A run that was stopped, wherever and however, and goes on ends in the same bits as one that was not."""

import os
import signal
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from rich.console import Console

from cardiac_jax.core.types import System
from cardiac_jax.data.pipeline import Examples
from cardiac_jax.train import checkpoint, log, loop
from cardiac_jax.train.checkpoint import Checkpoints
from tests import tiny, toys
from tests.toy_systems import AXIS, system

PRIOR, SEGMENTATION = 3, 5
QUIET = Console(quiet=True)


def small() -> System:
    """The toy of every transform, with dropout, a jitter as augmentation, and a schedule; two stages."""
    whole = system(axis_name=AXIS, dropout=0.25)
    lengths = (PRIOR, SEGMENTATION)
    return whole._replace(stages=tuple(s._replace(steps=n) for s, n in zip(whole.stages, lengths, strict=True)))


def go(workdir: Path, system: System | None = None) -> int:
    """Trains in `workdir`, or goes on there, with batches that do not divide among the devices."""
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
    score = iter((0.3, 0.5, 0.4, 0.2))
    return loop.train(system or small(), config, examples, lambda _: {"dice": next(score)}, workdir, {}, QUIET)


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
def whole(tmp_path_factory) -> Path:
    """The run that nothing stopped."""
    workdir = tmp_path_factory.mktemp("whole")
    assert go(workdir) == 0
    return workdir


def test_a_run_is_reproducible(whole, tmp_path):
    assert go(tmp_path) == 0
    assert sums(tmp_path) == sums(whole)


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
import os, signal, sys, threading, time
from pathlib import Path
from tests.train.test_resume import checkpoint, go
where, workdir = sys.argv[1], Path(sys.argv[2])
folder, saves = checkpoint.folder(workdir), 0
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def poll():
    while not list(folder.glob("5.*tmp*/state/**/*")):
        time.sleep(0)
    die()
rename = os.rename
def renamed(source, target, *args, **kwargs):
    last = str(target) == str(folder / "5")
    if last and where == "before the commit":
        die()
    rename(source, target, *args, **kwargs)
    if last and where == "after the commit":
        die()
os.rename = os.replace = renamed
if where == "amid the files":
    threading.Thread(target=poll, daemon=True).start()
go(workdir)
"""


@pytest.mark.parametrize("where", ["amid the files", "before the commit", "after the commit"])
def test_killed_in_mid_save_it_goes_on_to_the_same_bits(where, whole, tmp_path):
    killed = tiny.run(["-c", KILL, where, tmp_path], dict(os.environ))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = {path.name for path in checkpoint.folder(tmp_path).iterdir()}
    assert ("5" in left) == (where == "after the commit"), left
    assert any("tmp" in name for name in left) == (where != "after the commit"), left
    assert Checkpoints(tmp_path).latest() == (5 if where == "after the commit" else 3)
    assert go(tmp_path) == 0
    assert sums(tmp_path) == sums(whole)
    assert not [path for path in checkpoint.folder(tmp_path).iterdir() if "tmp" in path.name]
