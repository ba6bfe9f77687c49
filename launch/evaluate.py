"""Evaluates a checkpoint: label maps, a row per case and structure as CSV and JSON, the table, overlay pictures.

    python -m launch.evaluate --workdir=DIR [--data.root=DIR --split=test] --out=DIR

Cases are measured in 3D on their own grid, not on the network's.
"""

from pathlib import Path

from absl import flags

from launch import cli

WORKDIR = flags.DEFINE_string("workdir", None, "of the training run")
OUT = flags.DEFINE_string("out", None, "folder for the results")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step")
NAME = flags.DEFINE_string("data.name", None, "data set; default: the one trained on")
ROOT = flags.DEFINE_string("data.root", None, "its folder; default: the one trained on")
SPLIT = flags.DEFINE_string("split", "val", "train, val, test or all")
FLIPS = flags.DEFINE_bool("flips", False, "average over mirrored copies")
LEAVE_OUT = flags.DEFINE_list("leave_out", [], "cases to leave out of the table")


def main() -> None:
    from cardiac_jax.runs.evaluate import evaluate

    evaluate(
        Path(cli.required(WORKDIR.value, "--workdir")),
        Path(cli.required(OUT.value, "--out")),
        checkpoint=CHECKPOINT.value,
        name=NAME.value,
        root=ROOT.value,
        split=SPLIT.value,
        flips=FLIPS.value,
        leave_out=LEAVE_OUT.value,
        console=cli.console,
    )


if __name__ == "__main__":
    cli.run(main)
