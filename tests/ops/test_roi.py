"""Boxes about a centre of mass, cropping and pasting, tiles: by hand, against NumPy and SciPy, and as properties."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cardiac_jax.inference.tiles import predict_tiled, tiles
from cardiac_jax.ops import roi

# Every shape is compiled anew: few shapes, many boxes.
CASES = [((5, 6, 7), (2, 3, 7)), ((4, 9), (6, 3)), ((3, 4, 5), (4, 6, 8)), ((6,), (1,))]
few = settings(deadline=None, max_examples=25)

crop = jax.jit(roi.crop, static_argnums=(2, 3))
paste = jax.jit(roi.paste, static_argnums=(2, 3))
centre_of_mass = jax.jit(roi.centre_of_mass, static_argnums=1)
box_about = jax.jit(roi.box_about, static_argnums=(1, 2, 3))
rescale = jax.jit(roi.rescale, static_argnums=(1, 2))


def inside(start, size, shape):
    """The part of a box that lies in the volume, as slices."""
    pairs = zip(start, size, shape, strict=True)
    return tuple(slice(max(int(a), 0), min(int(a) + k, s)) for a, k, s in pairs)


# ------------------------------------------------------------------------------------------------ centre of mass


@few
@given(st.integers(0, 2**32 - 1))
def test_centre_of_mass_is_scipys(seed):
    mass = np.random.default_rng(seed).random((2, 4, 5, 6)).astype(np.float32) ** 8
    at, found = centre_of_mass(jnp.asarray(mass))
    np.testing.assert_allclose(at, [ndimage.center_of_mass(m) for m in mass], atol=1e-4)
    assert found.all()


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, -np.inf])
def test_without_mass_the_box_lies_in_the_middle_and_says_so(value):
    mass = np.zeros((2, 8, 9), np.float32)
    mass[:, 1, 2] = 1.0
    mass[1] = 0.0
    mass[1, 0, 0] = value
    start, found = box_about(jnp.asarray(mass), (4, 3))
    assert found.tolist() == [True, False]
    # By hand: 1 - 1.5 is outside; 2 - 1. In the middle: (8 - 4) / 2, (9 - 3) / 2.
    np.testing.assert_array_equal(start, [[0, 1], [2, 3]])


@pytest.mark.parametrize("value", [1e-45, 1e-30, 1e37])
def test_neither_faint_nor_blinding_maps_lose_the_centre(value):
    """Subnormal mass counts as none (devices flush it to zero); sums of the largest do not overflow."""
    mass = np.full((1, 30, 40), value, np.float32)
    at, found = centre_of_mass(mass)
    np.testing.assert_allclose(at, [[14.5, 19.5]], rtol=1e-5)
    assert found.item() is (value > 1e-38)


def test_a_haze_is_kept_out_by_the_floor():
    mass = np.full((1, 100), 0.1, np.float32)
    mass[0, 10] = 1.0
    # 0.1 x (0 + ... + 99) and 0.9 more at 10, over 100 x 0.1 + 0.9.
    want = (0.1 * 4950 + 0.9 * 10) / 10.9
    np.testing.assert_allclose(centre_of_mass(jnp.asarray(mass)).at, [[want]], rtol=1e-5)
    np.testing.assert_allclose(centre_of_mass(jnp.asarray(mass), 0.5).at, [[10]], rtol=1e-6)


def test_negative_values_do_not_count():
    at, _ = centre_of_mass(np.array([[-5, 1, 0, 3]], np.float32))
    np.testing.assert_allclose(at, [[(1 + 3 * 3) / 4]], rtol=1e-6)


# --------------------------------------------------------------------------------------------------------- scale


def test_rescale_keeps_centres_of_voxels_and_of_the_field_of_view():
    """A low-resolution voxel i covers 4 i ... 4 i + 3, whose centre is 4 i + 1.5; along Z nothing changes."""
    at = jnp.asarray([[3.0, 0.0, 5.0], [1.5, 3.5, 4.5]])
    got = rescale(at, (4, 8, 10), (4, 32, 40))
    np.testing.assert_allclose(got, [[3, 1.5, 21.5], [1.5, 15.5, 19.5]], rtol=1e-6)
    np.testing.assert_allclose(rescale(got, (4, 32, 40), (4, 8, 10)), at, rtol=1e-6, atol=1e-6)


def test_centre_found_at_low_resolution_is_that_at_full_resolution():
    low = np.random.default_rng(0).random((1, 3, 5, 6)).astype(np.float32)
    full = low.repeat(2, 1).repeat(4, 2).repeat(3, 3)
    centre = centre_of_mass(jnp.asarray(low)).at
    want = centre_of_mass(jnp.asarray(full)).at
    np.testing.assert_allclose(rescale(centre, low.shape[1:], full.shape[1:]), want, atol=1e-4)
    size, shape = (4, 8, 8), full.shape[1:]
    got = box_about(jnp.asarray(low), size, shape).start
    np.testing.assert_array_equal(got, jax.jit(roi.box_at, static_argnums=(1, 2))(want, size, shape))
    np.testing.assert_allclose(np.asarray(got) + (np.array(size) - 1) / 2, want, atol=0.501)


# --------------------------------------------------------------------------------------------------------- boxes


@few
@given(st.sampled_from(CASES), st.integers(0, 2**32 - 1))
def test_a_box_lies_in_the_volume_or_holds_it_and_contains_the_centre(case, seed):
    shape, size = case
    mass = np.random.default_rng(seed).random((3, *shape)).astype(np.float32) ** 20
    (start, _), centre = box_about(jnp.asarray(mass), size), centre_of_mass(jnp.asarray(mass)).at
    assert start.dtype == np.int32
    for a, c in zip(np.asarray(start), np.asarray(centre), strict=True):
        for begin, middle, k, s in zip(a, c, size, shape, strict=True):
            assert 0 <= begin <= s - k if k <= s else s - k <= begin <= 0
            assert begin - 0.5001 <= middle <= begin + k - 0.4999


@pytest.mark.parametrize("size", [(0, 3), (2, -1), (2,)])
def test_an_empty_box_is_refused(size):
    with pytest.raises(ValueError, match="not one positive number per axis"):
        roi.box_about(jnp.ones((1, 4, 4)), size)


@few
@given(st.data(), st.sampled_from(CASES), st.sampled_from([(np.uint8, ()), (np.float32, (3,))]))
def test_crop_is_numpy_and_paste_undoes_it(data, case, kind):
    """Any box, at the borders and larger than the volume; labels and images of several channels."""
    (shape, size), (dtype, channels) = case, kind
    limits = [sorted((0, s - k)) for s, k in zip(shape, size, strict=True)]
    start = np.array([[data.draw(st.integers(a, b)) for a, b in limits] for _ in range(2)], np.int32)
    x = np.random.default_rng(0).integers(1, 200, (2, *shape, *channels)).astype(dtype)
    box = np.asarray(crop(x, start, size, 250))
    back = np.asarray(paste(box, start, shape, 255))
    assert box.shape == (2, *size, *channels) and box.dtype == dtype and back.dtype == dtype
    for i in range(2):
        region = inside(start[i], size, shape)
        want = np.full_like(x[i], 255)
        want[region] = x[i][region]
        np.testing.assert_array_equal(back[i], want)
        cut = np.full((*size, *channels), 250, dtype)
        cut[tuple(slice(r.start - a, r.stop - a) for r, a in zip(region, start[i], strict=True))] = x[i][region]
        np.testing.assert_array_equal(box[i], cut)
    np.testing.assert_array_equal(crop(back, start, size, 250), box)


def test_a_start_outside_is_brought_inside_by_both():
    x = np.arange(1, 9, dtype=np.float32).reshape(1, 8)
    for start, want in ((-3, [1, 2, 3]), (7, [6, 7, 8])):
        at = np.array([[start]], np.int32)
        box = crop(x, at, (3,))
        np.testing.assert_array_equal(box, [want])
        np.testing.assert_array_equal(paste(box, at, (8,)), np.where(np.isin(x, want), x, 0))


def test_gradient_of_a_crop_is_a_paste():
    x, start = np.ones((2, 5, 6), np.float32), np.array([[0, 3], [3, 1]], np.int32)
    g = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    got = jax.jit(jax.grad(lambda x: (roi.crop(x, start, (2, 3)) * g).sum()))(x)
    np.testing.assert_array_equal(got, paste(g, start, (5, 6)))


# --------------------------------------------------------------------------------------------------------- tiles

axes = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 8)), min_size=1, max_size=3)
overlaps = st.sampled_from([0.0, 0.25, 0.5, 0.8, 0.95])


@given(axes, overlaps)
def test_tiles_cover_the_volume_with_the_overlap_asked_for(axes, overlap):
    for s, k in axes:
        starts = tiles([s], [k], overlap)[:, 0]
        assert (np.bincount(np.add.outer(starts, np.arange(k)).ravel() + k, minlength=s + k)[k : s + k] > 0).all()
        if s <= k:
            assert starts.tolist() == [(s - k) // 2]
        else:
            assert (starts[0], starts[-1]) == (0, s - k)
            shared = min(np.ceil(overlap * k - 1e-9), k - 1)  # whole voxels
            assert np.diff(starts).min() > 0
            assert (k - np.diff(starts)).min() >= shared
            assert (len(starts) - 2) * (k - shared) < s - k  # one tile less would not do
    shape, size = zip(*axes, strict=True)
    assert len(tiles(shape, size, overlap)) == np.prod([len(tiles([s], [k], overlap)) for s, k in axes])


@given(axes, overlaps, st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_a_pointwise_predictor_gives_what_it_gives_without_tiles(axes, overlap, batch, seed):
    """The weights add up to one in every voxel, and every call has the same shape."""
    shape, size = zip(*axes, strict=True)
    image = np.random.default_rng(seed).normal(size=(2, *shape, 2))

    def predict(x):
        assert x.shape == (batch, *size, 2)
        return np.stack([np.tanh(x[..., 0] + 2 * x[..., 1]), x[..., 0] ** 2, np.ones(x.shape[:-1])], -1)

    got = predict_tiled(predict, image, size, overlap, batch)
    want = np.stack([np.tanh(image[..., 0] + 2 * image[..., 1]), image[..., 0] ** 2, np.ones(image.shape[:-1])], -1)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_two_tiles_blend_by_their_gaussians():
    """Tiles 0..7 and 4..11 that predict 0 and 1: at voxel i, w(i - 4) / (w(i) + w(i - 4)), w of SD 8 / 8 about 3.5."""
    got = predict_tiled(
        lambda x: np.broadcast_to(x[:, :1] / 4, x.shape), np.arange(12.0)[None, :, None], (8,), 0.5, batch=2
    )[0, :, 0]
    i = np.arange(4, 8)
    mine, other = np.exp(-0.5 * (i - 3.5) ** 2), np.exp(-0.5 * (i - 4 - 3.5) ** 2)
    np.testing.assert_allclose(got, [0, 0, 0, 0, *(other / (mine + other)), 1, 1, 1, 1], rtol=1e-12)


def test_what_comes_back_has_the_type_of_the_prediction():
    run = partial(predict_tiled, image=np.ones((1, 6, 6, 1), np.float32), size=(4, 4), overlap=0.5)
    assert run(lambda x: x.astype(np.float32)).dtype == np.float32
    assert run(lambda x: x.astype(np.float16)).dtype == np.float32
    assert run(lambda x: np.asarray(jnp.asarray(x) * 2)).max() == pytest.approx(2, rel=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"size": (0, 4)},
        {"size": (4,)},
        {"overlap": 1.0},
        {"overlap": -0.1},
        {"batch": 0},
        {"image": np.ones((0, 6, 6, 1))},
    ],
)
def test_impossible_tiles_are_refused(arguments):
    usual = {"image": np.ones((1, 6, 6, 1)), "size": (4, 4), "overlap": 0.5, "batch": 1}
    with pytest.raises(ValueError):
        predict_tiled(lambda x: x, **{**usual, **arguments})
