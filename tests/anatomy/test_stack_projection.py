"""Label maps made valid: the guarantee on any grid, the smallest move, and what becomes of a slice drawn anew."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cardiac_jax.anatomy.anatomical_prior import Prior
from cardiac_jax.anatomy.stack_projection import BASAL, project_stack
from cardiac_jax.anatomy.tidy import with_pool
from cardiac_jax.anatomy.validity import failures, unfit
from cardiac_jax.anatomy.wall import redrawn
from cardiac_jax.data.stack import from_volume
from tests import rings
from tests.anatomy_reference import heart_faults, on_each_grid

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


def passes(prior: Prior, stack: np.ndarray, pixel_mm: tuple[float, float], may_open: bool = False) -> np.ndarray:
    """Whether slices `[N, H, W]` pass on the file's own grid."""
    limits = prior.limits._replace(c_shaped=may_open)
    return np.asarray(~failures(stack == 2, sum(pixel_mm) / 2, limits, stack == 3).any(1))


def dent_mm(pixel_mm: tuple[float, float]) -> float:
    """The deepest dent allowed, 4 mm; where lengths are judged on the prior's grid, a pixel of it more."""
    return 4.0 + (rings.SPACING_MM if unfit(*pixel_mm) else 0.0)


@on_each_grid(GRIDS)
@settings(max_examples=1, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pixel_mm=st.sampled_from(list(GRIDS)), mode=st.sampled_from(["invalid", "all"]))
def test_any_label_map_at_all_is_valid_afterwards(prior: Prior, seed: int, pixel_mm: tuple[float, float], mode: str):
    """Many slices at a time: a batch of 32 takes as long as one."""
    rng = np.random.default_rng(seed)
    shape = GRIDS[pixel_mm]
    stack = np.stack([np.zeros(shape, np.uint8), *(hostile(rng, shape) for _ in range(9))])
    rng.shuffle(stack)
    out, slices = valid(prior, stack, pixel_mm, mode)
    held = (stack >= 2).any((1, 2))
    np.testing.assert_array_equal(slices.index, np.flatnonzero(held))
    np.testing.assert_array_equal(out[~held], stack[~held])
    np.testing.assert_array_equal(slices.after, ~slices.refused)
    kept, emptied = slices.index[~slices.refused], slices.index[slices.refused]
    assert (out[kept] == 2).any((1, 2)).all() and (out[emptied] < 2).all(), "a heart or nothing"
    assert not slices.before[slices.refused].any()
    for z in kept:
        assert heart_faults(out[z] == 2, out[z] == 3, pixel_mm, dent_mm(pixel_mm)) == []
    again = valid(prior, out, pixel_mm, "none")[1]
    np.testing.assert_array_equal(again.index, kept)
    if not unfit(*pixel_mm):  # else the check judges on the prior's grid
        basal = slices.index > slices.index.max(initial=0) - BASAL
        was, now = (
            np.where(basal, *(passes(prior, some[slices.index], pixel_mm, may_open) for may_open in (True, False)))
            for some in (stack, out)
        )
        assert was.tolist() == slices.before.tolist() and now.tolist() == slices.after.tolist()
    left = np.isnan(slices.alpha)
    assert ((slices.alpha[~left] >= 0) & (slices.alpha[~left] <= 1)).all()
    same = slices.index[slices.before] if mode == "invalid" else []
    np.testing.assert_array_equal(out[same], stack[same])
    assert set(np.unique(out)) <= {0, 1, 2, 3}


def test_a_field_of_view_that_holds_no_heart_is_told(prior: Prior):
    """10.5 x 10.5 mm: the slice cannot be made valid; it is emptied, and refused."""
    stack = np.full((1, 7, 7), 2, np.uint8)
    stack[:, ::2] = 0
    out, slices = valid(prior, stack, (1.5, 1.5), "invalid")
    assert slices.after.tolist() == [False] and slices.refused.tolist() == [True] and not out.any()


def test_judging_alone_changes_nothing(prior: Prior):
    stack = np.stack([rings.ring((40, 40), (20, 20), 6, 10), rings.ring((40, 40), (20, 20), 6, 10)])
    stack[1, 20] = 0  # two halves
    out, slices = valid(prior, stack, (2.0, 2.0), "none")
    np.testing.assert_array_equal(out, stack)
    assert slices.before.tolist() == slices.after.tolist() == [True, False]
    assert np.isnan(slices.alpha).all() and not slices.from_bank.any()


def apart(stack: np.ndarray, sign: int) -> np.ndarray:
    """Every slice shifted by its own number of pixels."""
    return np.stack([np.roll(one, (sign * k, -2 * sign * k), (0, 1)) for k, one in enumerate(stack)])


def test_the_smallest_move_towards_the_nearest_code_and_the_mask_it_decodes_to(prior: Prior):
    """On the prior's own grid. A wall under 3 pixels decodes to a cut ring, so alpha is where the line crosses 3."""
    stack = np.stack([rings.ring((60, 60), (31.5, 27.5), 7 - w / 2, 7 + w / 2) for w in (1.6, 2.2, 2.6, 4.0)])
    masks = stack == 2
    codes = np.asarray(prior.encode(jnp.asarray(masks[:, 12:52, 8:48], jnp.float32)))
    bank = np.asarray(prior.bank.codes)
    target = bank[np.square(codes[:, None] - bank).sum(2).argmin(1)]
    assert (codes[:3, 1] < 0).all() and codes[3, 1] > 0
    out, slices = valid(prior, apart(stack, 1), (2.0, 2.0), "all")
    out = apart(out, -1)
    crossing = np.where(codes[:, 1] < 0, -codes[:, 1] / (target[:, 1] - codes[:, 1]), 0)
    assert (slices.alpha >= crossing - 1e-6).all() and (slices.alpha <= crossing + 1 / (16 * 2**6)).all()
    assert slices.alpha[3] == 0 and (slices.alpha[:3] > 0.1).all() and not slices.from_bank.any()
    for alpha, code, near in zip(slices.alpha, codes, target, strict=True):
        smaller = [j / 16 for j in range(16) if j / 16 < alpha - 1e-6]
        masks = rings.decoded(np.array([code + a * (near - code) for a in smaller]).reshape(-1, 2))
        assert failures(masks, 2.0, prior.limits).any(1).all()
    moved = rings.decoded(codes + slices.alpha[:, None].astype(np.float32) * (target - codes))
    np.testing.assert_array_equal(out[:, 12:52, 8:48] == 2, moved)
    assert (out == 2).sum() == moved.sum()
    np.testing.assert_array_equal(valid(prior, stack, (2.0, 2.0), "invalid")[0], stack)  # they were valid all along


def test_what_fails_on_the_files_grid_takes_the_nearest_of_the_bank_that_passes_there():
    """A wall of 1.1 pixels of 2 mm falls apart on pixels of 2.9 mm; another of the bank does not."""
    codes = np.array([[0.0, 0.05], [0.6, 1.8]]).repeat(30, 0)
    prior = rings.prior(codes)._replace(limits=rings.DEFAULT._replace(thickness_mm=5.5))
    broken = rings.ring((40, 40), (20, 20), 5.2, 6.6)
    broken[20, 20:] = 0
    out, slices = valid(prior, broken[None], (2.9, 2.9), "invalid")
    assert not slices.before[0] and slices.after[0] and slices.from_bank[0]
    assert passes(prior, out, (2.9, 2.9)).all()
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


def drawn(mask: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The slice map of a wall and its pool, with pixels of 2.8 mm."""
    former = np.where(labels == 3, 3, 0).astype(np.uint8)
    return with_pool(mask[None], former[None], 2.8, rings.DEFAULT.pocket_mm, rings.DEFAULT.outside_mm)[0]


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
    np.testing.assert_array_equal(redrawn(labels, drawn(WALL, labels), SCARRED), expected)


def test_an_open_wall_has_its_pocket_as_pool_and_what_bulges_out_of_it():
    """Two columns beyond the hull were pool; the second is 5.6 mm away."""
    open_ = WALL.copy()
    open_[3:6, 6:8] = False
    labels = np.zeros((10, 10), np.uint8)
    labels[3:6, 5:10] = 3
    labels[4, 7], labels[5, 5], labels[9, 9] = 1, 2, 3
    expected = np.where(open_, 2, 0)
    expected[3:6, 3:9] = 3
    np.testing.assert_array_equal(redrawn(labels, drawn(open_, labels), CLASSES), expected)


def test_without_a_class_for_the_pool_nothing_lies_within_the_wall():
    labels = np.full((10, 10), 1, np.uint8)
    found = redrawn(labels, WALL, ("background", "RV", "Myo"))
    np.testing.assert_array_equal(found == 2, WALL)
    assert not found[3:6, 3:6].any() and (found[0] == 1).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_slice_drawn_anew_has_that_wall_and_pool_whatever_it_held(seed: int):
    rng = np.random.default_rng(seed)
    labels = rng.choice(6, (24, 26), p=rng.dirichlet(np.ones(6))).astype(np.uint8)
    asked = drawn(hostile(rng, (24, 26)) == 2, labels)
    out = redrawn(labels, asked, SCARRED)
    np.testing.assert_array_equal(np.isin(out, (2, 4, 5)), asked == 2)
    np.testing.assert_array_equal(out == 3, asked == 3)
    for name in (4, 5):
        np.testing.assert_array_equal(out == name, (labels == name) & (asked == 2))
    assert not ((out == 1) & ((labels != 1) | (asked > 0))).any()


# --- what a reader would call a heart


def odd_maps() -> dict[str, np.ndarray]:
    """Slices `[60, 60]` on pixels of 2 mm, each odd in its own way; the last three are the most basal."""
    rng = np.random.default_rng(3)
    whole = rings.ring((60, 60), (30, 30), 6, 10)
    y, x = np.indices((60, 60)) - 30
    salted = np.where(rng.random(whole.shape) < 0.04, rng.integers(2, 4, whole.shape), whole)
    speck = np.zeros_like(whole)
    speck[30:32, 30:32] = 2
    maps = {
        "half": np.where(x < 0, whole, 0),
        "half, aslant": np.where(x + 2 * y < 3, whole, 0),
        "a quarter missing": np.where((x > 0) & (y > 0), 0, whole),
        "a ring without its pool": np.where(whole == 3, 0, whole),
        "a gap between wall and pool": np.where((whole == 3) & (np.hypot(x, y) > 3), 0, whole),
        "a loose pool": np.where(np.hypot(x - 20, y) < 4, 3, np.where(whole == 3, 0, whole)),
        "a pool in two": np.where((whole == 3) & (np.abs(x) < 2), 0, whole),
        "a C whose pool is loose": np.where((x > -3) & (whole == 3) | (x > 3), 0, whole),
        "salt": salted,
        "noise": rng.integers(0, 4, whole.shape),
        "two hearts": np.maximum(rings.ring((60, 60), (18, 18), 6, 10), rings.ring((60, 60), (42, 42), 5, 9)),
        "a speck of wall": speck,
        "a pool alone": np.where(whole == 3, 3, 0),
        "everything is wall": np.full_like(whole, 2),
        "half, at the base": np.where(x < 0, whole, 0),
        "half, aslant, at the base": np.where(x + 2 * y < 3, whole, 0),
        "a gap, at the base": np.where((whole == 3) & (np.hypot(x, y) > 3), 0, whole),
    }
    return {name: one.astype(np.uint8) for name, one in maps.items()}


REFUSED = {"noise", "a speck of wall", "a pool alone", "everything is wall"}
REPAIRED = {"a ring without its pool", "a gap between wall and pool", "a loose pool", "a pool in two", "two hearts"}


@pytest.mark.parametrize("pixel_mm", [(2.0, 2.0), (0.5, 0.5), (3.4, 3.4), (1.6, 2.4)])
def test_odd_maps_come_out_as_hearts_or_not_at_all(prior: Prior, pixel_mm: tuple[float, float]):
    """Judged by scipy alone. What can be repaired keeps its wall; half a heart gets its other half, closed."""
    of = [np.round((np.arange(int(120 / mm)) + 0.5) * mm / 2 - 0.5).astype(int).clip(0, 59) for mm in pixel_mm]
    stack = np.stack([one[of[0]][:, of[1]] for one in odd_maps().values()])
    out, slices = valid(prior, stack, pixel_mm, "invalid")
    assert len(slices.index) == len(stack) and not slices.before.any()
    for name, drawn, one, refused, tidied in zip(odd_maps(), stack, out, slices.refused, slices.tidied, strict=True):
        assert heart_faults(one == 2, one == 3, pixel_mm, dent_mm(pixel_mm)) == [], name
        assert refused == (name in REFUSED), name
        assert (one == 3).any() == (one == 2).any() == (name not in REFUSED), name
        if name in REPAIRED and pixel_mm == (2.0, 2.0):
            assert tidied and (drawn[one == 2] == 2).all(), name
    assert (slices.after == ~slices.refused).all()


def test_walls_are_open_at_the_base_only(prior: Prior):
    """An opening of a third in every slice: the three most basal stay as they are, the others are closed."""
    whole = rings.ring((60, 60), (30, 30), 6, 10)
    y, x = np.indices((60, 60)) - 30
    (open_,) = with_pool(((whole == 2) & ~((x > 0) & (np.abs(y) < 0.8 * x)))[None], whole[None], 2.0, 8.0, 0.0)
    stack = np.stack([whole * 0, *[open_] * 6, whole * 0])
    out, slices = valid(prior, stack, (2.0, 2.0), "invalid")
    assert slices.before.tolist() == [False] * 3 + [True] * 3 and slices.after.all()
    np.testing.assert_array_equal(out[4:7], stack[4:7])
    for one in out[1:4]:
        wall = one == 2
        np.testing.assert_array_equal(ndimage.binary_fill_holes(wall) & ~wall, one == 3)
