"""Compares lengths of ACSNet's latent code. See `cardiac_jax/commands/latent.py`, or --help."""

from cardiac_jax.commands.latent import run

if __name__ == "__main__":
    run()
