"""Trains every variant of an experiment on one split, evaluates their checkpoints, prints the paper's table.

    python -m launch.study --config=experiments/srscn.py:preset=cpu \\
        --config.data.name=mscmr --config.data.root=DIR --workdir=DIR [--only=unet,srscn] [--leave_out=CASE]
    python -m launch.study --config=experiments/drunet.py:data=acdc --folds=0,1,2,3,4 --split=test \\
        --config.data.root=DIR --workdir=DIR

Each variant is a run of `launch.train` in <workdir>/<variant>, or in <workdir>/<variant>/fold<k>. The same command
resumes a stopped study. Overrides (--config.KEY=VALUE) apply to every variant. Tables are printed, and
<workdir>/report/report.html has them with all plots and pictures (see `launch.report`). Folds of a variant are pooled:
validation cases are joined, and each test case counts once, with the mean over the folds.
"""

import itertools
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from cardiac_jax.commands import cli

CONFIG = config_flags.DEFINE_config_file("config", help_string="experiments/NAME.py[:key=value,...]")
WORKDIR = flags.DEFINE_string("workdir", None, "one folder per variant is made here")
ONLY = flags.DEFINE_list("only", [], "variants to run; default: all, as the experiment lists them")
FOLDS = flags.DEFINE_list("folds", [], "cross-validation: each variant is trained on these folds, say 0,1,2,3,4")
SPLIT = flags.DEFINE_string("split", "val", "split to compare on: val, test")
LEAVE_OUT = flags.DEFINE_list("leave_out", [], "cases to leave out of a second set of tables")
REFERENCE = flags.DEFINE_string(
    "reference", "", "variant that the others are tested against; default: the system's own"
)
TTA = flags.DEFINE_integer("tta", 0, "average over this many copies, moved as in training", lower_bound=0)


def main() -> int:
    """Returns 0, or the exit status of the command that failed or was stopped."""
    from cardiac_jax.errors import InputError
    from cardiac_jax.runs import study
    from cardiac_jax.runs.experiments import study_of

    cli.required(CONFIG.value, "--config")
    workdir = Path(cli.required(WORKDIR.value, "--workdir"))
    path, _, arg = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    experiment = study_of(Path(path))
    variants = experiment.STUDY
    for name in ONLY.value:
        if name not in variants:
            raise InputError("--only", f"{name!r} is not one of {', '.join(variants)}")
    keys = {part.partition("=")[0] for words in variants.values() for part in words.split(",")}
    for part in arg.split(","):
        key = part.partition("=")[0]
        if key in keys:
            raise InputError("--config", f"a study varies {key} itself; leave it out, or name variants with --only")
    chosen = [name for name in variants if name in ONLY.value] if ONLY.value else list(variants)
    given = config_flags.get_override_values(flags.FLAGS["config"])
    overrides = [f"--config.{name}={value}" for name, value in given.items()]
    for fold in FOLDS.value:
        if not fold.isdecimal():
            raise InputError("--folds", f"{fold!r} is not the number of a fold")
    for name, fold in itertools.product(chosen, FOLDS.value or [""]):
        run = workdir / name / f"fold{fold}" if fold else workdir / name
        cli.console.rule(f"{name} {run.name}" if fold else name)
        words = ",".join(filter(None, [arg, variants[name]]))
        own = [*overrides, f"--config.data.fold={fold}"] if fold else overrides
        status = cli.call("launch.train", f"--config={path}:{words}", f"--workdir={run}", *own)
        if not status and not study.is_evaluated(run, SPLIT.value, TTA.value):
            status = cli.call(*study.evaluation(run, SPLIT.value, TTA.value))
        if status:
            return status
    # Matplotlib is imported when there is something to draw, not while runs are trained.
    from cardiac_jax.report.build import build
    from cardiac_jax.report.collect import collect

    entries = collect([workdir / name for name in chosen], SPLIT.value)
    build(
        entries,
        workdir / "report",
        cli.console,
        reference=REFERENCE.value,
        own=experiment.REFERENCE,
        published=experiment.PUBLISHED,
        leave_out=LEAVE_OUT.value,
    )
    return 0


def run() -> None:
    """Entry point of `cardiac-study` and of `python -m launch.study`."""
    cli.run(main, __name__)
