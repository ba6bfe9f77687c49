"""The commands: their flags, and a call of `cardiac_jax.runs` or `cardiac_jax.report`.

`launch/` and the console scripts start them.
"""
