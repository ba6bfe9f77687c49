"""Results by place in the heart and by size of the heart, as ACSNet reports them (Tables 1 and 2, Fig. 2).

Both cut an ordered list into thirds: a case's slices from apex to base, the cases from the smallest volume to the
largest. The middle of a member decides: of four the thirds hold 1, 2, 1, of five 2, 1, 2, of one 0, 1, 0.
"""

import math
from collections.abc import Sequence

import numpy as np

from cardiac_jax.core.types import IGNORE
from cardiac_jax.metrics.clinical import ML_PER_MM3
from cardiac_jax.metrics.evaluate import Row, evaluate_structures
from cardiac_jax.metrics.summary import Rows, by_case

LOCATIONS = ("apex", "middle", "base")
TERTILES = ("lower", "middle", "upper")


def thirds(n: int) -> np.ndarray:
    """Which third, 0, 1 or 2, each of n members of a list lies in: int `[n]`."""
    return (6 * np.arange(n) + 3) // (2 * max(n, 1))


def slice_rows(
    pred: np.ndarray,
    truth: np.ndarray,
    spacing_mm: Sequence[float],
    classes: Sequence[str],
    ignore: int = IGNORE,
    within: np.ndarray | None = None,
) -> list[Row]:
    """Measures every slice of one case by itself, in 2D, and says which third of its structure it lies in.

    Args:
      pred, truth: `[Z, H, W]` label maps, apex first (`orientation.to_canonical` makes them so).
      spacing_mm: voxel size along Z, H, W (`Orientation.of`).
      classes: names by label value, background (not measured) first.
      within: bool `[Z]`, the slices whose thirds are taken, as those of the heart for a scar; by default those that
        hold the structure in the truth.

    Returns:
      One row per structure and slice that holds the structure, apex first: the columns of `evaluate_case` less
      `surface_slices`, and `location`, `slice`. Boundaries are those of the slice's outlines. A slice outside of those
      whose thirds are taken has no place and gives no row; by default that is one where only the prediction has the
      structure. A slice that was annotated in part has no distances.

    Raises:
      ValueError: as `evaluate_case`.
    """
    if pred.shape != truth.shape or truth.ndim != 3:
        raise ValueError(f"prediction {pred.shape} and truth {truth.shape} are not stacks of one shape")
    voxel_ml = math.prod(float(s) for s in spacing_mm) * ML_PER_MM3
    found: dict[str, list[Row]] = {name: [] for name in classes[1:]}
    for z, (p, t) in enumerate(zip(pred, truth, strict=True)):
        whole = np.asarray(not (t == ignore).any())
        for row in evaluate_structures(p, t, whole, spacing_mm[1:], voxel_ml, classes, ignore):
            if row["status"] != "absent":
                found[str(row["structure"])].append({**row, "slice": z})
    placed: list[Row] = []
    for rows in found.values():
        own = [int(row["slice"]) for row in rows if row["status"] != "spurious"]
        among = own if within is None else np.flatnonzero(within).tolist()
        third = dict(zip(among, thirds(len(among)), strict=True))
        placed += [{**row, "location": LOCATIONS[third[int(row["slice"])]]} for row in rows if row["slice"] in third]
    return placed


def tertiles(rows: Rows, structure: str) -> dict[str, str]:
    """case -> "lower", "middle" or "upper" third by the true volume of one structure; of equal ones by name."""
    volumes = by_case(rows, "volume_truth_ml", structure)
    order = sorted(volumes, key=lambda case: (volumes[case], case))
    return {case: TERTILES[third] for case, third in zip(order, thirds(len(order)), strict=True)}


def union(labels: np.ndarray, values: Sequence[int], ignore: int = IGNORE) -> np.ndarray:
    """Several structures as one, such as blood pool and myocardium: 1 where `labels` is among `values`, else 0.

    Voxels nobody annotated stay `ignore`.
    """
    return np.where(labels == ignore, ignore, np.isin(labels, values)).astype(np.uint8)
