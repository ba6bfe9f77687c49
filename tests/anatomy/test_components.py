"""Packed masks, flood fill, components, hulls, distances, perimeters: against numpy, scipy, Qhull, scikit-image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import perimeter_crofton
from skimage.morphology import convex_hull_image

from cardiac_jax.anatomy.bitmasks import count, extreme, pack, pixels, words
from cardiac_jax.anatomy.components import components, flood, label
from cardiac_jax.anatomy.convex_hull import REACH_PX, distance_px2, extreme_distance_px2, hull, perimeter_px
from tests import anatomy_reference as reference
from tests.anatomy_reference import blobs


def _planes(masks: np.ndarray) -> jax.Array:
    """Planes with a frame of one pixel, which is background."""
    return jnp.pad(pack(jnp.asarray(masks)), ((1, 1), (1, 1), (0, 0)))


def test_packing_and_reductions():
    masks = blobs(3, 64, (21, 13))
    planes = pack(jnp.asarray(masks))
    assert planes.shape == (21, 13, 2) and planes.dtype == jnp.uint32
    np.testing.assert_array_equal(np.moveaxis(np.asarray(pixels(planes)), -1, 0), masks)
    np.testing.assert_array_equal(words(pixels(planes)), planes)
    ours, twice = count(planes, ~planes)
    np.testing.assert_array_equal(ours, masks.sum((1, 2)))
    np.testing.assert_array_equal(twice, (~masks).sum((1, 2)))
    values = np.random.default_rng(0).integers(-99, 99, (21, 13, 64)).astype(np.int16)
    masks[5] = False
    want = [values[..., i][mask].max() if mask.any() else -100 for i, mask in enumerate(masks)]
    np.testing.assert_array_equal(extreme(jax.lax.max, jnp.asarray(values), pack(jnp.asarray(masks)), -100), want)


@pytest.mark.parametrize("corners", [False, True])
def test_fill_components_and_labels(corners: bool):
    masks = blobs(4, 64, (30, 26))
    spiral = np.zeros((30, 26), bool)
    for turn in range(0, 12, 4):  # arms one pixel wide and three apart: a fill goes round and round
        spiral[turn, turn : 26 - turn] = spiral[turn : 30 - turn, 25 - turn] = True
        spiral[29 - turn, turn : 26 - turn] = spiral[turn + 4 : 30 - turn, turn] = True
        spiral[turn + 4, turn : turn + 4] = True
    masks[7], masks[8], masks[9] = spiral, False, np.indices((30, 26)).sum(0) % 2
    structure = np.ones((3, 3)) if corners else None
    planes = _planes(masks)
    found, labels = (
        jax.jit(components, static_argnums=1)(planes, corners),
        np.asarray(jax.jit(label, static_argnums=1)(planes, corners)),
    )
    largest = np.moveaxis(np.asarray(pixels(found.largest)), -1, 0)[:, 1:-1, 1:-1]
    for i, mask in enumerate(masks):
        pieces, number = ndimage.label(mask, structure)
        assert found.number[i] == number
        sizes = np.bincount(pieces.ravel(), minlength=2)[1:]
        expected = (pieces == 1 + sizes.argmax()) if number else mask
        np.testing.assert_array_equal(largest[i], expected)
        mine = labels[1:-1, 1:-1, i]
        pairs = set(zip(pieces.ravel(), mine.ravel(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    few = _planes(masks[[7, 8] * 16])  # no labels needed
    assert set(np.asarray(jax.jit(components, static_argnums=1)(few, corners).number)) == {0, 1}
    seed = np.zeros_like(masks[:32])
    seed[:, 0, 0] = True
    filled = np.asarray(pixels(jax.jit(flood, static_argnums=2)(_planes(seed), _planes(masks[:32]), corners)))[
        1:-1, 1:-1
    ]
    for i, mask in enumerate(masks[:32]):
        pieces = ndimage.label(mask, structure)[0]
        np.testing.assert_array_equal(filled[..., i], (pieces == pieces[0, 0]) & mask & mask[0, 0])


def test_hull_agrees_with_qhull_and_scikit_image():
    masks = blobs(6, 64, (40, 33))
    rng = np.random.default_rng(0)
    for mask in masks[32:]:  # few pixels: points, lines, slivers
        mask[:] = False
        points = rng.integers(0, 33, (rng.integers(1, 6), 2))
        mask[points[:, 0], points[:, 1]] = True
    masks[40], masks[41] = False, np.eye(40, 33)
    ours = np.moveaxis(np.asarray(pixels(hull(_planes(masks)))), -1, 0)[:, 1:-1, 1:-1]
    for mask, mine in zip(masks, ours, strict=True):
        np.testing.assert_array_equal(mine, reference.hull_of(mask) if mask.any() else mask)
    for mask, mine in zip(masks[:32], ours[:32], strict=True):
        np.testing.assert_array_equal(mine, convex_hull_image(mask, offset_coordinates=False))


def test_distances_are_exact_up_to_their_reach():
    masks = blobs(7, 64, (40, 50))
    masks[:8] &= np.random.default_rng(0).random((8, 40, 50)) < 0.002  # far apart
    masks[8] = False
    ours = np.moveaxis(np.asarray(distance_px2(pack(jnp.asarray(masks)))), -1, 0)
    far = np.full((40, 50), np.inf)
    want = np.stack([np.square(ndimage.distance_transform_edt(~m)) if m.any() else far for m in masks])
    np.testing.assert_array_equal(ours, np.minimum(np.round(want), REACH_PX**2))
    region = blobs(8, 64, (40, 50))
    best = extreme_distance_px2(jax.lax.max, pack(jnp.asarray(masks)), pack(jnp.asarray(region)), 0)
    np.testing.assert_array_equal(best, np.where(region, ours, 0).max((1, 2)))


def test_perimeter_agrees_with_scikit_image():
    masks = blobs(10, 32, (30, 30))
    want = [perimeter_crofton(np.pad(mask, 1), 4) for mask in masks]
    np.testing.assert_allclose(perimeter_px(_planes(masks)), want, rtol=1e-5)
