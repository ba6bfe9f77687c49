"""Makes one HTML page from any number of evaluations. See `cardiac_jax/commands/report.py`, or --help."""

from cardiac_jax.commands.report import run

if __name__ == "__main__":
    run()
