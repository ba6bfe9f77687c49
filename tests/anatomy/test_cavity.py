"""The largest piece of a mask and the cavity of a wall, against scipy and scikit-image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label

from cardiac_jax.anatomy import cavity as module
from cardiac_jax.anatomy.tidy import with_pool
from cardiac_jax.anatomy.wall import redrawn
from cardiac_jax.ops import largest as pieces_of
from tests import rings
from tests.anatomy_reference import blobs, hull_of

cavity, largest = jax.jit(module.cavity), jax.jit(pieces_of.largest)


def _largest_by_skimage(mask: np.ndarray) -> np.ndarray:
    """Numbers of pieces follow raster order, and `argmax` takes the first of equals."""
    numbers = np.asarray(label(mask, connectivity=1))
    sizes = np.bincount(numbers.ravel())
    sizes[0] = 0
    return (numbers == sizes.argmax()) & mask


@pytest.mark.parametrize("shape", [(40,), (13, 17), (5, 9, 8)])
def test_the_largest_piece_is_that_of_skimage(shape: tuple[int, ...]):
    rng = np.random.default_rng(len(shape))
    masks = rng.random((12, *shape)) < rng.uniform(0.05, 0.8, (12, *(1,) * len(shape)))
    masks[0], masks[1] = False, True
    found = np.asarray(largest(jnp.asarray(masks, jnp.float32)))
    assert found.dtype == bool and not found[0].any() and found[1].all()
    for mask, one in zip(masks, found, strict=True):
        np.testing.assert_array_equal(one, _largest_by_skimage(mask))


def test_of_equal_pieces_the_first_is_taken_and_corners_do_not_connect():
    mask = np.zeros((1, 6, 6), bool)
    mask[0, 4, 0:2] = mask[0, 1, 3:5] = mask[0, 2, 5] = True  # the last touches the one before by a corner
    np.testing.assert_array_equal(np.argwhere(np.asarray(largest(jnp.asarray(mask)))[0]), [[1, 3], [1, 4]])


def test_a_spiral_is_one_piece():
    """As many turns as a piece can take: spreading must not stop early."""
    mask = np.zeros((21, 21), bool)
    y, x, step, length = 10, 10, 0, 2
    mask[y, x] = True
    while length < 21:
        for _ in range(2):
            dy, dx = ((0, 1), (1, 0), (0, -1), (-1, 0))[step % 4]
            for _ in range(length):
                y, x = y + dy, x + dx
                if 0 <= y < 21 and 0 <= x < 21:
                    mask[y, x] = True
            step += 1
        length += 2
    assert label(mask, connectivity=1).max() == 1 and 0.4 < mask.mean() < 0.6
    np.testing.assert_array_equal(largest(jnp.asarray(mask)[None])[0], mask)


def _cavity_by_scipy(wall: np.ndarray, region: np.ndarray) -> np.ndarray:
    enclosed = ndimage.binary_fill_holes(wall) & ~wall
    around = hull_of(wall) if wall.any() else wall
    pieces = np.asarray(label(ndimage.binary_opening(around & region & ~wall & ~enclosed), connectivity=1))
    sizes = np.bincount(pieces.ravel())[1:]
    pocket = pieces == 1 + sizes.argmax() if sizes.size else pieces > 0
    return enclosed | pocket if pocket.sum() > enclosed.sum() else enclosed


def test_the_cavity_is_what_scipy_fills_and_the_region_within_the_hull():
    """More masks than a word has bits; noise, blobs, rings whole and open, empty, full."""
    rng = np.random.default_rng(3)
    walls = np.concatenate([blobs(4, 18, (24, 28)), rng.random((14, 24, 28)) < rng.uniform(0, 0.7, (14, 1, 1))])
    whole = rings.ring((24, 28), (11, 13), 5, 8) == 2
    cut = whole & ~((np.arange(28) > 13)[None] & (np.abs(np.arange(24) - 11) < 4)[:, None])
    walls = np.concatenate([walls, [whole, cut, whole & False, whole | True, np.roll(whole, 9, axis=1)]])
    regions = rng.random(walls.shape) < 0.9
    regions[-4] = True  # of the ring with a gap
    found = np.asarray(cavity(jnp.asarray(walls), jnp.asarray(regions)))
    assert found.dtype == bool and len(walls) > 32
    for wall, region, one in zip(walls, regions, found, strict=True):
        np.testing.assert_array_equal(one, _cavity_by_scipy(wall, region))


def test_an_open_ring_has_the_pool_that_the_region_gives_it():
    whole = rings.ring((24, 24), (12, 12), 5, 8)
    cut = (whole == 2) & ~((np.arange(24) > 12)[None] & (np.abs(np.arange(24) - 12) < 2)[:, None])
    walls = jnp.asarray(np.stack([whole == 2, cut, cut]))
    regions = jnp.asarray(np.stack([whole == 9, whole == 9, whole > 0]))
    closed, without, given = np.asarray(cavity(walls, regions))
    np.testing.assert_array_equal(closed, whole == 3)
    assert not without.any()
    inner = ndimage.binary_opening(whole == 3)
    assert inner.sum() > 0.9 * (whole == 3).sum() and given[inner].all() and not (given & cut).any()


def test_the_dents_of_a_closed_contour_are_no_cavity():
    """Its hull holds pixels beside every diagonal stretch, and the region may lie over them."""
    whole = rings.ring((40, 40), (20, 20), 9, 14)
    wall, everywhere = jnp.asarray(whole == 2)[None], jnp.ones((1, 40, 40), bool)
    np.testing.assert_array_equal(cavity(wall, everywhere)[0], whole == 3)
    drawn = with_pool(whole[None] == 2, np.full((1, 40, 40), 3, np.uint8), 1.4, 8.0, 4.0)[0]
    np.testing.assert_array_equal(
        redrawn(np.where(whole == 2, 1, 2), drawn, ("background", "Myo", "LV")) == 2, whole == 3
    )
