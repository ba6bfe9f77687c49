"""Networks, composed of the layers in `cardiac_jax.nets.layers`."""
