"""Whether predictions code their structures by other label values than the gold standard."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from cardiac_jax.core.types import IGNORE

BETTER = 0.2  # gain in the mean Dice from which another coding is reported
GOOD = 0.5  # mean Dice that the other coding must reach


def confusion(pred: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Returns the numbers of voxels `[K, K]` by predicted (row) and true (column) class, where `truth` is annotated."""
    known = truth != IGNORE
    pairs = pred[known].astype(np.int64) * classes + truth[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def other_coding(counts: np.ndarray, classes: Sequence[str]) -> str:
    """Returns a line if the predictions agree far better after a permutation of their structures, else "".

    Dice is that of all cases together, its mean over the structures that both have, before and after the permutation
    with the largest sum of Dice.

    Args:
      counts: sum of `confusion` over the cases.
      classes: names by label value, background first.
    """
    predicted, true = counts.sum(axis=1)[1:], counts.sum(axis=0)[1:]
    dice = 2 * counts[1:, 1:] / np.maximum(predicted[:, None] + true[None], 1)
    rows, columns = linear_sum_assignment(dice, maximize=True)
    both = (true > 0) | (predicted > 0)
    now, then = float(dice.diagonal()[both].mean()) if both.any() else 0.0, 0.0
    used = [(r, c) for r, c in zip(rows, columns, strict=True) if predicted[r] and true[c]]
    if used:
        then = float(sum(dice[r, c] for r, c in used) / max(both.sum(), 1))
    moved = [f"{classes[r + 1]} as {classes[c + 1]}" for r, c in used if r != c and dice[r, c] > 0]
    if not moved or then < GOOD or then - now < BETTER:
        return ""
    return (
        f"warning: other label values in the predictions? Read with {', '.join(moved)}, their mean Dice is "
        f"{then:.3f} instead of {now:.3f}"
    )
