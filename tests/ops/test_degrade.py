"""Thick slices, breath-hold motion and noise, each against an independent computation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cardiac_jax.ops import degrade

FINE = jnp.asarray(np.random.default_rng(0).normal(size=(15, 8, 6, 2)), jnp.float32)
MM = (2.0, 1.25, 1.25)


@pytest.mark.parametrize("sigma_mm", [0.0, 1.5, 4.0, 9.0])
def test_thick_slices_are_scipys_gaussian_at_the_middle_of_each_group(sigma_mm):
    sigma = max(sigma_mm / 2, 1e-3)
    blurred = ndimage.gaussian_filter1d(np.asarray(FINE, np.float64), sigma, axis=0, mode="nearest", truncate=4.0)
    found = degrade.thick(FINE, sigma_mm, spacing_mm=MM, factor=5)
    np.testing.assert_allclose(found, blurred[2::5], atol=1e-5)


def test_even_groups_are_sampled_between_their_slices():
    ramp = jnp.broadcast_to(jnp.arange(24, dtype=jnp.float32)[:, None, None, None], (24, 2, 2, 1))
    found = np.asarray(degrade.thick(ramp, 2.0, spacing_mm=MM, factor=4))[:, 0, 0, 0]
    np.testing.assert_allclose(found[2:4], [9.5, 13.5], atol=1e-4)
    np.testing.assert_allclose(degrade.thick(ramp, 0.0, spacing_mm=MM, factor=2)[:, 0, 0, 0], np.arange(12) * 2 + 0.5)
    with pytest.raises(ValueError, match="multiple of 5"):
        degrade.thick(ramp, spacing_mm=MM, factor=5)


@partial(jax.jit, static_argnames=("factor", "shift_mm", "rotation_deg", "spacing_mm"))
def misalign(key, fine, shift_mm, rotation_deg, *, spacing_mm, factor):
    return degrade.misalign(key, fine, shift_mm, rotation_deg, spacing_mm=spacing_mm, factor=factor)


def test_each_group_is_moved_by_itself_within_the_limits():
    edge = np.zeros((12, 24, 24, 1), np.float32)
    edge[:, :12] = 1.0
    moved = np.asarray(misalign(jax.random.key(1), edge, 4.0, 0.0, spacing_mm=(2.0, 0.5, 0.5), factor=2))
    at_mm = (moved.sum((1, 2, 3)) / 24 - 12) * 0.5
    assert np.abs(at_mm).max() <= 4.001 and np.std(at_mm) > 0.5 and len(np.unique(at_mm.round(4))) == 6
    np.testing.assert_array_equal(moved[::2], moved[1::2])
    still = misalign(jax.random.key(1), edge, 0.0, 0.0, spacing_mm=(2.0, 0.5, 0.5), factor=2)
    np.testing.assert_array_equal(still, edge)


def test_a_rotation_is_rigid_in_mm_on_pixels_that_are_not_square():
    """The moved coordinates, in mm, keep their distances: fitted to a plane, they form an orthogonal matrix."""
    y, x = np.meshgrid((np.arange(24) - 11.5) * 0.5, (np.arange(24) - 11.5) * 2.0, indexing="ij")
    places = np.broadcast_to(np.stack([y, x], -1).astype(np.float32), (6, 24, 24, 2))
    moved = np.asarray(misalign(jax.random.key(2), places, 1.0, 20.0, spacing_mm=(9.0, 0.5, 2.0), factor=3))
    inner = (slice(9, 15), slice(10, 14))
    design = np.stack([y[inner].ravel(), x[inner].ravel(), np.ones(24)], 1)
    angles = []
    for group in range(2):
        fit, *_ = np.linalg.lstsq(design, moved[group * 3][inner].reshape(-1, 2), rcond=None)
        np.testing.assert_allclose(fit[:2] @ fit[:2].T, np.eye(2), atol=1e-4)
        assert np.abs(fit[2]).max() <= 1.001
        angles.append(np.degrees(np.arctan2(fit[0, 1], fit[0, 0])))
    assert max(map(abs, angles)) <= 20.01 and abs(angles[0] - angles[1]) > 1


def test_noise_has_the_deviation_asked_for():
    flat = jnp.zeros((10, 50, 50, 1))
    found = np.asarray(degrade.noise(jax.random.key(0), flat, 3.0))
    assert abs(found.std() - 3) < 0.1 and abs(found.mean()) < 0.1
