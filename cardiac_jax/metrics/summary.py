"""Mean and standard deviation over the rows of many cases, with counts of missed and excluded values.

A row is one of `evaluate.evaluate_case`, with `case` added.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from cardiac_jax.errors import InputError
from cardiac_jax.metrics.rows import Row

Rows = Sequence[Row]


class Summary(NamedTuple):
    """Summary of one metric of one structure over cases.

    Attributes:
      mean: mean of the n finite values; NaN if there is none.
      sd: sample standard deviation (n - 1) of the finite values; NaN if n < 2.
      n: number of finite values.
      misses: number of infinite values: only one of the two maps has the structure.
      excluded: number of NaN values: there was nothing to measure.
    """

    mean: float
    sd: float
    n: int
    misses: int
    excluded: int


def summarise(values: Iterable[float]) -> Summary:
    """Mean and SD of the finite values, and counts of infinite and NaN values."""
    values = [float(v) for v in values]
    finite = [v for v in values if math.isfinite(v)]
    n = len(finite)
    mean = math.fsum(finite) / n if n else math.nan
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in finite) / (n - 1)) if n > 1 else math.nan
    return Summary(mean, sd, n, sum(map(math.isinf, values)), sum(map(math.isnan, values)))


def by_case(rows: Rows, metric: str, structure: str) -> dict[str, float]:
    """case -> value of one metric of one structure, in the order of the rows.

    Raises:
      InputError: a case occurs twice.
    """
    values: dict[str, float] = {}
    for row in rows:
        if row["structure"] == structure:
            case = str(row["case"])
            if case in values:
                raise InputError(case, f"measured twice for {structure}")
            values[case] = float(row[metric])
    return values


def mean_by_case(rows: Rows, metric: str, structures: Sequence[str]) -> dict[str, float]:
    """case -> mean of one metric over the structures with a value; NaN if there is none.

    Raises:
      InputError: a case occurs twice.
    """
    columns = [by_case(rows, metric, structure) for structure in structures]
    means = {}
    for case in dict.fromkeys(case for column in columns for case in column):
        present = [c[case] for c in columns if case in c and not math.isnan(c[case])]
        means[case] = sum(present) / len(present) if present else math.nan
    return means


def without(rows: Rows, cases: Collection[str]) -> list[Row]:
    """Rows without the given cases.

    Raises:
      InputError: a case to leave out does not exist.
    """
    known = {str(row["case"]) for row in rows}
    for case in cases:
        if case not in known:
            raise InputError(case, f"no such case to leave out (cases: {', '.join(sorted(known))})")
    return [row for row in rows if str(row["case"]) not in cases]


def summarise_all(rows: Rows, structures: Sequence[str], metrics: Sequence[str]) -> Mapping[str, dict[str, Summary]]:
    """Summaries as metric -> structure -> Summary; raises as `by_case`."""
    return {m: {s: summarise(by_case(rows, m, s).values()) for s in structures} for m in metrics}
