"""The switch between the forms of operations that XLA compiles best for a CPU and their plain forms."""

import os
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

PLAIN = "CARDIAC_JAX_PLAIN_OPS"


def is_plain() -> bool:
    """Returns whether the environment variable CARDIAC_JAX_PLAIN_OPS is 1: plain forms on every platform."""
    return os.environ.get(PLAIN) == "1"


def by_platform(cpu: Callable[..., Any], default: Callable[..., Any], *args: Any, plain: bool) -> Any:
    """Returns `cpu(*args)` on a CPU and `default(*args)` elsewhere, or with `plain` everywhere.

    Where JAX knows no accelerator, only the form in use is traced.
    """
    if plain:
        return default(*args)
    if jax.default_backend() == "cpu":
        return cpu(*args)
    return lax.platform_dependent(*args, cpu=cpu, default=default)
