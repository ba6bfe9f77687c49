"""Trains an experiment, or resumes a stopped training.

    python -m launch.train --config=experiments/srscn.py:method=srscn,preset=cpu \\
        --config.data.name=mscmr --config.data.root=DIR --workdir=DIR

Several processes: add --coordinator=HOST:PORT --processes=N --process=I to each of them.
"""

import contextlib
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from cardiac_jax.commands import cli

CONFIG = config_flags.DEFINE_config_file("config", help_string="experiments/NAME.py[:key=value,...]")
WORKDIR = flags.DEFINE_string("workdir", None, "where checkpoints and logs go")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, for several processes")
PROCESSES = flags.DEFINE_integer("processes", 1, "number of processes")
PROCESS = flags.DEFINE_integer("process", 0, "which of them this is")


def main() -> int:
    """Returns 0 if training is complete, 128 + n if it was stopped by signal n."""
    from cardiac_jax.data.io.write import lock
    from cardiac_jax.runs.train import train_run
    from cardiac_jax.train import devices

    config, workdir = cli.required(CONFIG.value, "--config"), Path(cli.required(WORKDIR.value, "--workdir"))
    if COORDINATOR.value:
        devices.initialize(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    held = lock(workdir) if devices.is_first_process() else contextlib.nullcontext()
    with held:
        stopped = train_run(config, workdir, cli.console)
    if stopped:
        cli.console.print(f"stopped and saved; the same command goes on from here: --workdir={workdir}")
        return 128 + stopped
    return 0


def run() -> None:
    """Entry point of `cardiac-train` and of `python -m launch.train`."""
    cli.run(main, __name__)
