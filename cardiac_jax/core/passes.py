"""Passes: run a network, apply a function, one after the other."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from cardiac_jax.core.types import Array, Net, Pass, Values, Variables


def name_key(key: Array, name: str) -> Array:
    """A key of its own for `name`, so that adding a pass leaves the random draws of the others as they were."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)


def example_keys(key: Array, values: Values) -> Array:
    """Keys `[B]` by position in the *global* batch: the same draws on one device and on eight."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, values["index"])


def read(values: Values, name: str) -> Array:
    """`values[name]`, or a KeyError that lists what there is."""
    try:
        return values[name]
    except KeyError:
        raise KeyError(f"no value named {name!r}; there are: {', '.join(sorted(values))}") from None


def call(net: Net, reads: Sequence[str], writes: Sequence[str], method: str | None = None) -> Pass:
    """Runs a network on the values named in `reads` and names its outputs after `writes`, in order."""

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
    """Writes `fn(*reads)`; `fn` takes and returns batch-leading arrays."""

    def apply(variables: Variables, values: Values, *, key: Array, train: frozenset[str]) -> tuple[Values, Variables]:
        return {**values, write: fn(*(read(values, name) for name in reads))}, variables

    return apply


def random(fn: Callable[..., tuple[Array, ...]], reads: Sequence[str], writes: Sequence[str]) -> Pass:
    """Writes the outputs of `fn(keys [B], *reads)`, each example with a key of its own (augmentation, corruption)."""

    def apply(variables: Variables, values: Values, *, key: Array, train: frozenset[str]) -> tuple[Values, Variables]:
        keys = example_keys(name_key(key, ",".join(writes)), values)
        outputs = fn(keys, *(read(values, name) for name in reads))
        return {**values, **dict(zip(writes, outputs, strict=True))}, variables

    return apply


def by_slice(step: Pass, reads: Sequence[str], writes: Sequence[str]) -> Pass:
    """Runs `step`, which knows slices, on volumes: `[B, Z, ...]` becomes `[B * Z, ...]` and what it wrote comes back.

    `mask` leaves out slices where `real [B, Z]`, if there is such a value, is 0; `index` counts slices.
    """

    def apply(variables: Variables, values: Values, *, key: Array, train: frozenset[str]) -> tuple[Values, Variables]:
        batch, depth = read(values, reads[0]).shape[:2]
        flat = {name: read(values, name).reshape(batch * depth, *values[name].shape[2:]) for name in reads}
        real = values["real"] if "real" in values else jnp.ones((batch, depth))
        if "mask" in values:
            flat["mask"] = (values["mask"][:, None] * real).reshape(-1)
            flat["index"] = (values["index"][:, None] * depth + jnp.arange(depth)[None]).reshape(-1)
        out, variables = step(variables, flat, key=key, train=train)
        back = {name: read(out, name).reshape(batch, depth, *out[name].shape[1:]) for name in writes}
        return {**values, **back}, variables

    return apply


def chain(*passes: Pass) -> Pass:
    """Passes one after the other; each sees what those before it wrote."""

    def apply(variables: Variables, values: Values, *, key: Array, train: frozenset[str]) -> tuple[Values, Variables]:
        for step in passes:
            values, variables = step(variables, values, key=key, train=train)
        return values, variables

    return apply
