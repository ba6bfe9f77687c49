"""Simulated cohorts whose true values are known: differences of two methods, values of patients, paired measurements.

Every patient has `cases` cases (ED and ES), whose values are correlated.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.stats import norm

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
ERROR, SPREAD = 0.08, 0.8  # median of 1 - Dice, and SD of its logarithm


def correlated(rng: np.random.Generator, n: int, cases: int, correlation: float) -> np.ndarray:
    """Standard normal values `[n, cases]`; those of one patient have the given correlation."""
    own, shared = rng.normal(size=(n, cases)), rng.normal(size=(n, 1))
    return math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * own


def dice(normal: np.ndarray) -> np.ndarray:
    """Dice-like values from standard normal ones: skewed to the left, clipped at 0."""
    return np.clip(1 - ERROR * np.exp(SPREAD * normal), 0, 1)


def two_methods(rng: np.random.Generator, n: int, cases: int, correlation: float) -> tuple[np.ndarray, np.ndarray]:
    """Dice `[n, cases]` of two methods that are equally good: each differs by patient, and by case."""
    return dice(correlated(rng, n, cases, correlation)), dice(correlated(rng, n, cases, correlation))


def rows(values: np.ndarray, patients: bool = True) -> list[dict[str, str | int | float]]:
    """Rows of one structure "LV" from Dice `[n, cases]`; each case is a patient of its own unless `patients`."""
    return [
        {"case": f"p{i}_{j}", "patient": f"p{i}" if patients else f"p{i}_{j}", "structure": "LV", "dice": float(value)}
        for i, held in enumerate(values)
        for j, value in enumerate(held)
    ]


def _clipped_mean(mean: float, sd: float, top: float) -> float:
    """Mean of a normal variable clipped from above."""
    z = (top - mean) / sd
    return float(mean * norm.cdf(z) - sd * norm.pdf(z) + top * norm.sf(z))


def _dice_mean() -> float:
    """Mean of `dice`: 1 less that of a log-normal variable clipped at 1."""
    z = -math.log(ERROR) / SPREAD
    return float(1 - ERROR * math.exp(SPREAD**2 / 2) * norm.cdf(z - SPREAD) - norm.sf(z))


DISTRIBUTIONS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.normal(size=shape), 0.0),
    "log-normal": (lambda rng, shape: np.exp(SPREAD * rng.normal(size=shape)), math.exp(SPREAD**2 / 2)),
    "Dice-like": (lambda rng, shape: dice(rng.normal(size=shape)), _dice_mean()),
    "clipped": (
        lambda rng, shape: np.minimum(rng.normal(0.94, 0.06, shape), 1.0),
        _clipped_mean(0.94, 0.06, 1.0),
    ),
    "difference": (lambda rng, shape: np.subtract(*(dice(rng.normal(size=(2, *shape))))), 0.0),
}
"""Name -> how values of that shape are drawn, and their true mean. "clipped" has 16% of its values at the upper end."""


def slices(rng: np.random.Generator, n: int, correlation: float) -> tuple[np.ndarray, np.ndarray]:
    """Values of the 6 to 12 slices of each of n patients, and the patient of each slice; the true mean is 0."""
    sizes = rng.integers(6, 13, n)
    patient = np.repeat(np.arange(n), sizes)
    shared = rng.normal(size=n)[patient]
    return math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * rng.normal(size=patient.size), patient


def measurements(
    rng: np.random.Generator, n: int, cases: int, shift: float, between: float, within: float
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Predictions and gold-standard values `[n * cases]` and their patients.

    The gold standard has variance 1 between patients and 1 between the cases of a patient. Differences have mean
    `shift`, SD `between` between patients and SD `within` between cases.
    """
    truth = rng.normal(size=(n, 1)) + rng.normal(size=(n, cases))
    difference = shift + between * rng.normal(size=(n, 1)) + within * rng.normal(size=(n, cases))
    patients = tuple(f"p{i}" for i in range(n) for _ in range(cases))
    return (truth + difference).ravel(), truth.ravel(), patients
