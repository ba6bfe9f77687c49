"""Overlay figures: contours of prediction and gold standard on image slices.

All arrays are `[Z, H, W]`, apex first. Colours are from the colour-blind safe palette of Okabe and Ito. The gold
standard is dashed white.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import AbstractPathEffect, withStroke

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.io.write import atomic_write
from cardiac_jax.metrics import overlap

COLOURS = ("#56B4E9", "#E69F00", "#F0E442", "#CC79A7", "#009E73")  # RV, Myo, LV, then oedema, scar
LEVELS = {"apex": 1 / 6, "middle": 1 / 2, "base": 5 / 6}  # relative positions among the annotated slices
DASHED = (0, (2.5, 1.5))
HALO: list[AbstractPathEffect] = [
    withStroke(linewidth=2.0, foreground="black", alpha=0.7)
]  # keeps thin white lines visible on bright blood
MARGIN_MM = 15.0
BAR_MM = 20.0


class View(NamedTuple):
    """One case to plot.

    Attributes:
      case: name of the case.
      image: `[Z, H, W]`, one sequence.
      truth: `[Z, H, W]` label map of the gold standard, 255 if not annotated.
      preds: method -> `[Z, H, W]` label map.
      spacing_mm: voxel size along Z, H, W.
      note: text printed next to the name, e.g. "best" or the Dice of the volume.
      apex_known: whether Z runs from apex to base; else slices are not called so.
    """

    case: str
    image: np.ndarray
    truth: np.ndarray
    preds: Mapping[str, np.ndarray]
    spacing_mm: tuple[float, float, float]
    note: str = ""
    apex_known: bool = True


def best_median_worst(dice: Mapping[str, float]) -> dict[str, str]:
    """Cases by mean Dice: "best", "median" (the lower one of an even number) and "worst"; no case appears twice."""
    order = sorted((case for case in dice if not math.isnan(dice[case])), key=lambda case: dice[case])
    chosen: dict[str, str] = {}
    if order:
        for name, case in (
            ("best", order[-1]),
            ("worst", order[0]),
            ("median", order[(len(order) - 1) // 2]),
        ):
            if case not in chosen.values():
                chosen[name] = case
    return {name: chosen[name] for name in ("best", "median", "worst") if name in chosen}


def typical_slices(truth: np.ndarray) -> dict[str, int]:
    """apex, middle, base -> slice index, among the slices with a structure; fully annotated slices are preferred.

    Raises:
      ValueError: no slice has a structure.
    """
    labelled = ((truth != 0) & (truth != IGNORE)).any(axis=(1, 2))
    annotated = labelled & ~(truth == IGNORE).any(axis=(1, 2))
    found = np.flatnonzero(annotated if annotated.any() else labelled)
    if not found.size:
        raise ValueError("no slice has a structure")
    return {name: int(found[min(int(at * found.size), found.size - 1)]) for name, at in LEVELS.items()}


def case_figure(views: Sequence[View], classes: Sequence[str]) -> Figure:
    """Figure of cases x (apex, middle, base) for one method, with the gold standard dashed."""
    figure = Figure(figsize=(9.6, 3.5 * len(views) + 0.7), layout="constrained")
    axes = figure.subplots(len(views), len(LEVELS), squeeze=False)
    for row, view in zip(axes, views, strict=True):
        ((_, pred),) = view.preds.items()
        box = _crop(view)
        for ax, (name, z) in zip(row, typical_slices(view.truth).items(), strict=True):
            _draw(ax, view, z, box, pred, classes, with_truth=True)
            ax.set_title(
                f"{_place(view, name, z, ', ')}\n{_slice_dice(pred, view.truth, z, classes)}",
                fontsize=8,
            )
        row[0].set_ylabel(f"{view.case}\n{view.note}".strip())
    _legend(figure, classes, "prediction")
    return figure


def method_figure(view: View, classes: Sequence[str]) -> Figure:
    """Figure of (apex, middle, base) x (gold standard, each method) for one case, as Fig. 2 of Yue et al. 2019."""
    columns = {"gold standard": view.truth, **view.preds}
    figure = Figure(figsize=(2.3 * len(columns) + 0.4, 8.2), layout="constrained")
    axes = figure.subplots(len(LEVELS), len(columns), squeeze=False)
    box = _crop(view)
    for i, (level, z) in enumerate(typical_slices(view.truth).items()):
        for ax, (method, labels) in zip(axes[i], columns.items(), strict=True):
            _draw(ax, view, z, box, labels, classes, with_truth=labels is not view.truth)
            scores = "" if labels is view.truth else _slice_dice(labels, view.truth, z, classes, "\n")
            ax.set_title(f"{method}\n{scores}" if i == 0 else scores, fontsize=8)
        axes[i, 0].set_ylabel(_place(view, level, z, "\n"))
    joint = "\n" if len(columns) < 3 else " "  # two columns are narrower than a line with both
    figure.suptitle(f"{view.case}{joint}{view.note}".strip(), fontsize=10)
    _legend(figure, classes, "method of the column")
    return figure


def _place(view: View, level: str, z: int, joint: str) -> str:
    """Level (if the apex is known) and number of a slice."""
    return f"{f'{level}{joint}' if view.apex_known else ''}slice {z + 1} of {len(view.image)}"


def _draw(
    ax: Axes,
    view: View,
    z: int,
    box: tuple[slice, slice],
    labels: np.ndarray,
    classes: Sequence[str],
    with_truth: bool,
) -> None:
    """Draws one slice in mm: image, contours of `labels`, dashed contours of the gold standard, scale bar."""
    image, truth, labels = view.image[z][box], view.truth[z][box], labels[z][box]
    dy, dx = view.spacing_mm[1:]
    height, width = image.shape[0] * dy, image.shape[1] * dx
    low, high = np.percentile(image, (1, 99.5))
    ax.imshow(image, "gray", vmin=low, vmax=max(high, low + 1e-6), extent=(0, width, height, 0))
    for label in range(1, len(classes)):
        colour = COLOURS[(label - 1) % len(COLOURS)]
        _contour(ax, labels == label, dy, dx, colour, "solid")
        if with_truth:
            _contour(ax, truth == label, dy, dx, "white", DASHED, 0.9)
    dark = [withStroke(linewidth=3, foreground="black")]
    ax.plot((4, 4 + BAR_MM), (height - 5,) * 2, color="white", linewidth=2, path_effects=dark)
    ax.text(4, height - 8, f"{BAR_MM:.0f} mm", color="white", fontsize=7, path_effects=dark)
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])


def _contour(ax: Axes, mask: np.ndarray, dy: float, dx: float, colour: str, style: object, width: float = 1.3) -> None:
    if mask.any():  # a frame of background closes the contour at the edge of the crop
        framed = np.pad(mask, 1).astype(np.float32)
        y, x = ((np.arange(n) - 0.5) * step for n, step in zip(framed.shape, (dy, dx), strict=True))
        lines = ax.contour(x, y, framed, levels=[0.5], colors=colour, linestyles=[style], linewidths=width)
        if style == DASHED:
            lines.set_path_effects(HALO)


def _crop(view: View) -> tuple[slice, slice]:
    """In-plane square around all annotated or predicted structures, with a margin, clipped to the image."""
    marked = (view.truth != 0) & (view.truth != IGNORE)
    shown = list(typical_slices(view.truth).values())
    for pred in view.preds.values():
        marked[shown] |= pred[shown] != 0
    spacing = np.asarray(view.spacing_mm[1:])
    points = np.argwhere(marked.any(axis=0)) * spacing
    centre = (points.min(0) + points.max(0)) / 2
    half = (points.max(0) - points.min(0)).max() / 2 + MARGIN_MM
    start = np.maximum(np.floor((centre - half) / spacing), 0).astype(int)
    stop = np.minimum(np.ceil((centre + half) / spacing) + 1, marked.shape[1:]).astype(int)
    return slice(start[0], stop[0]), slice(start[1], stop[1])


def _slice_dice(pred: np.ndarray, truth: np.ndarray, z: int, classes: Sequence[str], gap: str = "  ") -> str:
    """Printed Dice of one slice; a dash if neither map has the structure."""
    dice = overlap.dice_of(overlap.counts(pred[z], truth[z], range(1, len(classes))))
    scores = [f"{name} {'-' if math.isnan(d) else f'{d:.2f}'}" for name, d in zip(classes[1:], dice, strict=True)]
    return f"Dice in slice:{gap}{' '.join(scores)}"


def _legend(figure: Figure, classes: Sequence[str], solid: str) -> None:
    lines = [Line2D([], [], color=COLOURS[i % len(COLOURS)], label=name) for i, name in enumerate(classes[1:])]
    lines.append(Line2D([], [], color="0.35", label=f"solid: {solid}"))
    lines.append(
        Line2D([], [], color="white", linestyle=DASHED, linewidth=1.5, path_effects=HALO, label="gold standard")
    )
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False)


def save(figure: Figure, path: Path, dpi: int = 130) -> None:
    """Writes the figure atomically, in the format of the path's suffix."""
    atomic_write(path, lambda temporary: figure.savefig(temporary, dpi=dpi, format=path.suffix[1:]))
