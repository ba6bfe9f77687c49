"""Charts: box plots of methods (Fig. 3 of Yue et al. 2019), training curves, agreement, histograms."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from cardiac_jax.metrics.agreement import Pairs, bland_altman, concordance, pearson
from cardiac_jax.metrics.registry import METRICS
from cardiac_jax.metrics.summary import Rows, by_patient, without

# Palette of Okabe and Ito, black last.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#000000")
VALIDATION = {"validation Dice": "dice", "validation SSIM": "ssim"}
"""Panels of validation scores -> the key of their mean in the log."""
NOT_A_LOSS = ("step", "steps_per_s", "waiting_share", "peak_memory_mb", "learning_rate", "grad_norm")


def box_plots(
    rows_by_method: Mapping[str, Rows],
    structures: Sequence[str] = ("LV", "RV", "Myo"),
    metric: str = "dice",
    leave_out: Sequence[str] = (),
) -> Figure:
    """Figure with one box per structure and method: median, quartiles, whiskers to 1.5 IQR, a dot per patient.

    Values of a patient's cases are averaged. The text below each box gives n, the number of plotted patients, and the
    number of patients with an infinite value (missed).

    Raises:
      InputError: a case to leave out does not exist.
    """
    methods = list(rows_by_method)
    figure = Figure(figsize=(1.5 + 0.55 * len(methods) * len(structures), 4.6), layout="constrained")
    ax = figure.add_subplot()
    for m, method in enumerate(methods):
        rows = without(rows_by_method[method], leave_out)
        for s, structure in enumerate(structures):
            measured = by_patient(rows, metric, structure).values()
            values, missed = _finite(measured, metric)
            at = s * (len(methods) + 1) + m
            _box(ax, at, values, COLOURS[m % len(COLOURS)])
            text = f"n={len(values)}" + (f"\n{missed} missed" if missed else "")
            below = {
                "ha": "center",
                "va": "top",
                "fontsize": 6,
                "xytext": (0, -3),
                "textcoords": "offset points",
            }
            ax.annotate(text, (at, 0), xycoords=("data", "axes fraction"), **below)
    centres = [s * (len(methods) + 1) + (len(methods) - 1) / 2 for s in range(len(structures))]
    ax.set_xticks(centres, structures)
    ax.tick_params("x", length=0, pad=22)
    ax.set_xlim(-1, len(structures) * (len(methods) + 1) - 1)
    ax.set_ylabel(f"{_with_unit(metric)}, 3D, per patient")
    ax.yaxis.grid(True, color="0.9")
    ax.set_axisbelow(True)
    if leave_out:
        ax.set_title(f"without {', '.join(leave_out)}", fontsize=9)
    patches = [Patch(color=COLOURS[m % len(COLOURS)], label=method) for m, method in enumerate(methods)]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(methods)), frameon=False)
    return figure


def bland_altman_plots(panels: Mapping[str, Pairs], unit: str) -> Figure:
    """Bland-Altman figure, one panel per measure: bias and limits of agreement, each with its 95% interval as a band.

    A point is a case; bias and limits take patients as units (`agreement.bland_altman`).

    Args:
      panels: measure, e.g. "LV volume" -> predictions and gold-standard values.
      unit: unit of all measures.

    Raises:
      InputError: a panel has fewer than two patients.
    """
    figure, axes = grid(panels)
    for ax, (name, pairs) in zip(axes, panels.items(), strict=True):
        pred, truth, *_ = pairs
        found = bland_altman(pred, truth, unit, pairs.patients)
        ax.scatter((pred + truth) / 2, pred - truth, s=18, color=COLOURS[0], edgecolor="white", linewidth=0.4, zorder=3)
        for line, colour, style in (
            (found.bias, COLOURS[7], "solid"),
            (found.lower, COLOURS[3], "dashed"),
            (found.upper, COLOURS[3], "dashed"),
        ):
            ax.axhspan(line.low, line.high, color=colour, alpha=0.12, linewidth=0)
            ax.axhline(line.value, color=colour, linestyle=style, linewidth=1.3)
        bias, lower, upper = (
            f"{e.value:.3g} [{e.low:.3g}, {e.high:.3g}]" for e in (found.bias, found.lower, found.upper)
        )
        ax.set_title(f"{name} (n = {pairs.counted})\nbias {bias}\nlimits {lower}, {upper}", fontsize=8)
        ax.set_xlabel(f"mean of prediction and gold standard ({unit})")
        ax.set_ylabel(f"prediction - gold standard ({unit})")
    handles = [
        Line2D([], [], color=COLOURS[7], label="bias"),
        Line2D([], [], color=COLOURS[3], linestyle="dashed", label="bias -+ 1.96 SD"),
        Patch(color=COLOURS[7], alpha=0.12, label="95% CI of the bias"),
        Patch(color=COLOURS[3], alpha=0.12, label="95% CI of the limits"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, 2 * len(panels)), frameon=False, fontsize=8)
    return figure


def scatter_plots(panels: Mapping[str, Pairs], unit: str) -> Figure:
    """Figure of prediction against gold standard, one panel per measure, with Pearson's r and Lin's CCC.

    A point is a case; the correlations are of the patients' means. The axes have equal scales and show the line of
    identity. Args and Raises as in `bland_altman_plots`.
    """
    figure, axes = grid(panels)
    for ax, (name, pairs) in zip(axes, panels.items(), strict=True):
        pred, truth, *_ = pairs
        found = {"pearson_r": pearson(*pairs.means()), "concordance": concordance(*pairs.means())}
        ends = [min(pred.min(), truth.min()), max(pred.max(), truth.max())]
        ax.plot(ends, ends, color="0.5", linestyle="dashed", linewidth=1.0)
        ax.scatter(truth, pred, s=18, color=COLOURS[0], edgecolor="white", linewidth=0.4, zorder=3)
        texts = [f"{METRICS[key].label} {METRICS[key].with_interval(*estimate)}" for key, estimate in found.items()]
        ax.set_title("\n".join([f"{name} (n = {pairs.counted})", *texts]), fontsize=8)
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_xlabel(f"gold standard ({unit})")
        ax.set_ylabel(f"prediction ({unit})")
    identity = Line2D([], [], color="0.5", linestyle="dashed", label="identity")
    figure.legend(handles=[identity], loc="outside lower center", frameon=False, fontsize=8)
    return figure


def histogram(values: Mapping[str, Sequence[float]], metric: str, bins: int = 20, of: str = "patients") -> Figure:
    """Histograms with common bins, one panel per group, with a line at the mean (Fig. 2 of ACSNet).

    Args:
      values: group -> values; infinite values are counted as missed, NaN is ignored.
      metric: name of the metric in `METRICS`.
      of: what one value represents, e.g. "patients" or "slices".

    Raises:
      ValueError: no value is finite.
    """
    held = {group: _finite(measured, metric) for group, measured in values.items()}
    drawn = [v for finite, _ in held.values() for v in finite]
    if not drawn:
        raise ValueError("no finite value to plot")
    edges = np.histogram_bin_edges(drawn, bins)
    figure = Figure(figsize=(5.6, 1.1 + 1.9 * len(held)), layout="constrained")
    axes = figure.subplots(len(held), 1, squeeze=False, sharex=True)[:, 0]
    for i, (ax, (group, (finite, missed))) in enumerate(zip(axes, held.items(), strict=True)):
        ax.hist(finite, edges, color=COLOURS[i % len(COLOURS)], edgecolor="white", linewidth=0.4)
        title = f"{group} (n = {len(finite)} {of}" + (f", {missed} missed)" if missed else ")")
        if finite:
            mean = sum(finite) / len(finite)
            ax.axvline(mean, color="black", linewidth=1.4)
            title += f", mean {mean:.{METRICS[metric].digits}f}"
        ax.set_title(title, fontsize=9)
        ax.set_ylabel(of)
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes[-1].set_xlabel(_with_unit(metric))
    return figure


def training_curves(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Training curves of one run: one panel of loss terms per stage, and one of the validation Dice (of restored
    images SSIM) if it was logged.

    A term logged both raw and weighted is plotted weighted, as its contribution to the total.

    Args:
      lines: records of the log, each with `step`, and `stage` and `split` if the run has several. If a step has two
        records, the later one is used.

    Raises:
      ValueError: no record has a number to plot.
    """
    panels: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        score = "validation SSIM" if "ssim" in line else "validation Dice"
        kind = score if line.get("split") == "val" else str(line.get("stage", "training"))
        panels.setdefault(kind, []).append(line)
    panels = {kind: held for kind, held in panels.items() if any(_drawn(line) for line in held)}
    if not panels:
        raise ValueError("the log has no numbers to plot")
    panels = dict(sorted(panels.items(), key=lambda item: item[0] in VALIDATION))
    figure = Figure(figsize=(5.2 * len(panels), 4.0), layout="constrained")
    for ax, (kind, held) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        _curves(ax, kind, held)
    return figure


def has_curves(lines: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a log has a number to plot; that of a system without networks has none."""
    return any(_drawn(line) for line in lines)


def grid(panels: Mapping[str, Pairs]) -> tuple[Figure, list[Axes]]:
    """Figure with one axes object per panel, three per row, and the list of axes."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.9 * columns, 3.7 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for ax in axes[len(panels) :]:
        ax.remove()
    return figure, axes[: len(panels)]


def _finite(values: Iterable[float], metric: str) -> tuple[list[float], int]:
    """The finite values, scaled as printed, and the number of infinite values."""
    values = list(values)
    return [METRICS[metric].scale * v for v in values if math.isfinite(v)], sum(map(math.isinf, values))


def _with_unit(metric: str) -> str:
    return METRICS[metric].heading if METRICS[metric].unit else f"{METRICS[metric].label} (no unit)"


def _box(ax: Axes, at: float, values: Sequence[float], colour: str) -> None:
    if not values:
        return
    ax.boxplot(
        [values],
        positions=[at],
        widths=0.7,
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": colour, "alpha": 0.35, "edgecolor": colour},
        medianprops={"color": "black", "linewidth": 1.4},
        whiskerprops={"color": colour},
        capprops={"color": colour},
    )
    jitter = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else [0.0]
    ax.scatter(at + np.asarray(jitter), values, s=9, color=colour, edgecolor="white", linewidth=0.3, zorder=3)


def _curves(ax: Axes, kind: str, lines: Sequence[Mapping[str, Any]]) -> None:
    series: dict[str, dict[int, float]] = {}
    for line in lines:
        for name, value in _drawn(line).items():
            series.setdefault(name, {})[line["step"]] = value
    validation = kind in VALIDATION
    total = VALIDATION.get(kind, "loss")
    drawn = sorted(
        (name for name in series if f"{name}_weighted" not in series), key=lambda name: (name != total, name)
    )
    parts = [name for name in drawn if name != total]
    for name in drawn:
        steps, values = zip(*sorted(series[name].items()), strict=True)
        colour = "black" if name == total else COLOURS[parts.index(name) % (len(COLOURS) - 1)]
        label = name.replace("_weighted", " (weighted)")
        if validation:
            label = name.removeprefix("dice/") if name != total else "mean"
        marker, width = "." if len(steps) < 30 else "", 1.8 if name == total else 1.1
        ax.plot(steps, values, color=colour, linewidth=width, marker=marker, label=label)
    records = len({line["step"] for line in lines})
    ax.set_title(f"{kind} (n = {records} records)", fontsize=10)
    ax.set_xlabel("step")
    if validation:
        ax.set_ylabel(f"{METRICS[total].label}, 3D, mean over cases (no unit)")
    else:
        positive = all(v > 0 for name in drawn for v in series[name].values())
        ax.set_yscale("log" if positive else "linear")
        ax.set_ylabel("loss (no unit" + (", logarithmic)" if positive else ")"))
    ax.grid(True, color="0.9")
    ax.legend(frameon=False, fontsize=8)


def _drawn(line: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of one log record to plot."""
    numbers = {k: v for k, v in line.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    wanted = {k: float(v) for k, v in numbers.items() if k not in NOT_A_LOSS and math.isfinite(v)}
    if line.get("split") == "val":
        return {k: v for k, v in wanted.items() if k.split("/")[0] in VALIDATION.values()}
    return wanted
