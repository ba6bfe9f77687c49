"""Trains an experiment, or goes on where it was stopped. See `cardiac_jax/commands/train.py`, or --help."""

from cardiac_jax.commands.train import run

if __name__ == "__main__":
    run()
