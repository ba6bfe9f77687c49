"""Clean-up of label maps against a flood fill in plain Python; the decoder of probabilities; what is refused."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from cardiac_jax.core.types import Decoded, Decoder
from cardiac_jax.data.orientation import Orientation
from cardiac_jax.data.stack import Stack
from cardiac_jax.errors import InputError
from cardiac_jax.inference.postprocess import NoSummary, cleaned, label_decoder, unchanged
from experiments import common

CLASSES = ("background", "RV", "Myo", "LV")
SPACING_MM = (5.0, 2.0, 3.0)
VOXEL_ML = 0.03


def stack(data: np.ndarray, spacing_mm: Sequence[float] = SPACING_MM) -> Stack:
    """Labels `[Z, H, W]` of a file whose axes are W, H, Z."""
    z, h, w = spacing_mm
    return Stack(data, Orientation((2, 1, 0), (False, False, False)), np.diag([w, h, z, 1.0]))


def reached(free: np.ndarray, start: Sequence[tuple[int, ...]], steps: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Where one can go from `start` in `steps` without leaving `free`."""
    seen, todo = np.zeros_like(free), deque(place for place in start if free[place])
    for place in todo:
        seen[place] = True
    while todo:
        here = todo.popleft()
        for step in steps:
            there = tuple(a + b for a, b in zip(here, step, strict=True))
            if all(0 <= a < n for a, n in zip(there, free.shape, strict=True)) and free[there] and not seen[there]:
                seen[there] = True
                todo.append(there)
    return seen


def pieces(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Its pieces, joined by faces, edges and corners, in the order of their first voxels."""
    left = mask.copy()
    while left.any():
        piece = reached(left, [tuple(int(i) for i in np.argwhere(left)[0])], list(product((-1, 0, 1), repeat=3)))
        left &= ~piece
        yield piece


def reference(labels: np.ndarray, largest: Sequence[int], filled: Sequence[int], least_ml: float) -> np.ndarray:
    out = labels.copy()
    for value in (1, 2, 3):
        found = list(pieces(labels == value))
        top = max(range(len(found)), key=lambda i: found[i].sum(), default=0)
        for i, piece in enumerate(found):
            if piece.sum() * VOXEL_ML < least_ml or (value in largest and i != top):
                out[piece] = 0
    for value in filled:
        for plane in out:
            free = plane != value
            rim = [
                place for place in np.ndindex(plane.shape) if 0 in place or (np.array(plane.shape) - 1 == place).any()
            ]
            outside = reached(free, rim, [(0, 1), (0, -1), (1, 0), (-1, 0)])
            plane[free & ~outside & (plane == 0)] = value
    return out


VALUES = st.lists(st.sampled_from([1, 2, 3]), unique=True)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    background=st.floats(0.1, 0.8),
    largest=VALUES,
    filled=VALUES,
    least_ml=st.sampled_from([0.0, 0.1, 0.2]),
)
def test_cleaned_agrees_with_a_flood_fill(seed, background, largest, filled, least_ml):
    rng = np.random.default_rng(seed)
    share = np.array([background, *(1 - background) * rng.dirichlet(np.ones(3))])
    labels = rng.choice(4, (3, 7, 8), p=share / share.sum()).astype(np.uint8)
    given_labels = labels.copy()
    found = cleaned(stack(labels), largest, filled, least_ml)
    np.testing.assert_array_equal(found.data, reference(labels, largest, filled, least_ml))
    assert found.data.dtype == labels.dtype
    np.testing.assert_array_equal(labels, given_labels)


def test_a_corner_joins_two_slices_and_a_piece_of_just_the_least_volume_stays():
    labels = np.zeros((3, 6, 6), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = 1  # one piece of two voxels
    labels[0, 4, 4] = 1
    labels[2, 0, 5] = 2
    cubes = stack(labels, (10.0, 10.0, 10.0))  # of a millilitre
    expected = labels.copy()
    expected[0, 4, 4] = expected[2, 0, 5] = 0
    np.testing.assert_array_equal(cleaned(cubes, least_ml=2.0).data, expected)
    assert not cleaned(cubes, least_ml=2.1).data.any()
    expected[2, 0, 5] = 2
    np.testing.assert_array_equal(cleaned(cubes, largest=(1,)).data, expected)
    np.testing.assert_array_equal(cleaned(cubes, largest=(2,)).data, labels)


def test_a_hole_is_filled_in_its_slice_unless_another_structure_is_in_it():
    labels = np.zeros((2, 7, 7), np.uint8)
    labels[:, 1:6, 1:6] = 2
    labels[0, 3, 3] = 0
    labels[1, 2:5, 2:5] = 3
    labels[1, 3, 3] = 0
    expected = labels.copy()
    expected[0, 3, 3] = expected[1, 3, 3] = 2
    np.testing.assert_array_equal(cleaned(stack(labels), filled=(2,)).data, expected)
    expected[0, 3, 3], expected[1, 3, 3] = 2, 3
    np.testing.assert_array_equal(cleaned(stack(labels), filled=(3, 2)).data, expected)
    labels[0, 3, 3:] = 0  # a bay
    np.testing.assert_array_equal(cleaned(stack(labels), filled=(2,)).data[0], labels[0])


def test_nothing_asked_for_changes_nothing():
    labels = stack(np.random.default_rng(0).integers(0, 4, (3, 7, 8)).astype(np.uint8))
    assert cleaned(labels) is labels
    assert not cleaned(stack(np.zeros((2, 3, 3), np.uint8)), (1, 2), (3,), 1.0).data.any()


# --- the decoder


def probabilities(seed: int = 0) -> Stack:
    return stack(np.random.default_rng(seed).dirichlet(np.ones(4), (3, 7, 8)).astype(np.float32))


def test_the_largest_probability_wins_and_is_cleaned_up():
    given_values = probabilities()
    labels = given_values.data.argmax(-1).astype(np.uint8)
    plain = label_decoder(CLASSES, common.post())({}, {}).decode(given_values)
    np.testing.assert_array_equal(plain.value.data, labels)
    assert plain.value.data.dtype == np.uint8 and plain.changes is None
    np.testing.assert_array_equal(plain.value.affine, given_values.affine)
    asked = common.post(largest=("Myo", "LV"), fill_holes=("RV",), least_ml=0.1)
    done = label_decoder(CLASSES, asked)({}, {}).decode(given_values)
    np.testing.assert_array_equal(done.raw.data, labels)
    np.testing.assert_array_equal(done.value.data, reference(labels, (2, 3), (1,), 0.1))
    assert (done.value.data != labels).any()


def test_a_decoder_of_label_maps_comes_last_and_its_summary_is_kept():
    class Counting(NoSummary):
        pass

    def then(variables, fits):
        seen.append((variables, fits))
        return Decoder(lambda labels: Decoded(labels.with_data(labels.data + 10), labels, "changed"), Counting)

    seen = []
    made = label_decoder(CLASSES, common.post(largest=("LV",)), then)({"net": {}}, {"prior": {"n": 1}})
    done = made.decode(probabilities())
    labels = probabilities().data.argmax(-1).astype(np.uint8)
    np.testing.assert_array_equal(done.value.data, reference(labels, (3,), (), 0.0) + 10)
    np.testing.assert_array_equal(done.raw.data, labels)
    assert done.changes == "changed" and isinstance(made.summary(), Counting)
    assert seen == [({"net": {}}, {"prior": {"n": 1}})]


def test_a_decoder_that_changes_nothing_has_nothing_to_say():
    made = unchanged({}, {})
    labels = stack(np.ones((1, 2, 2), np.uint8))
    assert made.decode(labels) == Decoded(labels, labels)
    summary = made.summary()
    summary.add(made.decode(labels), labels)
    assert summary.about() == {} and summary.line() == ""


@pytest.mark.parametrize(
    "asked, said",
    [
        ({"largest": ("Myo", "atrium")}, "post.largest: 'atrium' is not one of RV, Myo, LV"),
        ({"fill_holes": ("background",)}, "post.fill_holes: 'background' is not one of RV, Myo, LV"),
        ({"least_ml": -0.5}, "post.least_ml: -0.5 is less than 0"),
        ({"least_ml": float("nan")}, "post.least_ml: nan is less than 0"),
    ],
)
def test_an_unknown_structure_and_a_negative_volume_are_refused(asked, said):
    with pytest.raises(InputError) as error:
        label_decoder(CLASSES, ConfigDict({**common.post().to_dict(), **asked}))
    assert str(error.value) == said
