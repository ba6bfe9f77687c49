"""Segments images with a trained model and writes the label maps, each on the grid of its image.

python -m launch.predict --workdir=DIR --input=FILE|DIR --output=DIR [--probabilities] [--tta=8]
"""

from pathlib import Path

from absl import flags

from cardiac_jax.commands import cli

WORKDIR = flags.DEFINE_list("workdir", [], "work directory of a run, or of several; their probabilities are averaged")
INPUT = flags.DEFINE_string("input", None, "NIfTI, NRRD or MHA file, DICOM series, or a folder of them")
OUTPUT = flags.DEFINE_string("output", None, "folder for the label maps, <case>.nii.gz")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step")
PROBABILITIES = flags.DEFINE_bool("probabilities", False, "also write <case>_probabilities.nii.gz, [X, Y, Z, K]")
PROJECT = flags.DEFINE_string("project", "", "slices to project onto valid anatomy (ACSNet): invalid, all or none")
TRIM = flags.DEFINE_bool("trim", None, "leave out slices beyond the base (ACSNet); default: as configured")
CROP = flags.DEFINE_string("crop", "", "of an image larger than the network's input: heart (default), centre or tiles")
TTA = flags.DEFINE_integer("tta", 0, "average over this many copies, moved as in training", lower_bound=0)


def main() -> None:
    from cardiac_jax.runs.predict import predict_folder

    cli.required(WORKDIR.value or None, "--workdir")
    predict_folder(
        [Path(name) for name in WORKDIR.value],
        Path(cli.required(INPUT.value, "--input")),
        Path(cli.required(OUTPUT.value, "--output")),
        checkpoint=CHECKPOINT.value,
        probabilities=PROBABILITIES.value,
        crop=CROP.value,
        tta=TTA.value,
        post=cli.given(project=PROJECT.value or None, trim=TRIM.value),
        console=cli.console,
    )


def run() -> None:
    """Entry point of `cardiac-predict` and of `python -m launch.predict`."""
    cli.run(main, __name__)
