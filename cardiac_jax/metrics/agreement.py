"""Agreement of two measurements of one quantity on the same cases, e.g. predicted and gold-standard volumes.

Differences are prediction minus gold standard, in the unit given by the caller. Intervals are 95% intervals. The
statistical unit is the patient: several cases of one patient (ED and ES) count as one in bias, limits, correlations and
mean errors.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from cardiac_jax.errors import InputError
from cardiac_jax.metrics.intervals import half_interval, t_quantile
from cardiac_jax.metrics.summary import Rows, by_case, counted_text, patient_by_case, patient_of

LIMIT = 1.96  # SDs of the differences from the bias to the 95% limits of agreement
NORMAL = float(special.ndtri(0.975))
FEWEST_PATIENTS = 2


class Pairs(NamedTuple):
    """Paired measurements of one quantity.

    Attributes:
      pred, truth: finite predictions and gold-standard values `[n]`, paired by case.
      patients: the patient of each case; () if each case is a patient of its own.
      without_value: number of cases left out because one of the two is not finite.
    """

    pred: np.ndarray
    truth: np.ndarray
    patients: Sequence[str] = ()
    without_value: int = 0

    @property
    def patient_count(self) -> int:
        """Number of patients."""
        return len(set(self.patients)) if self.patients else len(self.pred)

    @property
    def counted(self) -> str:
        """Printed numbers of patients and cases."""
        return counted_text(self.patient_count, len(self.pred))

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean prediction and mean gold-standard value of each patient `[patients]`."""
        return patient_average(self.pred, self.patients), patient_average(self.truth, self.patients)


class Estimate(NamedTuple):
    """A value and its 95% confidence interval; the interval is NaN if there are too few patients."""

    value: float
    low: float
    high: float


class BlandAltman(NamedTuple):
    """Bias and limits of agreement.

    Attributes:
      n: number of patients.
      unit: unit of all values below.
      bias: mean difference.
      sd: standard deviation of the difference of one case: between and within patients.
      lower, upper: limits of agreement, bias -+ 1.96 SD.
    """

    n: int
    unit: str
    bias: Estimate
    sd: float
    lower: Estimate
    upper: Estimate


class Agreement(NamedTuple):
    """Limits of agreement and mean errors of one pair of measurements; correlations: `pearson`, `concordance`.

    Attributes:
      bland_altman: bias and limits of agreement.
      mae: mean absolute error, in the unit of `bland_altman`.
      normalised_mae: mean of `relative_errors`, a fraction; NaN if no `truth` is above 0.

    Errors are taken per case, averaged within each patient, then over patients.
    """

    bland_altman: BlandAltman
    mae: float
    normalised_mae: float


def agreement(pred: np.ndarray, truth: np.ndarray, unit: str, patients: Sequence[str] = ()) -> Agreement:
    """Limits of agreement and mean errors of predictions and gold-standard values `[n]`; as `bland_altman`."""
    limits = bland_altman(pred, truth, unit, patients)
    mae = mean_over_patients(np.abs(pred - truth), patients)
    return Agreement(limits, mae, mean_over_patients(relative_errors(pred, truth), patients))


def bland_altman(pred: np.ndarray, truth: np.ndarray, unit: str, patients: Sequence[str] = ()) -> BlandAltman:
    """Bias and limits of agreement, with several cases per patient where `patients` repeats one.

    The true value varies between the cases of a patient (a volume at ED and at ES), so the limits are those of
    Bland and Altman (2007, section 3): for the difference of one case, with s^2 = s_b^2 + (1 - 1 / m) s_w^2, where
    s_b^2 is the variance of the patients' mean differences, s_w^2 that within patients, and m the harmonic mean of the
    cases per patient (Zou 2013; equal to the paper's where every patient has the same number of cases). With one case
    per patient s is the SD of the differences. The bias is the mean of the patients' means, with the interval of
    Student's t. Intervals of the limits are those of Zou (2013, MOVER).

    Bland and Altman, J Biopharm Stat 17 (2007) 571; Zou, Stat Methods Med Res 22 (2013) 630.

    Args:
      pred, truth: `[n]`, paired by case.
      unit: unit of both.
      patients: the patient of each case; () if each case is a patient of its own.

    Raises:
      InputError: there are fewer than two patients.
      ValueError: the inputs differ in length, or a value is not finite.
    """
    difference = _paired(pred, truth)
    index = _index(difference, patients)
    cases = np.bincount(index)
    n, degrees = cases.size, difference.size - cases.size
    if n < FEWEST_PATIENTS:
        raise InputError("agreement", f"needs at least {FEWEST_PATIENTS} patients, got {n}")
    means = np.bincount(index, difference) / cases
    bias, between = float(means.mean()), float(means.var(ddof=1))
    share = 1 - float((1 / cases).mean())  # 1 - 1 / m
    within = float(((difference - means[index]) ** 2).sum()) / degrees if degrees else 0.0
    variance = between + share * within
    sd = math.sqrt(variance)
    low, high = _variance_interval(((between, n - 1), (share * within, degrees)))
    of_mean = NORMAL**2 * between / n
    inner = math.sqrt(of_mean + LIMIT**2 * (sd - math.sqrt(low)) ** 2)
    outer = math.sqrt(of_mean + LIMIT**2 * (math.sqrt(high) - sd) ** 2)
    half = half_interval(math.sqrt(between), n)
    lower, upper = bias - LIMIT * sd, bias + LIMIT * sd
    return BlandAltman(
        n,
        unit,
        Estimate(bias, bias - half, bias + half),
        sd,
        Estimate(lower, lower - outer, lower + inner),
        Estimate(upper, upper - inner, upper + outer),
    )


def pearson(pred: np.ndarray, truth: np.ndarray) -> Estimate:
    """Pearson's r of `[n]` pairs, one per patient, with Fisher's interval, tanh(artanh r -+ 1.96 / sqrt(n - 3)).

    The interval needs 4 patients. All values are NaN if one measurement is constant. Raises as `bland_altman`.
    """
    _paired(pred, truth)
    x, y = pred - np.mean(pred), truth - np.mean(truth)
    spread = math.sqrt(float(x @ x) * float(y @ y))
    if not spread:
        return Estimate(math.nan, math.nan, math.nan)
    r = min(1.0, max(-1.0, float(x @ y) / spread))
    return _fisher(r, 1 / (x.size - 3) if x.size > 3 else math.nan)


def concordance(pred: np.ndarray, truth: np.ndarray) -> Estimate:
    """Lin's concordance correlation of `[n]` pairs, one per patient.

    It is 2 s_xy / (s_x^2 + s_y^2 + (mean_x - mean_y)^2), with moments over n.
    The interval is that of Lin (1989) on Fisher's scale, with the variance corrected in Biometrics 56:324 (2000), and
    Student's quantile (n - 2 degrees of freedom) for the normal one, which covers too little below 12 patients. It
    needs 4 patients. All values are NaN if one measurement is constant. Raises as `bland_altman`.
    """
    shift = float(_paired(pred, truth).mean())
    r = pearson(pred, truth).value
    x, y = float(np.var(pred)), float(np.var(truth))
    n = len(pred)
    if math.isnan(r) or r == 0.0:
        return Estimate(r, math.nan, math.nan)
    c = 2 * r * math.sqrt(x * y) / (x + y + shift**2)
    rest = 1 - c**2
    if n < 4 or rest == 0.0:
        return _fisher(c, 0.0 if n >= 4 else math.nan)
    u2 = shift**2 / math.sqrt(x * y)
    variance = (1 - r**2) * c**2 / (rest * r**2)
    variance += 2 * c**3 * (1 - c) * u2 / (r * rest**2) - c**4 * u2**2 / (2 * r**2 * rest**2)
    return _fisher(c, max(0.0, variance) / (n - 2), t_quantile(n - 2))


def relative_errors(pred: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Relative absolute errors |prediction - truth| / truth, `[n]`; NaN where `truth` is 0 or negative (or NaN)."""
    pred, truth = np.asarray(pred, np.float64), np.asarray(truth, np.float64)
    return np.divide(np.abs(pred - truth), truth, out=np.full(truth.shape, np.nan), where=truth > 0)


def volume_pairs(rows: Rows, structure: str) -> Pairs:
    """Predicted and gold-standard volumes of one structure in ml, in the order of the rows."""
    pred, truth = (by_case(rows, f"volume_{which}_ml", structure) for which in ("pred", "truth"))
    owner = patient_by_case(rows)
    return _finite_pairs([(pred[case], truth[case], owner[case]) for case in truth])


def measured_pairs(rows: Rows) -> dict[tuple[str, str], Pairs]:
    """(measure, unit) -> predictions and gold-standard values, from rows of `measures.measure_case`."""
    held: dict[tuple[str, str], list[tuple[float, float, str]]] = {}
    for row in rows:
        values = float(row["pred"]), float(row["truth"]), patient_of(row)
        held.setdefault((str(row["measure"]), str(row["unit"])), []).append(values)
    return {name: _finite_pairs(values) for name, values in held.items()}


def segment_pairs(rows: Rows) -> dict[int, Pairs]:
    """Number of the AHA segment -> wall thickness in mm, from segment rows of `measures.measure_case`."""
    held: dict[int, list[tuple[float, float, str]]] = {}
    for row in rows:
        values = float(row["thickness_pred_mm"]), float(row["thickness_truth_mm"]), patient_of(row)
        held.setdefault(int(row["segment"]), []).append(values)
    return {number: _finite_pairs(values) for number, values in held.items()}


def patient_average(values: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Mean of `[n]` values of each patient, in order of their first case: `[patients]`; `values` without patients."""
    index = _index(values, patients)
    return np.bincount(index, values) / np.bincount(index)


def mean_over_patients(values: np.ndarray, patients: Sequence[str]) -> float:
    """Mean over patients of the mean of their cases' values `[n]`, NaN left out; NaN if there is none."""
    kept = np.flatnonzero(~np.isnan(values)).tolist()
    if not kept:
        return math.nan
    return float(patient_average(values[kept], [patients[i] for i in kept] if patients else ()).mean())


def _finite_pairs(values: Sequence[tuple[float, float, str]]) -> Pairs:
    """Pairs from (prediction, gold standard, patient) of each case."""
    finite = [one for one in values if math.isfinite(one[0]) and math.isfinite(one[1])]
    both = np.array([one[:2] for one in finite], np.float64).reshape(-1, 2)
    return Pairs(both[:, 0], both[:, 1], tuple(one[2] for one in finite), len(values) - len(finite))


def _index(values: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Number of each value's patient, int `[n]`, from 0 in order of their first value."""
    if not patients:
        return np.arange(len(values))
    if len(patients) != len(values):
        raise ValueError(f"{len(values)} values and {len(patients)} patients do not match")
    number = {patient: i for i, patient in enumerate(dict.fromkeys(patients))}
    return np.array([number[patient] for patient in patients])


def _variance_interval(parts: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """95% interval of a sum of independent variances (variance, degrees of freedom), by MOVER (Zou 2013)."""
    total, below, above = 0.0, 0.0, 0.0
    for variance, degrees in parts:
        total += variance
        if degrees:
            below += (variance * (1 - degrees / float(special.chdtri(degrees, 0.025)))) ** 2
            above += (variance * (degrees / float(special.chdtri(degrees, 0.975)) - 1)) ** 2
    return max(0.0, total - math.sqrt(below)), total + math.sqrt(above)


def _paired(pred: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Differences `[n]` after a check of both inputs."""
    if np.ndim(pred) != 1 or np.shape(pred) != np.shape(truth):
        raise ValueError(f"pred {np.shape(pred)} and truth {np.shape(truth)} are not pairs")
    difference = np.asarray(pred, np.float64) - np.asarray(truth, np.float64)
    if not np.isfinite(difference).all():
        raise ValueError("agreement needs finite values")
    if difference.size < FEWEST_PATIENTS:
        raise InputError("agreement", f"needs at least {FEWEST_PATIENTS} patients, got {difference.size}")
    return difference


def _fisher(r: float, variance: float, quantile: float = NORMAL) -> Estimate:
    """A correlation and its interval from the variance of artanh r; the interval has no width if |r| = 1."""
    if math.isnan(variance) or abs(r) == 1.0:
        return Estimate(r, r + 0 * variance, r + 0 * variance)
    half = quantile * math.sqrt(variance)
    return Estimate(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half))
