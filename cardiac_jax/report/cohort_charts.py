"""Cohort charts of ACSNet (Abramson et al. 2020): volume errors (Fig. 3), number of mixture components (Fig. 5)."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cardiac_jax.anatomy.mixture_size import Curves
from cardiac_jax.metrics.agreement import Pairs, mean_over_patients, relative_errors
from cardiac_jax.metrics.registry import METRICS
from cardiac_jax.metrics.summary import counted_text
from cardiac_jax.report.charts import COLOURS, grid


def error_plots(panels: Mapping[str, Pairs], unit: str) -> Figure:
    """Figure of relative errors against the gold-standard value, a point per case and a line at the mean (Fig. 3 B, C).

    The mean is over patients, whose cases are averaged first.

    Args:
      panels: measure -> predictions and gold-standard values. Cases without a gold-standard value above 0 have no
        relative error.
      unit: unit of all measures.

    Raises:
      ValueError: a panel has no case to plot.
    """
    metric = METRICS["normalised_mae"]
    figure, axes = grid(panels)
    for ax, (name, pairs) in zip(axes, panels.items(), strict=True):
        errors = metric.scale * relative_errors(pairs.pred, pairs.truth)
        drawn = np.isfinite(errors)
        if not drawn.any():
            raise ValueError(f"{name}: no gold-standard value is above 0")
        mean, kept = mean_over_patients(errors, pairs.patients), np.flatnonzero(drawn).tolist()
        n = len({pairs.patients[i] for i in kept}) if pairs.patients else len(kept)
        style = {"s": 18, "color": COLOURS[0], "edgecolor": "white", "linewidth": 0.4, "zorder": 3, "clip_on": False}
        ax.scatter(pairs.truth[drawn], errors[drawn], **style)
        ax.axhline(mean, color="black", linewidth=1.4)
        without = f"; {(~drawn).sum()} cases with gold standard not above 0 excluded" if not drawn.all() else ""
        ax.set_title(f"{name} (n = {counted_text(n, len(kept))}{without})\n{metric.label} {mean:.1f}%", fontsize=8)
        ax.set_ylim(0, max(1.08 * float(errors[drawn].max()), 1.0))
        ax.set_xlabel(f"gold standard ({unit})")
        ax.set_ylabel("|prediction - gold standard| / gold standard (%)")
    line = Line2D([], [], color="black", label=f"mean: {metric.label}")
    figure.legend(handles=[line], loc="outside lower center", frameon=False, fontsize=8)
    return figure


def curves_figure(held: Mapping[str, tuple[Curves, int]]) -> Figure:
    """Figure of likelihood and adjusted AIC against the number of mixture components (Fig. 5).

    Each dot is a fold. The line is the mean over folds with bars of one standard error. The number in use is blue.

    Args:
      held: title of a column ("" for none) -> curves, and the number of components in use.
    """
    figure = Figure(figsize=(3.4 + 3.0 * len(held), 5.6), layout="constrained")
    panels = figure.subplots(2, len(held), sharex="col", squeeze=False)
    for column, (title, (curves, taken)) in zip(panels.T, held.items(), strict=True):
        top, bottom = column
        _curve(top, curves, curves.nll, taken)
        text = f"{curves.nll.shape[1]}-fold cross-validation; {taken} components in use"
        top.set_title(f"{title}\n{text}" if title else text, fontsize=10)
        _curve(bottom, curves, curves.aic, taken)
        bottom.set_xlabel("components")
        bottom.set_xticks(curves.sizes)
    panels[0, 0].set_ylabel("negative log-likelihood\nper held-out code (nats)")
    panels[1, 0].set_ylabel("adjusted AIC of the\nfitted codes (no unit)")
    handles = [
        Line2D([], [], color="0.3", marker="o", label="mean over folds ± standard error"),
        Line2D([], [], color="0.6", marker=".", linestyle="none", label="one fold"),
        Line2D([], [], color=COLOURS[0], marker="o", linestyle="none", label="in use"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _curve(ax: Axes, curves: Curves, values: np.ndarray, taken: int) -> None:
    """Draws one panel of `values [K, F]`, K sizes by F folds."""
    sizes, mean = np.asarray(curves.sizes), values.mean(1)
    error = values.std(1, ddof=1) / np.sqrt(values.shape[1]) if values.shape[1] > 1 else np.zeros(len(mean))
    ax.plot(np.repeat(sizes, values.shape[1]), values.ravel(), ".", color="0.6", markersize=4, zorder=1)
    ax.errorbar(sizes, mean, error, color="0.3", marker="o", markersize=5, capsize=3, linewidth=1.3, zorder=2)
    at = sizes == taken
    ax.plot(sizes[at], mean[at], "o", color=COLOURS[0], markersize=9, zorder=3)
    ax.grid(True, color="0.9")
    ax.set_axisbelow(True)
