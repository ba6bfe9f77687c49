"""The real experiment on the smallest networks and data, and commands run as a user would run them."""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
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


def start(words: Sequence[str | Path], env: dict[str, str], stdin: int | None = None) -> subprocess.Popen[str]:
    """`python <words>` from the root of the repository."""
    pipe = subprocess.PIPE
    argv = [sys.executable, *map(str, words)]
    return subprocess.Popen(argv, cwd=ROOT, env=env, stdin=stdin, stdout=pipe, stderr=pipe, encoding="utf-8")


def run(words: Sequence[str | Path], env: dict[str, str], timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """`python <words>` to its end."""
    with start(words, env) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
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


def signal_at(process: subprocess.Popen[str], log: Path, step: int, number: signal.Signals) -> None:
    """Sends `number` once the log has reached `step`; fails if the process ends before."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if log.exists() and log.read_text(encoding="utf-8").count('"split": "train"') >= step:
            process.send_signal(number)
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    raise TimeoutError(f"step {step} was not reached")


FORKS = """
import json, os, runpy, sys, tempfile, traceback
import cardiac_jax.commands.cli, experiments.srscn
import cardiac_jax.report.build, cardiac_jax.runs.evaluate, cardiac_jax.runs.train, cardiac_jax.runs.study
results = []
for words in json.load(sys.stdin):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)
            sys.argv = words
            code = 1
            try:
                runpy.run_module(words[0], run_name="__main__", alter_sys=False)
            except SystemExit as error:
                code = error.code
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)  # without the half second of tidying up what was imported
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0), err.seek(0)
        results.append([status, out.read().decode(), err.read().decode()])
json.dump(results, sys.stdout)
"""


def run_all(commands: Sequence[Sequence[str | Path]], env: dict[str, str]) -> list[subprocess.CompletedProcess[str]]:
    """Commands (as `command` gives them), each in a process of its own that need not import everything again."""
    words = [[str(word) for word in command[1:]] for command in commands]
    with start(["-c", FORKS], env, stdin=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(json.dumps(words), timeout=300)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, err
    return [subprocess.CompletedProcess(*held) for held in zip(words, *zip(*json.loads(out), strict=True), strict=True)]
