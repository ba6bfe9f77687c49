"""The full workflow on the phantom: simulate, train prior and SRSCN, evaluate on test patients, report.

python -m launch.demo [--workdir=demo_run]      about ten minutes on 2 cores; the same command resumes it
"""

from pathlib import Path

from absl import flags

from cardiac_jax.commands import cli

WORKDIR = flags.DEFINE_string("workdir", "demo_run", "where everything is written")


def main() -> int:
    """Returns 0, or the exit status of the command that failed."""
    workdir = Path(WORKDIR.value)
    data, run, out, report = (workdir / name for name in ("phantom", "srscn", "test", "report"))
    config = "--config=srscn:method=srscn,preset=demo"
    commands = (
        ["launch.train", config, f"--config.data.root={data}", f"--workdir={run}"],
        ["launch.evaluate", f"--workdir={run}", "--split=test", f"--out={out}"],
        ["launch.report", f"--runs={out}", f"--out={report}", "--title=SRSCN on unseen phantom patients"],
    )
    for command in commands:
        cli.console.rule(" ".join(["python -m", *command]))
        status = cli.call(*command)
        if status:
            return status
    cli.console.print(
        f"Open {report / 'report.html'} or {out / 'overlay.png'}; label maps are in {out / 'predictions'}."
    )
    return 0


def run() -> None:
    """Entry point of `cardiac-demo` and of `python -m launch.demo`."""
    cli.run(main, __name__)
