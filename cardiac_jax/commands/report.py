"""Writes one self-contained page from any number of evaluations: tables, statistics, plots, cases, provenance.

    python -m launch.report --runs=DIR[,DIR...] --out=DIR [--split=val --reference=srscn --leave_out=CASE]
    python -m launch.report --runs=DIR[,DIR...] --reading=DIR [--reading_seed=0]
    python -m launch.report [--runs=DIR[,DIR...]] --readings=FILE|DIR[,...] [--out=DIR]

A DIR of --runs is the output of `launch.evaluate` (for a checkpoint or for label maps of any other program), a training
run with an evaluation in its `evaluation_<split>`, or the folder of a study.

Of restored images, --time=20 measures the time of prediction of all runs in turn; the second form writes a page that
shows them to readers blinded, in random order, and the third prints the scores that they saved from it (each file lies
beside the page's key).
"""

from pathlib import Path

from absl import flags

from cardiac_jax.commands import cli

RUNS = flags.DEFINE_list("runs", [], "folders with evaluations")
OUT = flags.DEFINE_string("out", None, "folder for the report")
SPLIT = flags.DEFINE_string("split", "val", "of runs and studies: which evaluation")
REFERENCE = flags.DEFINE_string(
    "reference", "", "method that the others are tested against; default: the system's own, else the first"
)
LEAVE_OUT = flags.DEFINE_list("leave_out", [], "cases without which the main table is printed a second time")
TITLE = flags.DEFINE_string("title", "", "of the page")
TIME = flags.DEFINE_integer("time", 0, "time this many predictions of each run, in turn", lower_bound=0)
READING = flags.DEFINE_string("reading", None, "folder for a page on which readers score restored images, and its key")
READING_SEED = flags.DEFINE_integer("reading_seed", 0, "of the order of the images on that page", lower_bound=0)
READINGS = flags.DEFINE_list("readings", [], "scores that readers saved from such a page, or folders of them")


def main() -> None:
    from cardiac_jax.report import reading
    from cardiac_jax.report.build import build, write_opinions
    from cardiac_jax.report.collect import collect, ordered, systems_of
    from cardiac_jax.results.readings import read_opinions
    from cardiac_jax.runs.experiments import paper_of
    from cardiac_jax.runs.seconds import seconds_per_stack

    opinions = read_opinions([Path(name) for name in READINGS.value]) if READINGS.value else {}
    if opinions and not RUNS.value:
        write_opinions(opinions, Path(OUT.value) if OUT.value else None, REFERENCE.value, cli.console)
        return
    cli.required(RUNS.value or None, "--runs")
    entries = collect([Path(name) for name in RUNS.value], SPLIT.value)
    # Interpolation and a user's system have no paper of their own.
    known = [found for name in systems_of(entries) if (found := paper_of(name)) is not None]
    paper = known[0] if len(known) == 1 else None
    entries = ordered(entries, tuple(paper.STUDY) if paper else ())
    methods = [entry.results for entry in entries]
    if READING.value:
        reading.build(methods, Path(READING.value), cli.console, READING_SEED.value)
        if OUT.value is None:
            return
    out = Path(cli.required(OUT.value, "--out"))
    build(
        entries,
        out,
        cli.console,
        reference=REFERENCE.value,
        own=paper.REFERENCE if paper else "",
        published=paper.PUBLISHED if paper else {},
        leave_out=LEAVE_OUT.value,
        title=TITLE.value,
        seconds=seconds_per_stack(methods, TIME.value) if TIME.value else {},
        opinions=opinions,
    )


def run() -> None:
    """Entry point of `cardiac-report` and of `python -m launch.report`."""
    cli.run(main, __name__)
