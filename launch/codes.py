"""Codes of label maps, and what they tell. See `cardiac_jax/commands/codes.py`, or --help."""

from cardiac_jax.commands.codes import run

if __name__ == "__main__":
    run()
