"""Passes: run a network, apply a function, and chain passes."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from cardiac_jax.core.types import Array, Net, Pass, Values, Variables


def name_key(key: Array, name: str) -> Array:
    """Derives a key from `name`; adding a pass does not change the random numbers of other passes."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)


def example_keys(key: Array, values: Values) -> Array:
    """Keys `[B]`, derived from each example's position in the global batch, whatever the number of devices."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, values["index"])


def read(values: Values, name: str) -> Array:
    """Returns `values[name]`.

    Raises:
      KeyError: lists the names that exist.
    """
    try:
        return values[name]
    except KeyError:
        raise KeyError(f"no value named {name!r}; there are: {', '.join(sorted(values))}") from None


def call(net: Net, reads: Sequence[str], writes: Sequence[str], method: str | None = None) -> Pass:
    """Pass that runs a network on the values `reads` and writes its outputs to the names `writes`, in order."""

    def apply(variables: Variables, values: Values, *, key: Array, train: frozenset[str]) -> tuple[Values, Variables]:
        training = net.name in train
        outputs: Any = net.module.apply(
            dict(variables[net.name]),
            *(read(values, name) for name in reads),
            train=training,
            mask=values.get("mask"),
            index=values.get("index"),
            rngs={"dropout": name_key(key, f"{net.name}.{method}")} if training else None,
            mutable=["batch_stats"] if training else False,
            method=method,
        )
        if training:
            outputs, updates = outputs
            variables = {**variables, net.name: {**variables[net.name], **updates}}
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {**values, **dict(zip(writes, outputs, strict=True))}, variables

    return apply


def pure(fn: Callable[..., Array], reads: Sequence[str], write: str) -> Pass:
    """Pass that writes `fn(*reads)`; `fn` takes and returns batch-leading arrays."""

    def apply(variables: Variables, values: Values, *, key: Array, train: frozenset[str]) -> tuple[Values, Variables]:
        return {**values, write: fn(*(read(values, name) for name in reads))}, variables

    return apply


def random(fn: Callable[..., tuple[Array, ...]], reads: Sequence[str], writes: Sequence[str]) -> Pass:
    """Pass that writes the outputs of `fn(keys [B], *reads)`; each example has its own key (e.g. augmentation)."""

    def apply(variables: Variables, values: Values, *, key: Array, train: frozenset[str]) -> tuple[Values, Variables]:
        keys = example_keys(name_key(key, ",".join(writes)), values)
        outputs = fn(keys, *(read(values, name) for name in reads))
        return {**values, **dict(zip(writes, outputs, strict=True))}, variables

    return apply


def per(axis: int, step: Pass, reads: Sequence[str], writes: Sequence[str], mask: str = "") -> Pass:
    """Pass that runs `step` on each entry along `axis` as one example, e.g. a 2D network on the slices of volumes.

    Values in `reads` are reshaped from `[B, ..., N, ...]` to `[B * N, ...]`, those in `writes` back.

    Args:
      axis: 1 or more; axis 0 is the batch.
      mask: name of a value `[B, N]`; entries where it is 0 are padding. "": no entry is padding.
    """

    def apply(variables: Variables, values: Values, *, key: Array, train: frozenset[str]) -> tuple[Values, Variables]:
        moved = {name: jnp.moveaxis(read(values, name), axis, 1) for name in reads}
        batch, count = next(iter(moved.values())).shape[:2]
        flat = {name: value.reshape(batch * count, *value.shape[2:]) for name, value in moved.items()}
        if "mask" in values:
            real = read(values, mask) if mask else jnp.ones((batch, count))
            flat["mask"] = (values["mask"][:, None] * real).reshape(-1)
            flat["index"] = (values["index"][:, None] * count + jnp.arange(count)[None]).reshape(-1)
        out, variables = step(variables, flat, key=key, train=train)
        back = {name: read(out, name).reshape(batch, count, *out[name].shape[1:]) for name in writes}
        return {**values, **{name: jnp.moveaxis(value, 1, axis) for name, value in back.items()}}, variables

    return apply


def chain(*passes: Pass) -> Pass:
    """Pass that runs `passes` in order; each can read the values that earlier passes wrote."""

    def apply(variables: Variables, values: Values, *, key: Array, train: frozenset[str]) -> tuple[Values, Variables]:
        for step in passes:
            values, variables = step(variables, values, key=key, train=train)
        return values, variables

    return apply
