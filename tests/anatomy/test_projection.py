"""Projection onto valid masks: the guarantee, the least alpha, the direction; nearest codes; resampling.

The decoder is a formula: a ring of given centre, radius and wall, bent by one code and cracked by another. Nothing is
learned, a code decodes to the same mask every time, and about half of the codes near the origin are valid.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiac_jax.anatomy import wall_check
from cardiac_jax.anatomy.mixture import Mixture, sample
from cardiac_jax.anatomy.projection import Bank, Projection, nearest, pack, project, resample
from cardiac_jax.anatomy.validity import failures
from cardiac_jax.errors import InputError
from tests import anatomy_reference as reference

SIZE, CODES, SPACING_MM, GRID, HALVINGS = 36, 6, 1.4, 8, 3
LANES = 32  # masks that are checked in the time of one
MIXTURE = Mixture(jnp.ones(1), jnp.zeros((1, CODES)), 0.7 * jnp.eye(CODES)[None])


@jax.jit
def decode(codes: jax.Array) -> jax.Array:
    """Codes `[N, 6]` (row, column, radius, wall, bend, crack) -> masks `[N, 36, 36]`."""
    row, column, radius, wall, bend, crack = (codes[:, i, None, None] for i in range(CODES))
    axis = jnp.arange(SIZE, dtype=jnp.float32) - SIZE / 2
    y, x = axis[None, :, None] - 1.5 * row, axis[None, None, :] - 1.5 * column
    angle = jnp.arctan2(y, x)
    middle = 8.5 + radius + 1.5 * jnp.maximum(bend, 0) * jnp.sin(4 * angle)
    half = 2.2 + 0.8 * jnp.tanh(wall) - 4 * jnp.maximum(crack, 0) * jnp.exp(-jnp.square(angle / 0.2))
    return half > jnp.abs(jnp.sqrt(y * y + x * x + 1e-6) - middle)


@jax.jit
def encode(masks: jax.Array) -> jax.Array:
    """Centre and size of whatever is there; bend and crack from sums without meaning. Far out for noise."""
    mass = jnp.maximum(masks.sum((1, 2)), 1.0)
    axis = jnp.arange(SIZE, dtype=jnp.float32) - SIZE / 2
    row, column = (masks.sum(2) * axis[None]).sum(1) / mass, (masks.sum(1) * axis[None]).sum(1) / mass
    odd = (masks * jnp.sin(axis)[None, :, None] * jnp.cos(axis)[None, None, :]).sum((1, 2)) / 4
    return jnp.stack([row / 1.5, column / 1.5, mass / 100 - 2.4, mass / 300 - 0.8, odd, row - odd], 1)


def check(masks: jax.Array) -> jax.Array:
    return wall_check.check(masks, SPACING_MM, wall_check.Limits(c_shaped=False)).valid


@jax.jit
def plain(masks: jax.Array) -> jax.Array:
    """A check that compiles in no time, for what does not depend on anatomy: neither too little nor too much."""
    area = masks.sum((1, 2))
    return (area > 180) & (area < 300)


class Setting(NamedTuple):
    bank: Bank
    project: Callable[[np.ndarray, Bank], Projection]


@pytest.fixture(scope="module")
def setting() -> Setting:
    """The bank: of 400 codes those whose masks pass, 32 at a time, as in the projection."""
    codes = sample(jax.random.key(0), MIXTURE, 400)
    masks = decode(codes)
    passed = ~failures(np.asarray(masks), SPACING_MM, wall_check.Limits(c_shaped=False)).any(1)
    assert passed.sum() > 100
    return Setting(Bank(codes[passed], pack(masks)[passed]), _jitted(encode, decode, check))


@pytest.fixture(scope="module")
def plain_setting() -> Setting:
    drawn = resample(jax.random.key(0), MIXTURE, decode, plain, 150, batch=256)
    return Setting(drawn.bank, _jitted(encode, decode, plain))


@cache
def _jitted(encode, decode, check, grid: int = GRID, bisections: int = HALVINGS) -> Callable[..., Projection]:
    fixed = partial(project, encode=encode, decode=decode, check=check, grid=grid, bisections=bisections)
    return jax.jit(lambda masks, bank: fixed(masks, bank=bank))


def _passes_reference(mask: np.ndarray) -> bool:
    limits = wall_check.Limits(c_shaped=False)
    measured = reference.measure(np.asarray(mask), SPACING_MM, float(limits.pocket_mm), float(limits.tip_mm))
    return reference.verdict(measured, limits)["valid"]


def _hostile(seed: int, number: int) -> np.ndarray:
    """Noise of every density, empty, full, stripes, single pixels, broken and bent rings: `[number, 36, 36]` bool."""
    rng = np.random.default_rng(seed)
    masks = rng.random((number, SIZE, SIZE)) < rng.random((number, 1, 1))
    masks[0], masks[1] = False, True
    masks[2] = (np.arange(SIZE) % 2).astype(bool)
    masks[3] = False
    masks[3, rng.integers(SIZE), rng.integers(SIZE)] = True
    codes = rng.normal(0, 2, (number - 4, CODES)).astype(np.float32)
    rings = np.asarray(decode(jnp.asarray(codes)))
    return np.concatenate([masks[:4], np.where(rng.random((number - 4, 1, 1)) < 0.5, masks[4:], rings)])


@settings(max_examples=5, deadline=None)  # of 32 masks each
@given(seed=st.integers(0, 2**32 - 1))
def test_every_mask_projects_to_one_that_passes(setting: Setting, seed: int):
    result = setting.project(_hostile(seed, LANES), setting.bank)
    assert np.asarray(result.valid).all()
    assert all(_passes_reference(mask) for mask in result.masks)
    alpha = np.asarray(result.alpha)
    assert ((alpha >= 0) & (alpha <= 1)).all()
    np.testing.assert_array_equal(result.changed, alpha > 0)


def test_what_decodes_to_a_valid_mask_stays(setting: Setting):
    masks = _hostile(1, LANES)
    own = np.asarray(decode(encode(jnp.asarray(masks, jnp.float32))))
    passes = np.asarray([_passes_reference(mask) for mask in own])
    assert 0 < passes.sum() < LANES
    result = setting.project(masks, setting.bank)
    np.testing.assert_array_equal(np.asarray(result.alpha) == 0, passes)
    np.testing.assert_array_equal(np.asarray(result.masks)[passes], own[passes])


def test_alpha_is_the_smallest_that_passes(setting: Setting):
    masks = _hostile(2, LANES)
    result = setting.project(masks, setting.bank)
    codes = np.asarray(encode(jnp.asarray(masks, jnp.float32)))
    target = np.asarray(setting.bank.codes)[np.asarray(result.neighbour)]
    alpha = np.asarray(result.alpha, np.float64)
    assert len(set(alpha)) > 5  # not all at either end
    step = 1 / (GRID * 2**HALVINGS)
    np.testing.assert_allclose(alpha / step, np.round(alpha / step), atol=1e-4)

    def passes(i: int, at: float) -> bool:
        z = codes[i] + np.float32(at) * (target[i] - codes[i])
        return _passes_reference(np.asarray(decode(jnp.asarray(z)[None]))[0])

    for i in np.flatnonzero(alpha > 0):
        assert not any(passes(i, j / GRID) for j in range(GRID) if j / GRID < alpha[i] - 1e-6)
        assert not passes(i, alpha[i] - step)
        assert alpha[i] == 1 or passes(i, alpha[i])


def test_the_code_moves_towards_its_neighbour(setting: Setting):
    masks = _hostile(3, LANES)
    result = setting.project(masks, setting.bank)
    codes = np.asarray(encode(masks.astype(np.float32)), np.float64)
    bank = np.asarray(setting.bank.codes, np.float64)
    distance = np.linalg.norm(codes[:, None] - bank, axis=2)
    np.testing.assert_array_equal(result.neighbour, distance.argmin(1))
    between = np.flatnonzero((np.asarray(result.alpha) > 0) & (np.asarray(result.alpha) < 1))
    assert between.size
    for i in between:
        alpha, target = float(result.alpha[i]), bank[int(result.neighbour[i])]
        moved = codes[i] + alpha * (target - codes[i])
        assert np.linalg.norm(moved - target) == pytest.approx((1 - alpha) * distance[i].min())
        np.testing.assert_array_equal(decode(jnp.asarray(moved, jnp.float32)[None])[0], result.masks[i])


def test_more_slices_than_search_together_and_one_alone(plain_setting: Setting):
    masks = _hostile(4, 150)
    many = plain_setting.project(masks, plain_setting.bank)
    changed = np.flatnonzero(many.changed)
    assert len(changed) > 64, "some wait for their turn"
    assert np.asarray(plain(many.masks)).all()
    for i in (0, 149, *changed[[0, 63, 64, -1]]):
        alone = plain_setting.project(masks[i : i + 1], plain_setting.bank)
        np.testing.assert_array_equal(alone.masks[0], many.masks[i])
        assert alone.alpha[0] == many.alpha[i]


@pytest.mark.parametrize("grid, bisections", [(1, 0), (5, 1), (12, 4)])
def test_any_grid_and_number_of_bisections(plain_setting: Setting, grid: int, bisections: int):
    """Against the search written out, one slice and one value at a time."""
    masks, bank = _hostile(7, LANES), plain_setting.bank
    result = _jitted(encode, decode, plain, grid, bisections)(masks, bank)
    codes = np.asarray(encode(masks.astype(np.float32)))
    target = np.asarray(bank.codes)[np.asarray(result.neighbour)]
    values = np.arange(grid * 2**bisections + 1) / (grid * 2**bisections)
    passes = np.stack([plain(decode(codes + v * (target - codes))) for v in values.astype(np.float32)])
    passes[-1] = True
    for alpha, column in zip(np.asarray(result.alpha), passes.T, strict=True):
        high = int(column[:: 2**bisections].argmax()) * 2**bisections
        low = high - 2**bisections if high else high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if column[middle] else (middle, high)
        assert alpha == pytest.approx(values[high], abs=1e-6)


def blank(codes: jax.Array) -> jax.Array:
    return jnp.zeros((codes.shape[0], SIZE, SIZE), bool)


@pytest.mark.parametrize("broken", ["encoder", "decoder"])
def test_stored_masks_keep_the_guarantee_where_the_networks_fail(plain_setting: Setting, broken: str):
    def lost(masks: jax.Array) -> jax.Array:
        return jnp.full((masks.shape[0], CODES), jnp.nan)

    one, other = (lost, decode) if broken == "encoder" else (encode, blank)
    result = _jitted(one, other, plain)(_hostile(5, LANES), plain_setting.bank)
    assert np.asarray(result.valid).all()
    np.testing.assert_array_equal(result.alpha, np.ones(LANES))
    np.testing.assert_array_equal(result.masks, _stored(plain_setting.bank)[np.asarray(result.neighbour)])


def test_a_mask_that_changes_after_its_check_is_replaced(plain_setting: Setting):
    """A check that refuses a mask the second time it sees it, as if it had been decoded to something else."""
    seen: set[bytes] = set()

    def fickle(masks: np.ndarray) -> np.ndarray:
        fresh = np.asarray([mask.tobytes() not in seen for mask in masks])
        seen.update(mask.tobytes() for mask in masks if mask.tobytes() not in stored)
        return fresh & np.asarray(plain(masks))

    def check(masks: jax.Array) -> jax.Array:
        return jax.pure_callback(fickle, jax.ShapeDtypeStruct(masks.shape[:1], bool), masks)

    stored = {mask.tobytes() for mask in _stored(plain_setting.bank)}
    result = _jitted(encode, decode, check)(_hostile(5, 8), plain_setting.bank)
    moved = np.asarray(result.changed)
    assert 2 <= moved.sum() < 8, "what stays is not looked at twice"
    np.testing.assert_array_equal(result.alpha, moved)
    want = _stored(plain_setting.bank)[np.asarray(result.neighbour)]
    np.testing.assert_array_equal(np.asarray(result.masks)[moved], want[moved])
    assert np.asarray(result.valid).all()


def test_a_bank_of_another_check_is_told_apart(plain_setting: Setting):
    """Two codes, of which one was stored with a mask that this check refuses; the decoder gives nothing valid."""
    codes, masks = (np.tile(part[:2], (75, *[1] * (part.ndim - 1))) for part in map(np.asarray, plain_setting.bank))
    masks[1::2] = 0
    mixed = Bank(jnp.asarray(codes), jnp.asarray(masks))
    result = _jitted(encode, blank, plain)(_hostile(6, LANES), mixed)
    assert set(np.asarray(result.neighbour)) == {0, 1}
    np.testing.assert_array_equal(result.valid, result.neighbour == 0)
    np.testing.assert_array_equal(result.valid, plain(result.masks))


def test_bank_holds_codes_that_decode_to_its_masks_and_pass(plain_setting: Setting):
    bank = plain_setting.bank
    assert bank.codes.shape == (150, CODES)
    np.testing.assert_array_equal(_stored(bank), np.asarray(decode(bank.codes)))
    area = _stored(bank).sum((1, 2))
    assert ((area > 180) & (area < 300)).all()


def test_resampling_is_repeatable_and_counts_its_draws():
    one, two, other = (resample(jax.random.key(k), MIXTURE, decode, plain, 300, batch=256) for k in (7, 7, 8))
    np.testing.assert_array_equal(one.bank.codes, two.bank.codes)
    assert not np.array_equal(one.bank.codes, other.bank.codes)
    assert len(np.unique(one.bank.codes, axis=0)) == 300  # every batch draws anew
    assert one.drawn % 256 == 0
    # The rate of other draws, counted by hand; both are binomial.
    codes = MIXTURE.cholesky[0, 0, 0] * jax.random.normal(jax.random.key(0), (4000, CODES))
    rate = np.mean(np.asarray(plain(decode(codes))))
    assert one.accepted / one.drawn == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / one.drawn))


def test_hopeless_resampling_is_refused():
    def never(masks: jax.Array) -> jax.Array:
        return jnp.zeros(masks.shape[0], bool)

    with pytest.raises(InputError, match="resampling: only 0 of 1024 sampled codes"):
        resample(jax.random.key(0), MIXTURE, decode, never, 10, batch=256)  # 8 / 0.01 draws, in whole batches


def _stored(bank: Bank) -> np.ndarray:
    return np.unpackbits(np.asarray(bank.masks), axis=-1, count=SIZE).astype(bool)


@pytest.mark.parametrize(
    "queries, size, width, chunk",
    [(12, 100_000, 16, 1024), (3, 10, 2, 4), (1, 1, 3, 8), (5, 64, 4, 64), (7, 65, 4, 64)],
)
def test_nearest_code_is_exact(queries: int, size: int, width: int, chunk: int):
    rng = np.random.default_rng(size)
    codes, bank = (rng.normal(3, 1, (n, width)).astype(np.float32) for n in (queries, size))
    index, square = nearest(jnp.asarray(codes), jnp.asarray(bank), chunk)
    for i, code in enumerate(codes.astype(np.float64)):
        expected = np.square(bank.astype(np.float64) - code).sum(1)
        assert index[i] == expected.argmin()
        assert square[i] == pytest.approx(expected.min(), rel=1e-5)


def test_nearest_of_equal_codes_is_the_first():
    bank = jnp.zeros((10, 3)).at[4:].set(1.0)
    index, square = nearest(jnp.ones((1, 3)), bank, 3)
    assert (index[0], square[0]) == (4, 0)


def test_nearest_holds_no_more_than_a_chunk_of_distances():
    shapes = jax.ShapeDtypeStruct((12, 16), jnp.float32), jax.ShapeDtypeStruct((100_000, 16), jnp.float32)
    memory = jax.jit(nearest).lower(*shapes).compile().memory_analysis()
    assert memory is not None
    # One chunk of codes and of distances, a few times over; all distances at once would be 4.8 MB.
    assert memory.temp_size_in_bytes < 6 * 1024 * (12 + 16) * 4
