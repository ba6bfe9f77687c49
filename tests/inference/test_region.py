"""The box that is predicted: it holds the heart, is central where that is enough, and says what it leaves out."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiac_jax.errors import InputError
from cardiac_jax.inference.region import Region, at_border, central, choose, crop_of

SHAPE, SIZE = (5, 60, 50), (32, 32)
RIM = 2  # pixels: a sixteenth of the box


def blob(first: Sequence[int], size: Sequence[int], shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(f, f + s) for f, s in zip(first, size, strict=True))] = True
    return mask


def inside(mask: np.ndarray, region: Region) -> np.ndarray:
    return mask[tuple(slice(s, s + k) for s, k in zip(region.start, region.size, strict=True))]


@settings(max_examples=60, deadline=None)
@given(
    volume=st.booleans(),
    heart=st.tuples(st.integers(1, 3), st.integers(6, 26), st.integers(6, 26)),
    at=st.tuples(*[st.floats(0, 1)] * 3),
)
def test_the_box_holds_the_heart_and_is_central_where_that_is_enough(volume, heart, at):
    first = [int(u * (n - s)) for u, n, s in zip(at, SHAPE, heart, strict=True)]
    mask, size = blob(first, heart), (3, *SIZE) if volume else SIZE
    region, middle = choose(mask, SHAPE, size), central(SHAPE, size)
    assert inside(mask, region).sum() == mask.sum() and not region.tiled and not region.notes
    axes = list(zip(region.start, region.size, SHAPE, first, heart, middle.start, strict=True))
    assert all(s >= 0 and s + k <= n for s, k, n, *_ in axes)
    fits = all(m <= f and f + h <= m + k for _, k, _, f, h, m in axes)
    assert (region.start == middle.start) >= fits
    if region.start != middle.start and not volume:
        for s, k, n, f, h, _ in axes[1:]:
            assert (f - s >= RIM or s == 0) and (s + k - f - h >= RIM or s + k == n)


def test_a_speck_elsewhere_moves_nothing_and_some_slices_are_enough_for_a_2d_network():
    mask, speck = blob((0, 2, 3), (5, 20, 22)), blob((2, 55, 45), (1, 2, 3))
    assert choose(mask | speck, SHAPE, SIZE) == choose(mask[1:3], SHAPE, SIZE) == choose(mask, SHAPE, SIZE)


def test_what_is_left_out_is_said():
    heart, other = blob((0, 4, 4), (5, 20, 20)), blob((0, 45, 40), (5, 8, 9))
    region = choose(heart | other, SHAPE, SIZE)
    assert inside(heart, region).sum() == heart.sum()
    assert region.start == choose(heart, SHAPE, SIZE).start, "the smaller piece does not pull the box"
    share = other.sum() / (heart.sum() + other.sum())
    assert region.notes[0].startswith(f"{share:.0%} of the foreground") and len(region.notes) == 1
    large = choose(blob((0, 4, 4), (5, 20, 40)), SHAPE, SIZE)
    assert large.size == central(SHAPE, SIZE).size and large.notes[0].startswith("20% of the foreground")
    nothing = choose(np.zeros(SHAPE, bool), SHAPE, SIZE)
    assert nothing[:3] == central(SHAPE, SIZE)[:3] and "no foreground" in nothing.notes[0]


def test_only_a_border_beyond_which_the_image_goes_on_is_worth_a_note():
    region = Region((0, 28, 9), (5, 32, 32))  # its last row is the image's
    for first, share in (
        ((0, 0, 5), 1 / 6),
        ((0, 26, 5), 0),
        ((0, 10, 0), 1 / 7),
        ((0, 10, 25), 1 / 7),
        ((0, 9, 9), 0),
    ):
        notes = at_border(blob(first, (5, 6, 7), (5, 32, 32)).astype(np.uint8), region, SHAPE)
        assert bool(notes) == (share > 0)
        assert all(note.startswith(f"{share:.1%} of the foreground touches") for note in notes)


def test_the_configuration_chooses_unless_the_command_does():
    assert [crop_of("", overlap) for overlap in (0.0, 0.5)] == ["heart", "tiles"]
    assert crop_of("centre", 0.5) == "centre"
    with pytest.raises(InputError, match=r"^--crop: 'middle' is not one of heart, centre, tiles$"):
        crop_of("middle", 0.0)
