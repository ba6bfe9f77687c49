"""Values at the voxels of another grid: places are told by affines, storage makes no difference."""

import numpy as np

from cardiac_jax.data.interpolate import nearest_labels, onto
from cardiac_jax.data.stack import Stack, from_volume
from tests import images

GRID = images.affine(("L", "P", "S"), (2.0, 1.5, 4.0), tilt=0.3)
SHAPE = (9, 8, 7)


def moved(start=(0.0, 0.0, 0.0), step=(1.0, 1.0, 1.0)) -> np.ndarray:
    """`GRID` from another voxel on, in other steps."""
    to = np.diag([*step, 1.0])
    to[:3, 3] = start
    return GRID @ to


def stack(data: np.ndarray, affine: np.ndarray = GRID) -> Stack:
    return from_volume(data, affine, "affine")


def ramp(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Linear in the patient's coordinates, `[X, Y, Z]`."""
    index = np.indices(shape).reshape(3, -1)
    points = affine[:3, :3] @ index + affine[:3, 3:]
    return (np.array([3.0, -2.0, 1.0]) @ points).reshape(shape)


def test_one_grid_is_copied_however_it_is_stored():
    data = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    like = stack(np.zeros(SHAPE, np.float32))
    np.testing.assert_array_equal(onto(stack(data), like), stack(data).data)
    flipped = stack(data[::-1, :, ::-1].transpose(1, 0, 2), _stored(GRID))
    np.testing.assert_array_equal(onto(flipped, like), stack(data).data)


def _stored(affine: np.ndarray) -> np.ndarray:
    """The affine of the same grid with the first and last axis reversed and the first two exchanged."""
    back = np.array([[0, -1, 0, SHAPE[0] - 1], [1, 0, 0, 0], [0, 0, -1, SHAPE[2] - 1], [0, 0, 0, 1]], float)
    return affine @ back


def test_a_box_inside_is_copied_and_nothing_lies_beyond():
    data = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    part = stack(data[2:7, 1:, 3:], moved((2, 1, 3)))
    got = onto(part, stack(np.zeros(SHAPE, np.float32))).copy()
    want = np.full(SHAPE, np.nan, np.float32)
    want[2:7, 1:, 3:] = data[2:7, 1:, 3:]
    np.testing.assert_array_equal(got, stack(want).data)


def test_a_ramp_in_millimetres_stays_that_ramp():
    """Thick slices at the voxels of thin ones, whose box is the same: the index of the middle is kept."""
    thick, thin = moved((0, 0, 0.75), (1, 1, 2.5)), GRID
    source = stack(ramp(thick, (9, 8, 4)).astype(np.float32), thick)
    got = onto(source, stack(np.zeros((9, 8, 10), np.float32), thin))
    want = stack(ramp(thin, (9, 8, 10)), thin).data
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[1:-1], want[1:-1], atol=1e-3)  # the outermost repeat the edge


def test_labels_are_those_of_the_nearest_voxel():
    label = np.random.default_rng(2).integers(0, 3, SHAPE).astype(np.uint8)
    finer = moved((-1 / 3, -1 / 3, -1 / 3), (1 / 3,) * 3)
    got = nearest_labels(stack(label), stack(np.zeros([3 * n for n in SHAPE], np.float32), finer))
    want = label.repeat(3, 0).repeat(3, 1).repeat(3, 2)
    np.testing.assert_array_equal(got, stack(want, finer).data)
    beyond = nearest_labels(stack(label), stack(np.zeros((2, 2, 2), np.float32), moved((8, 0, 0))))
    assert (beyond == 255).sum() == 4
