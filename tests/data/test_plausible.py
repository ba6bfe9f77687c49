"""What label maps cannot be: an RV that the wall surrounds, an LV that is larger at end-systole."""

import numpy as np
import pytest

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.plausible import exchanged, phases_exchanged, wall_edges
from tests import hearts


def stack() -> np.ndarray:
    return np.repeat(hearts.heart(np.zeros(4), (48, 48), (24, 24))[None], 3, 0)


def test_edges_are_counted_as_by_hand():
    label = np.array([[[0, 2, 2, 2, 0], [1, 2, 3, 2, 0], [0, 2, 2, IGNORE, 0]]])
    # LV: one pixel, four faces, all towards the wall; RV: one pixel, towards the wall and twice the background.
    np.testing.assert_array_equal(wall_edges(label, hearts.CLASSES), [[4, 4], [1, 3]])
    assert not wall_edges(label, ("background", "LA")).any()


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_an_exchange_is_seen_in_any_orientation(turn):
    sound = np.rot90(stack(), turn, (1, 2))
    assert exchanged(wall_edges(sound, hearts.CLASSES)) == ""
    line = exchanged(wall_edges(np.array([0, 3, 2, 1])[sound], hearts.CLASSES))
    assert "are their label values exchanged?" in line and "RV with 100%" in line
    assert exchanged(np.zeros((2, 2), int)) == ""


def test_phases():
    assert phases_exchanged({"ED": 100.0}) == phases_exchanged({"ED": 100.0, "ES": 40.0}) == ""
    assert "40.0 ml at ED and 100.0 ml at ES" in phases_exchanged({"ED": 40.0, "ES": 100.0})
