"""Encodes label maps with the autoencoder of a trained run, and shows what the codes are and what they tell.

    python -m launch.codes --workdir=RUN [--data.name=acdc] --data.root=DIR --output=OUT
    python -m launch.codes --data.name=acdc --data.root=DIR --output=OUT

Takes a run with transforms.shape_prior or code_prior, of slices or of volumes. Writes the code of every case, tests of
their normality with histograms, label maps decoded along the two leading principal components, and the accuracy with
which patients are classified into their pathology groups: by codes and by principal components of the label maps, at ED
and at ED and ES, with a 95% interval and a paired test. The second form classifies by principal components alone;
--noclassify is for data without groups. Needs scikit-learn: pip install "cardiac-jax[codes]".
"""

from pathlib import Path

from absl import flags

from cardiac_jax.commands import cli

WORKDIR = flags.DEFINE_string("workdir", None, "work directory of a run with an autoencoder of label maps")
OUTPUT = flags.DEFINE_string("output", None, "folder for the results")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step")
NAME = flags.DEFINE_string("data.name", None, "data set; default: the one trained on")
ROOT = flags.DEFINE_string("data.root", None, "folder of the data set; default: the one trained on")
BOX = flags.DEFINE_string("box", "training", "encode the box as in training, or that about the heart")
CLASSIFY = flags.DEFINE_bool("classify", True, "classify patients into their groups")
FOLDS = flags.DEFINE_integer("folds", 10, "folds of the cross-validation, by patient")
REPEATS = flags.DEFINE_integer("repeats", 10, "repetitions of it, with other folds and other trees")
SEED = flags.DEFINE_integer("seed", 0, "of the first repetition", lower_bound=0)


def main() -> None:
    from cardiac_jax.runs.classify import Settings
    from cardiac_jax.runs.codes import write_codes

    out = Path(cli.required(OUTPUT.value, "--output"))
    write_codes(
        Path(WORKDIR.value) if WORKDIR.value else None,
        out,
        checkpoint=CHECKPOINT.value,
        name=NAME.value,
        root=ROOT.value,
        settings=Settings(FOLDS.value, REPEATS.value, SEED.value) if CLASSIFY.value else None,
        box=BOX.value,
        console=cli.console,
    )


def run() -> None:
    """Entry point of `cardiac-codes` and of `python -m launch.codes`."""
    cli.run(main, __name__)
