"""Writes label maps of images with a trained network. See `cardiac_jax/commands/predict.py`, or --help."""

from cardiac_jax.commands.predict import run

if __name__ == "__main__":
    run()
