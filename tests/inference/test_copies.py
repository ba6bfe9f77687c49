"""Averaging over moved copies: only what training drew; whoever moves with the image gives the same with or without."""

import itertools

import numpy as np
import pytest
from ml_collections import ConfigDict

from cardiac_jax.core.types import Config, Output
from cardiac_jax.data.augment import IDENTITY, Augment
from cardiac_jax.errors import InputError
from cardiac_jax.inference.copies import Copies, averaged, drawn, moved
from cardiac_jax.inference.postprocess import unchanged

IMAGE = np.random.default_rng(0).normal(size=(2, 3, 12, 12, 1)).astype(np.float32)
OUTPUTS = tuple(Output(name, kind, unchanged) for name, kind in (("map", "labels"), ("code", "vector")))
SIGNED = [np.array(m) for m in ([[1, 0], [0, 1]], [[0, 1], [-1, 0]], [[-1, 0], [0, -1]], [[0, -1], [1, 0]])]
EXACT = [turn @ np.diag([1, side]) for turn, side in itertools.product(SIGNED, (1, -1))]


def config(on: bool = True, **changes: float) -> Config:
    return ConfigDict({"augmentation": on, "augment": IDENTITY._replace(**changes)._asdict()})


def spread(image: np.ndarray) -> dict[str, np.ndarray]:
    """A network that treats all directions in plane alike: each voxel and its four neighbours, at a finer grid too."""
    near = sum(np.roll(image, shift, axis) for shift, axis in itertools.product((1, -1), (-3, -2)))
    share = 1 / (1 + np.exp(-image - 0.5 * np.asarray(near)))
    value = np.concatenate([1 - share, share], -1)
    return {"map": value, "fine": value.repeat(2, -3).repeat(2, -2), "code": value.mean((1, 2, 3))}


def test_what_moves_with_the_image_is_the_same_with_or_without_copies():
    copies = Copies(np.array(EXACT, float), np.zeros((8, 2)))
    fine = Output("fine", "labels", unchanged, (1, 2, 2))
    plain, found = spread(IMAGE), averaged(spread, (*OUTPUTS, fine), copies)(IMAGE)
    assert set(found) == set(plain)
    for name, value in plain.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-6, err_msg=name)


def test_mirroring_and_quarter_turns_are_exact():
    expected = [np.rot90(x, turns, (-3, -2)) for turns in range(4) for x in (IMAGE, np.flip(IMAGE, -2))]
    found = [moved(IMAGE, matrix, np.zeros(2)) for matrix in EXACT]
    matched = [[k for k, want in enumerate(expected) if np.array_equal(got, want)] for got in found]
    assert sorted(itertools.chain(*matched)) == list(range(8))


def test_a_voxel_that_a_copy_does_not_show_is_averaged_over_the_others():
    """Shifted by whole pixels, nothing is interpolated, and a network without surroundings sees the same everywhere."""

    def point(image):
        return {"map": np.concatenate([-image, image], -1)}

    copies = Copies(np.stack([np.eye(2)] * 3), np.array([[3.0, -2.0], [0, 5], [-11, 0]]))
    np.testing.assert_allclose(
        averaged(point, OUTPUTS, copies)(IMAGE)["map"], point(IMAGE)["map"], rtol=1e-6, atol=1e-6
    )


def test_a_network_that_favours_a_side_is_averaged_over_where_its_copies_put_it():
    ramp = np.linspace(0, 1, 12, dtype=np.float32)[:, None] * np.ones_like(IMAGE)

    def lopsided(image):
        return {"map": np.concatenate([1 - ramp, ramp], -1)}

    mirrored = Copies(np.array([np.diag([1.0, -1.0])]), np.zeros((1, 2)))
    np.testing.assert_allclose(averaged(lopsided, OUTPUTS, mirrored)(IMAGE)["map"], 0.5, atol=1e-6)


def test_rotations_and_scalings_return_a_smooth_image():
    y, x = np.mgrid[-20:21, -20:21] / 8.0
    image = np.exp(-(x**2) - 2 * (y - 0.5) ** 2).astype(np.float32)[None, ..., None]

    def point(image):
        return {"map": image}

    copies = drawn(config(**Augment()._asdict()), 6)
    found = averaged(point, (OUTPUTS[0],), copies)(image)["map"]
    assert np.abs(found - image).max() < 0.03 and np.abs(found - image).max() > 0


def test_copies_are_drawn_as_in_training():
    augment = IDENTITY._replace(rotation_p=0.5, rotation_deg=10.0, translation_p=1.0, translation_px=4.0)
    matrices, shifts = drawn(config(**augment._asdict()), 64)
    angles = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    np.testing.assert_allclose(matrices @ matrices.transpose(0, 2, 1), np.stack([np.eye(2)] * 64), atol=1e-6)
    assert np.linalg.det(matrices).min() > 0, "no mirrored heart"
    assert 5 < np.abs(angles).max() <= 10 and 0.3 < (angles == 0).mean() < 0.7
    assert 3 < np.abs(shifts).max() <= 4
    turned, still = drawn(config(flip_p=0.5, quarter_turn_p=0.5), 64)
    assert not still.any() and {m.round().astype(int).tobytes() for m in turned} == {m.tobytes() for m in EXACT}
    assert set(np.unique(turned)) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize(
    ("asked", "key"),
    [(config(on=False, rotation_p=1.0), "config.augmentation"), (config(elastic_p=1.0, noise_p=1.0), "config.augment")],
)
def test_what_was_never_drawn_is_refused(asked, key):
    with pytest.raises(InputError, match=r"^--tta: ") as caught:
        drawn(asked, 4)
    assert key in str(caught.value) and "\n" not in str(caught.value)
