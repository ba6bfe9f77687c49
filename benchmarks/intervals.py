"""Statistics of reports by simulation: false positives of the paired test, coverage of the 95% intervals.

    python -m benchmarks.intervals [--runs 2000] [--seed 0] [--only NAME]

Every part prints the share of `runs` simulated cohorts. False positives: of the signed-rank test at p < .05 between two
methods that are equally good, with two cases (ED and ES) for each patient. Coverage: of intervals that hold the true
value. Columns "cases as patients" take every case, or slice, for a patient of its own; the others are what
`cardiac_jax/metrics` computes. The cohorts are those of `tests/cohorts.py`; the suite tests the same with fewer runs.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
from scipy import stats

from cardiac_jax.metrics import agreement
from cardiac_jax.metrics.intervals import clustered_half_interval, half_interval, mean_interval
from cardiac_jax.metrics.paired_tests import paired_differences, signed_rank
from tests import cohorts

PATIENTS = (5, 8, 12, 20, 40)
AS_PATIENTS = "cases as patients"
RESAMPLES, CHUNK = 1_000, 50


def false_positives(rng: np.random.Generator, runs: int) -> None:
    """Signed-rank test of two equally good methods."""
    for correlation in (0.3, 0.6, 0.9):
        for n in (8, 12, 20, 40):
            found: Counter[str] = Counter()
            for _ in range(runs):
                ours, theirs = cohorts.two_methods(rng, n, 2, correlation)
                for name, patients in ((AS_PATIENTS, False), ("patients", True)):
                    rows = cohorts.rows(ours, patients), cohorts.rows(theirs, patients)
                    difference = np.array(list(paired_differences(*rows, "dice", "LV").values()))
                    found[name] += signed_rank(difference) < 0.05
            _say(f"2 cases, correlation {correlation}, n = {n}", found, runs)


def means(rng: np.random.Generator, runs: int) -> None:
    """Interval of a mean over patients: Student's t, and two bootstraps that it was chosen from."""
    for name, (draw, true) in cohorts.DISTRIBUTIONS.items():
        for n in PATIENTS:
            found: Counter[str] = Counter()
            for start in range(0, runs, CHUNK):
                values = draw(rng, (min(CHUNK, runs - start), n))
                intervals = {"Student's t (ours)": np.transpose([mean_interval(one) for one in values])}
                for method in ("percentile", "BCa"):
                    made = stats.bootstrap((values,), np.mean, axis=1, n_resamples=RESAMPLES, method=method, rng=rng)
                    intervals[method] = np.asarray(made.confidence_interval)
                for method, (low, high) in intervals.items():
                    found[method] += int(np.count_nonzero((low <= true) & (true <= high)))
            _say(f"{name}, n = {n}", found, runs)


def slices(rng: np.random.Generator, runs: int) -> None:
    """Interval of a mean over slices, 6 to 12 for each patient."""
    for correlation in (0.2, 0.5):
        for n in PATIENTS:
            found: Counter[str] = Counter()
            for _ in range(runs):
                values, patient = cohorts.slices(rng, n, correlation)
                halves = {
                    AS_PATIENTS: half_interval(float(values.std(ddof=1)), values.size),
                    "patients": clustered_half_interval(values.tolist(), patient.tolist()),
                }
                for name, half in halves.items():
                    found[name] += abs(values.mean()) <= half
            _say(f"slices, correlation {correlation}, n = {n}", found, runs)


def limits(rng: np.random.Generator, runs: int) -> None:
    """Intervals of bias and upper limit of agreement."""
    shift, between, within = 0.3, 0.4, 0.3
    for cases in (1, 2):
        for n in PATIENTS:
            found: Counter[str] = Counter()
            for _ in range(runs):
                pred, truth, patients = cohorts.measurements(rng, n, cases, shift, between, within)
                upper = shift + agreement.LIMIT * math.hypot(between, within)
                for name, given in ((AS_PATIENTS, ()), ("patients", patients)) if cases > 1 else (("patients", ()),):
                    made = agreement.bland_altman(pred, truth, "ml", given)
                    found[f"bias, {name}"] += made.bias.low <= shift <= made.bias.high
                    found[f"limit, {name}"] += made.upper.low <= upper <= made.upper.high
            _say(f"limits, {cases} cases, n = {n}", found, runs)


def correlations(rng: np.random.Generator, runs: int) -> None:
    """Intervals of Pearson's r and Lin's concordance of the patients' means."""
    shift, between, within = 0.3, 0.4, 0.3
    for cases in (1, 2):
        signal, noise = 1 + 1 / cases, between**2 + within**2 / cases
        true = {
            "r": math.sqrt(signal / (signal + noise)),
            "CCC": 2 * signal / (2 * signal + noise + shift**2),
        }
        for n in PATIENTS:
            found: Counter[str] = Counter()
            for _ in range(runs):
                pairs = agreement.Pairs(*cohorts.measurements(rng, n, cases, shift, between, within))
                for name, of in (("r", agreement.pearson), ("CCC", agreement.concordance)):
                    made = of(*pairs.means())
                    found[name] += made.low <= true[name] <= made.high
            _say(f"correlations, {cases} cases, n = {n}", found, runs)


PARTS: dict[str, Callable[[np.random.Generator, int], None]] = {
    "false_positives": false_positives,
    "means": means,
    "slices": slices,
    "limits": limits,
    "correlations": correlations,
}


def _say(what: str, found: Counter[str], runs: int) -> None:
    print(f"{what:40}" + "".join(f"  {name} {count / runs:.3f}" for name, count in found.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="cohorts; the standard error of .95 is .005 at 2000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=PARTS, help="one part")
    args = parser.parse_args()
    for name, part in PARTS.items():
        if args.only in (None, name):
            print(f"\n{name}: {(part.__doc__ or '').strip()}")
            part(np.random.default_rng(args.seed), args.runs)


if __name__ == "__main__":
    main()
