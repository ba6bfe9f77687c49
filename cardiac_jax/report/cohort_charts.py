"""Charts of a cohort as ACSNet has them (Abramson et al. 2020): errors of volumes (Fig. 3), sizes of a mixture (5)."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cardiac_jax.anatomy.mixture_size import Curves
from cardiac_jax.metrics.agreement import relative_errors
from cardiac_jax.metrics.registry import METRICS
from cardiac_jax.report.charts import COLOURS, Pairs, grid


def error_plots(panels: Mapping[str, Pairs], unit: str) -> Figure:
    """Errors as shares of the true value, a point per case at that value, their mean a line (Fig. 3 B, C).

    Args:
      panels: what was measured -> predictions and truths `[n]`, paired by case; of truth 0 there is no such error.
      unit: of all of them.

    Raises:
      ValueError: a panel has no case to draw.
    """
    metric = METRICS["normalised_mae"]
    figure, axes = grid(panels)
    for ax, (name, (pred, truth)) in zip(axes, panels.items(), strict=True):
        errors = metric.scale * relative_errors(pred, truth)
        drawn = np.isfinite(errors)
        if not drawn.any():
            raise ValueError(f"{name}: no truth is above 0")
        mean = float(errors[drawn].mean())
        style = {"s": 18, "color": COLOURS[0], "edgecolor": "white", "linewidth": 0.4, "zorder": 3, "clip_on": False}
        ax.scatter(truth[drawn], errors[drawn], **style)
        ax.axhline(mean, color="black", linewidth=1.4)
        excluded = f", {np.count_nonzero(~drawn)} of truth 0 left out" if not drawn.all() else ""
        ax.set_title(f"{name} (n = {np.count_nonzero(drawn)} cases{excluded})\n{metric.label} {mean:.1f}%", fontsize=8)
        ax.set_ylim(0, max(1.08 * float(errors[drawn].max()), 1.0))
        ax.set_xlabel(f"truth ({unit})")
        ax.set_ylabel("|prediction - truth| / truth (%)")
    line = Line2D([], [], color="black", label=f"mean: {metric.label}")
    figure.legend(handles=[line], loc="outside lower center", frameon=False, fontsize=8)
    return figure


def curves_figure(held: Mapping[str, tuple[Curves, int]]) -> Figure:
    """Likelihood and adjusted Akaike criterion against the number of components (Fig. 5).

    A dot is a fold, the line their mean, its bars one standard error; the size in use is drawn blue.

    Args:
      held: a column each: title ("" is none) -> curves, and the size in use.
    """
    figure = Figure(figsize=(3.4 + 3.0 * len(held), 5.6), layout="constrained")
    panels = figure.subplots(2, len(held), sharex="col", squeeze=False)
    for column, (title, (curves, taken)) in zip(panels.T, held.items(), strict=True):
        top, bottom = column
        _curve(top, curves, curves.nll, taken)
        said = f"{curves.nll.shape[1]}-fold cross-validation; {taken} components in use"
        top.set_title(f"{title}\n{said}" if title else said, fontsize=10)
        _curve(bottom, curves, curves.aic, taken)
        bottom.set_xlabel("components")
        bottom.set_xticks(curves.sizes)
    panels[0, 0].set_ylabel("negative log-likelihood\nper held-out code (nats)")
    panels[1, 0].set_ylabel("adjusted AIC of the\nfitted codes (no unit)")
    handles = [
        Line2D([], [], color="0.3", marker="o", label="mean of the folds ± standard error"),
        Line2D([], [], color="0.6", marker=".", linestyle="none", label="a fold"),
        Line2D([], [], color=COLOURS[0], marker="o", linestyle="none", label="in use"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _curve(ax: Axes, curves: Curves, values: np.ndarray, taken: int) -> None:
    """One panel: `values [K, F]`."""
    sizes, mean = np.asarray(curves.sizes), values.mean(1)
    error = values.std(1, ddof=1) / np.sqrt(values.shape[1]) if values.shape[1] > 1 else np.zeros(len(mean))
    ax.plot(np.repeat(sizes, values.shape[1]), values.ravel(), ".", color="0.6", markersize=4, zorder=1)
    ax.errorbar(sizes, mean, error, color="0.3", marker="o", markersize=5, capsize=3, linewidth=1.3, zorder=2)
    at = sizes == taken
    ax.plot(sizes[at], mean[at], "o", color=COLOURS[0], markersize=9, zorder=3)
    ax.grid(True, color="0.9")
    ax.set_axisbelow(True)
