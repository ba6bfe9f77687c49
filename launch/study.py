"""Trains and compares every variant of an experiment. See `cardiac_jax/commands/study.py`, or --help."""

from cardiac_jax.commands.study import run

if __name__ == "__main__":
    run()
