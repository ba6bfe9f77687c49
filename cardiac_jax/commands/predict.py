"""Segments images with a trained model and writes the label maps, each on the grid of its image.

python -m launch.predict --workdir=DIR --input=FILE|DIR --output=DIR [--probabilities] [--tta=8] [--skip_existing]

A model whose output is finer than its input (ACNN) writes it on its finer grid, which lies in place over the image;
--grid=image brings it to the image's grid. Images have the intensity scale of their input. Codes are written for each
case as JSON and for the folder as codes.csv.

Files named <case>_LGE, <case>_T2, ... or, with a dataset.json or --sequences, <case>_0000, <case>_0001, ... are images
of one case. With --data.name, --input is the folder of that data set and the outputs are named after its cases. A case
that cannot be used is listed and does not stop the others; the exit status is then 2.
"""

from pathlib import Path

from absl import flags

from cardiac_jax.commands import cli

WORKDIR = flags.DEFINE_list("workdir", [], "work directory of a run, or of several; their probabilities are averaged")
INPUT = flags.DEFINE_string(
    "input", None, "NIfTI, NRRD or MHA file, a folder of them, or DICOM: a file or a tree of folders"
)
OUTPUT = flags.DEFINE_string("output", None, "folder for the label maps, <case>.nii.gz")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step")
PROBABILITIES = flags.DEFINE_bool("probabilities", False, "also write <case>_probabilities.nii.gz, [X, Y, Z, K]")
PROJECT = flags.DEFINE_string("project", "", "slices to project onto valid anatomy (ACSNet): invalid, all or none")
TRIM = flags.DEFINE_bool("trim", None, "leave out slices beyond the base (ACSNet); default: as configured")
NAME = flags.DEFINE_string("data.name", "", "data set whose folder --input is; default: any folder of images")
SEQUENCES = flags.DEFINE_list("sequences", [], "of the channels _0000, _0001, ... of --input, say LGE,T2")
SKIP = flags.DEFINE_bool("skip_existing", False, "leave out cases whose label maps are in --output")
CROP = flags.DEFINE_string("crop", "", "of an image larger than the network's input: heart (default), centre or tiles")
GRID = flags.DEFINE_string("grid", "output", "of an output finer than the image: output (its own grid) or image")
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
        name=NAME.value,
        sequences=SEQUENCES.value,
        skip_existing=SKIP.value,
        grid=GRID.value,
        console=cli.console,
    )


def run() -> None:
    """Entry point of `cardiac-predict` and of `python -m launch.predict`."""
    cli.run(main, __name__)
