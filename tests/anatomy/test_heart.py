"""LV, myocardium and RV guaranteed together: any label map at all; bank, limits, fit; training and prediction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from cardiac_jax.anatomy import anatomical_prior, heart_check
from cardiac_jax.anatomy.anatomical_prior import Prior
from cardiac_jax.anatomy.heart import HEART, redrawn, tuned
from cardiac_jax.anatomy.heart_measure import Measured
from cardiac_jax.anatomy.mixture import Mixture
from cardiac_jax.anatomy.projection import pack, resample, unpack
from cardiac_jax.anatomy.registry import anatomy_spec
from cardiac_jax.anatomy.stack_projection import BASAL, project_stack
from cardiac_jax.anatomy.validity import unfit
from cardiac_jax.anatomy.wall import WALL
from cardiac_jax.data.stack import from_volume
from cardiac_jax.errors import InputError
from tests import criteria_reference as reference
from tests import hearts, rings
from tests.anatomy_reference import heart_faults, on_each_grid

CLASSES = hearts.CLASSES
SHAPE = (56, 60)
PIXELS_MM = [(2.0, 2.0), (1.4, 1.4), (2.9, 2.9), (1.6, 2.0), (0.7, 0.7)]


@pytest.fixture(scope="module")
def prior() -> Prior:
    return hearts.prior()


def valid(prior: Prior, stack: np.ndarray, pixel_mm: tuple[float, float], mode: str, classes=CLASSES):
    """`project_stack` of slices `[Z, H, W]`, apex first; the result in the same order."""
    labels = from_volume(stack.transpose(2, 1, 0), np.diag([*pixel_mm[::-1], 40.0, 1.0]), "apex_first")
    out, slices = project_stack(prior, labels, classes, mode)
    return out.data, slices


def hostile(rng: np.random.Generator) -> np.ndarray:
    """Labels `[H, W]`: noise, single pixels, hearts without or with too much of something, at any place."""
    kind, centre = rng.integers(7), rng.uniform((0, 0), SHAPE)
    code = rng.normal(0, (2, 1.5, 3, 2), 4)
    out = hearts.heart(code, SHAPE, centre)
    if kind == 0:
        return rng.choice(4, SHAPE, p=rng.dirichlet(np.ones(4))).astype(np.uint8)
    if kind == 1:
        out = np.zeros(SHAPE, np.uint8)
        out[rng.integers(SHAPE[0]), rng.integers(SHAPE[1])] = rng.integers(1, 4)
    elif kind == 2:
        out[out == rng.integers(1, 4)] = 0
    elif kind == 3:
        out = np.where(rng.random(SHAPE) < 0.05, rng.integers(0, 4, SHAPE), out).astype(np.uint8)
    elif kind == 4:
        out = np.full(SHAPE, rng.integers(1, 4), np.uint8)
    elif kind == 5:
        out = np.maximum(out, hearts.heart(code, SHAPE, rng.uniform((0, 0), SHAPE)))
    return out


def passes(labels: np.ndarray, spacing_mm: float, limits: heart_check.Limits) -> bool:
    """By scipy and scikit-image, in its place in the whole image."""
    measured = reference.measure(labels, spacing_mm, float(limits.mouth_mm))
    return bool(reference.verdict(measured, limits)["valid"])


@on_each_grid(PIXELS_MM)
@settings(max_examples=1, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pixel_mm=st.sampled_from(PIXELS_MM), mode=st.sampled_from(["invalid", "all"]))
def test_any_label_map_at_all_is_a_valid_heart_afterwards(prior: Prior, seed: int, pixel_mm, mode: str):
    """Many slices at a time: a batch of 32 takes as long as one."""
    rng = np.random.default_rng(seed)
    stack = np.stack([np.zeros(SHAPE, np.uint8), *(hostile(rng) for _ in range(10))])
    rng.shuffle(stack)
    out, slices = valid(prior, stack, pixel_mm, mode)
    held = stack.any((1, 2))
    np.testing.assert_array_equal(slices.index, np.flatnonzero(held))
    assert not out[~held].any(), "slices without any structure stay empty"
    kept = slices.index[~slices.refused]
    assert out[kept].any((1, 2)).all() and not out[slices.index[slices.refused]].any()
    assert set(np.unique(out)) <= {0, 1, 2, 3}
    np.testing.assert_array_equal(slices.after, ~slices.refused)
    again = valid(prior, out, pixel_mm, "none")[1]
    np.testing.assert_array_equal(again.index, kept)
    for z in kept:
        if (out[z] == 2).any():
            coarser = hearts.SPACING_MM if unfit(*pixel_mm, HEART.pixel_mm) else 0.0  # of the prior's grid
            assert heart_faults(out[z] == 2, out[z] == 3, pixel_mm, 4.0 + coarser) == []
    if not unfit(pixel_mm[0], pixel_mm[1], HEART.pixel_mm):
        basal = slices.index > slices.index.max(initial=0) - BASAL
        limits = [prior.limits._replace(c_shaped=bool(b)) for b in basal]
        spacing_mm = sum(pixel_mm) / 2
        judged = [passes(stack[z], spacing_mm, of) for z, of in zip(slices.index, limits, strict=True)]
        assert judged == slices.before.tolist()
        assert all(passes(out[z], spacing_mm, of) for z, of in zip(slices.index, limits, strict=True) if z in kept)
    same = slices.index[slices.before] if mode == "invalid" else []
    np.testing.assert_array_equal(out[same], stack[same])


def test_odd_hearts_come_out_whole_or_not_at_all(prior: Prior):
    """Half a heart, a ring without its pool, a gap, salt; noise and a pixel are refused. Judged by scipy alone."""
    whole = hearts.heart(np.array([1.0, 0.5, 0.0, -1.0]), SHAPE, (28, 36))
    y, x = np.indices(SHAPE) - np.array([28, 36])[:, None, None]
    rng = np.random.default_rng(4)
    speck = np.zeros(SHAPE, np.uint8)
    speck[28, 36] = 2
    odd = [
        np.where(x > 0, whole, 0),
        np.where(whole == 3, 0, whole),
        np.where((whole == 3) & (np.hypot(x, y) > 4), 0, whole),
        np.where(rng.random(SHAPE) < 0.04, rng.integers(1, 4, SHAPE), whole),
        rng.integers(0, 4, SHAPE),
        speck,
    ]
    stack = np.stack(odd).astype(np.uint8)
    out, slices = valid(prior, stack, (2.0, 2.0), "invalid")
    assert not slices.before.any() and slices.refused.tolist() == [False] * 4 + [True] * 2
    assert all(heart_faults(one == 2, one == 3, (2.0, 2.0)) == [] for one in out)
    assert (out[:4] == 3).any((1, 2)).all() and not out[4:].any()
    np.testing.assert_array_equal(out[1], whole)
    np.testing.assert_array_equal(out[2], whole)


def test_the_projection_itself_guarantees_what_it_returns(prior: Prior):
    rng = np.random.default_rng(0)
    maps = np.stack([rng.integers(0, 4, hearts.SIZE), *hearts.decoded(rng.normal(0, 2, (30, 4)))]).astype(np.uint8)
    result = prior.project(jnp.asarray(np.concatenate([maps, maps[:1] * 0])))
    assert result.masks.dtype == jnp.uint8 and np.asarray(result.valid).all()
    assert all(passes(np.asarray(one), hearts.SPACING_MM, prior.limits) for one in result.masks)
    alpha = np.asarray(result.alpha)
    assert 0 < (alpha > 0).sum() < len(alpha), "some stay, some move"


def test_fine_pixels_are_judged_on_the_priors_grid(prior: Prior):
    assert unfit(0.9, 0.9, HEART.pixel_mm) and not unfit(0.9, 0.9) and not unfit(0.94, 0.94, HEART.pixel_mm)
    fine = hearts.decoded(np.array([[1.0, 0.5, 0, 0], [1, 0.5, 0, 6]])).repeat(4, 1).repeat(4, 2)  # 0.5 mm
    _, slices = valid(prior, fine, (0.5, 0.5), "none")
    assert slices.before.tolist() == [True, False]


# --- redrawing


def test_what_lies_in_the_wall_stays_and_what_is_no_heart_is_left_alone():
    labels = np.zeros((6, 6), np.uint8)
    labels[1], labels[2], labels[3], labels[5] = 2, 5, 1, 3  # a wall with scar in it, an RV, a stray pool
    drawn = np.zeros((6, 6), np.uint8)
    drawn[1], drawn[2, :3], drawn[2, 3:], drawn[3] = 2, 2, 3, 1
    classes = (*CLASSES, "fat", "scar")
    labels[4, 0] = 4
    out = redrawn(labels, drawn, classes)
    expected = np.zeros((6, 6), np.uint8)
    expected[1], expected[2, :3], expected[2, 3:], expected[3], expected[4, 0] = 2, 5, 3, 1, 4
    np.testing.assert_array_equal(out, expected)
    assert out.dtype == labels.dtype


def test_maps_are_taken_from_any_coding():
    classes = ("background", "LV", "scar", "RV", "Myo")
    labels = np.array([[0, 1, 2, 3, 4, 255]], np.uint8)
    np.testing.assert_array_equal(HEART.to_maps(labels, HEART.label_values(classes)), [[0, 3, 2, 1, 2, 0]])
    np.testing.assert_array_equal(WALL.to_maps(labels, WALL.label_values(classes)), [[0, 0, 1, 0, 1, 0]])


def test_shapes_are_centred_on_the_wall_or_else_on_what_there_is():
    whole = hearts.heart(np.zeros(4), SHAPE, (20, 30))
    alone = np.where(whole == 1, 1, 0).astype(np.uint8)
    centred = jax.jit(lambda maps: anatomical_prior.centred(maps, (48, 48), HEART.centring_mask))
    found = np.asarray(centred(np.stack([whole, alone])))
    for one, label in zip(found, (2, 1), strict=True):
        assert np.abs(np.argwhere(one == label).mean(0) - 23.5).max() <= 0.5 + 1e-4
    assert set(np.unique(found[0])) == {0, 1, 2, 3}


# --- bank, limits, fit


@pytest.mark.parametrize("width", [8, 13, 128])
def test_packed_maps_come_back(width: int):
    rng = np.random.default_rng(width)
    labels = rng.integers(0, 4, (5, 7, width), np.uint8)
    packed = pack(jnp.asarray(labels))
    assert packed.dtype == jnp.uint8 and packed.shape == (5, 7, 2 * -(-width // 8))
    np.testing.assert_array_equal(unpack(packed, width), labels)
    assert unpack(packed, width).dtype == jnp.uint8
    mask = labels > 1
    np.testing.assert_array_equal(pack(jnp.asarray(mask)), np.packbits(mask, axis=-1))
    assert unpack(pack(jnp.asarray(mask)), width).dtype == bool
    np.testing.assert_array_equal(unpack(pack(jnp.asarray(mask)), width), mask)
    with pytest.raises(ValueError, match="do not match masks"):
        unpack(packed, width + 8 * packed.shape[-1])


def test_a_bank_of_hearts_holds_what_its_codes_decode_to():
    @jax.jit
    def decode(codes: jax.Array) -> jax.Array:
        return hearts.heart(codes, hearts.SIZE, (23.5, 23.5), jnp)

    def check(maps: jax.Array) -> jax.Array:
        return (maps == 1).sum((1, 2)) > 60

    mixture = Mixture(jnp.ones(1), jnp.zeros((1, 4)), jnp.eye(4)[None])
    bank = resample(jax.random.key(0), mixture, decode, check, 40, batch=64).bank
    maps = np.asarray(unpack(bank.masks, hearts.SIZE[1]))
    np.testing.assert_array_equal(maps, decode(bank.codes))
    assert np.asarray(check(jnp.asarray(maps))).all()


def measured(**values) -> Measured:
    """101 slices with all three structures; what is not given lies within the default limits."""
    held = {name: np.zeros(101, np.float32) for name in Measured._fields}
    held |= {name: np.ones(101) for name in ("rv_px", "myo_px", "lv_px", "myo_circularity", "lv_circularity")}
    held |= {name: np.full(101, 1e3) for name in ("rv_mm2", "myo_mm2", "lv_mm2", "heart_mm2")}
    return Measured(**{**held, **{name: np.asarray(value) for name, value in values.items()}})


def test_limits_leave_one_per_cent_outside_and_are_never_stricter():
    assert tuned(measured(), measured()) == heart_check.DEFAULT
    worse = measured(
        rv_gap_mm=np.linspace(0, 5, 101),
        rv_concavity_mm=np.linspace(0, 50, 101),
        myo_concavity_mm=np.linspace(0, 10, 101),
        lv_concavity_mm=np.linspace(10, 0, 101),
        lv_circularity=np.linspace(0.1, 1.1, 101),
        myo_circularity=np.linspace(0.1, 1.1, 101),
        rv_holes_px=np.full(101, 9),
        myo_disconnected_px=np.full(101, 9),
        lv_rv_px=np.full(101, 9),
    )
    changed = {"rv_gap_mm": 4.95, "rv_concavity_mm": 49.5, "myo_concavity_mm": 9.9, "lv_concavity_mm": 9.9}
    changed |= {"myo_circularity": 0.11, "lv_circularity": 0.11}
    found = tuned(worse, measured())
    assert found._asdict() == pytest.approx(heart_check.DEFAULT._replace(**changed)._asdict())


def test_only_slices_that_have_a_structure_tell_about_it():
    few = measured(rv_px=np.arange(101) > 97, rv_concavity_mm=np.where(np.arange(101) > 97, 40.0, 0.0))
    assert tuned(few, few).rv_concavity_mm == pytest.approx(40)
    none = measured(rv_px=np.zeros(101))
    assert tuned(none, none) == heart_check.DEFAULT


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(1)
    codes = rng.normal((0.5, 0, 0, -0.5), (0.8, 0.3, 0.8, 0.3), (3, 8, 4))
    label = np.stack([[hearts.heart(c, (52, 52), rng.uniform(24, 27, 2)) for c in volume] for volume in codes])
    label[0, 0] = 0
    examples = anatomical_prior.shapes(HEART.label_values(CLASSES), hearts.SIZE, HEART)({"label": label})
    fit = anatomical_prior.fit(hearts.NET, hearts.SPACING_MM, ConfigDict({"components": 1, "restarts": 1}), 0)
    return examples, *fit({"autoencoder": hearts.PARAMS}, examples)


def test_the_fit_learns_hearts(fitted):
    examples, variables, figures = fitted
    assert figures["masks"] == len(examples["shape"]) == 23
    assert figures["dice_restored"] > 0.7 and 0 < figures["accept_rate"] <= 1
    held = anatomical_prior.prior(hearts.NET, variables, {"prior": figures}, hearts.SPACING_MM)
    assert held.spec is HEART and figures["limits"]["no_rv"] is True
    assert [type(v) for v in held.limits] == [type(v) for v in heart_check.DEFAULT]
    maps = np.asarray(unpack(held.bank.masks, hearts.SIZE[1]))
    np.testing.assert_array_equal(maps, hearts.decoded(np.asarray(held.bank.codes)))
    assert len(maps) == hearts.NET.module.bank_size
    assert all(passes(one, hearts.SPACING_MM, held.limits) for one in maps[:20])


def test_a_prior_of_the_wall_says_so():
    assert rings.prior().spec is WALL
    with pytest.raises(InputError, match="'atria' is not one of wall, heart"):
        anatomy_spec("atria")
