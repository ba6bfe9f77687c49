"""Projects label maps of any program onto valid anatomy, with the prior of a trained ACSNet.

    python -m launch.project --workdir=DIR --input=LABEL_MAPS --output=DIR [--labels=RV=1,Myo=2,LV=3]
    python -m launch.project --workdir=DIR --input=LABEL_MAPS --output=DIR --truth=DIR [--data.name=mscmr]

Afterwards every slice with myocardium or pool passes the check on the file's own grid; after training with
anatomy=heart, every slice with LV, myocardium or RV. Slices that cannot become a heart (noise, specks, a pool without
wall) are refused: emptied of these structures, and listed. Slices that passed before are not changed (--project=all
replaces them by their reconstructions too, as published). The limits are printed; --limits_picture=FILE.png draws the
worst slices that still pass them. The last line gives the number of invalid slices before and after and, with --truth,
the change in Dice. A valid shape is not necessarily accurate. A file that cannot be used is listed and does not stop
the others; the exit status is then 2.
"""

from pathlib import Path

from absl import flags

from cardiac_jax.commands import cli

WORKDIR = flags.DEFINE_string("workdir", None, "of a training run of experiments/acsnet.py")
INPUT = flags.DEFINE_string("input", None, "folder of label maps")
OUTPUT = flags.DEFINE_string("output", None, "folder for the valid ones, <case>.nii.gz")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step")
PROJECT = flags.DEFINE_string("project", "invalid", "slices: invalid, all, or none (only judged)")
LABELS = flags.DEFINE_list(
    "labels", [], "values in the files, say RV=1,Myo=2,LV=3, or acdc, mnms; default: a dataset.json, else as trained"
)
TRUTH = flags.DEFINE_string("truth", None, "folder of the gold standard, files of the same names")
PICTURE = flags.DEFINE_string("limits_picture", None, "file.png: the worst slices that pass the limits in use")
NAME = flags.DEFINE_string("data.name", "", "data set whose folder --truth is")


def main() -> None:
    from cardiac_jax.data.label_names import parse
    from cardiac_jax.errors import InputError
    from cardiac_jax.runs.project import project_folder

    told = parse(LABELS.value)
    labels = {name: values[0] for name, values in told.structures.items()} if told else {}
    if told and any(len(values) > 1 for values in told.structures.values()):
        raise InputError("--labels", "takes one value a structure here")
    project_folder(
        Path(cli.required(WORKDIR.value, "--workdir")),
        Path(cli.required(INPUT.value, "--input")),
        Path(cli.required(OUTPUT.value, "--output")),
        checkpoint=CHECKPOINT.value,
        mode=PROJECT.value,
        labels=labels,
        truth=Path(TRUTH.value) if TRUTH.value else None,
        name=NAME.value,
        picture=Path(PICTURE.value) if PICTURE.value else None,
        console=cli.console,
    )


def run() -> None:
    """Entry point of `cardiac-project` and of `python -m launch.project`."""
    cli.run(main, __name__)
