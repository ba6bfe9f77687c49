"""Tables of challenges by the challenges' own rules, from the rows of an evaluation.

Other measures of an evaluation follow this project's rules, which differ (`docs/metrics.md`); these lines are for
comparison with a published table.

acdc    ACDC 2017 (Bernard et al. 2018): `metrics.py` of C. Zotti, April 2017, with MedPy, and the tables of the
        results' page. LV, RV and Myo at ED and at ES. Dice of the volume, 0 if a structure is in neither map (MedPy of
        that time); HD in 3D, mm, whose script stops if a structure is in one map only. EF (%) and volumes (ml) of the
        ventricles, volume at ES (ml) and mass at ED (g, 1.05 g/ml) of the myocardium: Pearson's r, bias and SD of the
        differences prediction - gold standard.
emidec  EMIDEC 2020 (Lalande et al. 2022): `main.py` and `metrics.py` of github.com/EMIDEC-Challenge/Evaluation-metrics,
        commit b892b1f. Myocardium is the whole wall (labels 2, 3, 4), infarction includes no-reflow (3, 4). Dice of the
        volume (its README says of each slice), 1 if a structure is in neither map; absolute difference of the volumes
        (mm3); of infarction and no-reflow also that difference / the gold standard's myocardium (%); of the myocardium
        HD. The script takes the HD of an array in (z, y, x) order with SimpleITK's spacing in (x, y, z) order, so its
        HD is no length in mm where slices are thicker than pixels; see `hd_of_emidec`.
myops   MyoPS 2020 (Li et al. 2023): scar, and oedema including scar, which are the two targets of the challenge. Dice
        of the volume, 1 if a structure is in neither map, 0 if in one; mean and SD over the cases. The tool of the
        organisers is not public; the rule for empty structures is that of a public script of the same group.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cardiac_jax.data.labels import roles
from cardiac_jax.errors import InputError
from cardiac_jax.metrics import surface
from cardiac_jax.metrics.clinical import DENSITY_G_PER_ML, ML_PER_MM3
from cardiac_jax.metrics.evaluate import INFARCTION, MYOCARDIUM, PATHOLOGY
from cardiac_jax.metrics.measures import function_rows
from cardiac_jax.metrics.summary import Rows

Scores = Mapping[str, float]
"""case -> value."""


class Line(NamedTuple):
    """One number of a challenge's table.

    Attributes:
      structure, measure, unit: what it is, in the challenge's words.
      value: mean over the cases, or the statistic that `measure` names.
      sd: standard deviation (n - 1) over the cases; NaN of a statistic.
      n: number of cases or patients with a value.
      without: number of cases left out, because the challenge's script has no value (a structure in one map only) or
        because they are not fully annotated.
    """

    structure: str
    measure: str
    unit: str
    value: float
    sd: float
    n: int
    without: int


class Evaluated(NamedTuple):
    """What a rule is computed from: rows of `evaluate_case` and of `measure_case`, classes, HD of EMIDEC's script."""

    cases: Rows
    clinical: Rows
    classes: Sequence[str]
    script_hd: Scores


def acdc(given: Evaluated) -> list[Line]:
    """Lines of ACDC's tables.

    Raises:
      InputError: the classes lack a structure, or no case is known to be at ED and at ES.
    """
    _need("acdc", given.classes, ("LV", "RV", "Myo"))
    phases = {str(row.get("phase", "")) for row in given.cases}
    if not {"ED", "ES"} <= phases:
        raise InputError("--rules=acdc", "needs cases at ED and at ES; name the data set, --data.name=acdc")
    function = function_rows(given.clinical)
    lines: list[Line] = []
    for structure in ("LV", "RV", "Myo"):
        for measure, column, unit in (("Dice", "dice", ""), ("HD", "hd_mm", "mm")):
            for phase in ("ED", "ES"):
                rows = [r for r in given.cases if str(r["structure"]) == structure and r["phase"] == phase]
                values = {str(row["case"]): float(row[column]) for row in rows}
                if column == "dice":
                    values = _absent(values, rows, 0.0)
                lines.append(_mean(structure, f"{measure} {phase}", unit, values))
        if structure == "Myo":
            volumes = {phase: _pairs(given.cases, structure, phase) for phase in ("ED", "ES")}
            lines += _statistics(structure, "volume ES", "ml", *volumes["ES"])
            lines += _statistics(structure, "mass ED", "g", *(DENSITY_G_PER_ML * one for one in volumes["ED"]))
            continue
        ef = [row for row in function if row["measure"] == f"{structure} EF"]
        pred, truth = (np.array([float(row[by]) for row in ef]) for by in ("pred", "truth"))
        lines += _statistics(structure, "EF", "%", pred, truth)
        for phase in ("ED", "ES"):
            lines += _statistics(structure, f"volume {phase}", "ml", *_pairs(given.cases, structure, phase))
    return lines


def emidec(given: Evaluated) -> list[Line]:
    """Lines of EMIDEC's tables; without no-reflow (mvo) in the classes infarction is the scar.

    Raises:
      InputError: the classes lack Myo or scar.
    """
    _need("emidec", given.classes, ("Myo", "scar"))
    has_mvo = "mvo" in roles(given.classes)
    wall = _rows(given.cases, MYOCARDIUM)
    reference = {str(row["case"]): float(row["volume_truth_ml"]) for row in wall}
    parts = (
        ("myocardium", MYOCARDIUM),
        ("infarction", INFARCTION if has_mvo else _own("scar", given.classes)),
        ("no-reflow", _own("mvo", given.classes)),
    )
    lines: list[Line] = []
    for name, structure in parts[: 3 if has_mvo else 2]:
        rows = _rows(given.cases, structure)
        dice = {str(row["case"]): float(row["dice"]) for row in rows}
        error = {str(row["case"]): float(row["volume_abs_error_ml"]) for row in rows}
        lines.append(_mean(name, "Dice", "%", {case: 100 * v for case, v in _absent(dice, rows, 1.0).items()}))
        lines.append(_mean(name, "volume difference", "mm3", {case: v / ML_PER_MM3 for case, v in error.items()}))
        if name == "myocardium":
            lines.append(_mean(name, "HD, script's spacing", "", given.script_hd))
        else:
            share = {case: 100 * v / reference[case] if reference[case] else math.nan for case, v in error.items()}
            lines.append(_mean(name, "volume difference / myocardium", "%", share))
    return lines


def myops(given: Evaluated) -> list[Line]:
    """Lines of MyoPS' table.

    Raises:
      InputError: the classes lack scar or oedema.
    """
    _need("myops", given.classes, ("scar", "oedema"))
    lines: list[Line] = []
    for name, structure in (("scar", _own("scar", given.classes)), ("scar + oedema", PATHOLOGY)):
        rows = _rows(given.cases, structure)
        dice = _absent({str(row["case"]): float(row["dice"]) for row in rows}, rows, 1.0)
        lines.append(_mean(name, "Dice", "", dice))
    return lines


RULES: Mapping[str, Callable[[Evaluated], list[Line]]] = {"acdc": acdc, "emidec": emidec, "myops": myops}
SOURCES: Mapping[str, str] = {
    "acdc": "Bernard et al., IEEE TMI 37 (2018); metrics.py of C. Zotti, April 2017",
    "emidec": "Lalande et al., Medical Image Analysis 79 (2022); EMIDEC-Challenge/Evaluation-metrics, commit b892b1f",
    "myops": "Li et al., Medical Image Analysis 87 (2023)",
}


def hd_of_emidec(pred: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """HD of two masks `[X, Y, Z]` as EMIDEC's script computes it: with the spacing of X along Z and of Z along X.

    Infinite if one mask is empty, where the script stops; NaN if both are.

    Args:
      spacing_mm: voxel size along X, Y, Z.
    """
    x, y, z = spacing_mm
    return surface.hausdorff_mm(surface.surface_distances(pred, truth, (z, y, x)))


def _need(rules: str, classes: Sequence[str], names: Sequence[str]) -> None:
    missing = [name for name in names if name.casefold() not in roles(classes)]
    if missing:
        raise InputError(f"--rules={rules}", f"needs the classes {', '.join(names)}; without {', '.join(missing)}")


def _own(name: str, classes: Sequence[str]) -> str:
    """The class as it is written in `classes`; the name itself if it is not there."""
    known = roles(classes)
    return classes[known[name]] if name in known else name


def _rows(cases: Rows, structure: str) -> Rows:
    return [row for row in cases if str(row["structure"]) == structure]


def _absent(values: Scores, rows: Rows, value: float) -> dict[str, float]:
    """`values` with that of a structure in neither map replaced."""
    absent = {str(row["case"]) for row in rows if row["status"] == "absent"}
    return {case: value if case in absent else score for case, score in values.items()}


def _pairs(cases: Rows, structure: str, phase: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [row for row in _rows(cases, structure) if row["phase"] == phase]
    pred, truth = (np.array([float(row[f"volume_{by}_ml"]) for row in rows]) for by in ("pred", "truth"))
    return pred, truth


def _mean(structure: str, measure: str, unit: str, values: Scores) -> Line:
    held = np.array(list(values.values()), np.float64)
    finite = held[np.isfinite(held)]
    mean = float(finite.mean()) if finite.size else math.nan
    sd = float(finite.std(ddof=1)) if finite.size > 1 else math.nan
    return Line(structure, measure, unit, mean, sd, finite.size, held.size - finite.size)


def _statistics(structure: str, measure: str, unit: str, pred: np.ndarray, truth: np.ndarray) -> list[Line]:
    """Pearson's r, bias and SD of the differences; NaN if there are fewer than two pairs or one is constant."""
    both = np.isfinite(pred) & np.isfinite(truth)
    pred, truth, n = pred[both], truth[both], int(both.sum())
    difference = pred - truth
    varies = n > 1 and np.ptp(pred) > 0 and np.ptp(truth) > 0
    values = (
        ("r", "", float(np.corrcoef(pred, truth)[0, 1]) if varies else math.nan),
        ("bias", unit, float(difference.mean()) if n else math.nan),
        ("SD", unit, float(difference.std(ddof=1)) if n > 1 else math.nan),
    )
    return [Line(structure, f"{measure} {name}", of, value, math.nan, n, both.size - n) for name, of, value in values]
