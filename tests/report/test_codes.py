"""Pictures and tables of codes, read back from the figures."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from cardiac_jax.data.labels import CLASSES
from cardiac_jax.metrics.normality import normality
from cardiac_jax.report import codes, figures


def test_histograms_show_sixteen_dimensions_with_their_tests():
    drawn = np.random.default_rng(0).normal(size=(60, 20))
    drawn[:, 2] = np.random.default_rng(1).exponential(size=60)
    found = normality(drawn)
    figure = codes.histograms(drawn, found, seed=3)
    assert len(figure.axes) == 16
    shown = [int(ax.get_title().split(",")[0].removeprefix("dimension ")) for ax in figure.axes]
    assert shown == sorted(set(shown)) and 3 in shown and set(shown) <= set(range(1, 21))
    for ax, k in zip(figure.axes, shown, strict=True):
        area = sum(bar.get_height() * bar.get_width() for bar in ax.patches)
        assert area == pytest.approx(1)
        (curve,) = ax.lines
        x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
        assert x[y.argmax()] == pytest.approx(drawn[:, k - 1].mean(), abs=0.1)
        assert ("< 0.001" in ax.get_title()) == (k == 3)
    assert figure.get_suptitle().endswith("normality rejected in 1 of 20")
    few = codes.histograms(np.c_[drawn[:, :2], np.ones(60)], normality(np.c_[drawn[:, :2], np.ones(60)]))
    assert [ax.get_title().split(", ")[1][:8] for ax in few.axes][2] == "constant" and len(few.axes) == 3


def test_traversals_lie_where_they_were_decoded():
    """The cavity grows with the first direction, the right ventricle's side changes with the second."""
    maps = np.zeros((5, 5, 8, 20, 20), np.uint8)
    for i, j in np.ndindex(5, 5):
        maps[i, j, 2:7, 9 - j : 11 + j, 9 - j : 11 + j] = 3
        maps[i, j, 6, 10, 10] = 2  # a mark at the base
        maps[i, j, 2:7, 1 if i < 2 else 18] = 1
    figure = codes.traversals(maps, (10.0, 2.0, 2.0), CLASSES, (0.5, 0.25), (3.0, 1.5))
    short, long = (np.reshape(np.array(panel.axes, dtype=object), (5, 5)) for panel in figure.subfigs)
    cavity, mark, right = (np.array(to_rgba(figures.COLOURS[k])) for k in (2, 1, 0))

    def at(ax, colour) -> np.ndarray:
        return np.argwhere((np.asarray(ax.images[0].get_array()) == colour).all(-1))

    areas = [[len(at(ax, cavity)) for ax in row] for row in short]
    assert areas[0] == areas[4] == [4, 16, 36, 64, 100]  # to the right: the first direction
    assert [at(row[2], right)[0][0] for row in short] == [18 - 1 + 1] * 3 + [1, 1]  # upwards: the second
    for ax in long.ravel():
        assert at(ax, mark)[0][0] < at(ax, cavity)[:, 0].max()  # the base is above
        left, right_mm, bottom, top = ax.images[0].get_extent()
        rows, columns = np.asarray(ax.images[0].get_array()).shape[:2]
        assert (right_mm - left, bottom - top) == (columns * 2.0, rows * 10.0)
    assert "50% of the variance, SD 3" in figure.get_suptitle() and "25%" in figure.get_suptitle()
    assert [ax.get_xlabel() for ax in short[4]][0] == r"$\mu -2\,\sigma$" and short[4, 2].get_xlabel() == r"$\mu$"
    flat = codes.traversals(maps[:, :, 4], (2.0, 2.0), CLASSES, (0.5, 0.25), (3.0, 1.5))
    assert len(flat.subfigs) == 1 and len(flat.subfigs[0].axes) == 25


def test_table_says_accuracy_interval_and_comparison():
    row = {"task": "3 groups", "phases": "ED", "patients": 24, "dimension": 20, "accuracy": 0.75, "low": 0.5}
    row |= {"high": 0.9, "least": 0.7, "largest": 0.8, "chance": 1 / 3, "only_codes": 5, "only_pca": 2}
    rows = [{**row, "features": "PCA", "p_holm": float("nan")}, {**row, "features": "codes", "p_holm": 0.4531}]
    confusion = {"3 groups, ED, codes": {"groups": ["DCM", "NOR"], "table": [[8, 1], [0, 7]]}}
    accuracy, answers = codes.tables(rows, {"notes": ["a note"], "confusion": confusion})
    assert [[cell.text for cell in line[2:]] for line in accuracy.rows] == [
        ["PCA (20)", "75.0% [50.0%, 90.0%]", "70.0% to 80.0%", "33.3%", "-"],
        ["codes (20)", "75.0% [50.0%, 90.0%]", "70.0% to 80.0%", "33.3%", "5 : 2, p = 0.453"],
    ]
    assert accuracy.notes == ("a note",)
    assert answers.header == ("true", "DCM", "NOR")
    assert [[cell.text for cell in line] for line in answers.rows] == [["DCM", "8", "1"], ["NOR", "0", "7"]]
    assert [[cell.bold for cell in line] for line in answers.rows] == [[False, True, False], [False, False, True]]
