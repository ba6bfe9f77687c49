"""Charts of errors and of mixtures, read back from the figures."""

import math

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba

from cardiac_jax.anatomy.mixture_size import Curves
from cardiac_jax.metrics.agreement import Pairs
from cardiac_jax.report import cohort_charts
from cardiac_jax.report.charts import COLOURS


def test_error_plots_have_a_point_per_case_and_their_mean():
    truth = np.array([10.0, 20.0, 0.0, 40.0])
    pred = np.array([11.0, 16.0, 3.0, 42.0])
    figure = cohort_charts.error_plots(
        {"scar volume": Pairs(pred, truth), "LV volume": Pairs(pred[:2], truth[:2])}, "ml"
    )
    scar, lv = figure.axes
    np.testing.assert_allclose(np.asarray(scar.collections[0].get_offsets()), [[10, 10], [20, 20], [40, 5]])
    assert np.asarray(scar.lines[0].get_ydata())[0] == pytest.approx(35 / 3)
    left = "; 1 cases with gold standard not above 0 excluded"
    assert scar.get_title() == f"scar volume (n = 3 patients{left})\nnorm. MAE 11.7%"
    assert lv.get_title() == "LV volume (n = 2 patients)\nnorm. MAE 15.0%"
    # The cases of one patient are averaged first: (10 + 20) / 2, and 5.
    (ax,) = cohort_charts.error_plots({"LV volume": Pairs(pred, truth, ("a", "a", "b", "b"))}, "ml").axes
    assert ax.get_title() == f"LV volume (n = 2 patients (3 cases){left})\nnorm. MAE 10.0%"
    assert scar.get_xlabel() == "gold standard (ml)" and scar.get_ylim()[0] == 0
    with pytest.raises(ValueError, match="no gold-standard value"):
        cohort_charts.error_plots({"scar volume": Pairs(pred[2:3], truth[2:3])}, "ml")


def test_curves_show_mean_folds_and_the_size_taken():
    nll = np.array([[5.0, 7.0], [2.0, 4.0], [2.5, 3.5]])
    figure = cohort_charts.curves_figure({"": (Curves((1, 2, 4), nll, 10 * nll), 2)})
    for ax, values in zip(figure.axes, (nll, 10 * nll), strict=True):
        folds, mean, taken = (line for line in ax.lines if line.get_marker() in (".", "o"))
        np.testing.assert_allclose(
            np.asarray(folds.get_xydata()), np.stack([[1, 1, 2, 2, 4, 4], values.ravel()], axis=1)
        )
        np.testing.assert_allclose(
            np.asarray(mean.get_xydata()), [[1, values[0].mean()], [2, values[1].mean()], [4, values[2].mean()]]
        )
        np.testing.assert_allclose(np.asarray(taken.get_xydata()), [[2, values[1].mean()]])
        assert to_rgba(taken.get_color()) == to_rgba(COLOURS[0])
        # Standard error of two folds 2 apart: sqrt(2) / sqrt(2).
        (bars,) = (held for held in ax.collections if isinstance(held, LineCollection))
        low, high = (np.asarray(end) for end in bars.get_segments()[0])
        assert high[1] - low[1] == pytest.approx(2 * np.ptp(values[0]) / math.sqrt(2) / math.sqrt(2))
    assert "2-fold" in figure.axes[0].get_title() and "2 components in use" in figure.axes[0].get_title()
    assert figure.axes[1].get_xticks().tolist() == [1, 2, 4]
    four = Curves((1, 2, 3, 4), np.tile(nll[0], (4, 1)), np.tile(nll[1], (4, 1)))
    pair = cohort_charts.curves_figure({"8": (Curves((1, 2, 4), nll, 10 * nll), 1), "16": (four, 3)}).axes
    assert [ax.get_title().split("\n")[0] for ax in pair] == ["8", "16", "", ""]
    assert [len(ax.get_xticks()) for ax in pair] == [3, 4, 3, 4]
