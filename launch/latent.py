"""Chooses the size of ACSNet's latent space: priors of several code lengths, trained alone and compared (Fig. 5).

    python -m launch.latent --config=experiments/acsnet.py:data=mscmr,preset=cpu --config.data.root=DIR \\
        --codes=4,8,16,32 --workdir=DIR

For each length: how well shapes of the validation part are restored, how many components 10-fold cross-validation of
likelihood and adjusted AIC asks for, and how many draws are valid. What is done is not done again.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from launch import cli

CONFIG = config_flags.DEFINE_config_file("config", help_string="experiments/acsnet.py[:key=value,...]")
WORKDIR = flags.DEFINE_string("workdir", None, "one folder per code length is made here, table and figure beside them")
CODES = flags.DEFINE_list("codes", ["4", "8", "16", "32"], "lengths of the code")


def main() -> int:
    """0, or 128 + n when stopped by signal n."""
    from cardiac_jax.data.files import lock
    from cardiac_jax.errors import InputError
    from cardiac_jax.runs.latent import sweep

    config, workdir = cli.required(CONFIG.value, "--config"), Path(cli.required(WORKDIR.value, "--workdir"))
    wrong = [code for code in CODES.value if not code.isdecimal()]
    if wrong:
        raise InputError("--codes", f"{wrong[0]!r} is not a whole number")
    with lock(workdir):
        stopped = sweep(config, workdir, [int(code) for code in CODES.value], cli.console)
    return 128 + stopped if stopped else 0


if __name__ == "__main__":
    cli.run(main)
