"""Upsampling: at the positions of a grid that covers the same box, against scipy's spline at single points."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cardiac_jax.ops.interpolate import ORDERS, upsample, weights


@pytest.mark.parametrize("order", ORDERS.values())
@pytest.mark.parametrize("scale", [(5, 1, 1), (2, 1, 3)])
def test_values_are_those_of_the_spline(order: int, scale: tuple[int, int, int]):
    image = np.random.default_rng(0).normal(size=(6, 5, 4, 2)).astype(np.float32)
    got = np.asarray(upsample(jnp.asarray(image), scale, order))
    at = [(np.arange(n * s) - (s - 1) / 2) / s for n, s in zip(image.shape[:3], scale, strict=True)]
    points = np.stack(np.meshgrid(*at, indexing="ij"))
    # Far from the edge of an image that repeats its outermost voxels, the ends of the spline make no difference.
    padded = np.pad(image, [(30, 30)] * 3 + [(0, 0)], mode="edge")
    for channel in range(2):
        want = ndimage.map_coordinates(padded[..., channel].astype(float), points + 30, order=order)
        np.testing.assert_allclose(got[..., channel], want, atol=2e-6)


def test_the_box_is_the_same():
    """A ramp stays a ramp inside; of an odd factor, the middle of each group is the voxel itself."""
    ramp = np.arange(8.0)
    for order in ORDERS.values():
        got = weights(8, 5, order) @ ramp
        inner, atol = (slice(2, -2), 1e-9) if order == 1 else (slice(16, 24), 5e-3)  # the repeated edge bends a spline
        np.testing.assert_allclose(got[inner], ((np.arange(40) - 2) / 5)[inner], atol=atol)
        np.testing.assert_allclose(got[2::5], ramp, atol=1e-9)
        np.testing.assert_allclose(weights(8, 4, order).sum(axis=1), 1, atol=1e-9)
        np.testing.assert_allclose(weights(8, 4, order), weights(8, 4, order)[::-1, ::-1], atol=1e-9)
