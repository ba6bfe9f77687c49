"""The real experiment on the smallest networks and data, and commands run as a user would run them."""

import dataclasses
import functools
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cardiac_jax import systems
from cardiac_jax.core.types import Config, System
from cardiac_jax.data.pipeline import Examples
from cardiac_jax.data.sets import phantom
from cardiac_jax.data.spec import DataSpec
from experiments.srscn import get_config
from tests.forked import Command

ROOT = Path(__file__).parents[1]
SIZE = (16, 16)
QUICK = {"xla_backend_optimization_level": 0}  # these programs run for milliseconds and compile for seconds
KEYS = {
    "model.features": (4, 8),
    "data.size": SIZE,
    "data.spacing_mm": (0.0, 8.0, 8.0),
    "prior.code": 8,
    "prior.features": (4, 8),
    "prior.steps": 6,
    "train.steps": 8,
    "train.eval_every": 4,
    "train.log_every": 1,
    "train.batch_size": 3,
}


def config(method: str, **keys: Any) -> Config:
    """The configuration of a method, as small as `KEYS`; `keys` override, written with `__` for the dot."""
    held = get_config(f"method={method},preset=smoke")
    with held.unlocked():
        held.update_from_flattened_dict({**KEYS, **{k.replace("__", "."): v for k, v in keys.items()}})
    return held


def build(method: str, **keys: Any) -> tuple[System, Config]:
    """The real system of a method on data of four classes."""
    held = config(method, **keys)
    return systems.build_system(held, spec(tuple(held.data.size))), held


def spec(size: tuple[int, ...] = SIZE, **changes: Any) -> DataSpec:
    """The specification of data of four classes; `changes` are fields of it."""
    classes, frequency = ("background", "RV", "Myo", "LV"), (1000, 100, 80, 120)
    held = DataSpec("phantom", classes, (0, 600, 200, 500), ("LGE",), "affine", (0.0, 8.0, 8.0), size, frequency)
    return dataclasses.replace(held, **changes)


def examples(count: int = 24, seed: int = 0, size: tuple[int, int] = SIZE) -> Examples:
    """Discs in a ring in a square: labels that look like something, with noise; the last few annotated in part."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    centre = rng.uniform(6, 10, (count, 2, 1, 1))
    far = np.hypot(y - centre[:, 0], x - centre[:, 1])
    label = np.select([far < 2, far < 4, (x > 10)[None] & (far < 8)], [3, 2, 1], 0).astype(np.uint8)
    image = (label + rng.normal(0, 0.3, label.shape)).astype(np.float32)[..., None]
    fully_annotated = np.ones(count, np.float32)
    fully_annotated[-4:] = 0
    label[-4:, :3] = 255
    place = np.linspace(0, 1, count, dtype=np.float32)
    return Examples({"image": image, "label": label, "position": place, "fully_annotated": fully_annotated})


@functools.cache
def phantom_at(root: Path) -> Path:
    """Four patients of 4 x 48 x 48 voxels under `root`: two to train on, one of each other split."""
    folder = root / "phantom"
    if not folder.exists():
        shape: dict[str, Any] = {"size": (48, 48), "spacing_mm": (4.0, 12.0), "slices": 4}
        phantom.write(folder, "mscmr", 4, 0, shares=(0.5, 0.25, 0.25), **shape)
    return folder


def kept_cache(name: str) -> Path:
    """Where the commands of a test file keep compiled programs from one run of the tests to the next."""
    return Path(os.environ["CARDIAC_JAX_TEST_COMMANDS"]) / name.rpartition(".")[2]


def environment(devices: int, cache: Path) -> dict[str, str]:
    """For commands on `devices` virtual devices that share compiled programs in `cache`.

    Tests that kill a command pass a temporary folder: JAX writes entries in place, and half an entry must not be kept.
    """
    given = {"CARDIAC_JAX_CACHE": str(cache), "JAX_NUM_CPU_DEVICES": str(devices)}
    return {**os.environ, **given, "COLUMNS": "200", "PYTHONUTF8": "1"}


def start(words: Sequence[str | Path], env: dict[str, str]) -> Command:
    """`python <words>` from the root of the repository."""
    return Command(words, env)


def run(words: Sequence[str | Path], env: dict[str, str], timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """`python <words>` to its end."""
    with start(words, env) as process:
        out, err = process.communicate(timeout_s)
    assert process.returncode is not None
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def command(name: str, *words: str | Path) -> list[str | Path]:
    """`-m launch.<name> <words>`."""
    return ["-m", f"launch.{name}", *words]


def train(data: Path, workdir: Path, *words: str, method: str = "srscn") -> list[str | Path]:
    """The command that trains `method` as small as `KEYS`."""
    chosen = f"--config=experiments/srscn.py:method={method},preset=smoke"
    return command("train", chosen, f"--config.data.root={data}", f"--workdir={workdir}", *overrides(), *words)


def overrides(**keys: Any) -> list[str]:
    """`KEYS` on the command line."""
    held = {**KEYS, **{k.replace("__", "."): v for k, v in keys.items()}}
    return [f"--config.{key}={value}" for key, value in held.items()]


def signal_at(process: Command, log: Path, step: int, number: signal.Signals) -> None:
    """Sends `number` once the log has reached `step`; fails if the process ends before."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if log.exists() and log.read_text(encoding="utf-8").count('"split": "train"') >= step:
            process.send_signal(number)
            return
        assert process.poll() is None, process.communicate(1)
        time.sleep(0.002)
    raise TimeoutError(f"step {step} was not reached")


def run_all(commands: Sequence[Sequence[str | Path]], env: dict[str, str]) -> list[subprocess.CompletedProcess[str]]:
    """Commands, one after the other."""
    return [run(words, env) for words in commands]
