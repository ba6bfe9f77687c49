"""Losses of named values. Leaf functions are unbatched; every loss returns `[B]`, also after combination.

`term` maps a leaf function over the batch. `pooled` computes a loss over the whole batch (e.g. batch Dice): it sums
statistics per example over the real examples of all devices, and every example gets the same value.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from cardiac_jax.core.passes import read
from cardiac_jax.core.types import Array, Loss, LossState, Values

Weight = float | optax.Schedule


def term(fn: Callable[..., Array], **reads: str) -> Loss:
    """Loss of `fn(argument=example, ...) -> scalar`, vmapped; `reads` maps arguments of `fn` to names of values."""

    def apply(state: LossState, values: Values) -> tuple[Array, LossState, dict[str, Array]]:
        arguments = {argument: read(values, name) for argument, name in reads.items()}
        return jax.vmap(lambda kw: fn(**kw))(arguments), state, {}

    return Loss(lambda: (), apply)


def pooled(
    statistics: Callable[..., Any], value: Callable[[Any], Array], axis_name: str | None = None, **reads: str
) -> Loss:
    """Loss `value(sum of statistics per example)` over the global batch; padded examples (`mask` 0) do not count.

    With a device axis every device gets the same value. The gradient is correct after the caller sums
    `mask * loss / count` and its gradients over devices (the transpose of psum is psum).
    """

    def apply(state: LossState, values: Values) -> tuple[Array, LossState, dict[str, Array]]:
        arguments = {argument: read(values, name) for argument, name in reads.items()}
        mask = read(values, "mask")
        parts = jax.vmap(lambda kw: statistics(**kw))(arguments)
        sums = jax.tree.map(lambda part: jnp.tensordot(mask, part, axes=1, precision="highest"), parts)
        sums = lax.psum(sums, axis_name) if axis_name else sums
        return jnp.broadcast_to(value(sums), mask.shape), state, {}

    return Loss(lambda: (), apply)


def weighted(loss: Loss, weight: Weight) -> Loss:
    """Loss `weight * loss`; for a schedule `step -> weight`, the step is the number of calls, kept in the state."""
    if not callable(weight):

        def apply(state: LossState, values: Values) -> tuple[Array, LossState, dict[str, Array]]:
            value, state, logs = loss.apply(state, values)
            return weight * value, state, {**logs, "raw": logs.get("raw", value)}

        return Loss(loss.init, apply)

    def apply_scheduled(state: LossState, values: Values) -> tuple[Array, LossState, dict[str, Array]]:
        count, inner = state
        value, inner, logs = loss.apply(inner, values)
        return jnp.asarray(weight(count)) * value, (count + 1, inner), {**logs, "raw": logs.get("raw", value)}

    return Loss(lambda: (jnp.zeros((), jnp.int32), loss.init()), apply_scheduled)


def total(**named: Loss) -> Loss:
    """Sum of named losses; logs each unweighted under its name and, if weighted, also as `<name>_weighted`."""

    def init() -> LossState:
        return {name: loss.init() for name, loss in named.items()}

    def apply(state: LossState, values: Values) -> tuple[Array, LossState, dict[str, Array]]:
        states, logs, values_of = {}, {}, []
        for name, loss in named.items():
            value, states[name], inner = loss.apply(state[name], values)
            values_of.append(value)
            logs[name] = inner.pop("raw", value)
            if logs[name] is not value:
                logs[f"{name}_weighted"] = value
            logs.update({f"{name}/{key}": log for key, log in inner.items()})
        return jnp.sum(jnp.stack(values_of), axis=0), states, logs

    return Loss(init, apply)


def deep(loss: Loss, key: str, weights: Sequence[float]) -> Loss:
    """Deep supervision: sum over i of `weights[i] * loss`, with `key` read from `<key>_i`."""

    def init() -> LossState:
        return tuple(loss.init() for _ in weights)

    def apply(state: LossState, values: Values) -> tuple[Array, LossState, dict[str, Array]]:
        results = [loss.apply(state[i], {**values, key: read(values, f"{key}_{i}")}) for i, _ in enumerate(weights)]
        value = jnp.sum(jnp.stack([w * result[0] for w, result in zip(weights, results, strict=True)]), axis=0)
        logs = {f"{key}_{i}": result[0] for i, result in enumerate(results)}
        return value, tuple(result[1] for result in results), logs

    return Loss(init, apply)
