"""Computing again in the backward pass instead of keeping, in an order that frees memory on a CPU too.

XLA runs operations on a CPU as early as what they depend on allows, and drops optimisation barriers before it decides:
what `jax.checkpoint` computes again, it computes again at once. Here one waits for another by depending on it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax


def remat_ordered(call: Callable[..., Any], kept: tuple[Any, ...], late: tuple[Any, ...]) -> Any:
    """`call(*kept, *late)`, of which only the arguments are kept; its gradient calls again.

    In the backward pass `late`, arrays or None, are there only once the gradient of the largest output is. All that
    is differentiated must be among the arguments.
    """

    def forward(kept: tuple[Any, ...], late: tuple[Any, ...]) -> tuple[Any, tuple[Any, Any]]:
        out = jax.vjp(call, *kept, *late)[0]  # convolutions in the form of training, not of inference
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

    return lax.platform_dependent(after, *leaves, cpu=cpu, default=default)


def wait(x: Array, after: Array) -> Array:
    """`x`, which is there only once `after` is."""
    return jnp.where(_never(after), jnp.zeros((), x.dtype), x)


def blank(shape: tuple[int, ...], after: Array) -> Array:
    """Zeros of the type of `after`, made only once it is there: all zeros else are made at the start, and held."""
    return jnp.full(shape, jnp.where(_never(after), 1, 0), after.dtype)


def _never(after: Array) -> Array:
    """False: no number has more than 64 bits, which the compiler does not see."""
    one = after[(0,) * after.ndim]
    bits = lax.bitcast_convert_type(one, jnp.dtype(f"uint{8 * one.dtype.itemsize}"))
    return lax.population_count(bits) > 64
