"""Means, counts, layouts, bold print and paired tests, all against values worked out here."""

import io
import math
from itertools import product

import numpy as np
import pytest
from rich.console import Console

from cardiac_jax.errors import InputError
from cardiac_jax.metrics import agreement, table
from cardiac_jax.metrics.summary import by_case, mean_by_case, summarise, without

STRUCTURES = ("LV", "RV", "Myo")


def _rows(dice: dict[str, tuple[float, ...]], hd: float = 3.0) -> list[dict[str, str | int | float]]:
    return [
        {
            "case": case,
            "structure": s,
            "dice": v,
            "hd_mm": hd if v else math.inf,
            "asd_mm": 1.0,
            "hd95_mm": 2.0,
        }
        for case, values in dice.items()
        for s, v in zip(STRUCTURES, values, strict=True)
    ]


def test_summary_keeps_misses_and_exclusions_apart():
    got = summarise([1.0, 2.0, 6.0, math.inf, math.nan, math.nan])
    # Mean 3; squared deviations 4 + 1 + 9 over n - 1 = 2.
    assert (got.mean, got.sd) == (3.0, pytest.approx(math.sqrt(7.0)))
    assert (got.n, got.misses, got.excluded) == (3, 1, 2)


def test_summary_of_few():
    assert summarise([5.0])[:1] == (5.0,) and math.isnan(summarise([5.0]).sd)
    empty = summarise([math.inf])
    assert math.isnan(empty.mean) and (empty.n, empty.misses) == (0, 1)


def test_mean_of_a_case_is_over_the_structures_it_has():
    rows = _rows({"a": (0.9, 0.6, 0.3), "b": (0.8, math.nan, 0.6)})
    assert mean_by_case(rows, "dice", STRUCTURES) == {"a": pytest.approx(0.6), "b": pytest.approx(0.7)}


def test_a_case_measured_twice_is_refused():
    with pytest.raises(InputError, match="a: measured twice for LV"):
        by_case(_rows({"a": (1, 1, 1)}) * 2, "dice", "LV")


def test_leaving_out_a_case():
    rows = _rows({"a": (0.9, 0.9, 0.9), "b": (0.1, 0.1, 0.1)})
    assert {row["case"] for row in without(rows, ["b"])} == {"a"}
    with pytest.raises(InputError, match="c: no such case to leave out"):
        without(rows, ["c"])


def test_structure_table_layout_and_counts():
    rows = _rows({"a": (0.9, 0.8, 0.7), "b": (0.7, 0.0, math.nan)})
    got = table.structure_table(rows, STRUCTURES, ("dice", "hd_mm"))
    assert got.header == ("metric", "LV", "RV", "Myo")
    # SD of two values is their difference over the square root of 2.
    assert [c.text for c in got.rows[0]] == ["Dice", "0.800 ± 0.141", "0.400 ± 0.566", "0.700"]
    assert [c.text for c in got.rows[1]] == ["HD (mm)", "3.00 ± 0.00", "3.00", "3.00 ± 0.00"]
    assert got.notes[0] == "n = 2 cases."
    assert "Dice Myo: 1 excluded (nothing to measure); mean over the other 1." in got.notes
    assert "HD (mm) RV: 1 missed (infinite); mean over the other 1." in got.notes


def test_method_table_means_best_and_outlier():
    methods = {
        "U-Net": _rows({"a": (0.9, 0.6, 0.6), "b": (0.7, 0.6, 0.4), "odd": (0.0, 0.0, 0.0)}),
        "SRSCN": _rows({"a": (0.8, 0.8, 0.7), "b": (0.8, 0.8, 0.7), "odd": (0.1, 0.1, 0.1)}),
    }
    got = table.method_table(methods, STRUCTURES, leave_out=["odd"])
    assert got.header == ("method", "LV", "RV", "Myo", "mean")
    unet, srscn = got.rows
    # U-Net: case means 0.7 and 1.7 / 3.
    assert [c.text for c in unet] == [
        "U-Net",
        "0.800 ± 0.141",
        "0.600 ± 0.000",
        "0.500 ± 0.141",
        "0.633 ± 0.094",
    ]
    assert [c.bold for c in unet] == [False, True, False, False, False]  # LV: a tie as printed
    assert [c.bold for c in srscn] == [False, True, True, True, True]
    assert got.notes == ("n = 2 cases, without odd.",)


def test_smaller_distance_is_better_and_one_method_is_not_best_of_one():
    methods = {"far": _rows({"a": (1, 1, 1)}, hd=9.0), "near": _rows({"a": (1, 1, 1)}, hd=2.0)}
    far, near = table.method_table(methods, STRUCTURES, "hd_mm").rows
    assert not any(c.bold for c in far) and all(c.bold for c in near[1:])
    (only,) = table.method_table({"near": methods["near"]}, STRUCTURES, "hd_mm").rows
    assert not any(c.bold for c in only)


def test_methods_measured_on_different_cases_say_so():
    methods = {"x": _rows({"a": (1, 1, 1)}), "y": _rows({"a": (1, 1, 1), "b": (1, 1, 1)})}
    assert table.method_table(methods, STRUCTURES).notes == ("x: n = 1 cases.", "y: n = 2 cases.")


def test_markdown_and_terminal_show_the_same():
    got = table.method_table({"p": _rows({"a": (0.9, 0.9, 0.9)}), "q": _rows({"a": (0.8, 0.8, 0.8)})}, STRUCTURES)
    lines = table.to_markdown(got).splitlines()
    assert lines[2:6] == [
        "| method | LV | RV | Myo | mean |",
        "|---|---|---|---|---|",
        "| p | **0.900** | **0.900** | **0.900** | **0.900** |",
        "| q | 0.800 | 0.800 | 0.800 | 0.800 |",
    ]
    shown = io.StringIO()
    Console(file=shown, width=100, force_terminal=True, color_system="standard").print(table.to_rich(got))
    assert "\x1b[1m0.900" in shown.getvalue() and "\x1b[1m0.800" not in shown.getvalue()
    assert "n = 1 cases." in shown.getvalue()


@pytest.mark.parametrize("seed", range(4))
def test_signed_rank_equals_enumeration(seed: int):
    difference = np.random.default_rng(seed).normal(0.3, 1.0, 7)
    ranks = np.abs(difference).argsort().argsort() + 1
    sums = np.array([sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in product((0, 1), repeat=7)])
    observed = ranks[difference > 0].sum()
    want = min(1.0, 2 * min((sums <= observed).mean(), (sums >= observed).mean()))
    assert agreement.signed_rank(difference) == pytest.approx(want, abs=1e-12)


def test_signed_rank_without_any_difference():
    assert agreement.signed_rank(np.zeros(8)) == 1.0
    assert math.isnan(agreement.signed_rank(np.zeros(0)))


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1, never falling.
    assert agreement.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    with_gap = agreement.holm([0.4, math.nan, 0.9])
    assert with_gap[0] == pytest.approx(0.8) and math.isnan(with_gap[1]) and with_gap[2] == pytest.approx(0.9)
    assert agreement.holm([0.7, 0.8]) == [1.0, 1.0]


def test_bootstrap_interval_matches_the_normal_one():
    difference = np.random.default_rng(0).normal(0.2, 1.0, 400)
    low, high = agreement.bootstrap_interval(difference)
    half = 1.96 * difference.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=0.01)
    assert np.isnan(agreement.bootstrap_interval(difference[:1])).all()


def test_compare_pairs_by_case_and_corrects_over_the_family():
    cases = [f"c{i}" for i in range(8)]
    base = {c: (0.5 + 0.01 * i, 0.5, 0.5) for i, c in enumerate(cases)}
    better = {c: (v[0] + 0.02 * (i + 1), 0.5, math.nan) for i, (c, v) in enumerate(base.items())}
    rows = {"ours": _rows(dict(reversed(better.items()))), "rival": _rows(base)}
    got = {c.structure: c for c in agreement.compare(rows, "ours", STRUCTURES)}
    assert got["LV"].n == 8 and got["LV"].difference == pytest.approx(0.02 * np.arange(1, 9).mean())
    assert got["LV"].low < got["LV"].difference < got["LV"].high
    # All eight differences positive: 2 / 2**8. Three tests can be made, Myo has no pair.
    assert got["LV"].p == pytest.approx(2 / 2**8)
    assert got["LV"].p_holm == pytest.approx(3 * 2 / 2**8)
    assert got["RV"].p == 1.0
    assert got["Myo"].n == 0 and math.isnan(got["Myo"].p_holm)
    shown = table.comparison_table(list(got.values()))
    assert [row[3].bold for row in shown.rows] == [True, False, False, True]
    assert not any("Warning" in note for note in shown.notes)


def test_few_cases_are_tested_with_a_warning():
    few = {f"c{i}": (0.5 + 0.1 * i, 0.4, 0.3) for i in range(5)}
    rows = {"ours": _rows({c: (v[0] + 0.01, v[1], v[2]) for c, v in few.items()}), "rival": _rows(few)}
    shown = table.comparison_table(agreement.compare(rows, "ours", STRUCTURES))
    assert "Warning: n = 5 < 6: p cannot fall below 0.0625." in shown.notes
