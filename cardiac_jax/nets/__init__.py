"""Networks, built from the layers in `cardiac_jax.nets.layers`."""
