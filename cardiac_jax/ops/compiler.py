"""Compiler options for `jax.jit(f, compiler_options=compiler_options())`."""

from functools import cache

import jax
import jax.numpy as jnp

# The default fusion path of jaxlib 0.10 on a CPU runs 2D convolutions of 32 channels and more slower than Eigen.
_CPU = {"xla_cpu_experimental_ynn_fusion_type": ""}


def compiler_options() -> dict[str, str]:
    """Options that speed up convolutions on this backend; empty where it is no CPU or jaxlib does not know them."""
    return dict(_CPU) if jax.default_backend() == "cpu" and accepted(**_CPU) else {}


@cache
def accepted(**options: str) -> bool:
    """Whether this jaxlib compiles with `options`: found out once, on an empty program."""
    try:
        jax.jit(lambda x: x).lower(jnp.zeros(())).compile(compiler_options=dict(options))
    except (jax.errors.JaxRuntimeError, ValueError):  # an unknown name is refused as "No such compile option"
        return False
    return True
