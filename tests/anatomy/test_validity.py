"""Anatomically invalid slices: counted by hand on rings, wherever they lie, and printed."""

import numpy as np
import pytest

from cardiac_jax.anatomy import validity, wall_check
from cardiac_jax.errors import InputError
from cardiac_jax.report.anatomy import invalid_tables
from tests.ventricle import MYO, apart, polar, ring, stack

CLASSES = ("background", "RV", "Myo", "LV", "oedema", "scar")
SPACING_MM = (10.0, 1.4, 1.4)


def _sound() -> np.ndarray:
    return ring(16, 26, None)


def _holed() -> np.ndarray:
    """A pixel of blood in the middle of the wall."""
    label = _sound()
    column = np.flatnonzero(label[36] == MYO)
    label[36, column[3]] = 3
    return label


def _with_speck() -> np.ndarray:
    """A pixel of myocardium beside the ring."""
    label = _sound()
    label[36, 58] = MYO
    return label


def test_invalid_slices_are_counted():
    pred = stack(_sound(), _holed(), _with_speck(), np.zeros_like(_sound()))
    truth = stack(_sound(), _sound(), _with_speck(), _sound())
    truth[2, 0, 0] = 255  # annotated in part: its speck says nothing
    drawn, gold = validity.validity_rows(pred, truth, SPACING_MM, CLASSES)
    assert (drawn["of"], drawn["slices"], drawn["invalid"]) == ("prediction", 3.0, 2.0)
    assert (drawn["holes"], drawn["objects"], drawn["disconnected"], drawn["thickness"]) == (1.0, 1.0, 1.0, 0.0)
    assert (gold["of"], gold["slices"], gold["invalid"], gold["skipped"]) == ("gold standard", 3.0, 0.0, "")


def test_the_wall_is_all_that_is_drawn_in_it():
    label, angle = _sound(), polar()[1]
    label[(label == MYO) & (apart(angle, 0) < 20)] = 5
    label[(label == MYO) & (apart(angle, 180) < 20)] = 4
    (drawn, _) = validity.validity_rows(stack(label), stack(label), SPACING_MM, CLASSES)
    assert (drawn["slices"], drawn["invalid"]) == (1.0, 0.0)
    (alone, _) = validity.validity_rows(stack(label), stack(label), SPACING_MM, (*CLASSES[:4], "a", "b"))
    assert alone["invalid"] == 1.0, "two arcs are no ring"


def test_where_a_mask_lies_and_how_many_there_are_does_not_matter():
    shapes = [_sound() == MYO, _holed() == MYO, ring(9, 30, None) == MYO]
    shapes += [np.roll(shape, (5, -9), (0, 1)) for shape in shapes]
    masks = np.stack([shapes[i % 6] for i in range(40)])
    verdict = wall_check.check(np.stack([*shapes, *[np.zeros_like(shapes[0])] * 26]), 1.4)
    want = np.stack([~np.asarray(getattr(verdict, name)) for name in validity.CHECKS], axis=-1)[:6]
    got = validity.failures(masks, 1.4)
    np.testing.assert_array_equal(got, np.stack([want[i % 6] for i in range(40)]))
    assert got.any(axis=1).tolist() == [bool(i % 3 == 1) for i in range(40)]
    assert validity.failures(masks[:0], 1.4).shape == (0, len(validity.CHECKS))


def test_frames_come_in_few_shapes_and_hold_the_whole_mask():
    small, large = np.zeros((3, 200, 200), bool), np.zeros((2, 200, 200), bool)
    small[:, 100:120, 150:190] = True
    large[0, 20:117, 30:40] = large[1, 5, 5] = True
    ((start, batch),) = validity.batches(small)
    assert start == 0 and batch.shape == (32, 64, 64) and batch.sum() == 3 * 20 * 40
    ((_, batch),) = validity.batches(large)
    assert batch.shape == (32, 128, 128) and batch.sum(axis=(1, 2))[:2].tolist() == [97 * 10, 1]
    assert batch[0, :97, :10].all()
    assert [start for start, _ in validity.batches(np.ones((33, 4, 4), bool))] == [0, 32]


@pytest.mark.parametrize(
    ("spacing_mm", "reason"),
    [
        ((10.0, 1.4, 1.42), "not square"),
        ((10.0, 4.0, 4.0), "pixels of 4 mm, the check needs 0.65 to 3 mm"),
        ((10.0, 0.5, 0.5), "pixels of 0.5 mm"),
    ],
)
def test_what_cannot_be_judged_says_why(spacing_mm: tuple[float, ...], reason: str):
    rows = validity.validity_rows(stack(_sound()), stack(_sound()), spacing_mm, CLASSES)
    assert [row["slices"] for row in rows] == [0.0, 0.0] and all(reason in str(row["skipped"]) for row in rows)


def test_without_myocardium_there_is_nothing_to_judge():
    assert validity.validity_rows(stack(_sound()), stack(_sound()), SPACING_MM, ("background", "LA", "b", "c")) == []


def _rows(case: str, invalid: tuple[int, int], skipped: str = "") -> list[dict[str, str | int | float]]:
    """Eight slices each, all invalid ones for their holes."""
    slices = 0.0 if skipped else 8.0
    return [
        {"case": case, "of": of, "skipped": skipped, "slices": slices, "invalid": float(n)}
        | {name: float(n) * (name == "holes") for name in validity.CHECKS}
        for of, n in zip((validity.PREDICTION, validity.GOLD), invalid, strict=True)
    ]


def test_invalid_tables():
    reason = "pixels of 4 mm, the check needs 0.65 to 3 mm"
    rows = [*_rows("a", (3, 1)), *_rows("b", (1, 0)), *_rows("c", (0, 0), reason)]
    whole, by_check = invalid_tables({"net": rows, "none": []})
    assert [[cell.text for cell in line] for line in whole.rows] == [["net", "4 of 16 (25.0%)", "1 of 16 (6.2%)"]]
    assert f"net: 1 of 3 cases not judged: {reason}." in whole.notes
    assert any("thickness 2 mm" in note and "c shaped yes, solid yes, empty no" in note for note in whole.notes)
    held = {line[1].text: dict(zip(by_check.header, line, strict=True)) for line in by_check.rows}
    assert held["prediction"]["holes"].text == "4 of 16 (25.0%)"
    assert held["gold standard"]["shape"].text == "0 of 16 (0.0%)"
    (left, _) = invalid_tables({"net": rows}, leave_out=["a"])
    assert left.rows[0][1].text == "1 of 8 (12.5%)"
    with pytest.raises(InputError, match="no such case"):
        invalid_tables({"net": rows}, leave_out=["z"])
    assert invalid_tables({"net": []}) == []
    (blind, _) = invalid_tables({"net": _rows("c", (0, 0), reason)})
    assert [cell.text for cell in blind.rows[0]] == ["net", "-", "-"]
