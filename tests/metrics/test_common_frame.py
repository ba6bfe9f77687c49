"""Hearts in a common frame: where a heart lies and how it is turned does not matter, how large it is does."""

import numpy as np
import pytest

from cardiac_jax.data.labels import CLASSES
from cardiac_jax.errors import InputError
from cardiac_jax.metrics.common_frame import heart_frame, in_common_frame

SPACING = (5.0, 2.0, 2.0)
GRID = {"out_mm": 4.0, "size": (24, 36, 36)}


def heart(turn_deg: float = 180.0, shift_mm: tuple[float, float] = (0.0, 0.0), scale: float = 1.0, tilt: float = 0.0):
    """`[Z, H, W]`: an ellipsoidal cavity in a wall, and a right ventricle in the direction `turn_deg` from +W."""
    z, h, w = (np.indices((20, 80, 80)) - np.array([9.5, 39.5, 39.5])[:, None, None, None]) * np.array(SPACING)[
        :, None, None, None
    ]
    h, w = h - shift_mm[0] - tilt * z, w - shift_mm[1]
    turn = np.deg2rad(turn_deg)
    u, v = w * np.cos(turn) + h * np.sin(turn), h * np.cos(turn) - w * np.sin(turn)
    far = np.sqrt((z / 1.6) ** 2 + u**2 + v**2) / scale
    right = np.sqrt((z / 1.6) ** 2 + (u / scale - 30) ** 2 * scale**2 + (v / 1.3) ** 2) / scale < 16
    return np.select([far < 18, far < 25, right], [3, 2, 1], 0).astype(np.uint8)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Dice of masks with values in [0, 1]."""
    return float(2 * np.minimum(one, other).sum() / (one.sum() + other.sum()))


def frame(label: np.ndarray) -> np.ndarray:
    return in_common_frame(label, SPACING, CLASSES, **GRID)


def test_position_and_rotation_are_removed():
    straight, moved = heart(), heart(70.0, (18.0, -12.0))
    assert overlap(straight > 0, moved > 0) < 0.75  # before
    assert overlap(frame(straight), frame(moved)) > 0.9
    found = heart_frame(moved, SPACING, CLASSES)
    np.testing.assert_allclose(found.axes @ found.axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(found.axes[0], [1, 0, 0], atol=0.02)
    np.testing.assert_allclose(found.axes[1], [0, np.sin(np.deg2rad(70)), np.cos(np.deg2rad(70))], atol=0.02)
    np.testing.assert_allclose(found.origin_mm, [9.5 * 5, 39.5 * 2 + 18, 39.5 * 2 - 12], atol=0.5)


def test_a_tilted_axis_is_found():
    found = heart_frame(heart(tilt=0.4), SPACING, CLASSES)
    np.testing.assert_allclose(found.axes[0], np.array([1, 0.4, 0]) / np.hypot(1, 0.4), atol=0.03)


def test_size_stays():
    small, large = (frame(heart(scale=scale)) for scale in (1.0, 1.25))
    for masks, scale in ((small, 1.0), (large, 1.25)):
        volume = (heart(scale=scale) > 0).sum() * 20.0
        assert masks.sum() * 4**3 == pytest.approx(volume, rel=0.02)
        assert masks.min() == 0 and masks.max() <= 1 + 1e-6
    assert large.sum() / small.sum() == pytest.approx(1.25**3, rel=0.03)
    right, wall, cavity = (np.argwhere(mask > 0.5).mean(0) for mask in small)
    np.testing.assert_allclose(cavity, [11.5, 17.5, 17.5], atol=0.3)
    np.testing.assert_allclose(wall, cavity, atol=0.3)
    assert right[1] - cavity[1] > 5 and abs(right[2] - cavity[2]) < 0.5  # along the second axis


def test_without_a_right_ventricle_the_frame_of_the_stack_serves():
    label = heart(90.0)
    label[label == 1] = 0
    np.testing.assert_allclose(heart_frame(label, SPACING, CLASSES).axes[1], [0, 0, -1], atol=0.02)
    one = np.zeros((3, 8, 8), np.uint8)
    one[1, 2:5, 2:5] = 3
    np.testing.assert_array_equal(heart_frame(one, SPACING, CLASSES).axes[0], [1, 0, 0])


def test_what_cannot_be_oriented_is_refused():
    with pytest.raises(InputError, match="has no left ventricle"):
        frame(np.where(heart() == 1, 1, 0).astype(np.uint8))
    partly = heart()
    partly[0, 0, :3] = 255
    with pytest.raises(InputError, match="has 3 voxels that are not annotated"):
        frame(partly)
