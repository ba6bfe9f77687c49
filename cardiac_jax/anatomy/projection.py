"""Projection of masks onto decoded masks that pass a check (Abramson, Popescu et al. 2020, stage 3).

A mask is encoded to a code z. If the mask decoded from z passes, it is the result. Otherwise the code becomes
z* = z + a (z_NN - z), where z_NN is the nearest code in a bank of codes that pass, and a is the smallest value in
[0, 1] that passes. (The paper prints z - z_NN, which would lead away from the valid neighbour.) The check is applied to
the array that is returned, because a compiler may evaluate a decoder twice and round differently. Masks that fail then,
and those with a = 1, are replaced by the mask stored with the neighbour's code.

A mask may also be a label map; it is packed, stored, checked and returned as decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cardiac_jax.anatomy.mixture import Mixture, sample
from cardiac_jax.errors import InputError

Encode = Callable[[Array], Array]  # masks [N, H, W] of any kind -> codes [N, d]
Decode = Callable[[Array], Array]  # codes [N, d] -> masks [N, H, W]: bool, or labels 0 to 3, uint8
Check = Callable[[Array], Array]  # masks [N, H, W] as decoded -> whether they pass [N]

_WORD, _GROUP = 32, 64  # values of a tried at once: one word of the check, two if there are `_GROUP` slices or more
_PATIENCE = 8  # number of codes expected to pass before resampling may be refused
_LABEL_BITS = 2


class Bank(NamedTuple):
    """Codes that pass the check: `codes [M, d]`, and their decoded `masks`, uint8, packed along W (see `pack`)."""

    codes: Array
    masks: Array


class Projection(NamedTuple):
    """Result of `project`.

    Attributes:
      masks: `[N, H, W]`, bool or uint8 as decoded.
      alpha: `[N]`, the fraction of the way from each code to its neighbour.
      neighbour: `[N]`, index of the nearest code in the bank.
      changed: `[N]`, whether alpha > 0.
      valid: `[N]`, whether `masks` pass the check. All true, unless the bank was made with another check.
    """

    masks: Array
    alpha: Array
    neighbour: Array
    changed: Array
    valid: Array


class Resampled(NamedTuple):
    """The bank, the number of sampled codes (`drawn`), and the number that passed (`accepted`)."""

    bank: Bank
    drawn: int
    accepted: int


class _Search(NamedTuple):
    """State of the search of N slices: on the grid until `found`, then between `low` (fails) and `high` (passes)."""

    going: Array
    step: Array  # number of grid values tried, then number of bisections
    found: Array
    low: Array
    high: Array
    masks: Array  # at `high`


class _State(NamedTuple):
    """State of `project`. There is one loop with one check in it, because the check is most of what is compiled."""

    stage: Array  # `_DECODED` masks are checked, then the `_SEARCH`, then what `_MOVED` is checked again; `_END`
    begin: Array  # number of masks checked in this stage
    passed: Array  # whether the decoded mask passed, then whether the moved one does `[N]`
    search: _Search


class _Trials(NamedTuple):
    """Values of alpha tried in one round of the search, one per lane, divided evenly among the slices in search."""

    rank: Array  # [N], place of a slice among those in search
    rows: Array  # number of slices in this round
    share: Array  # number of values per slice
    which: Array  # slice of each lane
    turn: Array  # number of each lane's value within its slice
    levels: Array  # [N], number of bisections
    parts: Array  # [N], number of parts into which they divide the bracket
    alpha: Array
    asked: Array  # whether the lane's value is needed


_DECODED, _SEARCH, _MOVED, _END = range(4)


def project(
    masks: Array, encode: Encode, decode: Decode, bank: Bank, check: Check, grid: int = 16, bisections: int = 6
) -> Projection:
    """Project masks `[N, H, W]` in the form expected by `encode`. Meant to be jitted with the functions bound.

    The first of the values 1 / grid, 2 / grid, ..., 1 that passes is chosen. `bisections` between it and the previous
    value determine alpha to within 1 / (grid 2^bisections). No smaller grid value passes, nor does the lower end of the
    final bracket. All slices that fail are searched together.
    """
    number, _, width = masks.shape
    codes = encode(masks)
    neighbour, _ = nearest(codes, bank.codes)
    target = bank.codes[neighbour]
    stored = unpack(bank.masks[neighbour], width)
    lane = jnp.arange(_WORD if number < _GROUP else _GROUP, dtype=jnp.int32)

    def advance(state: _State) -> _State:
        search, begin = state.search, state.begin
        moved = state.stage == _MOVED
        which = (search.high > 0) | ~moved
        order = jnp.argsort(~which)
        index = order[jnp.minimum(begin + lane, number - 1)]
        trials = _trials(search, lane, grid, bisections)

        def moving() -> Array:
            way = (target - codes)[trials.which]
            return decode(codes[trials.which] + trials.alpha[:, None] * way)

        # The check is applied to the array that is kept, and a condition passes on the array itself.
        tried = lax.cond(state.stage == _SEARCH, moving, lambda: search.masks[index])
        passes = check(tried)
        end = begin + len(lane)
        done = end >= which.sum()
        passed = state.passed.at[jnp.where(begin + lane < which.sum(), index, number)].set(passes, mode="drop")

        def decoded() -> _State:
            failing = done & ~passed
            start = search._replace(
                going=failing,
                high=jnp.where(failing, 1.0, 0.0),
                masks=jnp.where(failing[:, None, None], stored, search.masks),
            )
            stage = jnp.where(done, jnp.where(failing.any(), _SEARCH, _END), _DECODED).astype(jnp.int32)
            return _State(stage, end, passed, start)

        def searched() -> _State:
            new = _searched(search, trials, tried, passes & trials.asked, lane, grid, bisections)
            stage = jnp.where(new.going.any(), _SEARCH, _MOVED).astype(jnp.int32)
            return _State(stage, jnp.int32(0), state.passed, new)

        def again() -> _State:
            """Moved masks that fail are replaced by the stored mask, and all are checked once more."""
            refused = done & (search.high > 0) & ~passed & (search.high < 1)
            end_here = search._replace(
                high=jnp.where(refused, 1.0, search.high),
                masks=jnp.where(refused[:, None, None], stored, search.masks),
            )
            stage = jnp.where(done & ~refused.any(), _END, _MOVED).astype(jnp.int32)
            return _State(stage, jnp.where(done, 0, end), passed, end_here)

        return lax.switch(state.stage, [decoded, searched, again])

    none = jnp.zeros(number)
    search = _Search(none > 0, none.astype(jnp.int32), none > 0, none, none, decode(codes))
    start = _State(jnp.int32(_DECODED), jnp.int32(0), none > 0, search)
    end = lax.while_loop(lambda state: state.stage < _END, advance, start)
    alpha = end.search.high
    return Projection(end.search.masks, alpha, neighbour, alpha > 0, end.passed)


def _trials(search: _Search, lane: Array, grid: int, bisections: int) -> _Trials:
    """The next values: of the grid, or all values that the next bisections may need."""
    number = len(search.going)
    order = jnp.argsort(~search.going)
    rank = jnp.zeros(number, jnp.int32).at[order].set(jnp.arange(number, dtype=jnp.int32))
    rows = jnp.clip(search.going.sum(), 1, len(lane))
    share = len(lane) // rows
    which, turn = order[lane % rows], lane // rows
    levels = jnp.minimum(31 - lax.clz(share + 1), bisections - search.step)
    parts = 1 << jnp.maximum(levels, 0)
    on_grid, width = ~search.found, search.high - search.low
    value = search.step[which] + turn + 1
    halved = search.low[which] + width[which] * (turn + 1) / parts[which]
    alpha = jnp.where(on_grid[which], jnp.minimum(value, grid - 1) / grid, halved)
    asked = (turn < share) & jnp.where(on_grid[which], value < grid, turn + 1 < parts[which])
    return _Trials(rank, rows, share, which, turn, levels, parts, alpha, asked)


def _searched(
    search: _Search, trials: _Trials, decoded: Array, passes: Array, lane: Array, grid: int, bisections: int
) -> _Search:
    """The search after a round: which of its values `passes`, and the masks `decoded` from them."""
    number, lanes = len(search.going), len(lane)
    rank, rows, share, which, turn, levels, parts, alpha, _ = trials
    on_grid, width = ~search.found, search.high - search.low
    here = rank < rows
    column = jnp.minimum(lane[None] * rows + rank[:, None], lanes - 1)  # [N, lanes]: trial of each value
    passed = passes[column] & here[:, None] & (lane < share)[None]
    low, high = jnp.zeros(number, jnp.int32), parts
    for level in range((lanes + 1).bit_length() - 1):
        middle = (low + high) // 2
        below = jnp.take_along_axis(passed, jnp.maximum(middle - 1, 0)[:, None], 1)[:, 0]
        low = jnp.where((level < levels) & ~below, middle, low)
        high = jnp.where((level < levels) & below, middle, high)
    best = jnp.where(on_grid, passed.argmax(1), high - 1)
    better = here & jnp.where(on_grid, passed.any(1), high < parts)
    wins = better[which] & (turn == best[which]) & (turn < share)
    tried = jnp.minimum(best * rows + rank, lanes - 1)
    top = jnp.where(better, alpha[tried], search.high)
    ended = here & on_grid & (better | (search.step + share >= grid - 1))
    step = search.step + jnp.where(here, jnp.where(on_grid, share, levels), 0)
    step, found = jnp.where(ended, 0, step), search.found | ended
    bottom = jnp.where(on_grid, top - 1 / grid, search.low + width * low / parts)
    return _Search(
        going=search.going & (~found | (step < bisections)),
        step=step,
        found=found,
        low=jnp.where(here, bottom, search.low),
        high=top,
        masks=search.masks.at[jnp.where(wins, which, number)].set(decoded, mode="drop"),
    )


def pack(masks: Array) -> Array:
    """Return masks `[N, H, W]` packed along W, uint8 `[N, H, ceil(W / 8)]`.

    Labels 0 to 3 give `[N, H, 2 ceil(W / 8)]`: their low bits, then their high bits.
    """
    if masks.dtype == bool:
        return jnp.packbits(masks, axis=-1)
    return jnp.concatenate([jnp.packbits((masks >> bit) & 1, axis=-1) for bit in range(_LABEL_BITS)], -1)


def unpack(packed: Array, width: int) -> Array:
    """Return the masks `[N, H, width]` packed by `pack`: bool, or uint8 labels 0 to 3.

    Raises:
      ValueError: the number of bytes per row does not match `width`.
    """
    size = -(-width // 8)
    if packed.shape[-1] not in (size, _LABEL_BITS * size):
        raise ValueError(f"{packed.shape[-1]} bytes per row do not match masks {width} pixels wide")
    bits = [jnp.unpackbits(part, axis=-1, count=width) for part in jnp.split(packed, packed.shape[-1] // size, -1)]
    return bits[0].astype(bool) if len(bits) == 1 else bits[0] | (bits[1] << 1)


def nearest(codes: Array, bank: Array, chunk: int = 1024) -> tuple[Array, Array]:
    """Return the index `[Q]` of the code in `bank [M, d]` nearest to each of `codes [Q, d]`, and the squared distance.

    Exact: differences are squared, not expanded. On a tie the first code is chosen. At most Q x `chunk` distances are
    in memory at a time.
    """
    size = len(bank)
    chunk = min(chunk, size)

    def look(best: tuple[Array, Array], begin: Array) -> tuple[tuple[Array, Array], None]:
        def along(square: Array, axis: tuple[Array, Array]) -> tuple[Array, None]:
            return square + jnp.square(axis[0][:, None] - axis[1][None]), None

        begin = jnp.minimum(begin, size - chunk)  # the last chunk overlaps the previous one
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
    """Sample codes from `mixture` until `wanted` of them decode to masks that pass `check`; return them as a bank.

    Args:
      batch: number of codes sampled at once.
      least_rate: smallest share of codes that must pass.

    Raises:
      InputError: fewer than `least_rate` of the codes pass, after at least `_PATIENCE / least_rate` samples.
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
                "resampling", f"only {accepted} of {drawn} sampled codes decode to masks that pass the check"
            )
    bank = Bank(*(jnp.asarray(np.concatenate(parts)[:wanted]) for parts in (codes, masks)))
    return Resampled(bank, drawn, accepted)
