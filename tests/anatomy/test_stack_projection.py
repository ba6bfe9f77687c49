"""Label maps made valid: the guarantee on any grid, the smallest move, and what becomes of a slice drawn anew."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cardiac_jax.anatomy.anatomical_prior import Prior
from cardiac_jax.anatomy.stack_projection import project_stack
from cardiac_jax.anatomy.validity import failures, unfit
from cardiac_jax.anatomy.wall import redrawn
from cardiac_jax.data.stack import from_volume
from tests import rings
from tests.anatomy_reference import hull_of

CLASSES = rings.CLASSES
SCARRED = (*CLASSES, "oedema", "scar")
GRIDS = {  # pixels in mm -> size of the image, which can hold a heart of the bank, some 36 mm across
    (1.5, 1.5): (46, 52),
    (0.8, 0.8): (60, 50),
    (2.9, 2.9): (20, 46),
    (1.2, 1.7): (46, 30),
    (0.3, 0.3): (140, 160),
    (0.15, 0.6): (280, 70),
    (6.0, 6.0): (20, 8),
}


@pytest.fixture(scope="module")
def prior() -> Prior:
    return rings.prior()


def affine(pixel_mm: tuple[float, float]) -> np.ndarray:
    return np.diag([*pixel_mm, 40.0, 1.0])  # slices so far apart that theirs is the long axis


def valid(prior: Prior, stack: np.ndarray, pixel_mm: tuple[float, float], mode: str, classes=CLASSES):
    """`project_stack` of slices `[Z, H, W]`, apex first; the result in the same order."""
    labels = from_volume(stack.transpose(2, 1, 0), affine(pixel_mm[::-1]), "apex_first")
    np.testing.assert_array_equal(labels.data, stack)
    out, slices = project_stack(prior, labels, classes, mode)
    assert out.data.shape == stack.shape and out.data.dtype == stack.dtype
    np.testing.assert_array_equal(out.affine, labels.affine)
    return out.data, slices


def hostile(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Labels `[H, W]` of any of these kinds, the myocardium among other classes."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    centre = rng.uniform((0, 0), shape)
    angle, far = np.arctan2(y - centre[0], x - centre[1]), np.hypot(y - centre[0], x - centre[1])
    out = np.where(rng.random(shape) < rng.choice([0.0, 0.2]), rng.integers(0, 4, shape), 0).astype(np.uint8)
    out[out == 2] = 0
    kind = rng.integers(9)
    if kind == 1:
        out = rng.choice(4, shape, p=rng.dirichlet(np.ones(4))).astype(np.uint8)
    elif kind == 2:
        out[rng.integers(shape[0]), rng.integers(shape[1])] = 2
    elif kind == 3:
        corner = rng.integers(4)
        out[-(corner // 2), -(corner % 2)] = 2
    elif kind == 4:
        out[far < rng.uniform(1, 20)] = 2
    elif kind == 5:
        broken = np.abs(np.sin(rng.integers(1, 5) * angle)) > rng.uniform(0.05, 0.7)
        out[(np.abs(far - rng.uniform(3, 18)) < rng.uniform(0.5, 4)) & broken] = 2
    elif kind == 6:
        out[:] = 2
    elif kind == 7:
        out[:: rng.integers(2, 4)] = 2
    elif kind == 8:
        ring = rings.ring(shape, tuple(centre), 6, 10)
        out = np.where(ring > 0, ring, out)
    return out


def passes(prior: Prior, mask: np.ndarray, pixel_mm: tuple[float, float]) -> bool:
    """Judged in its place in the whole image, on the file's own grid."""
    return not failures(mask[None], sum(pixel_mm) / 2, prior.limits).any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pixel_mm=st.sampled_from(list(GRIDS)), mode=st.sampled_from(["invalid", "all"]))
def test_any_label_map_at_all_is_valid_afterwards(prior: Prior, seed: int, pixel_mm: tuple[float, float], mode: str):
    rng = np.random.default_rng(seed)
    shape = GRIDS[pixel_mm]
    stack = np.stack([np.zeros(shape, np.uint8), *(hostile(rng, shape) for _ in range(5))])
    rng.shuffle(stack)
    out, slices = valid(prior, stack, pixel_mm, mode)
    held = (stack == 2).any((1, 2))
    np.testing.assert_array_equal(slices.index, np.flatnonzero(held))
    np.testing.assert_array_equal(out[~held], stack[~held])
    np.testing.assert_array_equal((out == 2).any((1, 2)), held)
    assert slices.after.all()
    again = valid(prior, out, pixel_mm, "none")[1]
    np.testing.assert_array_equal(again.index, slices.index)
    assert again.before.all() and again.after.all()
    if not unfit(*pixel_mm):  # else the check judges on the prior's grid
        assert all(passes(prior, out[z] == 2, pixel_mm) for z in slices.index)
        assert [passes(prior, stack[z] == 2, pixel_mm) for z in slices.index] == slices.before.tolist()
    left = np.isnan(slices.alpha)
    np.testing.assert_array_equal(left, slices.before if mode == "invalid" else np.zeros(len(left), bool))
    assert ((slices.alpha[~left] >= 0) & (slices.alpha[~left] <= 1)).all()
    np.testing.assert_array_equal(out[slices.index[left]], stack[slices.index[left]])
    assert set(np.unique(out)) <= {0, 1, 2, 3}


def test_a_field_of_view_that_holds_no_heart_is_told(prior: Prior):
    """15 x 15 mm: the slice cannot be made valid, and is not said to be."""
    stack = np.full((1, 10, 10), 2, np.uint8)
    stack[:, ::2] = 0
    out, slices = valid(prior, stack, (1.5, 1.5), "invalid")
    assert slices.after.tolist() == [passes(prior, out[0] == 2, (1.5, 1.5))] == [False]


def test_judging_alone_changes_nothing(prior: Prior):
    stack = np.stack([rings.ring((40, 40), (20, 20), 6, 10), rings.ring((40, 40), (20, 20), 6, 10)])
    stack[1, 20] = 0  # two halves
    out, slices = valid(prior, stack, (2.0, 2.0), "none")
    np.testing.assert_array_equal(out, stack)
    assert slices.before.tolist() == slices.after.tolist() == [True, False]
    assert np.isnan(slices.alpha).all() and not slices.from_bank.any()


def test_the_smallest_move_towards_the_nearest_code_and_the_mask_it_decodes_to(prior: Prior):
    """On the prior's own grid. A wall under 3 pixels decodes to a cut ring, so alpha is where the line crosses 3."""
    stack = np.stack([rings.ring((60, 60), (31.5, 27.5), 7 - w / 2, 7 + w / 2) for w in (1.6, 2.2, 2.6, 4.0)])
    masks = stack == 2
    codes = np.asarray(prior.encode(jnp.asarray(masks[:, 12:52, 8:48], jnp.float32)))
    bank = np.asarray(prior.bank.codes)
    target = bank[np.square(codes[:, None] - bank).sum(2).argmin(1)]
    assert (codes[:3, 1] < 0).all() and codes[3, 1] > 0
    out, slices = valid(prior, stack, (2.0, 2.0), "all")
    crossing = np.where(codes[:, 1] < 0, -codes[:, 1] / (target[:, 1] - codes[:, 1]), 0)
    assert (slices.alpha >= crossing - 1e-6).all() and (slices.alpha <= crossing + 1 / (16 * 2**6)).all()
    assert slices.alpha[3] == 0 and (slices.alpha[:3] > 0.1).all() and not slices.from_bank.any()
    for alpha, code, near in zip(slices.alpha, codes, target, strict=True):
        smaller = [j / 16 for j in range(16) if j / 16 < alpha - 1e-6]
        assert not any(passes(prior, rings.decoded((code + a * (near - code))[None])[0], (2.0, 2.0)) for a in smaller)
    moved = rings.decoded(codes + slices.alpha[:, None].astype(np.float32) * (target - codes))
    np.testing.assert_array_equal(out[:, 12:52, 8:48] == 2, moved)
    assert (out == 2).sum() == moved.sum()
    np.testing.assert_array_equal(valid(prior, stack, (2.0, 2.0), "invalid")[0], stack)  # they were valid all along


def test_what_fails_on_the_files_grid_takes_the_nearest_of_the_bank_that_passes_there():
    """A wall of 1.1 pixels of 2 mm falls apart on pixels of 2.9 mm; another of the bank does not."""
    codes = np.array([[0.0, 0.05], [0.6, 1.8]]).repeat(30, 0)
    prior = rings.prior(codes)._replace(limits=rings.DEFAULT._replace(thickness_mm=5.5))
    broken = rings.ring((40, 40), (20, 20), 3.6, 5.0)
    broken[20] = 0
    out, slices = valid(prior, broken[None], (2.9, 2.9), "invalid")
    assert not slices.before[0] and slices.after[0] and slices.from_bank[0]
    assert passes(prior, out[0] == 2, (2.9, 2.9))
    area_mm2 = (out == 2).sum() * 2.9**2
    assert area_mm2 == pytest.approx(rings.decoded(np.array([[0.6, 1.8]])).sum() * 4, rel=0.1)


def test_axes_of_the_file_do_not_matter(prior: Prior):
    rng = np.random.default_rng(5)
    labels = np.stack([hostile(rng, (46, 52)) for _ in range(4)], -1)
    grid = np.array([[0, 0, 12.0, 0], [-1.5, 0, 0, 0], [0, -1.5, 0, 0], [0, 0, 0, 1]])
    valid_stack, slices = project_stack(prior, from_volume(labels, grid, "affine"), CLASSES)
    out = valid_stack.to_file()
    order, flipped = (2, 0, 1), grid[:, [2, 0, 1, 3]] * [1, -1, 1, 1]
    given = labels.transpose(order)[:, ::-1]
    turned, again = project_stack(prior, from_volume(given, flipped, "affine"), CLASSES)
    np.testing.assert_array_equal(turned.to_file()[:, ::-1], out.transpose(order))
    np.testing.assert_array_equal(slices.alpha, again.alpha)
    assert (out != labels).any()


# --- the slice drawn anew

WALL = np.zeros((10, 10), bool)
WALL[1:8, 1:8] = True
WALL[3:6, 3:6] = False  # what it encloses


def test_the_pool_is_what_the_wall_encloses_and_what_was_drawn_in_the_wall_stays():
    labels = np.zeros((10, 10), np.uint8)
    before = {(4, 4): 1, (4, 3): 2, (0, 0): 3, (3, 3): 5, (1, 1): 5, (2, 2): 4, (9, 9): 5, (0, 4): 1, (1, 4): 1}
    after = {**before, (4, 4): 3, (4, 3): 3, (0, 0): 0, (3, 3): 3, (9, 9): 0, (1, 4): 2}
    for place, value in before.items():
        labels[place] = value
    expected = np.where(WALL, 2, 0)
    expected[3:6, 3:6] = 3
    for place, value in after.items():
        expected[place] = value
    np.testing.assert_array_equal(redrawn(labels, WALL, SCARRED), expected)


def test_an_open_wall_keeps_the_pool_within_its_hull():
    open_ = WALL.copy()
    open_[3:6, 6:8] = False
    labels = np.zeros((10, 10), np.uint8)
    labels[3:6, 3:9] = 3  # one column beyond the hull
    labels[4, 7] = 1
    labels[5, 5] = 2
    expected = np.where(open_, 2, 0)
    within = np.zeros((10, 10), bool)
    within[3:6, 3:8] = True
    within[4, 7] = False  # RV before, and RV after
    expected[ndimage.binary_opening(within)] = 3  # without what is narrower than three pixels
    expected[4, 7] = 1
    np.testing.assert_array_equal(redrawn(labels, open_, CLASSES), expected)


def test_without_a_class_for_the_pool_nothing_lies_within_the_wall():
    labels = np.full((10, 10), 1, np.uint8)
    found = redrawn(labels, WALL, ("background", "RV", "Myo"))
    np.testing.assert_array_equal(found == 2, WALL)
    assert not found[3:6, 3:6].any() and (found[0] == 1).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_slice_drawn_anew_has_that_wall_whatever_it_held(seed: int):
    rng = np.random.default_rng(seed)
    labels = rng.choice(6, (24, 26), p=rng.dirichlet(np.ones(6))).astype(np.uint8)
    mask = hostile(rng, (24, 26)) == 2
    out = redrawn(labels, mask, SCARRED)
    enclosed = ndimage.binary_fill_holes(mask) & ~mask
    np.testing.assert_array_equal(np.isin(out, (2, 4, 5)), mask)
    for drawn in (4, 5):
        np.testing.assert_array_equal(out == drawn, (labels == drawn) & mask)
    assert (out[enclosed] == 3).all()
    assert not ((out == 1) & ((labels != 1) | mask | enclosed)).any()
    around = ndimage.binary_dilation(hull_of(mask) if mask.any() else mask)  # of whole pixels, not of their centres
    assert not ((out == 3) & ~around).any()
