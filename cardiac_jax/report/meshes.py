"""3D surfaces of label maps, gold standard and predictions (Figs 4 and 6 of Vesal et al. 2020)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import LightSource, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy.ndimage import distance_transform_edt, zoom
from skimage.measure import marching_cubes

from cardiac_jax.core.types import IGNORE
from cardiac_jax.report.figures import COLOURS, View

STEP_MM = 2.0
"""Spacing of the grid for surface extraction: finer than the slice spacing, coarser than the pixels."""
LIGHT = LightSource(azdeg=315, altdeg=45)
OPACITY = {"RV": 0.55, "Myo": 0.35, "oedema": 0.7}


def mesh_figure(view: View, classes: Sequence[str]) -> Figure:
    """Figure of one case with a panel for the gold standard and for each method, all structures, axes in mm.

    Slices that are not fully annotated are omitted in all panels.
    """
    panels = {"gold standard": view.truth, **view.preds}
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.1 * columns, 3.3 * rows + 0.5), layout="constrained")
    annotated = ~(view.truth == IGNORE).any(axis=(1, 2))
    drawn = {name: labels[annotated] for name, labels in panels.items()}
    limits = _limits(drawn, view.spacing_mm)
    for i, (name, labels) in enumerate(drawn.items()):
        ax = figure.add_subplot(rows, columns, i + 1, projection="3d")
        for label in range(1, len(classes)):
            surface = _surface(labels == label, view.spacing_mm)
            if surface is not None:
                colour = COLOURS[(label - 1) % len(COLOURS)]
                ax.add_collection3d(_patch(*surface, colour, OPACITY.get(classes[label], 1.0)))
        for axis, (low, high) in zip("xyz", limits, strict=True):
            getattr(ax, f"set_{axis}lim")(low, high)
            getattr(ax, f"{axis}axis").set_major_locator(MaxNLocator(4))
        ax.set_box_aspect([high - low for low, high in limits])
        ax.set_title(name, fontsize=9, y=0.94)
        ax.set_xlabel("mm", fontsize=6, labelpad=-8)
        ax.tick_params(labelsize=6, pad=-3)
        ax.view_init(elev=22, azim=-60)
    patches = [Patch(color=COLOURS[(k - 1) % len(COLOURS)], label=classes[k]) for k in range(1, len(classes))]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)
    figure.suptitle(f"{view.case} {view.note}".strip(), fontsize=10)
    return figure


def _surface(mask: np.ndarray, spacing_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray] | None:
    """`[Z, H, W]` mask -> vertices `[V, 3]` in mm (x along W, y along H, z along Z) and faces `[F, 3]`.

    The signed distance is interpolated between slices to avoid a staircase surface at 10 mm slice spacing.
    """
    if not mask.any():
        return None
    box = [slice(max(h.min() - 3, 0), h.max() + 4) for h in np.nonzero(mask)]
    padded = np.pad(mask[tuple(box)], ((1, 1), (2, 2), (2, 2)))
    signed = _depth(padded, spacing_mm) - _depth(~padded, spacing_mm)
    factors = [max(s / STEP_MM, 0.2) for s in spacing_mm]
    signed = np.asarray(zoom(signed, factors, order=1))
    if signed.max() <= 0:
        return None
    step = [s * (n - 1) / max(m - 1, 1) for s, n, m in zip(spacing_mm, padded.shape, signed.shape, strict=True)]
    vertices, faces, _, _ = marching_cubes(signed, 0.0, spacing=step)
    start = [(b.start - p) * s for b, p, s in zip(box, (1, 2, 2), spacing_mm, strict=True)]
    return (vertices + start)[:, ::-1], faces


def _depth(mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Distance in mm from each voxel of the mask to the nearest voxel outside it, 0 elsewhere."""
    return np.asarray(distance_transform_edt(mask, spacing_mm))


def _patch(vertices: np.ndarray, faces: np.ndarray, colour: str, alpha: float) -> Poly3DCollection:
    triangles = vertices[faces]
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    shade = LIGHT.shade_normals(normals, fraction=1.0)
    lit = np.clip(0.35 + 0.65 * (shade - shade.min()) / max(np.ptp(shade), 1e-9), 0, 1)
    colours = np.concatenate([np.asarray(to_rgb(colour)) * lit[:, None], np.full((len(lit), 1), alpha)], axis=1)
    return Poly3DCollection(triangles, facecolors=colours, edgecolors="none", rasterized=True)


def _limits(panels: Mapping[str, np.ndarray], spacing_mm: Sequence[float]) -> list[tuple[float, float]]:
    """Axis limits in mm along W, H, Z, common to all panels so that a missing structure is visible."""
    marked = np.any([(labels != 0) & (labels != IGNORE) for labels in panels.values()], axis=0)
    if not marked.any():
        return [(0.0, n * s) for n, s in zip(marked.shape, spacing_mm, strict=True)][::-1]
    index = np.nonzero(marked)
    return [(float((h.min() - 1) * s), float((h.max() + 2) * s)) for h, s in zip(index, spacing_mm, strict=True)][::-1]
