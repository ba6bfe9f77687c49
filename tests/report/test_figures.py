"""Pictures: what is chosen and drawn, read back from the figures and from their pixels."""

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from cardiac_jax.errors import InputError
from cardiac_jax.metrics.agreement import Pairs
from cardiac_jax.report import charts, figures

CLASSES = ("background", "RV", "Myo", "LV")
SPACING_MM = (8.0, 2.0, 1.0)


def _labels(shift: int = 0) -> np.ndarray:
    """Six slices, the heart in 1..4, without RV in 1: squares of 2 x 1 mm pixels."""
    labels = np.zeros((6, 40, 80), np.uint8)
    for z in range(1, 5):
        labels[z, 10 + shift : 26 + shift, 30:62] = 2
        labels[z, 14 + shift : 22 + shift, 38:54] = 3
    labels[2:5, 12:24, 14:30] = 1
    return labels


def _view(case: str = "p1", **preds: np.ndarray) -> figures.View:
    image = np.random.default_rng(0).normal(size=(6, 40, 80)).astype(np.float32)
    return figures.View(case, image, _labels(), preds or {"SRSCN": _labels(2)}, SPACING_MM, "best")


def _pixels(figure: Figure, path: Path) -> np.ndarray:
    figures.save(figure, path)
    assert [f.name for f in path.parent.iterdir()] == [path.name]
    return imread(path)[..., :3]


def _share(pixels: np.ndarray, colour: str) -> float:
    """Share of the pixels within 0.06 of a colour."""
    return float((np.abs(pixels - np.array(to_rgb(colour))).max(axis=-1) < 0.06).mean())


def test_best_median_worst():
    dice = {"a": 0.5, "b": 0.9, "c": 0.7, "d": 0.6, "e": math.nan}
    assert figures.best_median_worst(dice) == {"best": "b", "median": "d", "worst": "a"}
    assert figures.best_median_worst({"a": 0.5, "b": 0.9}) == {"best": "b", "worst": "a"}
    assert figures.best_median_worst({"a": 0.5}) == {"best": "a"}
    assert figures.best_median_worst({"a": math.nan}) == {}


def test_typical_slices_lie_in_the_heart():
    # Slices 1..4 hold it: the 1st, 3rd and 4th of the four.
    assert figures.typical_slices(_labels()) == {"apex": 1, "middle": 3, "base": 4}


def test_fully_annotated_slices_come_first():
    truth = _labels()
    truth[(1, 3), :5] = 255
    assert figures.typical_slices(truth) == {"apex": 2, "middle": 4, "base": 4}
    truth[:, :5] = 255
    assert figures.typical_slices(truth) == {"apex": 1, "middle": 3, "base": 4}
    with pytest.raises(ValueError, match="no slice"):
        figures.typical_slices(np.zeros((3, 4, 4), np.uint8))


def test_case_figure_draws_every_structure(tmp_path: Path):
    figure = figures.case_figure([_view("p1"), _view("p2")], CLASSES)
    pixels = _pixels(figure, tmp_path / "cases" / "cases.png")
    nothing = _view(SRSCN=np.zeros_like(_labels()))
    only_legend = _pixels(figures.case_figure([nothing, nothing], CLASSES), tmp_path / "none" / "none.png")
    for colour in figures.COLOURS[:3]:
        assert _share(pixels, colour) > 3 * _share(only_legend, colour) > 0
    assert pixels.std() > 0.1
    apex, middle, base = (ax.get_title() for ax in figure.axes[:3])
    assert apex.startswith("apex, slice 2 of 6") and "RV - " in apex
    # Middle: RV untouched; LV 8 x 16 moved by 2 of 8 rows: 2 * 6 / 16.
    assert middle.startswith("middle, slice 4 of 6") and "LV 0.75" in middle
    assert base.startswith("base, slice 5 of 6")
    assert [ax.get_ylabel() for ax in figure.axes[::3]] == ["p1\nbest", "p2\nbest"]


def test_slices_have_no_level_where_the_apex_is_not_known():
    view = _view()._replace(apex_known=False)
    titles = [ax.get_title() for ax in figures.case_figure([view], CLASSES).axes[:3]]
    assert [title.split("\n")[0] for title in titles] == [f"slice {n} of 6" for n in (2, 4, 5)]
    sides = [ax.get_ylabel() for ax in figures.method_figure(view, CLASSES).axes[::2]]
    assert sides == [f"slice {n} of 6" for n in (2, 4, 5)]


def test_pictures_are_in_millimetres():
    ax = figures.case_figure([_view()], CLASSES).axes[0]
    # Marked: rows 10..27 of 2 mm, columns 14..61 of 1 mm; the square about them is 47 mm + twice the margin.
    height, width = abs(np.subtract(*ax.get_ylim())), abs(np.subtract(*ax.get_xlim()))
    assert width == pytest.approx(47 + 2 * figures.MARGIN_MM, abs=2.0)
    assert height == pytest.approx(47 + 2 * figures.MARGIN_MM, abs=4.0)
    bar = next(line for line in ax.lines if line.get_color() == "white")
    assert np.ptp(bar.get_xdata()) == figures.BAR_MM
    assert any(text.get_text() == f"{figures.BAR_MM:.0f} mm" for text in ax.texts)


def test_method_figure_has_slices_as_rows_and_methods_as_columns(tmp_path: Path):
    empty = np.zeros_like(_labels())
    figure = figures.method_figure(_view(U_Net=empty, SRSCN=_labels()), CLASSES)
    assert [ax.get_title().split("\n")[0] for ax in figure.axes[:3]] == ["gold standard", "U_Net", "SRSCN"]
    assert len(figure.axes) == 9
    assert "LV 0.00" in figure.axes[1].get_title() and "LV 1.00" in figure.axes[2].get_title()
    # Contours: three structures of the gold standard (two at the apex); a method adds its own to them.
    drawn = [len(ax.collections) for ax in figure.axes]
    assert drawn == [2, 2, 4, 3, 3, 6, 3, 3, 6]
    assert _share(_pixels(figure, tmp_path / "methods.png"), figures.COLOURS[2]) > 5e-4


def _rows(offset: float) -> list[dict[str, str | int | float]]:
    return [
        {"case": f"p{i}", "structure": s, "dice": offset + 0.02 * i, "hd_mm": math.inf if i == 0 else 5.0 + i}
        for i in range(5)
        for s in ("LV", "RV")
    ]


def test_box_plots_say_n_and_misses(tmp_path: Path):
    methods = {"U-Net": _rows(0.7), "SRSCN": _rows(0.8)}
    figure = charts.box_plots(methods, ("LV", "RV"))
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.texts] == ["n=5"] * 4
    assert [label.get_text() for label in ax.get_xticklabels()] == ["LV", "RV"]
    medians = sorted({round(line.get_ydata()[0], 6) for line in ax.lines if line.get_color() == "black"})
    assert medians == [0.74, 0.84]
    pixels = _pixels(figure, tmp_path / "boxes.png")
    assert all(_share(pixels, colour) > 1e-4 for colour in charts.COLOURS[:2])
    (ax,) = charts.box_plots(methods, ("LV",), "hd_mm", leave_out=["p4"]).axes
    assert {text.get_text() for text in ax.texts} == {"n=3\n1 missed"}
    assert ax.get_title() == "without p4" and "HD (mm)" in ax.get_ylabel()
    with pytest.raises(InputError, match="p9"):
        charts.box_plots(methods, leave_out=["p9"])


def test_training_curves_have_a_panel_per_stage_and_one_for_validation(tmp_path: Path):
    lines = [{"step": s, "stage": "prior", "split": "train", "loss": 3.0 / s, "steps_per_s": 5.0} for s in (1, 2)]
    lines += [
        {
            "step": s,
            "stage": "segmenter",
            "split": "train",
            "loss": 1.0,
            "prior": 2000.0,
            "prior_weighted": 0.5,
        }
        for s in (3, 4, 4)
    ]
    lines += [{"step": 4, "stage": "segmenter", "split": "val", "dice": 0.8, "dice/LV": 0.9, "dice/RV": None}]
    figure = charts.training_curves(lines)
    assert [ax.get_title() for ax in figure.axes] == [
        "prior (n = 2 records)",
        "segmenter (n = 2 records)",
        "validation Dice (n = 1 records)",
    ]
    legends = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in figure.axes]
    assert legends == [["loss"], ["loss", "prior (weighted)"], ["mean", "LV"]]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [3.0, 1.5])
    assert _share(_pixels(figure, tmp_path / "curves.png"), charts.COLOURS[0]) > 1e-5


def test_a_log_without_numbers_is_refused():
    with pytest.raises(ValueError, match="no numbers"):
        charts.training_curves([{"step": 1, "stage": "prior", "split": "train", "steps_per_s": 2.0}])


def _readings() -> tuple[np.ndarray, np.ndarray]:
    truth = np.array([40.0, 60.0, 80.0, 100.0, 130.0])
    return truth + np.array([4.0, -2.0, 6.0, 0.0, 2.0]), truth


def test_bland_altman_plots_show_bias_limits_and_their_intervals(tmp_path: Path):
    pred, truth = _readings()
    figure = charts.bland_altman_plots({"LV volume": Pairs(pred, truth), "RV volume": Pairs(pred[:3], truth[:3])}, "ml")
    ax, other = figure.axes
    (points,) = ax.collections
    np.testing.assert_allclose(points.get_offsets(), np.column_stack([(pred + truth) / 2, pred - truth]))
    # Mean 2; squared deviations 4 + 16 + 16 + 4 + 0 over 4: SD sqrt(10).
    at = sorted(float(line.get_ydata()[0]) for line in ax.lines)
    np.testing.assert_allclose(at, [2 - 1.96 * math.sqrt(10), 2, 2 + 1.96 * math.sqrt(10)])
    # Half the interval of the bias: t_4 = 2.776 times sqrt(10 / 5).
    assert len(ax.patches) == 3 and ax.patches[0].get_height() == pytest.approx(2 * 2.7764 * math.sqrt(2), abs=1e-3)
    assert ax.get_title().startswith("LV volume (n = 5 patients)\nbias 2 [-1.93, 5.93]")
    assert other.get_title().startswith("RV volume (n = 3 patients)")
    assert ax.get_ylabel() == "prediction - gold standard (ml)" and "(ml)" in ax.get_xlabel()
    assert _share(_pixels(figure, tmp_path / "agreement.png"), charts.COLOURS[0]) > 1e-4
    with pytest.raises(InputError, match="needs at least 2 patients"):
        charts.bland_altman_plots({"LV volume": Pairs(pred[:1], truth[:1])}, "ml")


def test_scatter_plots_have_identity_and_correlations(tmp_path: Path):
    pred, truth = _readings()
    figure = charts.scatter_plots({name: Pairs(pred, truth) for name in "abcd"}, "ml")
    assert len(figure.axes) == 4  # three to a row
    ax = figure.axes[0]
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), ax.lines[0].get_ydata())
    assert tuple(ax.lines[0].get_xdata()) == (40.0, 132.0)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), np.column_stack([truth, pred]))
    r = np.corrcoef(pred, truth)[0, 1]
    name, pearson, lin = ax.get_title().splitlines()
    assert name == "a (n = 5 patients)"
    assert pearson.startswith(f"Pearson's r {r:.3f} [") and lin.startswith("Lin's CCC 0.9")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("gold standard (ml)", "prediction (ml)")
    assert ax.get_aspect() == 1.0
    assert _share(_pixels(figure, tmp_path / "scatter.png"), charts.COLOURS[0]) > 1e-4


def test_histogram_has_a_panel_per_group_under_common_bins(tmp_path: Path):
    values = {"apex": [0.5, 0.6, 0.7], "base": [0.9, math.nan], "none": [math.nan]}
    figure = charts.histogram(values, "dice", bins=4, of="slices")
    assert [ax.get_title() for ax in figure.axes] == [
        "apex (n = 3 slices), mean 0.600",
        "base (n = 1 slices), mean 0.900",
        "none (n = 0 slices)",
    ]
    # Bins of 0.1 from 0.5 on: the last of "apex" opens the third.
    heights = [[bar.get_height() for bar in ax.patches] for ax in figure.axes]
    assert [sum(h) for h in heights] == [3, 1, 0] and heights[1] == [0, 0, 0, 1]
    assert len({tuple(round(bar.get_x(), 6) for bar in ax.patches) for ax in figure.axes}) == 1
    assert figure.axes[-1].get_xlabel() == "Dice (no unit)"
    assert _share(_pixels(figure, tmp_path / "bars.png"), charts.COLOURS[1]) > 1e-3
    (ax,) = charts.histogram({"all": [0.5, 0.7, math.inf]}, "balanced_accuracy").axes
    assert ax.get_title() == "all (n = 2 patients, 1 missed), mean 60.0" and ax.get_xlabel() == "balanced accuracy (%)"
    with pytest.raises(ValueError, match="no finite value"):
        charts.histogram({"apex": [math.nan]}, "dice")


def test_box_plots_of_shares_are_in_per_cent():
    rows = [{"case": f"p{i}", "structure": "LV", "balanced_accuracy": v} for i, v in enumerate((0.9, 0.92, 0.94))]
    (ax,) = charts.box_plots({"x": rows}, ("LV",), "balanced_accuracy").axes
    assert ax.get_ylabel() == "balanced accuracy (%), 3D, per patient"
    assert [line.get_ydata()[0] for line in ax.lines if line.get_color() == "black"] == pytest.approx([92.0])
