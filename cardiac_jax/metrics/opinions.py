"""Agreement of readers that scored the same images on an ordered scale.

A row is one score: `case`, `patient`, `structure` (the reader), `opinion`. ICC(2,1) of the same scores: `icc.icc_of`.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cardiac_jax.metrics.agreement import FEWEST_PATIENTS, Estimate
from cardiac_jax.metrics.icc import icc_of

SCALE = (1, 2, 3, 4, 5)
"""Mean opinion score: 1 very poor to 5 excellent."""


class ReaderAgreement(NamedTuple):
    """Agreement of two readers, or of all.

    Attributes:
      readers: their names.
      n: number of images that all of them scored.
      equal: share of these images with one score.
      kappa: quadratically weighted; NaN of more than two readers.
      icc: ICC(2,1) with its 95% interval.
    """

    readers: tuple[str, ...]
    n: int
    equal: float
    kappa: float
    icc: Estimate


def weighted_kappa(one: np.ndarray, other: np.ndarray, scale: Sequence[int] = SCALE) -> float:
    """Cohen's kappa of two readers' scores `[n]`, weighted by the square of the difference (Cohen 1968).

    1 less the mean squared difference over that of independent readers with the same shares of scores; NaN without a
    score, or if both readers gave all images one and the same.
    """
    levels = np.asarray(scale)
    counts = (np.asarray(one)[:, None, None] == levels[:, None]) & (np.asarray(other)[:, None, None] == levels)
    table = counts.sum(axis=0).astype(np.float64)
    weights = np.square(np.subtract.outer(levels, levels))
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / max(table.sum(), 1)
    below = float((weights * expected).sum())
    return 1 - float((weights * table).sum()) / below if below else math.nan


def reader_agreement(scores: Mapping[str, Mapping[str, int]]) -> list[ReaderAgreement]:
    """Agreement of each pair of readers, then of all if they are more than two.

    Args:
      scores: reader -> image -> score.
    """
    names = list(scores)
    groups = [*itertools.combinations(names, 2), *([tuple(names)] if len(names) > 2 else [])]
    return [_agreement(group, [scores[name] for name in group]) for group in groups]


def _agreement(readers: tuple[str, ...], scores: Sequence[Mapping[str, int]]) -> ReaderAgreement:
    shared = [image for image in scores[0] if all(image in other for other in scores)]
    table = np.array([[own[image] for own in scores] for image in shared], np.float64).reshape(-1, len(scores))
    nothing = Estimate(math.nan, math.nan, math.nan)
    return ReaderAgreement(
        readers,
        len(shared),
        float((table == table[:, :1]).all(axis=1).mean()) if shared else math.nan,
        weighted_kappa(table[:, 0], table[:, 1]) if len(readers) == 2 else math.nan,
        icc_of(table) if len(shared) >= FEWEST_PATIENTS else nothing,
    )
