"""Picture of what the limits of an anatomical check allow: the worst slices that still pass."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cardiac_jax.anatomy.anatomical_prior import limits_of
from cardiac_jax.anatomy.extremes import SPACING_MM, extremes, spec_of
from cardiac_jax.data.labels import CLASSES
from cardiac_jax.report.figures import COLOURS

COLUMNS = 5


def extremes_figure(limits: Mapping[str, Any]) -> Figure:
    """Figure with a panel per distortion of a heart, as far as the limits of a check (by name) let it pass.

    Limits that are not named have their defaults.
    """
    spec = spec_of(limits)
    found = extremes(spec, limits_of(spec, limits))
    rows = -(-len(found) // COLUMNS)
    figure = Figure(figsize=(2.0 * COLUMNS, 2.25 * rows), layout="constrained")
    colours = ListedColormap(["black", *COLOURS[:3]])
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for ax, (name, drawn) in zip(panels, found.items(), strict=False):
        side_mm = len(drawn) * SPACING_MM
        ax.imshow(drawn, colours, vmin=0, vmax=3, extent=(0, side_mm, side_mm, 0), interpolation="nearest")
        ax.plot((6, 26), (side_mm - 6,) * 2, color="white", linewidth=2)
        areas = [f"{int(np.count_nonzero(drawn == k) * SPACING_MM**2)}" for k in (2, 3)]
        ax.set_title(f"{name}\nwall {areas[0]}, pool {areas[1]} mm2", fontsize=8)
    for ax in panels:
        ax.set_axis_off()
    handles = [Patch(color=colour, label=name) for name, colour in zip(CLASSES[1:], COLOURS, strict=False)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, title="the bar is 20 mm")
    return figure
