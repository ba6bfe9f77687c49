"""Checkpoints: what is kept, what is refused, and that what comes back is what was put in."""

import json
import logging
import math
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiac_jax.errors import InputError
from cardiac_jax.train import checkpoint, devices
from cardiac_jax.train.checkpoint import FORMAT, OLDEST, Checkpoints, checksums
from tests import tiny

ABOUT = {"system": "srscn", "config": {"size": [16, 16], "lr": 1e-3}}


def tree(value: float = 0.0) -> dict:
    """A state of several types and shapes; incompressible, so that a flipped byte of a file is one of the state."""
    rng = np.random.default_rng(0)
    return {
        "step": np.int32(value),
        "params": {"kernel": rng.normal(size=(64, 33)).astype(np.float32) + np.float32(value), "empty": {}},
        "seed": np.array([3, 7], np.uint32),
        "many": [rng.normal(size=5).astype(np.float32), np.ones((), np.bool_)],
    }


def write(workdir: Path, scores: dict[int, float], keep_best: int = 1) -> Path:
    """Saves `tree(step)` for every step and closes."""
    held = Checkpoints(workdir, keep_best=keep_best, writing=True)
    for step, score in scores.items():
        held.save(step, tree(step), ABOUT, score)
    held.close()
    return workdir


def same(found, expected) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert checksums(devices.fetch(found)) == checksums(expected)


def largest(folder: Path) -> Path:
    """The file that holds the arrays."""
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Three saves, the second the best."""
    return write(tmp_path_factory.mktemp("run"), {10: 0.2, 20: 0.7, 30: 0.5})


@pytest.fixture
def copy(run, tmp_path) -> Path:
    """That run, to be damaged."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def refused(workdir: Path, which: str = "latest") -> InputError:
    """The error of restoring, one line that names the place."""
    with pytest.raises(InputError) as caught:
        held = Checkpoints(workdir)
        held.restore(held.pick(which), tree())
    assert "\n" not in str(caught.value)
    assert str(workdir) in str(caught.value)
    return caught.value


# --- what is kept


def test_the_latest_and_the_best_are_kept(run):
    held = Checkpoints(run)
    assert held.steps() == {20: 0.7, 30: 0.5}
    assert (held.latest(), held.pick("latest"), held.pick("best"), held.pick("20")) == (30, 30, 20, 20)
    assert sorted(p.name for p in checkpoint.folder(run).iterdir()) == ["20", "30"]


@pytest.mark.parametrize(
    ("scores", "keep_best", "kept", "best"),
    [
        ({1: 0.1, 2: 0.5, 3: 0.4, 4: 0.3}, 2, {2, 3, 4}, 2),
        ({1: math.nan, 2: 0.5, 3: math.nan}, 1, {2, 3}, 2),  # not a number is worse than any number
        ({1: math.nan, 2: math.nan}, 1, None, 2),
        ({1: -0.5, 2: math.inf, 3: -0.7}, 1, {1, 3}, 1),  # a score that is not finite is no score
    ],
)
def test_retention_by_score(tmp_path, scores, keep_best, kept, best):
    held = Checkpoints(write(tmp_path, scores, keep_best))
    assert max(held.steps()) == max(scores)
    assert held.pick("best") == best
    if kept is not None:
        assert set(held.steps()) == kept


def test_state_and_description_come_back(run):
    held = Checkpoints(run)
    for step in (20, 30):
        same(held.restore(step, tree()), tree(step))
        about = held.about(step)
        assert {key: about[key] for key in ABOUT} == ABOUT
        assert about["step"] == step
    readable = [p for p in (checkpoint.folder(run) / "30" / "about").iterdir() if p.suffix == ".json"]
    assert any(json.loads(p.read_text(encoding="utf-8")).get("system") == "srscn" for p in readable), (
        "the description is plain JSON"
    )


def test_the_state_may_go_on_while_it_is_written(tmp_path):
    """The next step takes over the memory of the state just saved."""
    step = jax.jit(lambda x: x * 1.5 + 1, donate_argnums=0)
    state = devices.replicate({"x": jnp.arange(1 << 18, dtype=jnp.float32)})
    expected = {"x": np.array(state["x"])}
    held = Checkpoints(tmp_path, writing=True)
    held.save(1, state, ABOUT)
    for _ in range(20):
        state = step(state["x"])
        state = {"x": state}
    jax.block_until_ready(state)
    held.close()
    same(Checkpoints(tmp_path).restore(1, expected), expected)


def test_a_step_saved_again_is_replaced(tmp_path):
    write(tmp_path, {1: 0.1, 2: 0.2})
    held = Checkpoints(tmp_path, writing=True)
    held.save(2, tree(99), ABOUT, 0.3)
    held.close()
    same(Checkpoints(tmp_path).restore(2, tree()), tree(99))


# --- what is refused


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    assert "--workdir" in refused(tmp_path).problem
    checkpoint.folder(tmp_path).mkdir()
    assert "no complete checkpoint" in refused(tmp_path).problem


@pytest.mark.parametrize("which", ["7", "worst", "", "-20"])
def test_a_checkpoint_that_is_not_there_is_refused(run, which):
    assert "20, 30" in refused(run, which).problem


def test_what_unfinished_reads_say_is_hidden_and_nothing_else(monkeypatch, caplog):
    heard: list[SimpleNamespace] = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    checkpoint._silence_unfinished_reads.__wrapped__()
    closed, other = (SimpleNamespace(exc_value=RuntimeError(text)) for text in ("Event loop is closed", "other"))
    sys.unraisablehook(closed), sys.unraisablehook(other)
    assert heard == [other]
    for text in ("Task exception was never retrieved\nfuture: tensorstore_spec", "other"):
        logging.getLogger("asyncio").error(text)
    assert [record.getMessage() for record in caplog.records] == ["other"]


def test_a_flipped_byte_is_found(copy):
    path = largest(checkpoint.folder(copy) / "30" / "state")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert Path(refused(copy).where).name == "30"
    same(Checkpoints(copy).restore(20, tree()), tree(20))  # the other one is as good as before


def test_a_truncated_file_is_refused(copy):
    path = largest(checkpoint.folder(copy) / "30" / "state")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert Path(refused(copy).where).name == "30"


@pytest.mark.parametrize("part", ["state", "about"])
def test_a_missing_part_is_refused(copy, part):
    shutil.rmtree(checkpoint.folder(copy) / "30" / part)
    assert Path(refused(copy).where).name == "30"


def test_another_checksum_is_refused(tmp_path, monkeypatch):
    """What a byte flipped after decompression, or in memory, looks like."""
    monkeypatch.setattr(checkpoint, "checksums", lambda state: {name: "0" * 64 for name in checksums(state)})
    write(tmp_path, {1: 0.0})
    monkeypatch.undo()
    assert "checksum" in refused(tmp_path).problem


@pytest.mark.parametrize("other", [OLDEST - 1, FORMAT + 1])
def test_another_format_is_refused(tmp_path, monkeypatch, other):
    monkeypatch.setattr(checkpoint, "FORMAT", other)
    write(tmp_path, {1: 0.0})
    monkeypatch.undo()
    assert refused(tmp_path).problem == f"written by checkpoint format {other}, this code reads {OLDEST} to {FORMAT}"


def test_the_stored_tree_needs_no_state_to_compare_with(run, copy):
    found = Checkpoints(run).tree(30)
    assert checksums(found) == checksums(tree(30))
    assert all(isinstance(leaf, np.ndarray | np.generic) for leaf in jax.tree.leaves(found)), "on the host"
    path = largest(checkpoint.folder(copy) / "30" / "state")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        Checkpoints(copy).tree(30)
    assert Path(caught.value.where).name == "30" and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "other",
    [
        {**tree(), "more": np.zeros(3, np.float32)},
        {name: leaf for name, leaf in tree().items() if name != "seed"},
        {**tree(), "seed": np.zeros(3, np.uint32)},  # as many leaves, of another shape
        {**tree(), "seed": np.zeros(2, np.float32)},  # or of another type
    ],
    ids=["lacks", "has", "shape", "type"],
)
def test_the_checkpoint_of_another_system_is_refused(run, other):
    held = Checkpoints(run)
    with pytest.raises(InputError, match="another system") as caught:
        held.restore(30, other)
    assert "\n" not in str(caught.value)


# --- what a crash leaves behind


def test_strays_are_passed_over_and_cleared_by_the_next_run(copy):
    """An empty folder named like a later step, what a save cut short leaves, and files of other programs."""
    folder = checkpoint.folder(copy)
    (folder / "40").mkdir()
    partial = folder / "50.orbax-checkpoint-tmp"
    shutil.copytree(folder / "30" / "state", partial / "state")
    (folder / ".DS_Store").write_text("x", encoding="utf-8")
    held = Checkpoints(copy, writing=True)
    assert held.latest() == 30
    held.save(40, tree(40), ABOUT, 0.1)
    held.close()
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["20", "40"]
    same(Checkpoints(copy).restore(40, tree()), tree(40))


def test_strays_do_not_hide_the_checkpoints_from_readers(copy):
    """Prediction changes nothing in the folder, which may be read-only."""
    folder = checkpoint.folder(copy)
    (folder / "40").mkdir()
    (folder / "50.orbax-checkpoint-tmp").mkdir()
    held = Checkpoints(copy)
    assert (held.pick("latest"), held.pick("best")) == (30, 20)
    same(held.restore(30, tree()), tree(30))
    assert (folder / "40").exists()


def test_a_deletion_cut_short_leaves_the_others_usable(copy):
    """Old checkpoints are deleted file by file: without its first files a step is no checkpoint any more."""
    folder = checkpoint.folder(copy)
    (folder / "20" / "_CHECKPOINT_METADATA").unlink()
    shutil.rmtree(folder / "20" / "state")
    held = Checkpoints(copy, writing=True)
    same(held.restore(held.pick("latest"), tree()), tree(30))
    held.save(40, tree(40), ABOUT, 0.9)
    held.close()
    assert Checkpoints(copy).pick("best") == 40


# --- other devices


def test_it_restores_on_another_number_of_devices(run):
    """This process has eight; another with one device finds the same, and the other way round."""
    script = (
        "import sys; from tests.train.test_checkpoint import *; import jax; from pathlib import Path\n"
        "assert jax.device_count() == 1\n"
        "run, new = map(Path, sys.argv[1:])\n"
        "same(Checkpoints(run).restore(30, tree()), tree(30))\n"
        "write(new, {1: 0.0})\n"
    )
    new = run / "elsewhere"
    done = tiny.run(["-c", script, run, new], tiny.environment(1, run / "cache"))
    assert done.returncode == 0, done.stderr
    found = Checkpoints(new).restore(1, tree())
    same(found, tree(1))
    assert len(found["seed"].sharding.device_set) == jax.device_count() == 8
