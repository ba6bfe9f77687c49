"""Means, counts, layouts, bold print and paired tests, all against values worked out here."""

import io
import math
from itertools import product

import numpy as np
import pytest
from rich.console import Console

from cardiac_jax.errors import InputError
from cardiac_jax.metrics import paired_tests
from cardiac_jax.metrics.agreement import Pairs
from cardiac_jax.metrics.summary import by_case, mean_by_case, summarise, without
from cardiac_jax.report import cohort_table, table
from cardiac_jax.report.sections import published_table

ANATOMIES = ("LV", "RV", "Myo")


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
        for s, v in zip(ANATOMIES, values, strict=True)
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
    assert mean_by_case(rows, "dice", ANATOMIES) == {"a": pytest.approx(0.6), "b": pytest.approx(0.7)}


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
    got = table.structure_table(rows, ANATOMIES, ("dice", "hd_mm"))
    assert got.header == ("metric", "LV", "RV", "Myo")
    # SD of two values is their difference over the square root of 2.
    assert [c.text for c in got.rows[0]] == ["Dice", "0.800 ± 0.141", "0.400 ± 0.566", "0.700"]
    assert [c.text for c in got.rows[1]] == ["HD (mm)", "3.00 ± 0.00", "3.00", "3.00 ± 0.00"]
    assert got.notes[0] == "n = 2 patients."
    assert "Dice Myo: n = 1 of 2 patients, 1 excluded (nothing to measure)." in got.notes
    assert "HD (mm) RV: n = 1 of 2 patients, 1 missed (infinite)." in got.notes


def test_method_table_means_best_and_outlier():
    methods = {
        "U-Net": _rows({"a": (0.9, 0.6, 0.6), "b": (0.7, 0.6, 0.4), "odd": (0.0, 0.0, 0.0)}),
        "SRSCN": _rows({"a": (0.8, 0.8, 0.7), "b": (0.8, 0.8, 0.7), "odd": (0.1, 0.1, 0.1)}),
    }
    got = table.method_table(methods, ANATOMIES, leave_out=["odd"])
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
    assert got.notes == ("n = 2 patients, without odd.",)


def test_smaller_distance_is_better_and_one_method_is_not_best_of_one():
    methods = {"far": _rows({"a": (1, 1, 1)}, hd=9.0), "near": _rows({"a": (1, 1, 1)}, hd=2.0)}
    far, near = table.method_table(methods, ANATOMIES, "hd_mm").rows
    assert not any(c.bold for c in far) and all(c.bold for c in near[1:])
    (only,) = table.method_table({"near": methods["near"]}, ANATOMIES, "hd_mm").rows
    assert not any(c.bold for c in only)


def test_of_volumes_neither_the_larger_nor_the_smaller_is_best():
    methods = {
        name: [{"case": "a", "structure": "LV", "volume_pred_ml": size}] for name, size in (("x", 90.0), ("y", 80.0))
    }
    shown = table.method_table(methods, ("LV",), "volume_pred_ml").rows
    assert [[c.text for c in row] for row in shown] == [["x", "90.0", "90.0"], ["y", "80.0", "80.0"]]
    assert not any(c.bold for row in shown for c in row)


def test_shares_are_printed_in_per_cent():
    rows = [{"case": case, "structure": "LV", "balanced_accuracy": v} for case, v in (("a", 0.95), ("b", 0.97))]
    (line,) = table.structure_table(rows, ("LV",), ("balanced_accuracy",)).rows
    assert [c.text for c in line] == ["balanced accuracy (%)", "96.0 ± 1.4"]


def test_methods_measured_on_different_cases_say_so():
    methods = {"x": _rows({"a": (1, 1, 1)}), "y": _rows({"a": (1, 1, 1), "b": (1, 1, 1)})}
    assert table.method_table(methods, ANATOMIES).notes == ("x: n = 1 patient.", "y: n = 2 patients.")


def test_markdown_and_terminal_show_the_same():
    got = table.method_table({"p": _rows({"a": (0.9, 0.9, 0.9)}), "q": _rows({"a": (0.8, 0.8, 0.8)})}, ANATOMIES)
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
    assert "n = 1 patient." in shown.getvalue()


@pytest.mark.parametrize("seed", range(4))
def test_signed_rank_equals_enumeration(seed: int):
    difference = np.random.default_rng(seed).normal(0.3, 1.0, 7)
    ranks = np.abs(difference).argsort().argsort() + 1
    sums = np.array([sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in product((0, 1), repeat=7)])
    observed = ranks[difference > 0].sum()
    want = min(1.0, 2 * min((sums <= observed).mean(), (sums >= observed).mean()))
    assert paired_tests.signed_rank(difference) == pytest.approx(want, abs=1e-12)


def test_signed_rank_without_any_difference():
    assert paired_tests.signed_rank(np.zeros(8)) == 1.0
    assert math.isnan(paired_tests.signed_rank(np.zeros(0)))


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1, never falling.
    assert paired_tests.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    with_gap = paired_tests.holm([0.4, math.nan, 0.9])
    assert with_gap[0] == pytest.approx(0.8) and math.isnan(with_gap[1]) and with_gap[2] == pytest.approx(0.9)
    assert paired_tests.holm([0.7, 0.8]) == [1.0, 1.0]


def test_compare_pairs_by_case_and_corrects_over_the_family():
    cases = [f"c{i}" for i in range(8)]
    base = {c: (0.5 + 0.01 * i, 0.5, 0.5) for i, c in enumerate(cases)}
    better = {c: (v[0] + 0.02 * (i + 1), 0.5, math.nan) for i, (c, v) in enumerate(base.items())}
    rows = {"ours": _rows(dict(reversed(better.items()))), "baseline": _rows(base)}
    got = {c.structure: c for c in paired_tests.compare(rows, "ours", ANATOMIES)}
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
    assert "ours - baseline, Myo: n = 0 of 8 patients, 8 excluded (nothing to measure)." in shown.notes


def test_a_single_patient_has_no_interval():
    rows = {name: _rows({"c0": (value, 0.4, 0.3)}) for name, value in (("ours", 0.6), ("baseline", 0.5))}
    shown = table.comparison_table(paired_tests.compare(rows, "ours", ANATOMIES))
    assert shown.rows[0][3].text == "+0.100 [-, -]"


def test_published_values_are_those_of_the_methods_and_structures_shown():
    paper = {"source": "A.", "differs": "B.", "dice": {"ours": {"LV": 0.9}, "other": {"LV": 0.8, "mean": 0.7}}}
    rows = _rows({"c0": (0.6, 0.4, 0.3)})
    shown = published_table({"ours": rows, "new": rows}, ANATOMIES, "dice", paper)
    assert shown.header == ("method", "LV, ours", "LV, paper")
    assert [[cell.text for cell in row] for row in shown.rows] == [["ours", "0.600", "0.900"], ["new", "0.600", "-"]]
    assert published_table({"ours": rows}, ("LA",), "dice", paper).header == ("method",)


def test_few_cases_are_tested_with_a_warning():
    few = {f"c{i}": (0.5 + 0.1 * i, 0.4, 0.3) for i in range(5)}
    rows = {"ours": _rows({c: (v[0] + 0.01, v[1], v[2]) for c, v in few.items()}), "baseline": _rows(few)}
    shown = table.comparison_table(paired_tests.compare(rows, "ours", ANATOMIES))
    assert "Warning: with n = 5 p cannot fall below 0.0625, nor p (Holm) below 0.25." in shown.notes


def _slices() -> list[dict[str, str | int | float]]:
    """LV of two cases in slices at known places; RV in one slice, missed."""
    dice = {"apex": (0.5, 0.7), "middle": (0.9,), "base": (0.8, 0.7, 0.8)}
    rows = [
        {"case": "ab"[i % 2], "structure": "LV", "location": where, "dice": v, "hd_mm": 4.0, "balanced_accuracy": 0.9}
        for where, values in dice.items()
        for i, v in enumerate(values)
    ]
    missed = {"case": "a", "structure": "RV", "location": "base", "dice": 0.0, "hd_mm": math.inf}
    return [*rows, {**missed, "balanced_accuracy": 0.5}]


def test_location_table():
    got = cohort_table.location_table(_slices(), ("LV", "RV"))
    assert got.header == ("measure", "apex", "middle", "base", "total")
    lines = {line[0].text: [c.text for c in line[1:]] for line in got.rows}
    # Two patients 0.2 apart: half = t_1 = 12.706 times 0.1. All six slices: mean 4.4 / 6; without a 1.4 / 2, without b
    # 3 / 4: 12.706 times the root of half of (1 / 30)^2 + (1 / 60)^2.
    assert lines["LV Dice"] == ["0.600 ± 1.271", "0.900", "0.767 ± 0.670", "0.733 ± 0.335"]
    assert lines["LV balanced accuracy (%)"] == ["90.0 ± 0.0", "90.0", "90.0 ± 0.0", "90.0 ± 0.0"]
    assert lines["RV HD (mm)"] == ["-"] * 4
    assert lines["RV Dice"] == ["-", "-", "0.000", "0.000"]
    assert got.notes[0] == "n = 2 patients."
    assert "LV: 6 slices (2 apex, 1 middle, 3 base)." in got.notes
    assert "RV HD (mm) base: n = 0 of 1 slices, 1 missed (infinite)." in got.notes
    assert "not independent" in got.notes[-1]
    (dice,) = cohort_table.location_table(_slices(), ("LV",), ("dice",), leave_out=["b"]).rows
    assert [c.text for c in dice] == ["LV Dice", "0.500", "0.900", "0.800", "0.750"]  # one patient: no interval


def _volumes(pairs: dict[str, tuple[float, float]], structure: str = "LV") -> list[dict[str, str | int | float]]:
    return [
        {"case": case, "structure": structure, "volume_pred_ml": p, "volume_truth_ml": t}
        for case, (p, t) in pairs.items()
    ]


def test_tertile_table():
    rows = _volumes({"a": (11, 10), "b": (18, 20), "c": (30, 30), "d": (44, 40), "e": (50, 50), "f": (60, 80)})
    rows += _volumes({"a": (1, 0), "b": (2, 4), "c": (3, 3), "d": (4, 4), "e": (5, 5), "f": (6, 6)}, "RV")
    got = cohort_table.tertile_table(rows, ("LV", "RV"))
    assert got.header == ("measure", "lower", "middle", "upper", "total")
    lines = [[c.text for c in line] for line in got.rows]
    assert lines[0] == [
        "LV volume (ml)",
        "15.0 (10.0 to 20.0)",
        "35.0 (30.0 to 40.0)",
        "65.0 (50.0 to 80.0)",
        "38.3 (10.0 to 80.0)",
    ]
    assert lines[1][:2] == ["LV predicted volume (ml)", "14.5 (11.0 to 18.0)"]
    # Shares: 10, 10 | 0, 10 | 0, 25 per cent.
    assert lines[2] == [
        "LV norm. MAE (%)",
        "10.0 (10.0 to 10.0)",
        "5.0 (0.0 to 10.0)",
        "12.5 (0.0 to 25.0)",
        "9.2 (0.0 to 25.0)",
    ]
    # Grouped by LV, as the paper's; the RV of "a" has no true volume to be a share of.
    assert lines[5][1:] == ["50.0 (50.0 to 50.0)", "0.0 (0.0 to 0.0)", "0.0 (0.0 to 0.0)", "10.0 (0.0 to 50.0)"]
    assert "Thirds by the true volume of LV: 2 lower, 2 middle, 2 upper." in got.notes
    assert "RV: 1 of 6 cases have a gold standard not above 0 and are excluded from norm. MAE." in got.notes


def test_agreement_table():
    pred, truth = np.array([11.0, 18.0, 33.0, 40.0]), np.array([10.0, 20.0, 30.0, 40.0])
    got = cohort_table.agreement_table(
        {("LV volume", "ml"): Pairs(pred, truth), ("RV mass", "g"): Pairs(pred[:3], truth[:3] * 0)}
    )
    found = dict(zip(got.header, (c.text for c in got.rows[0]), strict=True))
    assert (found["measure"], found["n"], found["MAE"]) == ("LV volume (ml)", "4 patients", "1.50")
    # Differences 1, -2, 3, 0: mean 0.5, s^2 = 13/3, t_3 = 3.1824: 0.5 -+ 3.1824 * 1.0408.
    assert found["bias"] == "0.50 [-2.81, 3.81]"
    # 0.5 + 1.96 * 2.0817. The SD lies between 2.0817 sqrt(3 / 9.3484) = 1.1793 and 2.0817 sqrt(3 / 0.2158) = 7.7617, so
    # the interval reaches down by sqrt(1.96^2 * 13/12 + 1.96^2 (2.0817 - 1.1793)^2) and up by the same with 7.7617.
    assert found["upper limit"] == "4.58 [1.88, 15.90]"
    assert found["norm. MAE (%)"] == "7.5"  # 10, 10, 10 and 0
    assert found["Lin's CCC"].startswith("0.98")
    # Truths that are all 0 correlate with nothing and are no measure of an error.
    other = [c.text for c in got.rows[1]]
    assert other[0] == "RV mass (g)" and other[5:7] == ["-", "-"] and other[8:] == ["20.67", "-"]
    assert other[7].startswith("0.000 ["), "ratings that no case explains agree on nothing"
    assert "RV mass: 3 of 3 cases have a gold standard not above 0 and are excluded from norm. MAE." in got.notes
    three = cohort_table.agreement_table({("LV volume", "ml"): Pairs(pred[:3], truth[:3])}).rows[0]
    assert three[got.header.index("Pearson's r")].text.endswith("[-, -]")
    with pytest.raises(InputError, match="needs at least 2 patients, got 1"):
        cohort_table.agreement_table({("LV volume", "ml"): Pairs(pred[:1], truth[:1])})


def test_a_method_that_missed_a_structure_is_not_best_by_leaving_it_out():
    """HD: `lucky` is nearer on the one case it found, `sound` found both."""
    lucky = _rows({"a": (0.9, 0.9, 0.9), "b": (0.0, 0.9, 0.9)}, hd=2.0)
    sound = _rows({"a": (0.8, 0.8, 0.8), "b": (0.8, 0.8, 0.8)}, hd=3.0)
    made = table.method_table({"lucky": lucky, "sound": sound}, ANATOMIES, "hd_mm")
    bold = {row[0].text: [cell.bold for cell in row[1:]] for row in made.rows}
    assert bold["lucky"] == [False, True, True, False]
    assert bold["sound"] == [True, False, False, True]
    assert "lucky mean: n = 1 of 2 patients, 1 missed (infinite)." in made.notes


def test_tertile_table_has_shares_of_the_same_thirds():
    rows = _volumes({"a": (11, 10), "b": (18, 20), "c": (30, 30)})
    shares = [
        {"case": case, "measure": "scar", "unit": "% of myocardium", "pred": p, "truth": t}
        for case, (p, t) in {"b": (30.0, 20.0), "c": (5.0, 10.0), "a": (4.0, 4.0)}.items()
    ]
    got = cohort_table.tertile_table(rows, ("LV",), shares=shares, notes=["Said."])
    lines = [[c.text for c in line] for line in got.rows[3:]]
    assert lines[0] == [
        "scar share (% of myocardium)",
        "4.0 (4.0 to 4.0)",
        "20.0 (20.0 to 20.0)",
        "10.0 (10.0 to 10.0)",
        "11.3 (4.0 to 20.0)",
    ]
    assert lines[1][0] == "scar predicted share (% of myocardium)" and lines[1][2] == "30.0 (30.0 to 30.0)"
    assert lines[2][0] == "scar norm. MAE (%)" and lines[2][-1] == "33.3 (0.0 to 50.0)"
    assert "Said." in got.notes
    left = cohort_table.tertile_table(rows, ("LV",), shares=shares, leave_out=["b"])
    assert left.rows[3][-1].text == "7.0 (4.0 to 10.0)"
