"""Paired comparison of methods measured on the same cases.

The test is Wilcoxon's signed-rank test, two-sided, corrected over all comparisons with Holm's step-down procedure
(Holm 1979). The mean difference has a bootstrap confidence interval.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from cardiac_jax.metrics.summary import Rows, by_case, mean_by_case

FEWEST_CASES = 6  # with fewer cases the two-sided test cannot reach p < 0.05: its smallest p is 2 / 2**n


class Comparison(NamedTuple):
    """Comparison of one method with another (`rival`) on one structure.

    Attributes:
      structure: a structure, or "mean" over all structures.
      n: number of cases with a finite value for both methods.
      difference: mean over cases of method minus rival, in the metric's unit.
      low, high: 95% bootstrap interval of that mean.
      p, p_holm: two-sided p value, uncorrected and corrected over all comparisons; NaN if n is 0.
    """

    method: str
    rival: str
    structure: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def compare(
    rows_by_method: Mapping[str, Rows],
    method: str,
    structures: Sequence[str],
    metric: str = "dice",
    resamples: int = 10_000,
    seed: int = 0,
) -> list[Comparison]:
    """Comparisons of `method` with every other method, for each structure and their mean, corrected as one family.

    Args:
      rows_by_method: rows of `evaluate_case`, with `case`, by method.
      metric: column of the rows to compare.
      resamples, seed: of the bootstrap.

    Raises:
      InputError: a case occurs twice in the rows of a method.
    """
    found = []
    for rival in rows_by_method:
        if rival == method:
            continue
        for structure in (*structures, "mean"):
            ours, theirs = (_values(rows_by_method[m], metric, structure, structures) for m in (method, rival))
            pairs = np.array([(ours[case], theirs[case]) for case in ours if case in theirs]).reshape(-1, 2)
            pairs = pairs[np.isfinite(pairs).all(axis=1)]
            difference = pairs[:, 0] - pairs[:, 1]
            low, high = bootstrap_interval(difference, resamples, seed)
            mean = float(difference.mean()) if len(difference) else math.nan
            found.append(
                Comparison(
                    method,
                    rival,
                    structure,
                    len(difference),
                    mean,
                    low,
                    high,
                    signed_rank(difference),
                    math.nan,
                )
            )
    corrected = holm([c.p for c in found])
    return [c._replace(p_holm=p) for c, p in zip(found, corrected, strict=True)]


def signed_rank(difference: np.ndarray) -> float:
    """Two-sided p value of Wilcoxon's signed-rank test on `[n]` differences; 1 if all are zero, NaN if n is 0."""
    if not len(difference):
        return math.nan
    if not difference.any():
        return 1.0
    _, p = np.asarray(stats.wilcoxon(difference), np.float64)
    return float(p)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values after Holm's step-down correction, in the given order; NaN stays NaN and is not counted."""
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    corrected, largest = [math.nan] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def bootstrap_interval(difference: np.ndarray, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """95% percentile bootstrap interval of the mean of `[n]` differences, resampled by case; NaN if n < 2."""
    if len(difference) < 2:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(0, len(difference), (resamples, len(difference)))
    low, high = np.percentile(difference[drawn].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def _values(rows: Rows, metric: str, structure: str, structures: Sequence[str]) -> dict[str, float]:
    return mean_by_case(rows, metric, structures) if structure == "mean" else by_case(rows, metric, structure)
