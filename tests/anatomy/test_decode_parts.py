"""What is done to label maps beside making them valid: extent towards the base, enhancement; and the tally of it."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from cardiac_jax.anatomy.basal_extent import last_slice
from cardiac_jax.anatomy.decode import projecting
from cardiac_jax.anatomy.enhancement import cleaned
from cardiac_jax.anatomy.projection_summary import ProjectionSummary
from cardiac_jax.anatomy.stack_projection import ProjectedSlices, open_slices
from cardiac_jax.anatomy.validity import failures
from cardiac_jax.core.types import Decoded, Decoder
from cardiac_jax.data.orientation import Orientation
from cardiac_jax.data.stack import Stack, from_volume
from cardiac_jax.errors import InputError
from tests import rings

CLASSES = rings.CLASSES
SCARRED = (*CLASSES, "oedema", "scar")


@pytest.mark.parametrize(
    "area, c_shaped, last",
    [
        ([0, 0, 0], [], -1),
        ([0, 1, 2, 3, 2, 0], [], 4),  # neither C nor loss: all that has any
        ([1, 2, 3, 3, 3], [3, 4], 3),  # one C stays
        ([1, 2, 3, 4, 5], [2, 4], 4),  # the longest increasing run reaches beyond it
        ([3, 3.5, 3, 1, 1], [], 2),  # a loss of two thirds
        ([3, 3.5, 3, 1, 1], [1], 1),  # what comes first
        ([4, 4, 2, 2], [], 1),  # with a loss of a third allowed
        ([1, 1, 0.1, 0.2, 0.3, 0.4], [], 5),
        ([2, 0, 3], [], 2),  # an empty slice is a loss; the run from it goes on
        ([1, 2, 1, 2, 0.5], [0], 1),  # the first of two equal runs
        ([5, 5], [0], 0),
    ],
)
def test_where_the_ventricle_ends(area: list[float], c_shaped: list[int], last: int):
    drop = 1 / 3 if area == [4, 4, 2, 2] else 0.6
    assert last_slice(np.array(area, float), np.isin(np.arange(len(area)), c_shaped), drop) == last


def test_area_and_openness_of_slices():
    ring = rings.ring((40, 40), (20, 20), 7, 10)
    cut = ring.copy()
    cut[14:27, 20:] = 0
    area, c_shaped = open_slices(rings.prior(), np.stack([ring, ring * 0, cut]), (2.0, 2.0), CLASSES)
    np.testing.assert_allclose(area, [4 * (s == 2).sum() for s in (ring, ring * 0, cut)])
    assert c_shaped.tolist() == [False, False, True]


def test_enhancement_is_eroded_and_its_largest_pieces_stay():
    mask = np.zeros((20, 20), bool)
    mask[1:6, 1:6] = True  # 25 pixels; eroded 9
    mask[1:5, 10:13] = True  # 12; eroded 2
    mask[10, 1:8] = True  # 7; eroded none
    mask[11, 8] = True  # joined to it by a corner
    none = cleaned(mask, 2.0, erode=0, least_mm2=15.9)
    np.testing.assert_array_equal(none, mask)
    np.testing.assert_array_equal(cleaned(mask, 2.0, erode=0, least_mm2=16.1), mask & (np.arange(20) < 8)[:, None])
    np.testing.assert_array_equal(np.argwhere(cleaned(mask, 2.0, erode=0, pieces=1)).max(0), [5, 5])
    eroded = np.zeros_like(mask)
    eroded[2:5, 2:5] = eroded[2:4, 11] = True
    np.testing.assert_array_equal(cleaned(mask, 2.0, least_mm2=3.9), eroded)
    eroded[2:4, 11] = False
    np.testing.assert_array_equal(cleaned(mask, 2.0, least_mm2=4.1), eroded)
    assert not cleaned(mask & False, 1.0).any()


def test_the_five_largest_stay_after_erosion_by_a_cross():
    plane = np.zeros((40, 80), bool)
    for i, side in enumerate((9, 8, 7, 6, 5, 4, 3)):
        plane[2 : 2 + side, 11 * i + 1 : 11 * i + 1 + side] = True
    # Squares of 7, 6, 5, 4, 3 remain of the five largest; 3 x 3 pixels of 4 mm2 are 36 mm2, which is not above 36.
    assert cleaned(plane, 4.0, least_mm2=36.0).sum() == 49 + 36 + 25 + 16
    assert cleaned(plane, 4.0, least_mm2=35.9).sum() == 49 + 36 + 25 + 16 + 9
    assert cleaned(plane, 4.0, pieces=1).sum() == 49
    one = np.zeros((5, 5), bool)
    one[1:4, 2] = one[2, 1:4] = True  # a cross shrinks to its middle; eroded by a square it would vanish
    assert cleaned(one, 4.0, least_mm2=0.0).sum() == 1


def decoder(asked: dict[str, object]) -> Decoder:
    return projecting(lambda variables, fits: rings.prior(), SCARRED, ConfigDict(asked))({}, {})


def test_all_that_the_configuration_asks_for():
    """Apex to base: a ring with a speck and a scar; a ring cut in two; two rings of a tenth of the area."""
    asked = {"project": "invalid", "trim": True, "erode": 0, "pieces": 5, "least_mm2": 10.0}
    ring = rings.ring((40, 40), (20, 20), 6, 10)
    marked, halves, small = ring.copy(), ring.copy(), rings.ring((40, 40), (20, 20), 1, 3.5)
    marked[20, 11] = marked[19:22, 27:29] = 5
    halves[20] = 0
    drawn = np.stack([marked, halves, small, small])
    labels = from_volume(drawn.transpose(2, 1, 0), np.diag([2.0, 2.0, 40.0, 1.0]), "apex_first")
    done = decoder(asked).decode(labels)
    out = done.value.data
    np.testing.assert_array_equal(done.raw.data, drawn)
    expected = marked.copy()
    expected[20, 11] = 2  # 4 mm2
    np.testing.assert_array_equal(out[0], expected)
    assert not out[2:].any()
    assert done.changes.index.tolist() == [0, 1] and done.changes.before.tolist() == [True, False]
    assert done.changes.after.all() and not failures(out[1:2] == 2, 2.0, rings.prior().limits).any()
    summary = decoder(asked).summary()
    summary.add(done, None)
    assert summary.about()["which"] == "invalid, trimmed at the base" and summary.about()["before"] == 1
    whole = decoder({**asked, "trim": False})
    assert whole.decode(labels).changes.refused.tolist() == [False, False, True, True], "too small for a heart"
    assert whole.summary().about()["which"] == "invalid"
    with pytest.raises(InputError, match=r"post\.project: 'some'"):
        decoder({**asked, "project": "some"})


# --- the tally


def slices(before: list[bool], after: list[bool], alpha: list[float], from_bank: list[bool]) -> ProjectedSlices:
    """None is tidied; those that fail before and after with alpha 1 are refused."""
    refused = ~np.array(after) & (np.array(alpha) == 1)
    told = (before, after, alpha, from_bank, np.zeros(len(before), bool), refused)
    return ProjectedSlices(np.arange(len(before)), *(np.array(v) for v in told))


def of(data: np.ndarray) -> Stack:
    return Stack(data, Orientation((2, 1, 0), (False, False, False)), np.eye(4))


def changed(slices: ProjectedSlices, before: np.ndarray, after: np.ndarray) -> Decoded:
    return Decoded(of(after), of(before), slices)


def test_the_tally_adds_up_cases():
    summary = ProjectionSummary((*CLASSES, "scar"), {"area_mm2": 5.0}, "all", ("gap_mm",))
    truth = np.array([[2, 2, 3, 3, 0, 4, 255, 1]])
    drawn = np.array([[2, 0, 3, 0, 0, 4, 2, 0]])  # Myo 1 of 2; wall with scar 2 of 3; LV 1 of 2; RV 0 of 1
    after = np.array([[2, 2, 3, 3, 3, 2, 4, 0]])  # Myo 2 of 2 and one more; wall 3 of 3; LV 2 of 2 and one more
    two = slices([True, False], [True, True], [np.nan, 0.5], [False, False])
    three = slices([False, False, False], [True, False, True], [0.0, 1.0, 1.0], [False, True, True])
    summary.add(changed(two, drawn, after), of(truth))
    summary.add(changed(three, drawn, after), None)
    held = summary.about()
    dice = held.pop("dice")
    assert (held.pop("limits"), held.pop("which")) == ({"area_mm2": 5.0}, "all")
    assert held.pop("defaulted") == ["gap_mm"]
    assert held == {"slices": 5, "before": 4, "after": 0, "moved": 3, "from_bank": 2, "refused": 1, "tidied": 0}
    assert set(dice) == {"myocardium", "RV", "Myo", "LV", "scar"}
    expected = {"myocardium": (4 / 5, 1), "RV": (0, 0), "Myo": (2 / 3, 4 / 5), "LV": (2 / 3, 4 / 5), "scar": (1, 0)}
    for name, (was, now) in expected.items():
        assert dice[name] == pytest.approx({"before": was, "after": now}), name
    line = summary.line()
    assert line.startswith("anatomically invalid slices: before 4, after 0, of 5; 1 refused and emptied; Dice ")
    assert "myocardium +0.2000 (1.000)" in line and "scar -1.0000 (0.000)" in line
    summary.add(changed(slices([True], [True], [np.nan], [False]), truth, truth), of(truth))
    assert summary.about()["dice"]["LV"] == pytest.approx({"before": 5 / 6, "after": 9 / 10})


def test_a_structure_that_no_case_has_and_cases_without_truth_have_no_dice():
    summary = ProjectionSummary(CLASSES, {}, "invalid")
    none = changed(slices([True], [True], [np.nan], [False]), np.array([[2]]), np.array([[2]]))
    summary.add(none, None)
    assert summary.about()["dice"] == {} and summary.line().endswith("of 1")
    summary.add(none, of(np.array([[2]])))
    assert set(summary.about()["dice"]) == {"Myo"}
