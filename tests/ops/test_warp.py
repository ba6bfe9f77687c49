"""Resampling and coordinates against scipy and against cases whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cardiac_jax.errors import InputError
from cardiac_jax.ops import geometry, warp
from cardiac_jax.ops.geometry import quarter_turns, spline_basis

# One program each, not one for every operation in them.
affine_matrix = jax.jit(geometry.affine_matrix)
coordinates = jax.jit(geometry.coordinates, static_argnums=2)
quarter_turn_matrix = jax.jit(geometry.quarter_turn_matrix)
upsample = jax.jit(geometry.upsample, static_argnums=1)
resample = jax.jit(warp.resample)
resample_labels = jax.jit(warp.resample_labels, static_argnames="outside")
map_coordinates = jax.jit(jax.scipy.ndimage.map_coordinates, static_argnames=("order", "mode"))
EYE = np.eye(2, dtype=np.float32)


def _random(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("size", [(17, 23), (5, 13, 11), (1, 9, 8)])
def test_linear_and_nearest_agree_with_scipy_and_jax(size):
    n, rng = len(size), np.random.default_rng(1)
    image, label = _random((*size, 2)), rng.integers(0, 256, size).astype(np.uint8)
    # Two voxels beyond every edge, and away from the ties of nearest neighbour.
    coords = np.stack([rng.uniform(-2, s + 1, size) for s in size]).astype(np.float32)
    coords[np.abs(coords - np.floor(coords) - 0.5) < 1e-3] += 0.01
    out = np.asarray(resample(jnp.asarray(image), jnp.asarray(coords)))
    for c in range(2):
        np.testing.assert_allclose(
            out[..., c], ndimage.map_coordinates(image[..., c], coords, order=1, mode="nearest"), atol=1e-5
        )
        ours = map_coordinates(image[..., c], list(coords), order=1, mode="nearest")
        np.testing.assert_allclose(out[..., c], ours, atol=1e-5)
    nearest = resample_labels(jnp.asarray(label), jnp.asarray(coords), outside=7)
    expected = ndimage.map_coordinates(label, coords, order=0, mode="nearest")
    inside = np.all([(c >= -0.5) & (c < s - 0.5) for c, s in zip(coords, size, strict=True)], axis=0)
    assert nearest.dtype == jnp.uint8 and 0 < inside.mean() < 1 and n == coords.shape[0]
    np.testing.assert_array_equal(nearest, np.where(inside, expected, 7))


def test_affine_agrees_with_scipy():
    image = _random((31, 24))
    matrix = affine_matrix(*(np.array(x, np.float32) for x in ([0.3], [1.1, 0.9], [0.07])))
    shift = np.array([2.5, -1.25], np.float32)
    out = np.asarray(resample(image[..., None], coordinates(matrix, shift, image.shape)))[..., 0]
    centre = (np.array(image.shape) - 1) / 2
    offset = centre + np.asarray(shift) - np.asarray(matrix) @ centre
    expected = ndimage.affine_transform(image, np.asarray(matrix), tuple(offset), order=1, mode="nearest")
    np.testing.assert_allclose(out, expected, atol=1e-4)


def test_affine_matrix_in_3d_is_rotation_times_shear_times_scale():
    angle, scale, shear = np.array([[0.2, -0.4, 0.7], [1.2, 0.8, 1.1], [0.1, 0.2, -0.3]], np.float32)
    rotation = np.asarray(affine_matrix(angle, np.ones(3, np.float32), np.zeros(3, np.float32)))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-6)
    upper = np.array([[1, 0.1, 0.2], [0, 1, -0.3], [0, 0, 1]])
    expected = rotation @ upper @ np.diag(np.asarray(scale))
    np.testing.assert_allclose(affine_matrix(angle, scale, shear), expected, atol=1e-6)


def test_slices_of_a_stack_share_the_coordinates():
    stack, label = _random((3, 12, 10, 2)), np.arange(360, dtype=np.int32).reshape(3, 12, 10)
    angle, ones, zeros = np.full(1, 0.5, np.float32), np.ones(2, np.float32), np.zeros(1, np.float32)
    coords = coordinates(affine_matrix(angle, ones, zeros), ones, (12, 10))
    whole, labels = np.asarray(resample(stack, coords)), np.asarray(resample_labels(label, coords))
    for z in range(3):
        np.testing.assert_allclose(whole[z], resample(stack[z], coords), atol=1e-6)
        np.testing.assert_array_equal(labels[z], resample_labels(label[z], coords))


def test_outside_value_of_each_channel():
    image = np.ones((6, 6, 2), np.float32)
    coords = coordinates(EYE, np.array([3, 0], np.float32), (6, 6))  # the last three rows look beyond the edge
    out = np.asarray(resample(image, coords, np.array([-1, -2], np.float32)))
    np.testing.assert_array_equal(out[:3], 1)
    np.testing.assert_array_equal(out[3:, :, 0], -1)
    np.testing.assert_array_equal(out[3:, :, 1], -2)
    np.testing.assert_array_equal(np.asarray(resample(image, coords)), 1)


def test_gradient_of_the_warp_reaches_the_image_and_the_coordinates():
    image, coords = _random((8, 8, 1)), coordinates(EYE, np.array([0.3, 0.4], np.float32), (8, 8))
    gradients = jax.jit(jax.grad(lambda i, c: (resample(i, c) ** 2).sum(), (0, 1)))(image, coords)
    assert all(np.abs(gradient).max() > 0.1 for gradient in gradients)


@pytest.mark.parametrize(("kind", "points"), [("linear", 2), ("linear", 8), ("cubic", 4), ("cubic", 13)])
@pytest.mark.parametrize("size", [1, 37])
def test_basis_reproduces_constants_and_lines(kind, points, size):
    basis = spline_basis(size, points, kind)
    assert basis.shape == (size, points) and basis.min() >= 0
    np.testing.assert_allclose(basis.sum(1), 1, atol=1e-6)
    line = np.arange(points) if kind == "linear" else np.arange(points) - 1  # cubic: one knot outside
    spans = points - 1 if kind == "linear" else points - 3
    expected = np.linspace(0, spans, size) if size > 1 else [spans / 2]
    np.testing.assert_allclose(basis @ line, expected, atol=1e-5)


def test_cubic_basis_is_the_b_spline_of_scipy():
    control, knots = np.random.default_rng(3).standard_normal(9), np.linspace(0, 6, 50)
    expected = ndimage.map_coordinates(control, [knots + 1], order=3, prefilter=False)
    np.testing.assert_allclose(spline_basis(50, 9) @ control, expected, atol=1e-5)


@pytest.mark.parametrize("size", [(9, 12), (4, 7, 6)])
def test_coordinates_are_affine_plus_field(size):
    n = len(size)
    matrix, shift, control = _random((n, n), 1), _random((n,), 2), _random((n, *[4, 5, 6][:n]), 3)
    centre = (np.array(size) - 1) / 2
    grid = np.indices(size).astype(float)
    affine = np.einsum("ij,j...->i...", matrix, grid - centre.reshape(-1, *[1] * n))
    affine += (centre + shift).reshape(-1, *[1] * n)
    np.testing.assert_allclose(coordinates(matrix, shift, size), affine, atol=1e-4)
    both = coordinates(matrix, shift, size, control)
    np.testing.assert_allclose(both, affine + np.asarray(upsample(control, size)), atol=1e-4)


def test_upsample_keeps_the_order_of_the_axes():
    control, size = _random((2, 4, 5, 6)), (3, 10, 7)
    bases = [spline_basis(s, g) for s, g in zip(size, control.shape[1:], strict=True)]
    expected = np.einsum("dabc,xa,yb,zc->dxyz", control, *bases)
    np.testing.assert_allclose(upsample(jnp.asarray(control), size), expected, atol=1e-5)


@pytest.mark.parametrize(("points", "kind"), [(3, "cubic"), (1, "linear"), (8, "quintic")])
def test_impossible_grids_are_refused(points, kind):
    with pytest.raises(InputError):
        spline_basis(10, points, kind)


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3])
def test_turning_by_matrix_is_exactly_the_turn_of_the_array(turns):
    image = _random((9, 9, 2))
    coords = coordinates(quarter_turn_matrix(turns), np.zeros(2, np.float32), (9, 9))
    label = (image[..., 0] > 0).astype(np.int32)

    def turned(image, label):
        once = quarter_turns(image, turns)
        return once, quarter_turns(label, turns, (-2, -1)), quarter_turns(once, -turns)

    once, turned_label, back = jax.jit(turned)(image, label)
    np.testing.assert_array_equal(resample(image, coords), once)
    np.testing.assert_array_equal(resample_labels(label, coords), turned_label)
    np.testing.assert_array_equal(back, image)
