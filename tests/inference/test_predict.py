"""Prediction of whole cases: in slices, as a volume, in tiles, mirrored."""

import numpy as np
import pytest

from cardiac_jax.data.preprocess import Grid, prepare, to_file_grid
from cardiac_jax.inference.predict import predict_grid
from tests import images
from tests.data.test_preprocess import case_of


def pointwise(image: np.ndarray) -> np.ndarray:
    """A network without a field of view: `[B, *S, 1] -> [B, *S, 2]`."""
    share = 1 / (1 + np.exp(-image))
    return np.concatenate([1 - share, share], -1).astype(np.float32)


def lopsided(image: np.ndarray) -> np.ndarray:
    """One that favours the end of the last axis."""
    ramp = np.linspace(0, 1, image.shape[-2], dtype=np.float32)[:, None] * np.ones_like(image)
    return np.concatenate([1 - ramp, ramp], -1)


IMAGE = np.random.default_rng(0).normal(size=(5, 20, 18, 1)).astype(np.float32)


@pytest.mark.parametrize("size", [(20, 18), (5, 20, 18), (8, 12), (4, 8, 12), (3, 20, 18)])
@pytest.mark.parametrize("flips", [False, True])
def test_slices_volumes_and_tiles_of_a_pointwise_network_agree(size, flips):
    found = predict_grid(pointwise, IMAGE, size, flips)
    np.testing.assert_allclose(found, pointwise(IMAGE), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(20, 18), (5, 20, 18)])
def test_mirrored_copies_are_mirrored_back_in_plane(size):
    found = predict_grid(lopsided, IMAGE, size, flips=True)
    np.testing.assert_allclose(found, 0.5, atol=1e-6)


def test_a_whole_case_is_predicted_beyond_the_crop():
    case = case_of(images.label(), images.affine())
    grid = Grid(None, (2, 6, 6), no_crop=True)
    ready = prepare(case, grid, ("LGE",), "apex_first")
    assert sorted(ready.image.shape[:-1]) == sorted(case.images["LGE"].shape)
    back = to_file_grid(predict_grid(pointwise, ready.image, grid.size), ready.geometry)
    image = case.images["LGE"]
    np.testing.assert_allclose(back, pointwise(((image - image.mean()) / image.std())[..., None]), atol=1e-5)
    cropped = prepare(case, grid._replace(whole=False), ("LGE",), "apex_first")
    outside = to_file_grid(predict_grid(pointwise, cropped.image, grid.size), cropped.geometry)
    assert (outside[..., 0] == 1).sum() == image.size - 2 * 6 * 6
