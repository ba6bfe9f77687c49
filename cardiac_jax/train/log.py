"""Logs of a training run: JSON lines, optional TensorBoard, speed and memory."""

import json
import math
import os
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from cardiac_jax.data.io.write import atomic_write
from cardiac_jax.errors import InputError
from cardiac_jax.train import devices


def peak_memory_mb() -> float:
    """Returns the peak memory in MB: of the fullest accelerator, or of this process on a CPU."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    peaks = [entry["peak_bytes_in_use"] for entry in stats if entry and "peak_bytes_in_use" in entry]
    if peaks:
        return max(peaks) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def read_log(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of a log, empty if there is none; a line cut short by a crash is dropped."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


class Log:
    """`<workdir>/log.jsonl`, one JSON object per line with `step`; on resume, lines after `step` are dropped.

    Args:
      step: the restored step, 0 for a new run.
      ranked: stage and name of the score that ranks checkpoints; `since_best` counts validations of this stage.

    Raises:
      InputError: `tensorboard` is on and tensorboardX is not installed.
    """

    def __init__(self, workdir: Path, step: int, tensorboard: bool, ranked: tuple[str, str] = ("", "")) -> None:
        self._file = self._board = None
        self._ranked = ranked
        path = Path(workdir) / "log.jsonl"
        kept = [line for line in read_log(path) if line["step"] <= step]
        self._scores = [line[ranked[1]] for line in kept if self._is_ranked(line)]
        if not devices.is_first_process():
            return
        text = "".join(json.dumps(line) + "\n" for line in kept)
        atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        self._file = path.open("a", encoding="utf-8")
        self._board = _tensorboard(Path(workdir)) if tensorboard else None

    def write(self, step: int, **values: Any) -> None:
        """Appends one line; numbers that are not finite are written as null."""
        if self._is_ranked(values):
            self._scores.append(values[self._ranked[1]])
        if self._file is None:
            return
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self._file.write(json.dumps({"step": step, **clean}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, step)

    def _is_ranked(self, line: Mapping[str, Any]) -> bool:
        return line.get("split") == "val" and line.get("stage") == self._ranked[0]

    @property
    def since_best(self) -> int:
        """Number of validations after the first one with the best score."""
        ranked = [-1.0 if score is None or math.isnan(score) else score for score in self._scores]
        return len(ranked) - 1 - ranked.index(max(ranked)) if ranked else 0

    def close(self) -> None:
        """Flushes to disk and closes the files."""
        if self._file is None:
            return
        os.fsync(self._file.fileno())
        self._file.close()
        if self._board is not None:
            self._board.close()


def _tensorboard(workdir: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter  # pyrefly: ignore [missing-import]
    except ImportError:
        raise InputError("train.tensorboard", 'needs the extra: pip install "cardiac-jax[tensorboard]"') from None
    return SummaryWriter(str(workdir / "tensorboard"))


class Meter:
    """Steps per second and the share of time spent waiting for data, without compilation, validation and saving."""

    def __init__(self, step: int) -> None:
        self._step, self._waited_s, self._time, self._fresh = step, 0.0, time.perf_counter(), True
        self._steps, self._seconds, self._waiting_s = 0, 0.0, 0.0

    def read(self, step: int, waited_s: float) -> dict[str, float]:
        """Figures since the last reading; the first interval of a stage is left out of `summary` (compilation)."""
        now = time.perf_counter()
        steps, seconds, waiting_s = step - self._step, now - self._time, waited_s - self._waited_s
        self._step, self._time, self._waited_s = step, now, waited_s
        if not self._fresh:
            self._steps, self._seconds = self._steps + steps, self._seconds + seconds
            self._waiting_s += waiting_s
        self._fresh = False
        return {
            "steps_per_s": steps / max(seconds, 1e-9),
            "waiting_share": waiting_s / max(seconds, 1e-9),
            "peak_memory_mb": peak_memory_mb(),
        }

    def skip(self) -> None:
        """Leaves the interval until the next reading out of `summary` (it includes a validation or a save)."""
        self._fresh = True

    def summary(self) -> str:
        """Speed, waiting time and memory of the stage, in words."""
        if not self._steps:
            return f"too short to time; peak memory {peak_memory_mb():.0f} MB"
        return (
            f"{self._steps / self._seconds:.2f} steps/s, {100 * self._waiting_s / self._seconds:.1f}% of the time "
            f"waiting for data, peak memory {peak_memory_mb():.0f} MB"
        )


def note(figures: dict[str, float]) -> str:
    """Returns losses, steps per second, Dice, SSIM and PSNR in one short line."""
    named = ("steps_per_s", "ssim", "psnr")
    shown = [name for name in figures if name.endswith("loss") or name in named or "dice" in name.split("/")]
    return "  ".join(f"{name} {figures[name]:.3f}" for name in shown)
