"""The largest connected component of a mask in any number of dimensions, on the device."""

import jax
import jax.numpy as jnp
from jax import Array, lax


def largest(mask: Array) -> Array:
    """Largest face-connected component of each mask: `[B, *S]` -> bool `[B, *S]`; of equal ones, the first.

    Every voxel takes the largest voxel number in its component, by maxima over neighbours until nothing changes.
    """
    return jax.vmap(_largest)(mask != 0)


def _largest(mask: Array) -> Array:
    numbers = jnp.where(mask, jnp.arange(1, mask.size + 1, dtype=jnp.int32)[::-1].reshape(mask.shape), 0)

    def spread(state: tuple[Array, Array]) -> tuple[Array, Array]:
        numbers, _ = state
        wider = numbers
        for axis in range(mask.ndim):  # a running maximum covers an entire line of the mask in one step
            wider = jnp.maximum(_along(wider, mask, axis), _along(wider, mask, axis, reverse=True))
        return wider, jnp.any(wider != numbers)

    numbers, _ = lax.while_loop(lambda state: state[1], spread, (numbers, jnp.asarray(True)))
    sizes = jnp.zeros(mask.size + 1, jnp.int32).at[numbers.reshape(-1)].add(1).at[0].set(0)
    top = sizes.max()
    winner = mask.size - jnp.argmax(sizes[::-1] == top)
    return mask & (numbers == winner)


def _along(numbers: Array, mask: Array, axis: int, reverse: bool = False) -> Array:
    """Running maximum along `axis` that restarts at every gap of the mask."""

    def join(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        return jnp.where(b[1], b[0], jnp.maximum(a[0], b[0])), a[1] | b[1]

    return lax.associative_scan(join, (numbers, ~mask), reverse=reverse, axis=axis)[0] * mask
