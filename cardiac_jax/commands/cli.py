"""Code shared by all commands: environment, flags, and errors.

An InputError is printed as one line, with exit status 2.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TypeVar

from absl import flags
from ml_collections import config_flags

# Measured on 2 CPU cores with jaxlib 0.10: convolutions are faster outside YNNPACK, the rest inside it (see
# `ops/cpu/compiler.py`; `pmap` takes no compiler options of its own). The flag is read when the backend starts, so it
# is set before jax is imported; other releases may not know it and would abort.
if version("jaxlib").startswith("0.10."):
    fusion = "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
    os.environ.setdefault("XLA_FLAGS", f"--xla_cpu_experimental_ynn_fusion_type={fusion}")

import jax
from rich.console import Console

from cardiac_jax.core.registry import allow
from cardiac_jax.errors import InputError
from cardiac_jax.runs.experiments import experiment_file

T = TypeVar("T")

USE = flags.DEFINE_list("use", [], "code of your own, module:attribute, that a configuration or a checkpoint names")

console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def run(main: Callable[[], int | None], module: str) -> None:
    """Parses the command line, runs `main` and exits: status 0 done, 2 user's error, 128 + n stopped by signal n.

    Args:
      main: the command; returns its exit status, None means 0.
      module: name of the command's module; --help prints its docstring and flags.
    """
    try:
        _parse(module)
        _compile_once()
        sys.exit(main() or 0)
    except InputError as error:
        _fail(str(error))
    except OSError as error:  # disk full, permission denied, a file that was removed
        _fail(f"{error.filename or 'input/output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _parse(module: str) -> None:
    if {"--help", "-h", "-help", "--helpfull"} & set(sys.argv[1:]):
        print(sys.modules[module].__doc__ or "")
        print(flags.FLAGS.module_help(sys.modules[module]))
        print(flags.FLAGS.module_help(sys.modules[__name__]))
        sys.exit(0)
    words = [_experiment_path(word) for word in sys.argv]
    try:
        extra = flags.FLAGS(words)[1:]
    except (flags.Error, OSError) as error:
        raise InputError("command line", str(error)) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # raised by ml_collections
        reason: object = error
        while isinstance(reason, Exception) and reason.args:
            reason = reason.args[0]
        raise InputError("--config", str(reason)) from None
    if extra:
        raise InputError(extra[0], "unexpected argument (flags are written --name=value)")
    if "config" in flags.FLAGS and flags.FLAGS["config"].present:
        path = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]
        if not Path(path).is_file():
            raise InputError(path, "no such file, nor an experiment of that name")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # for modules of the user; `python -m` adds it too
    allow(USE.value)


def _experiment_path(word: str) -> str:
    """Replaces NAME in `--config=NAME:...` by the file of the experiment; returns other arguments unchanged."""
    flag, equals, value = word.partition("=")
    name, colon, words = value.partition(":")
    if flag.lstrip("-") != "config" or not name.isidentifier() or Path(name).exists():
        return word
    path = experiment_file(name)
    return f"{flag}{equals}{path}{colon}{words}" if path else word


def _compile_once() -> None:
    """Keeps compiled programs on disk, so that a command's second start takes seconds."""
    cache = os.environ.get("CARDIAC_JAX_CACHE", str(Path.home() / ".cache" / "cardiac_jax"))
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _fail(line: str) -> None:
    print(f"error: {' '.join(line.split())}", file=sys.stderr, flush=True)
    sys.exit(2)


START = "from cardiac_jax.commands.{} import run; run()"


def call(*command: str) -> int:
    """Runs the command `command[0]` (`launch.NAME`) with the given arguments and returns its exit status.

    On a signal, this process waits for the child, which may save its state. SIGTERM is forwarded to the child; a
    terminal sends Ctrl-C to both.
    """
    stopped: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def note(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        if number == signal.SIGTERM:
            for child in children:
                child.send_signal(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        children.append(
            subprocess.Popen([sys.executable, "-c", START.format(command[0].removeprefix("launch.")), *command[1:]])
        )
        status = children[0].wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stopped:
        return 128 + stopped[0]
    return status if status >= 0 else 128 - status


def given(**values: T | None) -> dict[str, T]:
    """Returns the arguments that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def required(value: T | None, flag: str) -> T:
    """Returns `value`.

    Raises:
      InputError: `value` is None or empty; names `flag`.
    """
    if value is None or value == "":
        raise InputError(flag, "is required")
    return value
