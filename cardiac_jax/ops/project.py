"""Projection of masks onto decodable masks that pass a check (Abramson, Popescu et al. 2020, stage 3).

A mask is encoded to z. If its decoded mask passes, that is the answer; else z* = z + a (z_NN - z), with z_NN the
nearest code of a bank of codes that pass, and a the smallest in [0, 1] that passes. (The paper prints z - z_NN, which
would lead away from the valid neighbour.) Every mask returned is checked last of all, as the array that is returned:
a compiler may evaluate a decoder twice and round differently. What failed then, and a = 1, take the mask that was
stored with the neighbour's code when it passed.

A mask may be a label map as well: what is decoded is packed, stored, checked and returned as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cardiac_jax.errors import InputError
from cardiac_jax.ops.mixture import Mixture, sample

Encode = Callable[[Array], Array]  # masks [N, H, W] of any kind -> codes [N, d]
Decode = Callable[[Array], Array]  # codes [N, d] -> masks [N, H, W]: bool, or labels 0 to 3, uint8
Check = Callable[[Array], Array]  # masks [N, H, W] as decoded -> whether they pass [N]

_FEW = 64  # slices: fewer search 4 at a time by 7 values each, which fills one word of the check; more, one by one
_PATIENCE = 8  # a refusal needs this many times the draws in which one was to be accepted
_LABEL_BITS = 2


class Bank(NamedTuple):
    """Codes that pass the check: `codes [M, d]`, `masks` uint8, as decoded, packed along W (see `pack`)."""

    codes: Array
    masks: Array


class Projection(NamedTuple):
    """Attributes:
    masks: `[N, H, W]`, bool or uint8 as decoded.
    alpha: `[N]`, how far each code moved towards its neighbour.
    neighbour: `[N]`, index of the nearest code of the bank.
    changed: `[N]`, whether the code moved at all.
    valid: `[N]`, what the check said of `masks`. All true, unless the bank was drawn under another check.
    """

    masks: Array
    alpha: Array
    neighbour: Array
    changed: Array
    valid: Array


class Resampled(NamedTuple):
    """The bank and the number of codes drawn for it: `len(bank.codes) / drawn` is the accept rate, nearly."""

    bank: Bank
    drawn: int
    accepted: int


class _Search(NamedTuple):
    """Where each of C slices stands: on the grid until `found`, then between `low` (fails) and `high` (passes)."""

    step: Array  # grid values tried; then bisections made
    found: Array
    low: Array
    high: Array
    masks: Array  # at `high`


def project(
    masks: Array, encode: Encode, decode: Decode, bank: Bank, check: Check, grid: int = 16, bisections: int = 6
) -> Projection:
    """Projects masks `[N, H, W]`, as `encode` takes them, all at once. Meant to be jitted with the functions bound.

    Of the values 1 / grid, 2 / grid, ..., 1 the first that passes is taken, and `bisections` between it and the one
    before bring alpha to within 1 / (grid 2^bisections): no smaller grid value passes, nor does that bracket's lower
    end. All slices are decoded and checked at once; those that fail search together, a group at a time.
    """
    number, _, width = masks.shape
    codes = encode(masks)
    neighbour, _ = nearest(codes, bank.codes)
    target = bank.codes[neighbour]
    stored = unpack(bank.masks[neighbour], width)
    together, levels = (min(number, 4), 3) if number < _FEW else (_FEW, 1)

    def search(result: Projection, failing: Array) -> Projection:
        order = jnp.argsort(~failing)

        def some(state: tuple[Array, Projection]) -> tuple[Array, Projection]:
            begin, result = state
            index = lax.dynamic_slice_in_dim(order, jnp.minimum(begin, number - together), together)
            found = _search(codes[index], target[index], stored[index], decode, check, grid, bisections, levels)
            moved = failing[index]
            new = jnp.where(moved[:, None, None], found.masks, result.masks[index])
            alpha = jnp.where(moved, found.high, result.alpha[index])
            changed = result._replace(masks=result.masks.at[index].set(new), alpha=result.alpha.at[index].set(alpha))
            return begin + together, changed

        return lax.while_loop(lambda state: state[0] < failing.sum(), some, (jnp.int32(0), result))[1]

    def turn(state: tuple[Array, Array, Projection]) -> tuple[Array, Array, Projection]:
        begin, _, result = state
        passed = check(result.masks)
        result = search(result, ~passed & begin)
        refused = ~passed & ~begin & (result.alpha < 1)
        masks = jnp.where(refused[:, None, None], stored, result.masks)
        result = result._replace(masks=masks, alpha=jnp.where(refused, 1.0, result.alpha), valid=passed)
        return jnp.asarray(False), begin | refused.any(), result

    none = jnp.zeros(number)
    start = Projection(decode(codes), none, neighbour, none > 0, none > 0)
    begin = jnp.asarray(True)
    result = lax.while_loop(lambda state: state[1], turn, (begin, begin, start))[2]
    return result._replace(changed=result.alpha > 0)


def _search(
    codes: Array,
    target: Array,
    stored: Array,
    decode: Decode,
    check: Check,
    grid: int,
    bisections: int,
    levels: int,
) -> _Search:
    """The smallest passing alpha from `codes` to `target`, both `[C, d]`, whose own masks are `stored [C, H, W]`.

    2^levels - 1 values are tried at once: the next of the grid, or all that the next `levels` bisections may ask for.
    """
    number, parts = len(codes), 2**levels
    ways, slices = jnp.arange(1, parts)[:, None], jnp.arange(number)

    def advance(state: _Search) -> _Search:
        on_grid = ~state.found
        from_grid = jnp.minimum(state.step[None] + ways, grid - 1) / grid
        halved = state.low[None] + (state.high - state.low)[None] * ways / parts
        alpha = jnp.where(on_grid[None], from_grid, halved)
        moved = codes[None] + alpha[..., None] * (target - codes)[None]
        decoded = decode(moved.reshape(-1, codes.shape[1]))
        passed = check(decoded).reshape(parts - 1, number)

        low, high = jnp.zeros(number, jnp.int32), jnp.full(number, parts, jnp.int32)
        for level in range(levels):
            middle, more = (low + high) // 2, state.step + level < bisections
            below = passed[middle - 1, slices]
            low, high = jnp.where(more & ~below, middle, low), jnp.where(more & below, middle, high)
        best = jnp.where(on_grid, passed.argmax(0), jnp.minimum(high, parts - 1) - 1)
        better = jnp.where(on_grid, passed.any(0), high < parts)
        ended = on_grid & (passed.any(0) | (state.step + parts > grid - 1))
        top = jnp.where(better, alpha[best, slices], state.high)
        bottom = state.low + (state.high - state.low) * low / parts
        decoded = decoded.reshape(parts - 1, *stored.shape)[best, slices]
        return _Search(
            step=jnp.where(ended, 0, state.step + jnp.where(on_grid, parts - 1, levels)),
            found=state.found | ended,
            low=jnp.where(on_grid, top - 1 / grid, bottom),
            high=top,
            masks=jnp.where(better[:, None, None], decoded, state.masks),
        )

    def going(state: _Search) -> Array:
        return jnp.any(~state.found | (state.step < bisections))

    none = jnp.zeros(number)
    start = _Search(none.astype(jnp.int32), none.astype(bool), none, none + 1, stored)
    return lax.while_loop(going, advance, start)


def pack(masks: Array) -> Array:
    """Masks `[N, H, W]` as bits along W: bool -> uint8 `[N, H, ceil(W / 8)]`; labels 0 to 3 -> both bits in turn."""
    if masks.dtype == bool:
        return jnp.packbits(masks, axis=-1)
    return jnp.concatenate([jnp.packbits((masks >> bit) & 1, axis=-1) for bit in range(_LABEL_BITS)], -1)


def unpack(packed: Array, width: int) -> Array:
    """What `pack` made of masks `width` pixels wide: bool, or labels 0 to 3, uint8.

    Raises ValueError for another number of bytes.
    """
    size = -(-width // 8)
    if packed.shape[-1] not in (size, _LABEL_BITS * size):
        raise ValueError(f"{packed.shape[-1]} bytes a row are no masks {width} pixels wide")
    bits = [jnp.unpackbits(part, axis=-1, count=width) for part in jnp.split(packed, packed.shape[-1] // size, -1)]
    return bits[0].astype(bool) if len(bits) == 1 else bits[0] | (bits[1] << 1)


def nearest(codes: Array, bank: Array, chunk: int = 1024) -> tuple[Array, Array]:
    """Index of the nearest of `bank [M, d]` for each of `codes [Q, d]`, and its squared distance: `[Q]`, `[Q]`.

    Exact: differences are squared, not expanded. The first of equals wins. No more than Q x `chunk` distances exist
    at a time.
    """
    size = len(bank)
    chunk = min(chunk, size)

    def look(best: tuple[Array, Array], begin: Array) -> tuple[tuple[Array, Array], None]:
        def along(square: Array, axis: tuple[Array, Array]) -> tuple[Array, None]:
            return square + jnp.square(axis[0][:, None] - axis[1][None]), None

        begin = jnp.minimum(begin, size - chunk)  # the last chunk overlaps the one before
        part = lax.dynamic_slice_in_dim(bank, begin, chunk)
        square, _ = lax.scan(along, jnp.zeros((len(codes), chunk), codes.dtype), (codes.T, part.T))
        value = square.min(1)
        index = jnp.where(square == value[:, None], jnp.arange(chunk)[None], chunk).min(1)  # argmin is not vectorised
        nearer = value < best[1]
        return (jnp.where(nearer, begin + index, best[0]), jnp.where(nearer, value, best[1])), None

    none = (jnp.zeros(len(codes), jnp.int32), jnp.full(len(codes), jnp.inf, codes.dtype))
    return lax.scan(look, none, jnp.arange(0, size, chunk))[0]


def resample(
    key: Array,
    mixture: Mixture,
    decode: Decode,
    check: Check,
    wanted: int,
    batch: int = 256,
    least_rate: float = 0.01,
) -> Resampled:
    """Draws codes from `mixture` until `wanted` of them decode to masks that pass `check`.

    Raises InputError as soon as it is plain that fewer than `least_rate` of the draws pass.
    """

    @partial(jax.jit, static_argnames="n")
    def draw(key: Array, n: int) -> tuple[Array, Array, Array]:
        codes = sample(key, mixture, n)
        masks = decode(codes)
        return codes, pack(masks), check(masks)

    codes, masks, accepted, drawn = [], [], 0, 0
    while accepted < wanted:
        new_codes, new_masks, passed = (np.asarray(a) for a in draw(jax.random.fold_in(key, drawn), batch))
        codes.append(new_codes[passed])
        masks.append(new_masks[passed])
        accepted, drawn = accepted + int(passed.sum()), drawn + batch
        if drawn * least_rate >= _PATIENCE and accepted < least_rate * drawn:
            raise InputError(
                "resampling", f"only {accepted} of {drawn} drawn codes decode to masks that pass the check"
            )
    bank = Bank(*(jnp.asarray(np.concatenate(parts)[:wanted]) for parts in (codes, masks)))
    return Resampled(bank, drawn, accepted)


def still_valid(bank: Bank, width: int, check: Check, batch: int = 256) -> Bank:
    """The part of `bank`, of masks `width` pixels wide, that passes `check`, which may be stricter than the first."""

    @jax.jit
    def passes(masks: Array) -> Array:
        return check(unpack(masks, width))

    masks = np.asarray(bank.masks)
    filler = np.zeros((-len(masks) % batch, *masks.shape[1:]), masks.dtype)
    batches = np.concatenate([masks, filler]).reshape(-1, batch, *masks.shape[1:])
    kept = np.concatenate([np.asarray(passes(part)) for part in batches])[: len(masks)]
    return Bank(bank.codes[kept], bank.masks[kept])
