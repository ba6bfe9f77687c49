"""Tables of readers' opinion scores: mean +- SD by method and reader, paired tests, agreement of the readers."""

import math
from collections.abc import Mapping, Sequence

from cardiac_jax.metrics import opinions, paired_tests
from cardiac_jax.metrics.summary import Rows
from cardiac_jax.report.restoration import opinion_text
from cardiac_jax.report.table import Cell, Table, comparison_table


def tables(rows_by_method: Mapping[str, Rows], reference: str = "") -> list[Table]:
    """Mean opinion scores, agreement of the readers if they are several, tests against `reference` if it has scores.

    Args:
      rows_by_method: method -> rows with `case`, `patient`, `structure` (the reader), `opinion` and `image`.
    """
    if not rows_by_method:
        return []
    readers = list(dict.fromkeys(str(row["structure"]) for rows in rows_by_method.values() for row in rows))
    found = [_means(rows_by_method, readers)]
    if len(readers) > 1:
        found.append(_agreement(rows_by_method, readers))
    if reference in rows_by_method and len(rows_by_method) > 1:
        compared = paired_tests.compare(rows_by_method, reference, readers, "opinion", mean=False)
        found.append(comparison_table(compared, "opinion"))
    return found


def _means(rows_by_method: Mapping[str, Rows], readers: Sequence[str]) -> Table:
    lines = []
    for method, rows in rows_by_method.items():
        held = [[float(row["opinion"]) for row in rows if row["structure"] == reader] for reader in readers]
        lines.append(
            (Cell(method), *(Cell(opinion_text(own)) for own in held), Cell("/".join(str(len(own)) for own in held)))
        )
    notes = ("Mean ± SD over images; 1 very poor to 5 excellent. The readers did not know the methods.",)
    return Table("Mean opinion score (MOS)", ("method", *readers, "images"), tuple(lines), notes)


def _agreement(rows_by_method: Mapping[str, Rows], readers: Sequence[str]) -> Table:
    scores: dict[str, dict[str, int]] = {reader: {} for reader in readers}
    for rows in rows_by_method.values():
        for row in rows:
            scores[str(row["structure"])][str(row["image"])] = int(row["opinion"])
    lines = []
    for one in opinions.reader_agreement(scores):
        value, low, high = ("-" if math.isnan(v) else f"{v:.3f}" for v in one.icc)
        equal, kappa = (
            "-" if math.isnan(v) else text
            for v, text in ((one.equal, f"{100 * one.equal:.0f}"), (one.kappa, f"{one.kappa:.3f}"))
        )
        lines.append(tuple(map(Cell, (", ".join(one.readers), str(one.n), equal, kappa, f"{value} [{low}, {high}]"))))
    header = ("readers", "images", "equal (%)", "weighted kappa", "ICC(2,1) [95% CI]")
    notes = ("Images that all of them scored. Kappa: weighted by the squared difference (Cohen 1968).",)
    return Table("Agreement of the readers", header, tuple(lines), notes)
