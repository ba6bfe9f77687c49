"""One device, eight, and several processes: the same training, compiled once."""

import functools
import json
import signal
import socket
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import numpy as np
import pytest

from cardiac_jax.core.registry import allow
from cardiac_jax.core.step import init_state
from cardiac_jax.data.pipeline import batch_of
from cardiac_jax.errors import InputError
from cardiac_jax.train import devices
from cardiac_jax.train.checkpoint import Checkpoints
from tests import steps, tiny
from tests.forked import Command

STEPS = {"prior": 2, "segmentation": 3}
BATCH = 11  # on eight devices two rows each, five of them padding; two devices see none but padding
SIZE = (32, 32)
# The scale of the prior's narrowest layer has no gradient at first: what follows normalises it away. Adam would make
# whole steps of the rounding errors in its stead, so the prior learns by plain gradient descent here.
NET = "tests.small_nets:dropping"  # BatchNorm and dropout; tests/nets has the shipped networks on several devices
KEYS = {"model__net": NET, "model__dropout": 0.2, "data__size": SIZE, "prior__name": "sgd", "prior__lr": 0.01}
COMPILED = "/jax/core/compile/backend_compile_duration"


def train(path: str) -> None:
    """Three steps of SRSCN after two of its prior, on all devices; writes state, metrics and what they cost."""
    allow([NET])
    system, config = tiny.build("srscn", **KEYS)
    assert config.augmentation and config.model.dropout
    state = steps.initial(system, ema=True)
    state = devices.replicate(state.replace(variables=usual(state.variables)))
    start, held, compilations, metrics = flat(devices.fetch(state.variables)), tiny.examples(size=SIZE), [], []

    def counted(event: str, duration: float, **_: Any) -> None:
        compilations[-1] += event == COMPILED

    jax.monitoring.register_event_duration_secs_listener(counted)
    for stage in system.stages:
        run = devices.compile_train(stage, ema_decay=0.9)
        for step in range(STEPS[stage.name]):
            batch = devices.shard(batch_of(held, stage.stream.flag, 0, step, BATCH, stage.stream.share))
            compilations.append(0)
            state, logs = run(state, batch)
            metrics.append(devices.fetch(logs))
    differing = [
        name
        for name, leaf in flat(state, whole=False).items()
        if any(np.asarray(copy.data).tobytes() != np.asarray(leaf).tobytes() for copy in leaf.addressable_shards)
    ]
    moved = [name for name, leaf in flat(devices.fetch(state.variables)).items() if (leaf != start[name]).any()]
    about = {"devices": jax.device_count(), "compilations": compilations, "differing": differing, "moved": moved}
    np.savez(path, about=json.dumps(about), **flat([devices.fetch(state), metrics]))


def usual(variables: Any) -> Any:
    """Variables whose layers scale by 1 and add 0 at first: a ReLU lets half of everything through."""

    def started(path, leaf):
        name = jax.tree_util.keystr(path[-1:])
        return np.full(leaf.shape, "scale" in name, leaf.dtype) if "scale" in name or "bias" in name else leaf

    return jax.tree_util.tree_map_with_path(started, variables)


def flat(tree: Any, whole: bool = True) -> dict[str, Any]:
    """Leaves by path, as arrays of the host or as they are."""
    named = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) if whole else leaf for path, leaf in named}


def furthest(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference of any number, relative to those above 1, printed with its name."""
    assert set(one) == set(other)
    size = {name: np.maximum(np.abs(leaf.astype(float)), 1) for name, leaf in one.items()}
    apart = {
        name: float((np.abs(one[name].astype(float) - other[name].astype(float)) / size[name]).max()) for name in one
    }
    worst = max(apart, key=apart.__getitem__)
    print(f"largest difference {apart[worst]:.2e} in {worst}")
    return apart[worst]


TRAIN = """
import os, sys
import jax
from tests.train.test_devices import train
for count in (1, 8):
    if os.fork() == 0:  # before any device is used; what is imported is imported once
        jax.config.update("jax_num_cpu_devices", count)
        train(f"{sys.argv[1]}/{count}.npz")
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[int, tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """The same training on one device and on eight: about it, and every number it ended with."""
    root, found = tmp_path_factory.mktemp("devices"), {}
    done = tiny.run(["-c", TRAIN, root], tiny.environment(8, root / "cache"))
    assert done.returncode == 0, done.stderr
    for count in (1, 8):
        with np.load(root / f"{count}.npz") as held:
            about = json.loads(str(held["about"]))
            found[count] = about, {name: held[name] for name in held.files if name != "about"}
        assert about["devices"] == count
    return found


# --- one device and eight


def test_eight_devices_train_as_one(runs):
    assert furthest(runs[1][1], runs[8][1]) <= 1e-5


def test_there_was_something_to_compare(runs):
    """Every parameter and every statistic moved, and two trainings of another seed would not agree."""
    about, numbers = runs[8]
    variables = {name.removeprefix("[0].variables") for name in numbers if name.startswith("[0].variables")}
    assert set(about["moved"]) == variables
    assert {name.split("'")[1] for name in variables} == {"segmenter", "autoencoder", "position"}


@pytest.mark.parametrize("devices", [1, 8])
def test_a_step_compiles_once(runs, devices):
    first = [0, STEPS["prior"]]
    compilations = runs[devices][0]["compilations"]
    assert compilations == [int(step in first) for step in range(sum(STEPS.values()))]


def test_devices_agree_to_the_bit(runs):
    """What is called replicated is so: nothing but sums over all devices ever reaches the state."""
    assert runs[8][0]["differing"] == []


# --- placement


def test_small_steps_run_on_the_processor_of_a_machine_with_an_accelerator(monkeypatch):
    """The last of the eight devices stands for that processor; what is placed already stays where it is."""
    placed = jax.device_put(np.zeros(2), jax.devices()[1])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda backend=None: jax.devices()[-1:] if backend == "cpu" else [])
    with devices.on_host():
        assert jax.jit(lambda x: x + 1)(np.zeros(2)).devices() == set(jax.devices()[-1:])
        assert jax.jit(lambda x: x + 1)(placed).devices() == {jax.devices()[1]}
    assert jax.jit(lambda x: x + 1)(np.zeros(2)).devices() == {jax.devices()[0]}


def test_without_a_processor_backend_they_run_where_all_else_does(monkeypatch):
    def none(backend: str) -> None:
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", none)
    with devices.on_host():
        assert jax.jit(lambda x: x + 1)(np.zeros(2)).devices() == {jax.devices()[0]}


def test_a_batch_that_does_not_divide_is_padded():
    rows = np.arange(11, dtype=np.float32)
    placed = devices.shard({"x": rows, "image": np.tile(rows[:, None], (1, 3))})
    assert placed["x"].shape == (8, 2)
    assert placed["image"].shape == (8, 2, 3)
    flat = {name: np.asarray(value).reshape(16, *value.shape[2:]) for name, value in placed.items()}
    np.testing.assert_array_equal(flat["mask"], [1] * 11 + [0] * 5)
    np.testing.assert_array_equal(flat["index"], np.arange(16))
    np.testing.assert_array_equal(flat["x"], [*range(11), *[10] * 5])


def test_a_mask_that_the_batch_has_is_kept():
    mask = np.array([1, 0, 1, 1, 1, 1, 1, 0, 1], np.float32)
    placed = devices.shard({"x": np.zeros(9, np.float32), "mask": mask})
    np.testing.assert_array_equal(np.asarray(placed["mask"]).ravel(), [*mask, *[0] * 7])


def test_accumulation_must_divide_the_share_of_a_device():
    devices.refuse_uneven(11, 1)
    devices.refuse_uneven(32, 4)
    for batch, parts in ((8, 2), (16, 3)):
        with pytest.raises(InputError, match=r"train\.accumulate"):
            devices.refuse_uneven(batch, parts)


@pytest.mark.parametrize("count", [1, 8, 11])
def test_prediction_takes_any_number_of_images(count):
    system, variables = predictor()
    images = tiny.examples().arrays["image"][:count]
    found = devices.compile_predict(system)(variables, images)["probabilities"]
    assert found.shape == (count, *tiny.SIZE, 4)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    one = devices.compile_predict(system)(variables, images[-1:])["probabilities"]
    np.testing.assert_allclose(found[-1:], one, atol=1e-6)


@functools.cache
def predictor():
    """A system and untrained variables."""
    system, _ = tiny.build("unet")
    return system, jax.jit(lambda: init_state(system, 0).variables, compiler_options=tiny.QUICK)()


# --- several processes


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("localhost", 0))
        return held.getsockname()[1]


def final(workdir: Path) -> dict[str, np.ndarray]:
    """Every number of the last checkpoint."""
    held = Checkpoints(workdir)
    step = held.pick("latest")
    assert step == PAIR_STEPS
    allow([NET])
    like = jax.eval_shape(lambda: init_state(tiny.build("unet", model__net=NET)[0], 0))
    return flat(devices.fetch(held.restore(step, like)))


PAIR_STEPS = 6


def command(data: Path, workdir: Path, *words: str) -> list[str | Path]:
    """The command of a run; dropout draws for each example of the global batch."""
    short = (f"--config.train.steps={PAIR_STEPS}", f"--config.train.eval_every={PAIR_STEPS}")
    net = (f"--config.model.net={NET}", "--config.augmentation=False")
    return tiny.train(data, workdir, *short, *net, *words, method="unet")


def pair(data: Path, workdir: Path, cache: Path) -> list[Command]:
    """The two processes of a run, of two devices each."""
    words = ["--processes=2", f"--coordinator=localhost:{free_port()}"]
    return [tiny.start(command(data, workdir, *words, f"--process={i}"), tiny.environment(2, cache)) for i in range(2)]


def ends(processes: list[Command]) -> list[int]:
    """Exit statuses, within bounds of time."""
    try:
        said = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    print(said)
    return [process.returncode for process in processes]


def test_two_processes_of_two_devices_train_as_one_of_four(tmp_path_factory):
    """By the command, end to end; stopped in between by a signal that reaches one of the processes only."""
    root = tmp_path_factory.mktemp("processes")
    data, both, cache = tiny.phantom_at(root), root / "both", tiny.kept_cache(__name__)
    alone = tiny.run(command(data, root / "alone"), tiny.environment(4, cache))
    assert alone.returncode == 0, alone.stderr

    started = pair(data, both, cache)
    tiny.signal_at(started[1], both / "log.jsonl", 2, signal.SIGTERM)
    assert ends(started) == [128 + signal.SIGTERM] * 2
    assert 2 <= (Checkpoints(both).latest() or 0) < PAIR_STEPS
    assert ends(pair(data, both, cache)) == [0, 0]
    assert furthest(final(root / "alone"), final(both)) <= 1e-5
