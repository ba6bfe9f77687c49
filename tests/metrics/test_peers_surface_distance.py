"""Expected values of DeepMind's surface-distance (Nikolov et al. 2018), as data: no wheel has its tests.

From its `surface_distance_test.py`, commit ee651c8 (Apache 2.0). Distances there are between the corners of voxels,
each weighted by the area of its surface element; ours are between the centres of boundary voxels, each with one weight.
HD and empty masks agree. ASD and surface dice do not; `test_where_the_definitions_part` shows by how much.
"""

import math

import numpy as np
import pytest

from cardiac_jax.metrics import surface
from cardiac_jax.metrics.overlap import counts, dice_of

SIDE = 40
NAN, INF = math.nan, math.inf


def _mask(*boxes: tuple[slice | int, ...], ndim: int) -> np.ndarray:
    mask = np.zeros((SIDE,) * ndim, bool)
    for box in boxes:
        mask[box] = True
    return mask


def _point(*at: int) -> np.ndarray:
    return _mask(at, ndim=len(at))


CASES = {
    # name: (truth, prediction, spacing, HD, HD95, surface Dice at 1 mm, Dice); their values
    "2 pixels 2 mm apart": (_point(10, 20), _point(10, 22), (2, 1), 2.0, 2.0, None, 0.0),
    "no prediction": (_point(10, 20), _mask(ndim=2), (3, 2), INF, INF, 0.0, 0.0),
    "no truth": (_mask(ndim=2), _point(10, 20), (3, 2), INF, INF, 0.0, 0.0),
    "neither": (_mask(ndim=2), _mask(ndim=2), (3, 2), None, None, NAN, NAN),
    "2 voxels 2 mm apart": (_point(10, 20, 30), _point(10, 20, 32), (3, 2, 1), 2.0, 2.0, None, 0.0),
    "no prediction in 3D": (_point(10, 20, 30), _mask(ndim=3), (3, 2, 1), INF, INF, 0.0, 0.0),
    "no truth in 3D": (_mask(ndim=3), _point(10, 20, 30), (3, 2, 1), INF, INF, 0.0, 0.0),
    "neither in 3D": (_mask(ndim=3), _mask(ndim=3), (3, 2, 1), None, None, NAN, NAN),
}


@pytest.mark.parametrize("name", CASES)
def test_values_that_agree(name: str):
    truth, pred, spacing_mm, hd, hd95, surface_dice, dice = CASES[name]
    found = surface.surface_distances(pred, truth, spacing_mm)
    got = {
        "hd": (surface.hausdorff_mm(found), hd),
        "hd95": (surface.hausdorff_mm(found, 95), hd95),
        "surface dice": (surface.surface_dice(found, 1.0), surface_dice),
        "dice": (dice_of(counts(pred.astype(int), truth.astype(int), (1,)))[0], dice),
    }
    for value, want in got.values():
        if want is not None:
            assert value == pytest.approx(want, nan_ok=True)


def test_where_the_definitions_part():
    """Their two cubes: a block of 50 and one of 51 layers, 2 x 1 x 1 mm."""
    truth, pred = np.zeros((2, 100, 100, 100), bool)
    truth[:50], pred[:51] = True, True
    found = surface.surface_distances(pred, truth, (2, 1, 1))
    assert surface.hausdorff_mm(found) == 2.0 and surface.hausdorff_mm(found, 95) == 2.0  # theirs: the same
    # Theirs: surface Dice .836, ASD .322 and .339. They weight an element of the sides by its 2 mm2, of the ends by 1.
    sides, ends = 100 * 4 * (100 + 102), 2 * 2 * 100**2
    assert 1 - (ends / 2) / (sides + ends) == pytest.approx(0.836, abs=0.002)
    moved = 100**2 + 96**2  # voxels more than 1 mm away: the new layer, and the old end but for its two outer rings
    every = (50 + 51) * 100**2 - (48 + 49) * 98**2
    assert surface.surface_dice(found, 1.0) == pytest.approx(1 - moved / every)
