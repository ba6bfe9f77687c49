"""Checks a data set, or writes a phantom. See `cardiac_jax/commands/prepare.py`, or --help."""

from cardiac_jax.commands.prepare import run

if __name__ == "__main__":
    run()
