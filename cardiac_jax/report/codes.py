"""Learnt shape codes: histograms, traversals, and the table of classifications (Oktay et al. 2018, Figs. 5 and 9)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cardiac_jax.metrics.normality import LEVEL, Normality
from cardiac_jax.metrics.summary import Rows
from cardiac_jax.report.charts import COLOURS
from cardiac_jax.report.figures import COLOURS as STRUCTURES
from cardiac_jax.report.table import Cell, Table

SHOWN = 16  # dimensions in the figure of histograms, 4 x 4
MARGIN_MM = 8.0
PUBLISHED = (
    "Published (Oktay et al. 2018, 60 patients in 3 groups, other images): PCA 76.6% and codes 83.3% at ED, "
    "86.6% and 91.6% at ED and ES."
)


def histograms(codes: np.ndarray, found: Normality, seed: int = 0, of: str = "cases") -> Figure:
    """Figure of histograms of 16 dimensions chosen at random, 4 x 4, each with the normal curve of its mean and SD.

    Args:
      codes: `[N, D]`.
      found: tests of the D dimensions, whose corrected p values are printed.
      seed: of the choice; all dimensions are shown if there are no more than 16.
      of: what one code stands for, e.g. "cases" or "patients at ED".
    """
    dimensions = codes.shape[1]
    rng = np.random.default_rng(seed)
    shown = np.sort(rng.choice(dimensions, min(SHOWN, dimensions), replace=False))
    rows = -(-len(shown) // 4)
    figure, inch = Figure(figsize=(9.6, 2.0 * rows + 1.3)), 1 / (2.0 * rows + 1.3)
    # A computed layout of 16 axes takes seconds.
    where = {"left": 0.08, "right": 0.98, "bottom": 0.95 * inch, "top": 1 - 0.7 * inch, "wspace": 0.3, "hspace": 0.5}
    axes = figure.subplots(rows, 4, squeeze=False, gridspec_kw=where).ravel()
    for ax in axes[len(shown) :]:
        ax.remove()
    for ax, k in zip(axes, shown.tolist(), strict=False):
        _histogram(ax, np.asarray(codes[:, k], np.float64))
        p = float(found.p_holm[k])
        text = "constant" if math.isnan(p) else f"p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
        ax.set_title(f"dimension {k + 1}, {text}", fontsize=8, color=COLOURS[3] if p < LEVEL else "black")
    figure.supxlabel("value of the code (no unit)", y=0.4 * inch, fontsize=9)
    figure.supylabel("density", fontsize=9)
    figure.suptitle(
        f"{len(codes)} {of}; {found.test}, p corrected over {found.tested} dimensions (Holm): "
        f"normality rejected in {found.rejected} of {found.tested}",
        fontsize=10,
        y=1 - 0.15 * inch,
    )
    lines = [
        Patch(color=COLOURS[0], alpha=0.6, label="codes"),
        Line2D([], [], color="black", label="normal distribution of the same mean and SD"),
    ]
    figure.legend(handles=lines, loc="lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def traversals(
    maps: np.ndarray,
    spacing_mm: Sequence[float],
    classes: Sequence[str],
    shares: Sequence[float],
    sds: Sequence[float],
) -> Figure:
    """Figure of label maps decoded on a square grid of codes, mu - 2 sigma to mu + 2 sigma along two directions.

    Volumes are shown twice: the short-axis slice through the middle of the left ventricle of the central map (that of
    the mean code), and the long-axis cut across its rows, base above. All maps are cut at the same place.

    Args:
      maps: `[N, N, *S]` label maps, the second direction first, from its smallest value; S is (Z, H, W) or (H, W).
      spacing_mm: voxel size of the maps, along Z, H, W or H, W.
      classes: names, background first.
      shares: shares of the codes' variance along the first and the second direction.
      sds: standard deviations along both directions.
    """
    count, middle = maps.shape[0], maps.shape[0] // 2
    volumes = maps.ndim == 5
    views = {"": maps}
    steps = {"": tuple(spacing_mm)}
    if volumes:
        z, h, _ = _centre(maps[middle, middle], classes)
        views = {f"short axis, slice {z + 1} of {maps.shape[2]}": maps[:, :, z]}
        views |= {f"long axis, row {h + 1} of {maps.shape[3]}, base above": maps[:, :, ::-1, h]}
        steps = dict(zip(views, ((spacing_mm[1], spacing_mm[2]), (spacing_mm[0], spacing_mm[2])), strict=True))
    figure = Figure(figsize=(1.4 * count * len(views) + 1.0, 1.4 * count + 1.8), layout="constrained")
    for ax, (title, view) in zip(figure.subplots(1, len(views), squeeze=False)[0], views.items(), strict=True):
        image, (height, width), (dy, dx) = *_tiled(view, steps[title], len(classes)), steps[title]
        ax.imshow(image, extent=(0, image.shape[1] * dx, 0, image.shape[0] * dy), interpolation="nearest")
        ax.set_xticks([(j + 0.5) * width * dx for j in range(count)], [_sigma(j, count) for j in range(count)])
        ax.set_yticks([(i + 0.5) * height * dy for i in range(count)], [_sigma(i, count) for i in range(count)])
        for k in range(1, count):
            ax.axvline(k * width * dx, color="0.8", linewidth=0.8)
            ax.axhline(k * height * dy, color="0.8", linewidth=0.8)
        ax.tick_params(length=0)
        ax.set_title(title, fontsize=9)
    words = [f"{share:.0%} of the variance, SD {sd:.3g}" for share, sd in zip(shares, sds, strict=True)]
    figure.suptitle(
        f"Decoded codes. Across: first principal component of the codes ({words[0]}).\n"
        f"Upwards: second principal component ({words[1]}).",
        fontsize=10,
    )
    patches = [Patch(color=STRUCTURES[k % len(STRUCTURES)], label=name) for k, name in enumerate(classes[1:])]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False, fontsize=8)
    return figure


def tables(rows: Rows, about: Mapping[str, Any]) -> list[Table]:
    """Tables of accuracies and of confusion, from the rows and the `about` of `classification.json`."""
    lines = []
    for row in rows:
        accuracy = f"{row['accuracy']:.1%} [{row['low']:.1%}, {row['high']:.1%}]"
        p = float(row["p_holm"])
        cells = (
            f"{row['task']} (n = {row['patients']})",
            str(row["phases"]),
            f"{row['features']} ({row['dimension']})",
            accuracy,
            f"{row['least']:.1%} to {row['largest']:.1%}",
            f"{row['chance']:.1%}",
            "-" if math.isnan(p) else f"{row['only_codes']} : {row['only_pca']}, p = {p:.3f}",
        )
        lines.append(tuple(map(Cell, cells)))
    header = ("task", "phases", "features", "accuracy [95% CI]", "repetitions", "chance", "codes : PCA")
    found = [Table("Classification of patients by shape", header, tuple(lines), tuple(about["notes"]))]
    for name, held in about["confusion"].items():
        body = [
            (Cell(group), *(Cell(str(n), i == j) for j, n in enumerate(line)))
            for i, (group, line) in enumerate(zip(held["groups"], held["table"], strict=True))
        ]
        found.append(Table(f"{name}: patients, true group by answer", ("true", *held["groups"]), tuple(body)))
    return found


def _histogram(ax: Axes, values: np.ndarray) -> None:
    mean, sd = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0
    if sd == 0:
        ax.axvline(mean, color=COLOURS[0])
        return
    ax.hist(values, min(20, max(5, round(math.sqrt(len(values))))), density=True, color=COLOURS[0], alpha=0.6)
    x = np.linspace(mean - 3.5 * sd, mean + 3.5 * sd, 100)
    ax.plot(x, np.exp(-(((x - mean) / sd) ** 2) / 2) / (sd * math.sqrt(2 * math.pi)), color="black", linewidth=1.2)
    ax.tick_params(labelsize=7)


def _centre(labels: np.ndarray, classes: Sequence[str]) -> tuple[int, ...]:
    """Voxel in the middle of the left ventricle of `[Z, H, W]`, else of all structures, else of the map."""
    left = labels == classes.index("LV") if "LV" in classes else np.zeros(labels.shape, bool)
    mask = left if left.any() else labels > 0
    points = np.argwhere(mask if mask.any() else np.ones(labels.shape, bool))
    return tuple(round(float(c)) for c in points.mean(0))


def _tiled(view: np.ndarray, spacing_mm: Sequence[float], classes: int) -> tuple[np.ndarray, tuple[int, int]]:
    """`[N, N, H, W]` maps side by side, the first from below: colours `[N h, N w, 4]`, and the size (h, w) of a map.

    Of each map the part is shown that holds a structure in any of them, with a margin.
    """
    count, marked = view.shape[0], (view > 0).any(axis=(0, 1))
    points = np.argwhere(marked if marked.any() else np.ones(marked.shape, bool))
    border = [math.ceil(MARGIN_MM / mm) for mm in spacing_mm]
    padded = np.pad(view, [(0, 0), (0, 0), *((n, n) for n in border)])  # the margin may lie outside the map
    (top, left), (bottom, right) = points.min(0), points.max(0) + 1 + 2 * np.array(border)
    table = [to_rgba("white"), *(to_rgba(STRUCTURES[k % len(STRUCTURES)]) for k in range(classes - 1))]
    image = np.asarray(table)[padded[::-1, :, top:bottom, left:right]]
    h, w = image.shape[2:4]
    return image.transpose(0, 2, 1, 3, 4).reshape(count * h, count * w, 4), (h, w)


def _sigma(step: int, count: int) -> str:
    """Label of a step in LaTeX: mu, or mu plus or minus a multiple of sigma."""
    value = 4 * step / (count - 1) - 2
    return r"$\mu$" if value == 0 else rf"$\mu {value:+g}\,\sigma$"
