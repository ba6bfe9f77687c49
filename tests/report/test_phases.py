"""The table of ED and ES of one structure: values by phase, agreement of volumes and ejection fractions."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cardiac_jax.data.case import Dataset
from cardiac_jax.data.orientation import Orientation
from cardiac_jax.data.stack import Stack
from cardiac_jax.metrics.summary import Rows
from cardiac_jax.report.collect import Entry
from cardiac_jax.report.options import Options
from cardiac_jax.report.phases import phase_table, phases
from cardiac_jax.results import evaluation

CLASSES = ("background", "LV")
FRAME = Orientation((2, 1, 0), (False, False, False), False)


def block(edge: int) -> Stack:
    data = np.zeros((10, 10, 10), np.uint8)
    data[1 : 1 + edge, 1:9, 1:9] = 1
    return Stack(data, FRAME, np.eye(4))


def results(name: str, wrong: list[int], classes=CLASSES) -> evaluation.Results:
    """Six patients of 7 (ED) and 4 (ES) layers; patient i has wrong[i] layers more at ED."""
    data = Dataset("cetus", classes, {}, ("US",), lambda root: [], "unknown")
    measured = evaluation.Measured()
    for i, more in enumerate(wrong):
        for phase, edge in (("ED", 7), ("ES", 3 + i % 3)):
            of = evaluation.Subject(f"p{i}_{phase}", f"p{i}", phase=phase)
            drawn = block(edge + more) if phase == "ED" else block(edge)
            measured = evaluation.measured(measured, of, drawn, block(edge), data)
    about = {"data": {"classes": classes, "dataset": "cetus"}, "split": "all"}
    return evaluation.Results(name, measured, about, Path("."))


@pytest.fixture(scope="module")
def both() -> list[evaluation.Results]:
    return [results("a", [0, -1, 1, 0, 1, -2]), results("b", [-3, -2, -3, -1, -2, -4])]


def lines(methods) -> dict[str, list[str]]:
    made = phase_table(methods)
    assert made is not None
    return {row[0].text: [cell.text for cell in row[1:]] for row in made.rows}


def test_phases_are_apart_and_agreement_is_of_patients(both):
    made = lines(both[:1])
    dice = 2 * np.minimum(7, 7 + np.array([0, -1, 1, 0, 1, -2])) / (14 + np.array([0, -1, 1, 0, 1, -2]))
    assert made["Dice"] == [f"{dice.mean():.3f} ± {dice.std(ddof=1):.3f}", "1.000 ± 0.000"]
    assert made["HD (mm)"][1] == "0.00 ± 0.00"
    error = 64e-3 * np.array([0, -1, 1, 0, 1, -2])
    assert made["volume, bias ± LOA (ml)"][0] == f"{error.mean():.2f} ± {1.96 * error.std(ddof=1):.2f}"
    systole = 3 + np.arange(6) % 3
    truth, pred = 100 * (1 - systole / 7), 100 * (1 - systole / (7 + np.array([0, -1, 1, 0, 1, -2])))
    difference = pred - truth
    assert made["EF, bias ± LOA (%)"] == [f"{difference.mean():.2f} ± {1.96 * difference.std(ddof=1):.2f}", "-"]
    assert made["EF, correlation"] == [f"{np.corrcoef(pred, truth)[0, 1]:.3f}", "-"]
    assert made["volume, correlation"] == ["-", "1.000"], "the true volumes at ED are equal"


def test_two_methods_have_columns_by_phase_and_a_test_of_the_two_best(both):
    made = phase_table(both)
    assert made is not None
    assert made.header == ("measure", "ED, a", "ED, b", "ES, a", "ES, b", "p, two best")
    dice = next(row for row in made.rows if row[0].text == "Dice")
    assert [cell.bold for cell in dice] == [False, True, False, True, True, False]
    values = [{str(r["patient"]): float(r["dice"]) for r in one.rows if r["phase"] == "ED"} for one in both]
    half = [0.5 * (values[0][p] - values[1][p]) for p in values[0]]  # ES does not differ
    _, p = np.asarray(stats.wilcoxon(half), np.float64)
    assert dice[-1].text == f"{p:.3f}"
    assert made.rows[-1][-1].text == "-"


def test_the_section_needs_one_structure_and_both_phases(both):
    options = Options("a", {}, ())
    assert len(phases([Entry(one, []) for one in both], options).tables) == 1
    two = results("c", [0, 0], ("background", "LV", "RV"))
    assert phase_table([two]) is None and not phases([Entry(two, [])], options).tables
    diastole: Rows = [row for row in both[0].rows if row["phase"] == "ED"]
    alone = both[0]._replace(measured=both[0].measured._replace(cases=tuple(diastole)))
    assert phase_table([both[1], alone]) is None
