"""Whether a training gives the same weights again, bit for bit, and how far they lie apart if it does not.

    python -m benchmarks.determinism --config=experiments/srscn.py:preset=smoke --workdir=DIR [--runs=2]

Trains the configuration `--runs` times from the start in <workdir>/0, 1, ..., and compares the last checkpoints. On a
GPU, cuDNN may choose kernels that add in an order of their own; `XLA_FLAGS=--xla_gpu_deterministic_ops=true` forbids
them, and is inherited by the trainings.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from cardiac_jax.commands import cli

CONFIG = config_flags.DEFINE_config_file("config", help_string="experiments/NAME.py[:key=value,...]")
WORKDIR = flags.DEFINE_string("workdir", None, "one folder per training is made here")
RUNS = flags.DEFINE_integer("runs", 2, "trainings", lower_bound=2)


def main() -> int:
    """0, or the status of the training that failed."""
    import jax
    import numpy as np

    from cardiac_jax.runs.restore import restore

    cli.required(CONFIG.value, "--config")
    workdir = Path(cli.required(WORKDIR.value, "--workdir"))
    name = config_flags.get_config_filename(flags.FLAGS["config"])
    given = config_flags.get_override_values(flags.FLAGS["config"])
    overrides = [f"--config.{key}={value}" for key, value in given.items()]
    folders = [workdir / str(i) for i in range(RUNS.value)]
    for folder in folders:
        if status := cli.call("launch.train", f"--config={name}", f"--workdir={folder}", *overrides):
            return status
    first, *others = ([np.asarray(x) for x in jax.tree.leaves(restore(f, "latest").variables)] for f in folders)
    for i, leaves in enumerate(others, 1):
        pairs = list(zip(first, leaves, strict=True))
        differ = sum(not np.array_equal(a, b) for a, b in pairs)
        apart = sum(float(np.square(a.astype(float) - b).sum()) for a, b in pairs)
        norm = sum(float(np.square(a.astype(float)).sum()) for a, _ in pairs)
        ratio = (apart / norm) ** 0.5
        print(f"run {i} against run 0: {differ} of {len(pairs)} arrays differ, distance / norm {ratio:.1e}")
    return 0


if __name__ == "__main__":
    cli.run(main, __name__)
