"""Blocks of a batch: any number of images, cropped where all of a block are small, whole where one is large."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiac_jax.anatomy.batching import in_blocks

BLOCK, SIZE = 32, 12


@jax.jit
def seen(images: jax.Array) -> dict[str, jax.Array]:
    """Of each image its sum, a number that tells its pixels' places apart, and the frame it was given in."""

    def of_block(block: jax.Array) -> dict[str, jax.Array]:
        assert len(block) == BLOCK
        height, width = block.shape[1:]
        y, x = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None]
        lit = block > 0
        top, left = jnp.where(lit, y, 99).min((1, 2)), jnp.where(lit, x, 99).min((1, 2))
        place = (block * (1 + 7 * (y - top[:, None, None]) + 100 * (x - left[:, None, None]))).sum((1, 2))
        return {"sum": block.sum((1, 2)), "place": place, "frame": jnp.full(BLOCK, height * 1000 + width)}

    return in_blocks(images, of_block, BLOCK, SIZE)


def expected(image: np.ndarray) -> tuple[int, int]:
    y, x = np.nonzero(image)
    return int(image.sum()), int((image[y, x] * (1 + 7 * (y - y.min()) + 100 * (x - x.min()))).sum()) if y.size else 0


def images(rng: np.random.Generator, number: int, shape: tuple[int, int]) -> np.ndarray:
    """Specks in a square of `SIZE` anywhere, at each corner of the frame too; the fifth is empty."""
    out = np.zeros((number, *shape), np.int32)
    room = [max(extent - SIZE, 0) for extent in shape]
    corners = [(0, 0), (0, room[1]), (room[0], 0), (room[0], room[1])]
    for i, image in enumerate(out):
        y, x = corners[i] if i < 4 else rng.integers(0, np.array(room) + 1)
        part = image[y : y + SIZE, x : x + SIZE]
        part[:] = rng.integers(1, 9, part.shape) * (rng.random(part.shape) < 0.2)
        part[0, 0] = part[-1, -1] = 3
    out[4] = 0
    return out


def agree(found: dict[str, jax.Array], given: np.ndarray) -> None:
    want = np.array([expected(image) for image in given]).T
    np.testing.assert_array_equal(found["sum"], want[0])
    np.testing.assert_array_equal(found["place"], want[1])


@pytest.mark.parametrize("shape", [(7, 9), (9, 12), (12, 12)])
def test_small_frames_are_given_as_they_are(shape: tuple[int, int]):
    given = images(np.random.default_rng(0), BLOCK + 3, shape)
    found = seen(given)
    agree(found, given)
    np.testing.assert_array_equal(found["frame"], shape[0] * 1000 + shape[1])


def test_blocks_are_cropped_unless_one_of_their_images_is_large():
    """Two blocks and a bit; large ones share a block, and their neighbours in it are given whole as well."""
    given = images(np.random.default_rng(1), 2 * BLOCK + 3, (20, 17))
    found = seen(given)
    agree(found, given)
    np.testing.assert_array_equal(found["frame"], SIZE * 1000 + SIZE)
    given[3] = given[40] = 0
    given[3, [0, 12], 5] = given[40, 2, [1, 13]] = 1  # 13 high, 13 wide
    found = seen(given)
    agree(found, given)
    whole = np.asarray(found["frame"]) == 20 * 1000 + 17
    assert whole[[3, 40]].all() and whole.sum() <= BLOCK and (found["frame"][~whole] == SIZE * 1000 + SIZE).all()


def test_one_image_and_none():
    given = images(np.random.default_rng(2), 5, (20, 17))[:1]
    agree(seen(given), given)
    assert {name: one.shape for name, one in jax.eval_shape(seen, given[:0]).items()} == dict.fromkeys(
        ("sum", "place", "frame"), (0,)
    )
