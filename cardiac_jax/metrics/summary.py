"""Mean and standard deviation over patients, with counts of missed and excluded values.

The unit is the patient. Values of one patient's cases (ED and ES, two visits) are correlated, so they are averaged
within the patient before any mean, SD, interval or test. A row is one of `evaluate.evaluate_case`, with `case` and
`patient` added; a row without a patient is a patient of its own.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from cardiac_jax.errors import InputError
from cardiac_jax.metrics.rows import Row

Rows = Sequence[Row]
MEAN = "mean"
"""Stands for the mean over all structures, where the name of a structure is expected."""


class Summary(NamedTuple):
    """Summary of one metric of one structure over patients.

    Attributes:
      mean: mean of the n finite values; NaN if there is none.
      sd: sample standard deviation (n - 1) of the finite values; NaN if n < 2.
      n: number of finite values.
      misses: number of infinite values: only one of the two maps has the structure, in a case of the patient.
      excluded: number of NaN values: there was nothing to measure.
      partial: number of the n values that average fewer cases, or fewer structures, than the patient has, because
        there was nothing to measure in the others.
    """

    mean: float
    sd: float
    n: int
    misses: int
    excluded: int
    partial: int = 0

    @property
    def total(self) -> int:
        """Number of all values: finite, infinite and NaN."""
        return self.n + self.misses + self.excluded


def summarise(values: Iterable[float], partial: int = 0) -> Summary:
    """Mean and SD of the finite values, and counts of infinite and NaN values."""
    values = [float(v) for v in values]
    finite = [v for v in values if math.isfinite(v)]
    n = len(finite)
    mean = math.fsum(finite) / n if n else math.nan
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in finite) / (n - 1)) if n > 1 else math.nan
    return Summary(mean, sd, n, sum(map(math.isinf, values)), sum(map(math.isnan, values)), partial)


def summary_of(rows: Rows, metric: str, structure: str, structures: Sequence[str] = ()) -> Summary:
    """Summary over patients of one metric of one structure, or of the mean over `structures` (`MEAN`).

    Raises:
      InputError: a case occurs twice.
    """
    values = by_patient(rows, metric, structure, structures)
    names = structures if structure == MEAN else (structure,)
    owner, incomplete = patient_by_case(rows), set()
    for name in names:
        incomplete |= {owner[case] for case, value in by_case(rows, metric, name).items() if math.isnan(value)}
    return summarise(values.values(), sum(math.isfinite(values[patient]) for patient in incomplete))


def patient_of(row: Row) -> str:
    """The patient of a row; its case if it names none."""
    return str(row.get("patient") or row["case"])


def patient_by_case(rows: Rows) -> dict[str, str]:
    """case -> patient, in the order of the rows.

    Raises:
      InputError: a case has rows of two patients.
    """
    found: dict[str, str] = {}
    for row in rows:
        case, patient = str(row["case"]), patient_of(row)
        if found.setdefault(case, patient) != patient:
            raise InputError(case, f"has rows of patient {found[case]} and of patient {patient}")
    return found


def counted(rows: Rows) -> str:
    """Printed numbers of patients and cases, see `counted_text`."""
    owner = patient_by_case(rows)
    return counted_text(len(set(owner.values())), len(owner))


def counted_text(n: int, cases: int) -> str:
    """Printed numbers of patients and cases, e.g. "40 patients (80 cases)"; cases only where they are more."""
    return f"{n} patient{'' if n == 1 else 's'}" + (f" ({cases} cases)" if cases != n else "")


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
    cases = dict.fromkeys(case for column in columns for case in column)
    return {case: present_mean(column[case] for column in columns if case in column) for case in cases}


def case_values(rows: Rows, metric: str, structure: str, structures: Sequence[str] = ()) -> dict[str, float]:
    """`by_case` of a structure, or `mean_by_case` of `structures` if `structure` is `MEAN`."""
    return mean_by_case(rows, metric, structures) if structure == MEAN else by_case(rows, metric, structure)


def by_patient(rows: Rows, metric: str, structure: str, structures: Sequence[str] = ()) -> dict[str, float]:
    """patient -> mean of `case_values` over the patient's cases with a value; NaN if there is none.

    A value that is infinite in one case (a miss) is infinite for the patient. Arguments as in `case_values`.

    Raises:
      InputError: a case occurs twice.
    """
    return patient_means(case_values(rows, metric, structure, structures), patient_by_case(rows))


def patient_means(values: Mapping[str, float], owner: Mapping[str, str]) -> dict[str, float]:
    """patient -> mean of the values of its cases, NaN excluded; `owner` is case -> patient."""
    held: dict[str, list[float]] = {}
    for case, value in values.items():
        held.setdefault(owner[case], []).append(value)
    return {patient: present_mean(own) for patient, own in held.items()}


def present_mean(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN if there is none."""
    present = [v for v in values if not math.isnan(v)]
    return sum(present) / len(present) if present else math.nan


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
