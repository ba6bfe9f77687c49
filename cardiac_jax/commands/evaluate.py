"""Evaluates label maps of a checkpoint or of any other program: a row per case and structure, a table, pictures.

    python -m launch.evaluate --workdir=DIR [--data.root=DIR --split=test] --out=DIR
    python -m launch.evaluate --pred=DIR --truth=DIR [--images=DIR] [--data.name=mscmr] [--method=nnU-Net] --out=DIR

Cases are measured in 3D on their own grid, not on the network's. In the second form the files of --pred are matched to
those of --truth by name; with --data.name, --truth is the folder of that data set and the files are named after its
cases or images. A dataset.json in or above a folder, or --labels, names its label values. A case that cannot be used is
listed (also in failed.csv) and does not stop the others; the exit status is then 2. `launch.report` compares any number
of such folders. --rules=acdc|emidec|myops adds a table by that challenge's own rules, for comparison with its published
one.
"""

from pathlib import Path

from absl import flags

from cardiac_jax.commands import cli

WORKDIR = flags.DEFINE_list("workdir", [], "work directory of a run, or of several; their probabilities are averaged")
OUT = flags.DEFINE_string("out", None, "folder for the results")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step")
NAME = flags.DEFINE_string("data.name", None, "data set; default: the one trained on, or plain folders of label maps")
ROOT = flags.DEFINE_string("data.root", None, "folder of the data set; default: the one trained on")
SPLIT = flags.DEFINE_string("split", "val", "train, val, test or all; default: val, of --pred all")
PROJECT = flags.DEFINE_string("project", "", "slices to project onto valid anatomy (ACSNet): invalid, all or none")
TRIM = flags.DEFINE_bool("trim", None, "leave out slices beyond the base (ACSNet); default: as configured")
CROP = flags.DEFINE_string("crop", "", "of an image larger than the network's input: heart (default), centre or tiles")
TTA = flags.DEFINE_integer("tta", 0, "average over this many copies, moved as in training", lower_bound=0)
LEAVE_OUT = flags.DEFINE_list("leave_out", [], "cases to leave out of the table")
PRED = flags.DEFINE_string("pred", None, "folder of label maps to measure instead of a checkpoint")
TRUTH = flags.DEFINE_string("truth", None, "folder of the gold standard for --pred")
IMAGES = flags.DEFINE_string("images", None, "folder of the images for --pred, for pictures")
LABELS = flags.DEFINE_list(
    "labels", [], "values in --pred, and in --truth unless told otherwise: RV=1,Myo=2,LV=3,ignore=4, or acdc, mnms"
)
TRUTH_LABELS = flags.DEFINE_list("truth_labels", [], "values in --truth, where they differ from those of --labels")
RULES = flags.DEFINE_string(
    "rules", "", "also a table by a challenge's own rules: acdc, emidec or myops (docs/metrics.md)"
)
METHOD = flags.DEFINE_string("method", "", "name of the program behind --pred in tables; default: name of the folder")


def main() -> None:
    from cardiac_jax.data.label_names import parse
    from cardiac_jax.errors import InputError
    from cardiac_jax.report import challenge
    from cardiac_jax.runs.evaluate import evaluate, evaluate_maps

    challenge.check(RULES.value)
    out = Path(cli.required(OUT.value, "--out"))
    for flag, value in (("--labels", LABELS.value), ("--truth_labels", TRUTH_LABELS.value)):
        if value and PRED.value is None:
            raise InputError(flag, "names the values of --pred, which is not given")
    if TRUTH_LABELS.value and NAME.value:
        raise InputError("--truth_labels", f"the values of the data set {NAME.value} are known")
    if PRED.value is None:
        cli.required(WORKDIR.value or None, "--workdir")
        results = evaluate(
            [Path(name) for name in WORKDIR.value],
            out,
            checkpoint=CHECKPOINT.value,
            name=NAME.value,
            root=ROOT.value,
            split=SPLIT.value,
            crop=CROP.value,
            tta=TTA.value,
            post=cli.given(project=PROJECT.value or None, trim=TRIM.value),
            leave_out=LEAVE_OUT.value,
            console=cli.console,
        )
        if RULES.value:
            challenge.write(out, results, RULES.value, cli.console)
        return
    if WORKDIR.value:
        raise InputError("--pred", "cannot be measured together with --workdir: give one of them")
    results = evaluate_maps(
        Path(PRED.value),
        Path(cli.required(TRUTH.value, "--truth")),
        out,
        name=NAME.value or "",
        method=METHOD.value,
        split=SPLIT.value if flags.FLAGS["split"].present else "all",
        images=Path(IMAGES.value) if IMAGES.value else None,
        labels=parse(LABELS.value),
        truth_labels=parse(TRUTH_LABELS.value, "--truth_labels"),
        leave_out=LEAVE_OUT.value,
        console=cli.console,
    )
    if RULES.value:
        challenge.write(out, results, RULES.value, cli.console)


def run() -> None:
    """Entry point of `cardiac-evaluate` and of `python -m launch.evaluate`."""
    cli.run(main, __name__)
