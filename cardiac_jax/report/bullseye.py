"""Bull's-eye plot of the 17 AHA segments: one number per segment, seen from the apex (Cerqueira et al. 2002)."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Wedge

from cardiac_jax.metrics.agreement import Pairs, mean_over_patients
from cardiac_jax.metrics.wall import bullseye_segments

RADII = {"apex": (0.0, 1.0), "apical": (1.0, 2.0), "mid": (2.0, 3.0), "basal": (3.0, 4.0)}
MISSING = "0.88"
COLOURS = "viridis"


def wall_figure(thickness: Mapping[int, Pairs]) -> Figure:
    """Figure of wall thickness in mm, mean over patients: gold standard, prediction and absolute error.

    Args:
      thickness: segment number -> predictions and gold-standard values in mm; a patient's cases are averaged first.
    """
    panels = {
        "gold standard": {k: mean_over_patients(p.truth, p.patients) for k, p in thickness.items()},
        "prediction": {k: mean_over_patients(p.pred, p.patients) for k, p in thickness.items()},
        "mean absolute error": {
            k: mean_over_patients(np.abs(p.pred - p.truth), p.patients) for k, p in thickness.items()
        },
    }
    counts = [pairs.patient_count for pairs in thickness.values()]
    most = max(max(panels["gold standard"].values()), max(panels["prediction"].values()))
    figure = Figure(figsize=(11.0, 3.9), layout="constrained")
    for i, (name, values) in enumerate(panels.items()):
        ax = figure.add_subplot(1, 3, i + 1)
        scale = Normalize(0, most if i < 2 else max(values.values()) or 1.0)
        _draw(ax, values, scale)
        ax.set_title(f"{name} (mm)", fontsize=10)
        figure.colorbar(ScalarMappable(scale, COLOURS), ax=ax, shrink=0.75, label="mm")
    n = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(counts[0])
    figure.suptitle(f"n = {n} patients per segment", fontsize=9)
    return figure


def _draw(ax, values: Mapping[int, float], scale: Normalize) -> None:
    paint = colormaps[COLOURS]
    for segment in bullseye_segments():
        low, high = RADII[segment.level]
        value = values.get(segment.number, math.nan)
        colour = paint(scale(value)) if math.isfinite(value) else MISSING
        start, end = segment.start_deg, segment.start_deg + segment.width_deg
        ax.add_patch(Wedge((0, 0), high, start, end, width=high - low, facecolor=colour, edgecolor="white"))
        middle = math.radians((start + end) / 2)
        radius = 0.0 if segment.level == "apex" else (low + high) / 2
        text = f"{value:.1f}" if math.isfinite(value) else "-"
        dark = math.isfinite(value) and scale(value) < 0.55
        position = (radius * math.cos(middle), radius * math.sin(middle))
        ax.text(*position, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    for text, x, y in (("anterior", 0, 4.35), ("inferior", 0, -4.35)):
        ax.text(x, y, text, ha="center", va="center", fontsize=7)
    for text, x, turn in (("septal", -4.35, 90), ("lateral", 4.35, -90)):
        ax.text(x, 0, text, ha="center", va="center", fontsize=7, rotation=turn)
    ax.set(xlim=(-4.7, 4.7), ylim=(-4.7, 4.7), aspect="equal")
    ax.set_axis_off()
