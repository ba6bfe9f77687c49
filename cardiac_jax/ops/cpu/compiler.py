"""Compiler options for `jax.jit(f, compiler_options=...)`."""

from functools import cache

import jax
import jax.numpy as jnp

# jaxlib 0.10 hands reductions, products and convolutions on a CPU to YNNPACK. The first two gain by it; its
# convolutions of 32 channels and more use the cores worse than Eigen's. Measured by benchmarks/ops.py.
_FAST = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
_ONCE = {"xla_backend_optimization_level": "0"}


def compiler_options(*, once: bool = False) -> dict[str, str]:
    """Options for a program that runs often, or for one that runs `once` and is mostly compilation (`net.init`).

    Empty where the backend is no CPU or this jaxlib does not know them.
    """
    options = _ONCE if once else _FAST
    return dict(options) if jax.default_backend() == "cpu" and accepted(**options) else {}


@cache
def accepted(**options: str) -> bool:
    """Whether this jaxlib compiles with `options`: found out once, on an empty program."""
    try:
        jax.jit(lambda x: x).lower(jnp.zeros(())).compile(compiler_options=dict(options))
    except (jax.errors.JaxRuntimeError, ValueError):  # an unknown name is refused as "No such compile option"
        return False
    return True
