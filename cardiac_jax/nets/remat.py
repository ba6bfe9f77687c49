"""Rematerialisation: the backward pass recomputes a part of a network instead of storing it."""

from collections.abc import Callable
from typing import Any

import jax
from flax.core import lift
from flax.linen.transforms import lift_transform
from jax.extend.core import jaxpr_as_fun

from cardiac_jax.ops.cpu.remat import remat_ordered


def remat(part: Callable[..., Any]) -> Callable[..., Any]:
    """`part(module, *args)` that stores only variables and arguments for the backward pass.

    Unlike `flax.linen.remat`, it saves memory on a CPU too (`ops/cpu/remat.py`).
    """
    return lift_transform(_lifted, part)


def _lifted(part: Callable[..., Any]) -> Callable[..., Any]:
    def inner(scope_of: Callable, repack: Callable, variables: Any, rngs: Any, *args: Any) -> Any:
        def run(variables: Any, rngs: Any, *args: Any) -> Any:
            scope = scope_of(variables, rngs)
            return part(scope, *args), repack(scope)

        # Trace here, once: the module is no longer bound in the backward pass.
        traced, shapes = jax.make_jaxpr(run, return_shape=True)(variables, rngs, *args)
        kept, late = jax.tree.leaves((variables, rngs)), jax.tree.leaves(args)
        return jax.tree.unflatten(
            jax.tree.structure(shapes), remat_ordered(jaxpr_as_fun(traced), tuple(kept), tuple(late))
        )

    return lift.pack(inner, (True,), (True,), (True,), name="recompute")
