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
    figure = codes.histograms(drawn, found, seed=1)
    assert len(figure.axes) == 16
    shown = [int(ax.get_title().split(",")[0].removeprefix("dimension ")) for ax in figure.axes]
    assert shown == sorted(set(shown)) and 3 in shown and set(shown) < set(range(1, 21))
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
        maps[i, j, 6, 9:11, 9:11] = 2  # a mark at the base
        maps[i, j, 2:7, :, 1 if i < 2 else 18] = 1
    figure = codes.traversals(maps, (10.0, 2.0, 2.0), CLASSES, (0.5, 0.25), (3.0, 1.5))
    short, long = figure.axes
    cavity, mark, right = (np.array(to_rgba(figures.COLOURS[k])) for k in (2, 1, 0))

    def tiles(ax) -> np.ndarray:
        """`[5, 5, h, w, 4]`, the upper row first."""
        image = np.asarray(ax.images[0].get_array())
        h, w = (n // 5 for n in image.shape[:2])
        return image.reshape(5, h, 5, w, 4).swapaxes(1, 2)

    def at(tile: np.ndarray, colour: np.ndarray) -> np.ndarray:
        return np.argwhere((tile == colour).all(-1))

    for row in tiles(short):
        assert [len(at(tile, cavity)) for tile in row] == [4, 16, 36, 64, 100]  # to the right: the first direction
    sides = [at(row[2], right)[0][1] - at(row[2], cavity)[0][1] for row in tiles(short)]
    assert [side > 0 for side in sides] == [True] * 3 + [False] * 2  # upwards: the second
    for row in tiles(long):
        for tile in row:
            assert at(tile, mark)[0][0] <= at(tile, cavity)[:, 0].min()  # the base is above
    for ax, (dy, dx) in ((short, (2.0, 2.0)), (long, (10.0, 2.0))):
        left, right_mm, bottom, top = ax.images[0].get_extent()
        rows, columns = np.asarray(ax.images[0].get_array()).shape[:2]
        assert (right_mm - left, top - bottom) == (columns * dx, rows * dy)
        assert [label.get_text() for label in ax.get_xticklabels()][1:3] == [r"$\mu -1\,\sigma$", r"$\mu$"]
    assert "50% of the variance, SD 3" in figure.get_suptitle() and "25%" in figure.get_suptitle()
    flat = codes.traversals(maps[:, :, 4], (2.0, 2.0), CLASSES, (0.5, 0.25), (3.0, 1.5))
    np.testing.assert_array_equal(tiles(flat.axes[0]), tiles(short))
    assert len(flat.axes) == 1


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
