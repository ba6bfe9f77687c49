"""Checkpoints with Orbax; the latest and the best are kept, each with configuration, code version and checksums.

<workdir>/checkpoints/<step>/state/      the training state, OCDBT
<workdir>/checkpoints/<step>/about/      readable JSON: config, data description, code version, sha256 of every leaf
"""

import contextlib
import functools
import hashlib
import logging
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from cardiac_jax.errors import InputError
from cardiac_jax.train import devices

FORMAT = 2
"""Version of the checkpoint format; raised by any change that alters the meaning of older checkpoints."""
OLDEST = 1
"""The oldest version that can be read (`runs/upgrade.py`); a run in this version cannot be resumed."""

WORST = -1e30
_policies = ocp.training.preservation_policies


def score_of(metrics: Any) -> float:
    """The figure that ranks checkpoints."""
    return metrics["score"]


def folder(workdir: Path) -> Path:
    """Returns the folder of a run's checkpoints."""
    return Path(workdir).absolute() / "checkpoints"


class Checkpoints:
    """The checkpoints of one run, open for reading and, with `writing`, for writing.

    Raises:
      InputError: `workdir` has no checkpoints and `writing` is off.
    """

    def __init__(self, workdir: Path, *, keep_best: int = 1, writing: bool = False) -> None:
        self.directory = folder(workdir)
        if not writing and not self.directory.is_dir():
            raise InputError(workdir, "no checkpoints here: not the --workdir of a training run")
        if writing:
            self.directory.mkdir(parents=True, exist_ok=True)
            for stray in self.directory.iterdir():  # an empty folder named like a step would hide the latest
                if stray.is_dir() and stray.name.isdigit():
                    with contextlib.suppress(OSError):
                        stray.rmdir()
        logging.getLogger("absl").setLevel(logging.ERROR)
        registry = ocp.handlers.local_registry()
        registry.add(ocp.handlers.JsonHandler, checkpointable_name="about")
        context = ocp.Context()
        context.checkpointables.registry = registry
        keep: Any = _policies.AnyPreservationPolicy(
            [_policies.LatestN(1), _policies.BestN(get_metric_fn=score_of, n=keep_best)]
        )
        self._orbax = ocp.training.Checkpointer(
            str(self.directory), context=context, preservation_policy=keep, cleanup_tmp_directories=writing
        )
        self._pending = None

    def steps(self) -> dict[int, float]:
        """Score by step of every complete checkpoint; an empty folder named like a step does not count."""
        complete = [
            c for c in self._orbax.checkpoints if (self.directory / str(c.step) / "_CHECKPOINT_METADATA").exists()
        ]
        return {c.step: score_of(c.metrics) if c.metrics else WORST for c in complete}

    def latest(self) -> int | None:
        """The newest step, or None."""
        return max(self.steps(), default=None)

    def pick(self, which: str) -> int:
        """The step of `best`, `latest` or a number given as text.

        Raises:
          InputError: there is no such checkpoint.
        """
        steps = self.steps()
        if not steps:
            raise InputError(self.directory, "no complete checkpoint")
        if which == "best":
            return max(steps, key=lambda step: (steps[step], step))
        if which == "latest":
            return max(steps)
        if not which.isdigit() or int(which) not in steps:
            there = ", ".join(map(str, sorted(steps)))
            raise InputError(self.directory, f"no checkpoint {which!r}; there are best, latest and steps {there}")
        return int(which)

    def save(self, step: int, state: Any, about: dict[str, Any], score: float = math.nan) -> None:
        """Copies the state to the host and writes it in the background, after the previous write has ended."""
        self.wait()
        host = devices.fetch(state)
        about = {**about, "format": FORMAT, "step": step, "leaves": leaves(host), "sha256": checksums(host)}
        metrics: Any = {"score": score if math.isfinite(score) else WORST}
        self._pending = self._orbax.save_checkpointables_async(
            step, {"state": host, "about": about}, force=True, overwrite=step in self.steps(), metrics=metrics
        )

    def wait(self) -> None:
        """Waits until the last save is complete on disk."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def about(self, step: int) -> dict[str, Any]:
        """The JSON stored with the weights of `step`.

        Raises:
          InputError: it cannot be read, or it has a format that this code does not read.
        """
        with _readable(self.directory / str(step)):
            about = self._orbax.load_checkpointables(step, {"about": None})["about"]
        if about.get("format") not in range(OLDEST, FORMAT + 1):
            problem = f"written by checkpoint format {about.get('format')}, this code reads {OLDEST} to {FORMAT}"
            raise InputError(self.directory / str(step), problem)
        return about

    def restore(self, step: int, like: Any) -> Any:
        """The state of `step`, replicated over all devices.

        Args:
          like: a state of the same system, or its abstract tree (shapes and types).

        Raises:
          InputError: the checkpoint is damaged, or belongs to another system or format.
        """
        where = self.directory / str(step)
        about = self.about(step)
        if about["format"] != FORMAT:
            raise InputError(
                where, f"written by checkpoint format {about['format']}: it predicts, but cannot be resumed"
            )
        if leaves(like) != about["leaves"]:
            raise InputError(where, f"checkpoint of another system ({_difference(leaves(like), about['leaves'])})")
        with _readable(where):
            state = self._orbax.load_checkpointables(step, {"state": devices.abstract(like)})["state"]
        _compare(where, checksums(devices.fetch(state)), about["sha256"])
        return state

    def tree(self, step: int) -> dict[str, Any]:
        """The stored state of `step`, in any readable format, as nested dictionaries of host arrays.

        Raises:
          InputError: the checkpoint is damaged.
        """
        where = self.directory / str(step)
        expected = self.about(step)["sha256"]
        with _readable(where):
            state: Any = self._orbax.load_checkpointables(step, {"state": None})["state"]
        _compare(where, checksums(state), expected)
        return state

    def close(self) -> None:
        """Waits for the last save and closes the files."""
        self.wait()
        self._orbax.close()


def leaves(tree: Any) -> dict[str, str]:
    """Type and shape of every leaf, by its path."""
    return {
        leaf_name(path): f"{np.dtype(leaf.dtype)}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def checksums(tree: Any) -> dict[str, str]:
    """sha256 of type, shape and bytes of every leaf, by its path."""
    sums = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        array = np.ascontiguousarray(leaf)
        digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
        digest.update(array.data if array.ndim else array.tobytes())
        sums[leaf_name(path)] = digest.hexdigest()
    return sums


def _compare(where: Path, found: Mapping[str, str], stored: Mapping[str, str]) -> None:
    for name, expected in stored.items():
        if found.get(name) != expected:
            raise InputError(where, f"damaged: checksum of {name} differs from the one stored")


def leaf_name(path: Any) -> str:
    """The path of a leaf as text, e.g. `params/encoder_0/Conv_0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _difference(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    if missing := sorted(expected.keys() - found.keys()):
        return f"it lacks {missing[0]} and {len(missing) - 1} more"
    if more := sorted(found.keys() - expected.keys()):
        return f"it has {more[0]}, which this configuration does not"
    name = next(name for name in sorted(expected) if expected[name] != found[name])
    return f"{name} is {found[name]}, not {expected[name]}"


@contextlib.contextmanager
def _readable(where: Path):
    """Turns the errors from reading a damaged checkpoint into one InputError that names it."""
    _silence_unfinished_reads()
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        root: BaseException = error
        while cause := root.__cause__ or root.__context__:
            root = cause
        raise InputError(where, f"cannot be read as a checkpoint: {str(root)[:200] or type(root).__name__}") from None


@functools.cache
def _silence_unfinished_reads() -> None:
    """Hides what Orbax's other reads say when one has failed: each ends on a closed event loop, with a traceback."""
    report = sys.unraisablehook

    def hook(found: Any) -> None:
        if not (isinstance(found.exc_value, RuntimeError) and str(found.exc_value) == "Event loop is closed"):
            report(found)

    def wanted(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not ("never retrieved" in message and "tensorstore" in message)

    sys.unraisablehook = hook
    logging.getLogger("asyncio").addFilter(wanted)
