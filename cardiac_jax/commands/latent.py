"""Compares ACSNet's priors with several code lengths, without training the segmentation (Fig. 5 of the paper).

    python -m launch.latent --config=experiments/acsnet.py:data=mscmr,preset=cpu --config.data.root=DIR \\
        --codes=4,8,16,32 --workdir=DIR

For each length: Dice of the reconstructed shapes of the validation set, the number of components that 10-fold
cross-validation of likelihood and adjusted AIC chooses, and the share of valid samples. The table is written after
every length. The same command resumes a stopped comparison.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from cardiac_jax.commands import cli

CONFIG = config_flags.DEFINE_config_file("config", help_string="experiments/acsnet.py[:key=value,...]")
WORKDIR = flags.DEFINE_string("workdir", None, "one folder per code length is made here, with table and figure")
CODES = flags.DEFINE_list("codes", ["4", "8", "16", "32"], "lengths of the code")


def main() -> int:
    """Returns 0, or the exit status of the training that failed or was stopped."""
    from cardiac_jax.errors import InputError
    from cardiac_jax.runs import latent

    config, workdir = cli.required(CONFIG.value, "--config"), Path(cli.required(WORKDIR.value, "--workdir"))
    wrong = [code for code in CODES.value if not code.isdecimal()]
    if wrong:
        raise InputError("--codes", f"{wrong[0]!r} is not a whole number")
    keys = {code: latent.alone(config, code) for code in sorted({int(code) for code in CODES.value})}
    given = config_flags.get_override_values(flags.FLAGS["config"])
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    labels = latent.held_out_labels(config, cli.console)
    found = []
    for code, own in keys.items():
        cli.console.rule(f"code of {code}")
        overrides = [f"--config.{name}={value}" for name, value in {**given, **own}.items()]
        run = workdir / f"code{code}"
        if status := cli.call("launch.train", f"--config={file}", f"--workdir={run}", *overrides):
            return status
        found.append(latent.measure(run, labels))
        latent.write(found, workdir, cli.console)
    cli.console.print(f"written to {workdir}: latent.csv, latent.json, latent.md, latent.png")
    return 0


def run() -> None:
    """Entry point of `cardiac-latent` and of `python -m launch.latent`."""
    cli.run(main, __name__)
