"""Cine made LGE-like: where enhancement lies, how bright it is, whose histogram the stack has, and determinism."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data import synthesis
from cardiac_jax.data.case import Case
from cardiac_jax.data.load import load
from cardiac_jax.data.orientation import orientation
from cardiac_jax.data.sets import dataset
from cardiac_jax.data.synthesis import lge_like
from tests import ventricle
from tests.ventricle import LV, MYO, RV

SCAR = 5
SPACING_MM = ventricle.SPACING_MM
SIGNAL = np.zeros(256)
SIGNAL[[0, RV, MYO, LV, IGNORE]] = 40.0, 200.0, 80.0, 220.0, 60.0


def label(slices: int = 6) -> np.ndarray:
    """Rings of 9 mm about a cavity that widens from 8 to 20 mm, between two slices that hold nothing."""
    empty = np.zeros((ventricle.SIZE, ventricle.SIZE), np.uint8)
    rings = [ventricle.ring(inner, inner + 9) for inner in np.linspace(8, 20, slices)]
    return ventricle.stack(empty, *rings, empty)


def cine(drawn: np.ndarray | None, name: str = "a_ED", noise: float = 3.0) -> Case:
    """A case whose tissues are as bright as in cine: myocardium 80, blood 220; around it 0 to 80 and fat, 230."""
    rng = np.random.default_rng(0)
    shape = drawn.shape if drawn is not None else (3, 40, 40)
    image = SIGNAL[drawn] if drawn is not None else rng.uniform(0, 200, shape)
    image[:, :, :4] = 230.0
    image = np.abs(image + noise * rng.standard_normal(shape)).astype(np.float32)
    affine = np.diag([*SPACING_MM[::-1], 1.0])
    frame = orientation(affine, "base_first")
    return Case(name, "a", {"cine": image}, drawn, frame, affine, "ED", "NOR", "train", Path("a.nii.gz"))


def references() -> list[np.ndarray]:
    return [np.random.default_rng(k).gamma(1 + k, 50.0, (4, 30 + k, 40)).astype(np.float32) for k in range(3)]


def enhanced(drawn: np.ndarray, seeds: int) -> list[Case]:
    """The results of `seeds` seeds that show enhancement."""
    made = [lge_like(cine(drawn), references(), seed, scar=SCAR) for seed in range(seeds)]
    return [case for case in made if SCAR in some(case.label)]


def some(array: np.ndarray | None) -> np.ndarray:
    assert array is not None
    return array


def extents(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Of each slice with scar: the angle of the smallest sector that holds it, degrees; share of the wall, inside."""
    widths, depths = [], []
    radius_mm, angle = ventricle.polar()
    inner_mm = np.linspace(8, 20, len(some(case.label)) - 2)
    for z in np.flatnonzero((some(case.label) == SCAR).any(axis=(1, 2))):
        scar = some(case.label)[z] == SCAR
        around = np.sort(angle[scar])
        widths.append(360 - np.diff(around, append=around[0] + 360).max())
        depths.append((radius_mm[scar].max() - inner_mm[z - 1]) / 9)
    return np.array(widths), np.array(depths)


def test_scar_replaces_myocardium_and_nothing_else_changes():
    drawn = label()
    before = drawn.copy()
    case = cine(drawn)
    made = lge_like(case, references(), 1, scar=SCAR)
    assert made.id == "a_ED_lge_like" and list(made.images) == ["LGE"] and list(case.images) == ["cine"]
    same = ("patient", "frame", "affine", "phase", "group", "split", "source")
    assert all(getattr(made, name) is getattr(case, name) for name in same)
    assert made.images["LGE"].dtype == np.float32 and made.images["LGE"].shape == drawn.shape
    assert made.spacing_mm == case.spacing_mm == SPACING_MM
    np.testing.assert_array_equal(drawn, before)
    for one in enhanced(drawn, 12):
        now = some(one.label)
        assert now.dtype == np.uint8
        np.testing.assert_array_equal(np.where(now == SCAR, MYO, now), drawn)


def test_scar_is_a_sector_over_neighbouring_slices_that_starts_at_the_cavity():
    drawn, cases = label(), enhanced(label(), 40)
    widest = 2 * synthesis.HALF_WIDTH_DEG[1]
    deepest = []
    for case in cases:
        scar = some(case.label) == SCAR
        share = scar.sum() / (drawn == MYO).sum()
        assert 0 < share <= widest / 360 + 0.02
        held = np.flatnonzero(scar.any(axis=(1, 2)))
        assert len(held) <= synthesis.LENGTH_MM[1] / SPACING_MM[0]
        assert (np.diff(held) == 1).all()
        widths, depths = extents(case)
        assert (widths <= widest + 10).all()  # a pixel at 8 mm spans 10 degrees
        deepest.append(depths.max())
    subendocardial = np.array(deepest) < synthesis.DEPTH[1] + 1.4 / 9  # one pixel of a wall of 9 mm
    assert 0.2 < subendocardial.mean() < 0.8 and max(deepest) > 0.85
    shares = [(some(case.label) == SCAR).sum() / (drawn == MYO).sum() for case in cases]
    assert min(shares) < 0.1 < 0.2 < max(shares)


def test_depth_and_angle_are_in_the_plane_of_the_slice_in_millimetres():
    """Pixels are 1.2 x 2 mm: distances to straight edges are exact, those to a ring right to a share of a pixel."""
    spacing_mm = (10.0, 1.2, 2.0)
    strip = np.zeros((20, 20), bool)
    strip[4:9] = True
    assert synthesis._within(strip, spacing_mm)[4:9, 9] == pytest.approx([1.2, 2.4, 3.6, 2.4, 1.2])
    assert synthesis._within(strip.T, spacing_mm)[9, 4:9] == pytest.approx([2, 4, 6, 4, 2])
    drawn = ventricle.ring(15, 27, None, spacing_mm)
    share, angle_deg = synthesis._wall(drawn, spacing_mm)
    radius_mm, counterclockwise_deg = ventricle.polar(spacing_mm)
    wall = drawn == MYO
    assert np.isinf(share[~wall]).all()
    off = share[wall] - (radius_mm[wall] - 15) / 12
    assert np.abs(off).max() < 2 / 12 and np.abs(off).mean() < 0.5 / 12
    from_rows_deg = counterclockwise_deg + 90  # rows run down, at -90 degrees, columns to the right
    assert ventricle.apart(angle_deg[wall], from_rows_deg[wall]).max() < 2


def test_a_share_of_the_cases_stays_without_enhancement():
    """Of 60 draws the binomial's mean is 60 x `WITHOUT` = 15 and its SD 3.4: three SD to either side."""
    drawn = label(1)
    count = 60 - len(enhanced(drawn, 60))
    sd = np.sqrt(60 * synthesis.WITHOUT * (1 - synthesis.WITHOUT))
    assert abs(count - 60 * synthesis.WITHOUT) < 3 * sd


def test_normal_myocardium_is_darkest_and_enhancement_brighter_than_blood():
    """Matching keeps the order, so medians come out in the order they were painted in, whatever the reference.

    Normal myocardium had 80 and is darkened below that, blood had 220, enhancement is painted above blood. In a wall
    that is enhanced from cavity to fat more than a quarter of its voxels lie beyond the blur; a thin strip is a mix.
    """
    thick = 0
    for case in enhanced(label(), 24):
        image, now = case.images["LGE"], some(case.label)
        remote, blood, scar = (image[now == k] for k in (MYO, LV, SCAR))
        assert np.median(remote) < np.median(blood) and np.median(remote) < np.median(scar)
        assert np.percentile(scar, 10) > np.percentile(remote, 75)
        if extents(case)[1].max() > 0.9:
            thick += 1
            assert np.percentile(scar, 75) > np.median(blood)
    assert thick >= 4


def test_the_histogram_is_that_of_one_reference():
    shares = np.linspace(0.02, 0.98, 25)
    expected = [np.quantile(reference, shares) for reference in references()]
    chosen = set()
    for seed in range(12):
        found = np.quantile(lge_like(cine(label()), references(), seed, scar=None).images["LGE"], shares)
        off = [np.abs(found - one).max() / one.max() for one in expected]
        assert min(off) < 0.01
        chosen.add(int(np.argmin(off)))
    assert chosen == {0, 1, 2}


def test_seed_and_id_decide_and_nothing_else():
    drawn = label(2)
    cases = [cine(drawn, name) for name in ("a_ED", "b_ED", "c_ES")]
    forth = [lge_like(case, references(), 3, scar=SCAR) for case in cases]
    back = [lge_like(case, references(), 3, scar=SCAR) for case in cases[::-1]][::-1]
    for one, other in zip(forth, back, strict=True):
        np.testing.assert_array_equal(one.images["LGE"], other.images["LGE"])
        np.testing.assert_array_equal(some(one.label), some(other.label))
    different = [*(case.images["LGE"] for case in forth), lge_like(cases[0], references(), 4, scar=1).images["LGE"]]
    assert all((a != b).mean() > 0.5 for k, a in enumerate(different) for b in different[:k])


def test_without_a_scar_class_the_label_stays_and_the_image_is_the_same():
    drawn = label()
    for seed in range(6):
        named, unnamed = (lge_like(cine(drawn), references(), seed, scar=scar) for scar in (SCAR, None))
        np.testing.assert_array_equal(some(unnamed.label), drawn)
        np.testing.assert_array_equal(named.images["LGE"], unnamed.images["LGE"])
        assert unnamed.label is not drawn


@pytest.mark.parametrize("drawn", [None, np.zeros((3, 40, 40), np.uint8), np.full((3, 40, 40), IGNORE, np.uint8)])
def test_without_annotated_myocardium_the_image_alone_changes(drawn):
    for seed in range(6):
        made = lge_like(cine(drawn), references(), seed, scar=SCAR)
        assert (made.label is None) == (drawn is None)
        if drawn is not None:
            np.testing.assert_array_equal(some(made.label), drawn)
        before, after = cine(drawn).images["cine"].ravel(), made.images["LGE"].ravel()
        order = np.corrcoef(rankdata(before), rankdata(after))[0, 1]
        assert order > 0.7 and (before != after).mean() > 0.9


def test_unannotated_voxels_stay_so():
    drawn = label()
    drawn[:, :, :30], drawn[2] = IGNORE, np.where(drawn[2] == MYO, MYO, IGNORE)
    cases = enhanced(drawn, 10)
    assert cases
    for case in cases:
        np.testing.assert_array_equal(some(case.label) == IGNORE, drawn == IGNORE)


@pytest.mark.parametrize("what", ["one slice", "apex without cavity", "one voxel", "wall to the image's edge"])
def test_stacks_out_of_the_ordinary(what):
    drawn = label(1)[1:2]
    if what == "apex without cavity":
        drawn = np.where(drawn == LV, MYO, drawn).astype(np.uint8)
    elif what == "one voxel":
        drawn = np.zeros_like(drawn)
        drawn[:, 20, 30] = MYO
    elif what == "wall to the image's edge":
        drawn = np.full_like(drawn, MYO)
    cases = enhanced(drawn, 8)
    assert cases and all(np.isfinite(case.images["LGE"]).all() for case in cases)
    for case in cases:
        assert set(np.unique(drawn[some(case.label) == SCAR])) == {MYO}


def test_a_reference_or_a_cine_image_that_is_missing_is_named():
    with pytest.raises(ValueError, match="no LGE volume"):
        lge_like(cine(label()), [], 0, scar=None)
    with pytest.raises(ValueError, match="a_ED has T2, not cine"):
        lge_like(replace(cine(label()), images={"T2": np.ones((2, 2, 2), np.float32)}), references(), 0, scar=None)


def test_real_cine_becomes_lge_like(real_data):
    """Enhancement over normal myocardium, blood over normal myocardium, in every slice stack of two patients."""
    acdc, myops = dataset("acdc"), dataset("myops")
    stacks = [load(r, myops, ("LGE",)).images["LGE"] for r in myops.find(real_data / "myops")[:3]]
    for record in [r for r in acdc.find(real_data / "acdc") if r.phase == "ED"][:2]:
        case = load(record, acdc)
        made = [lge_like(case, stacks, seed, scar=SCAR) for seed in range(5)]
        assert any(SCAR in some(one.label) for one in made)
        for one in made:
            image, now = one.images["LGE"], some(one.label)
            remote, blood = (float(np.median(image[now == k])) for k in (MYO, LV))
            assert remote < 0.7 * blood
            if SCAR in now:
                assert float(np.median(image[now == SCAR])) > max(0.9 * blood, 1.5 * remote)
