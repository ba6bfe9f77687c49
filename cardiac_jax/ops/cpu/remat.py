"""Rematerialisation in an order that saves memory on a CPU too.

On a CPU, XLA runs an operation as early as its dependencies allow, and it removes optimisation barriers before it
decides on the order. Values that `jax.checkpoint` recomputes are therefore recomputed at once. Here an operation waits
for another through a data dependency.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from cardiac_jax.ops.cpu.switch import by_platform, is_plain


def remat_ordered(call: Callable[..., Any], kept: tuple[Any, ...], late: tuple[Any, ...]) -> Any:
    """`call(*kept, *late)`, which stores only its arguments; the backward pass calls it a second time.

    In the backward pass, `late` (arrays or None) becomes available only after the gradient of the largest output.
    Everything that is differentiated must be among the arguments.
    """

    def forward(kept: tuple[Any, ...], late: tuple[Any, ...]) -> tuple[Any, tuple[Any, Any]]:
        out = jax.vjp(call, *kept, *late)[0]  # vjp selects the training form of convolutions
        return out, (kept, late)

    def backward(saved: tuple[Any, Any], gradient: Any) -> tuple[Any, Any]:
        kept, late = saved
        leaves, tree = jax.tree.flatten(late)
        late = jax.tree.unflatten(tree, _held_back(leaves, max(jax.tree.leaves(gradient), key=jnp.size)))
        found = jax.vjp(call, *kept, *late)[1](gradient)
        return found[: len(kept)], found[len(kept) :]

    def run(kept: tuple[Any, ...], late: tuple[Any, ...]) -> Any:
        return call(*kept, *late)

    run_ = jax.custom_vjp(run)
    run_.defvjp(forward, backward)
    return run_(kept, late)


def _held_back(leaves: list[Array], after: Array) -> list[Array]:
    def cpu(after: Array, *leaves: Array) -> list[Array]:
        return [wait(leaf, after) for leaf in leaves]

    def default(after: Array, *leaves: Array) -> list[Array]:
        return list(lax.optimization_barrier((after, *leaves))[1:])

    return by_platform(cpu, default, after, *leaves, plain=is_plain())


def wait(x: Array, after: Array) -> Array:
    """`x`, available only after `after` is computed."""
    return jnp.where(_never(after), jnp.zeros((), x.dtype), x)


def blank(shape: tuple[int, ...], after: Array) -> Array:
    """Zeros of `shape` and the type of `after`, allocated only after `after` is computed.

    Plain zeros are allocated at the start and occupy memory from then on.
    """
    return jnp.full(shape, jnp.where(_never(after), 1, 0), after.dtype)


def _never(after: Array) -> Array:
    """False, because no number has more than 64 bits set; the compiler cannot infer this."""
    one = after[(0,) * after.ndim]
    bits = lax.bitcast_convert_type(one, jnp.dtype(f"uint{8 * one.dtype.itemsize}"))
    return lax.population_count(bits) > 64
