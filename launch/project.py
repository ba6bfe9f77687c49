"""Makes label maps of any program anatomically valid. See `cardiac_jax/commands/project.py`, or --help."""

from cardiac_jax.commands.project import run

if __name__ == "__main__":
    run()
