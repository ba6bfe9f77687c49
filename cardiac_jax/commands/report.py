"""Writes one self-contained page from any number of evaluations: tables, statistics, plots, cases, provenance.

    python -m launch.report --runs=DIR[,DIR...] --out=DIR [--split=val --reference=srscn --leave_out=CASE]

A DIR is the output of `launch.evaluate` (for a checkpoint or for label maps of any other program), a training run with
an evaluation in its `evaluation_<split>`, or the folder of a study.
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


def main() -> None:
    from cardiac_jax.report.build import build
    from cardiac_jax.report.collect import collect, ordered, systems_of
    from cardiac_jax.runs.experiments import paper_of

    cli.required(RUNS.value or None, "--runs")
    out = Path(cli.required(OUT.value, "--out"))
    entries = collect([Path(name) for name in RUNS.value], SPLIT.value)
    known = [paper_of(name) for name in systems_of(entries)]
    paper = known[0] if len(known) == 1 else None
    build(
        ordered(entries, tuple(paper.STUDY) if paper else ()),
        out,
        cli.console,
        reference=REFERENCE.value,
        own=paper.REFERENCE if paper else "",
        published=paper.PUBLISHED if paper else {},
        leave_out=LEAVE_OUT.value,
        title=TITLE.value,
    )


def run() -> None:
    """Entry point of `cardiac-report` and of `python -m launch.report`."""
    cli.run(main, __name__)
