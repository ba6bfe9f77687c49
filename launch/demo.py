"""Runs the main job end to end on the phantom. See `cardiac_jax/commands/demo.py`, or --help."""

from cardiac_jax.commands.demo import run

if __name__ == "__main__":
    run()
