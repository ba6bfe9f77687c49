"""Evaluates label maps, a checkpoint's or any other program's. See `cardiac_jax/commands/evaluate.py`, or --help."""

from cardiac_jax.commands.evaluate import run

if __name__ == "__main__":
    run()
