"""Paired comparison of methods measured on the same cases, with the patient as the unit.

Differences of one patient's cases (ED and ES) are averaged within the patient; as two patients they would reject a true
null hypothesis in 8 to 16% of tests at p < .05 (`python -m benchmarks.intervals`). The test is Wilcoxon's signed-rank
test, two-sided, corrected over all comparisons with Holm's step-down procedure (Holm 1979). Classifications of the same
patients are compared by McNemar's exact test.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from cardiac_jax.errors import InputError
from cardiac_jax.metrics.intervals import mean_interval
from cardiac_jax.metrics.summary import MEAN, Rows, case_values, patient_by_case, patient_means, summarise


class Comparison(NamedTuple):
    """Comparison of one method with another (`baseline`) on one structure.

    Attributes:
      structure: a structure, or "mean" over all structures.
      n: number of patients with a finite difference.
      misses, excluded: numbers of patients of both methods without one: a value is infinite in a case; there is
        nothing to measure in any case.
      difference: mean over patients of method minus baseline, in the metric's unit.
      low, high: 95% interval of that mean, by Student's t.
      p, p_holm: two-sided p value, uncorrected and corrected over all comparisons; NaN if n is 0.
    """

    method: str
    baseline: str
    structure: str
    n: int
    misses: int
    excluded: int
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
    mean: bool = True,
) -> list[Comparison]:
    """Comparisons of `method` with every other method, for each structure and their mean, corrected as one family.

    Args:
      rows_by_method: rows of `evaluate_case`, with `case` and `patient`, by method.
      metric: column of the rows to compare.
      mean: the mean over the structures is compared too.

    Raises:
      InputError: a case occurs twice in the rows of a method, or two methods name different patients for it.
    """
    found = []
    for baseline in rows_by_method:
        if baseline == method:
            continue
        for structure in (*structures, *((MEAN,) if mean else ())):
            both = rows_by_method[method], rows_by_method[baseline]
            differences = np.array(list(paired_differences(*both, metric, structure, structures).values()), np.float64)
            summary, finite = summarise(differences), differences[np.isfinite(differences)]
            counts = summary.n, summary.misses, summary.excluded
            interval, p = mean_interval(finite), signed_rank(finite)
            found.append(Comparison(method, baseline, structure, *counts, summary.mean, *interval, p, math.nan))
    corrected = holm([c.p for c in found])
    return [c._replace(p_holm=p) for c, p in zip(found, corrected, strict=True)]


def paired_differences(
    ours: Rows, theirs: Rows, metric: str, structure: str, structures: Sequence[str] = ()
) -> dict[str, float]:
    """patient -> mean difference, ours minus theirs, over the patient's cases that both have.

    Infinite if a value is infinite in one of them; else NaN if in none of them both have a value. Arguments as in
    `summary.case_values`.

    Raises:
      InputError: as `compare`.
    """
    owner, other = patient_by_case(ours), patient_by_case(theirs)
    values, baseline = (case_values(rows, metric, structure, structures) for rows in (ours, theirs))
    differences = {}
    for case in values:
        if case in baseline:
            if owner[case] != other[case]:
                raise InputError(case, f"is of patient {owner[case]} for one method, of {other[case]} for another")
            missed = math.isinf(values[case]) or math.isinf(baseline[case])
            differences[case] = math.inf if missed else values[case] - baseline[case]
    return patient_means(differences, owner)


def signed_rank(difference: np.ndarray) -> float:
    """Two-sided p value of Wilcoxon's signed-rank test on `[n]` differences; 1 if all are zero, NaN if n is 0."""
    if not len(difference):
        return math.nan
    if not difference.any():
        return 1.0
    from scipy import stats  # takes a second to import, which most commands need not wait for

    _, p = np.asarray(stats.wilcoxon(difference), np.float64)
    return float(p)


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Two-sided p value of McNemar's exact test on `[n]` pairs of correct (True) and wrong answers; 1 without discord.

    Of the patients whom exactly one method classifies correctly, half are expected to be each method's (binomial).
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"answers of {ours.shape} and of {theirs.shape} patients are not pairs")
    first, second = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return min(1.0, 2 * float(special.bdtr(min(first, second), first + second, 0.5))) if first + second else 1.0


def smallest_p(n: int) -> float:
    """Smallest two-sided p value that `signed_rank` can give for n differences: 0.0625 for 5, 0.03125 for 6."""
    return min(1.0, 2 / 2**n)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values after Holm's step-down correction, in the given order; NaN stays NaN and is not counted."""
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    corrected, largest = [math.nan] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected
