"""Compiler options for `jax.jit(f, compiler_options=...)`."""

from functools import cache

import jax
import jax.numpy as jnp

# jaxlib 0.10 runs reductions, products and convolutions on a CPU with YNNPACK. Reductions and products become faster.
# Convolutions of 32 channels and more use the cores worse than Eigen's. Measured by benchmarks/ops.py.
_FAST = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
_ONCE = {"xla_backend_optimization_level": "0"}


def compiler_options(*, once: bool = False) -> dict[str, str]:
    """Compiler options for a program that runs often, or `once`, where compilation dominates (`net.init`).

    The dictionary is empty if the backend is not a CPU or this jaxlib does not know the options.
    """
    options = _ONCE if once else _FAST
    return dict(options) if jax.default_backend() == "cpu" and accepted(**options) else {}


@cache
def accepted(**options: str) -> bool:
    """Whether this jaxlib compiles with `options`; tested once, on an empty program."""
    try:
        jax.jit(lambda x: x).lower(jnp.zeros(())).compile(compiler_options=dict(options))
    except (jax.errors.JaxRuntimeError, ValueError):  # the error for an unknown name: "No such compile option"
        return False
    return True
