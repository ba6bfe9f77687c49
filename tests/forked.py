"""Commands in processes of their own, forked from one process that has imported what they need.

A command started afresh spends three seconds on imports. Here one process per pytest worker imports once, initialises
no device, and forks itself for every command, which then runs as `python -m NAME` would run it.
"""

import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]

SERVER = """
import json, os, runpy, signal, socket, sys, traceback
import jax
import cardiac_jax.commands.cli, experiments.srscn
import cardiac_jax.report.build, cardiac_jax.runs.evaluate, cardiac_jax.runs.study, cardiac_jax.runs.train

def run(words, env):
    os.environ.clear()
    os.environ.update(env)
    if "JAX_NUM_CPU_DEVICES" in env:  # jax read it when it was imported
        jax.config.update("jax_num_cpu_devices", int(env["JAX_NUM_CPU_DEVICES"]))
    how, what, *arguments = words
    sys.argv = [how, *arguments]
    try:
        if how == "-c":
            exec(compile(what, "-c", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(what, run_name="__main__", alter_sys=False)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)  # without the half second of tidying up what was imported

def note(folder, name, number):
    with open(f"{folder}/.{name}", "w") as file:
        file.write(str(number))
    os.replace(f"{folder}/.{name}", f"{folder}/{name}")

def supervise(folder, words, env):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        out, err = (os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT) for name in ("out", "err"))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0), os.dup2(out, 1), os.dup2(err, 2)
        run(words, env)
    note(folder, "pid", child)
    note(folder, "status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os._exit(0)

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in socket.socket(fileno=int(sys.argv[1])).makefile():
    if os.fork() == 0:
        supervise(*json.loads(line))
"""


class Command:
    """A running command; like `subprocess.Popen` with both outputs captured as text."""

    def __init__(self, words: Sequence[str | Path], env: Mapping[str, str]) -> None:
        """Starts `python <words>`, the first of which is -m or -c, from the root of the repository."""
        self.args = [str(word) for word in words]
        self.returncode: int | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="command-"))
        server, ours = _server()
        ours.sendall(json.dumps([str(self._folder), self.args, dict(env)]).encode() + b"\n")
        while not (self._folder / "pid").exists():
            if server.poll() is not None:
                raise RuntimeError(f"the process that forks commands ended with {server.returncode}")
            time.sleep(0.002)
        self.pid = int((self._folder / "pid").read_text(encoding="utf-8"))

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        if self.returncode is None and (self._folder / "status").exists():
            self.returncode = int((self._folder / "status").read_text(encoding="utf-8"))
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it has written to standard output and error, at its end.

        Raises:
          subprocess.TimeoutExpired: it did not end within `timeout` seconds; it is killed.
        """
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.005)
        out, err = ((self._folder / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return out, err

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it by SIGKILL, if it still runs."""
        self.send_signal(signal.SIGKILL)


@functools.cache
def _server() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The process of this pytest worker that forks commands, and the socket on which it is asked to."""
    ours, theirs = socket.socketpair()
    with theirs:
        words = [sys.executable, "-c", SERVER, str(theirs.fileno())]
        process = subprocess.Popen(words, cwd=ROOT, pass_fds=[theirs.fileno()])
    atexit.register(ours.close)  # it ends at the end of its input
    return process, ours
