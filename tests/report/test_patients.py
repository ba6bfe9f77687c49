"""Everything printed takes the patient as the unit: measured twice, a patient counts once."""

import json
import math

import numpy as np
import pytest
from rich.console import Console

from cardiac_jax.data.label_maps import identity
from cardiac_jax.errors import InputError
from cardiac_jax.metrics import agreement, paired_tests
from cardiac_jax.metrics.summary import by_patient, patient_by_case, summary_of
from cardiac_jax.report import charts, cohort_table, collect, sections, table
from cardiac_jax.runs.evaluate import evaluate_maps
from tests import images

STRUCTURES, N = ("LV", "RV"), 24
Rows = list[dict[str, str | int | float]]


def rows(seed: int, n: int = N) -> Rows:
    """One case a patient, with a miss (infinite) and an absent structure (NaN)."""
    rng = np.random.default_rng(seed)
    found: Rows = []
    for i in range(n):
        for structure in STRUCTURES:
            truth = float(rng.uniform(50, 150))
            dice, hd = float(rng.uniform(0.7, 1.0)), float(rng.uniform(1, 9))
            if structure == "RV" and i in (2, 3):
                dice, hd = (0.0, math.inf) if i == 2 else (math.nan, math.nan)
            volumes = {"volume_pred_ml": truth + float(rng.normal(0, 5)), "volume_truth_ml": truth}
            values = {"dice": dice, "hd_mm": hd, "asd_mm": hd / 4, "hd95_mm": hd, "balanced_accuracy": dice}
            found.append({"case": f"p{i:02}", "patient": f"p{i:02}", "structure": structure, **values, **volumes})
    return found


def twice(given: Rows) -> Rows:
    """Every case measured in two phases, with equal values."""
    return [{**row, "case": f"{row['case']}_{phase}"} for phase in ("ED", "ES") for row in given]


def slices(given: Rows) -> Rows:
    return [{**row, "location": where} for row in given for where in ("apex", "base")]


def clinical(given: Rows) -> dict[tuple[str, str], agreement.Pairs]:
    return {(f"{name} volume", "ml"): agreement.volume_pairs(given, name) for name in STRUCTURES}


def tables(one: Rows, other: Rows) -> list[table.Table]:
    methods = {"one": one, "other": other}
    return [
        table.structure_table(one, STRUCTURES),
        table.method_table(methods, STRUCTURES),
        table.method_table(methods, STRUCTURES, "hd_mm"),
        table.comparison_table(paired_tests.compare(methods, "one", STRUCTURES)),
        cohort_table.location_table(slices(one), STRUCTURES),
        cohort_table.tertile_table(one, STRUCTURES),
        cohort_table.agreement_table(clinical(one)),
    ]


def test_every_table_is_the_same_when_all_cases_are_measured_twice():
    single, double = (tables(*given) for given in ((rows(0), rows(1)), (twice(rows(0)), twice(rows(1)))))
    for one, two in zip(single, double, strict=True):
        text = table.to_markdown(two).replace(f"{N} patients ({2 * N} cases)", f"{N} patients")
        want = table.to_markdown(one)
        if "Agreement" in one.title:
            text = text.replace(f"- {cohort_table.REPEATED}\n", "")
        if "Per slice" in one.title:  # numbers of slices are twice as large
            text, want = (t[: t.index("\n- ")] for t in (text, want))
        assert text == want


def test_counts_are_of_patients_and_every_left_out_one_is_counted():
    made = table.method_table({"one": twice(rows(0))}, STRUCTURES, "hd_mm")
    assert made.notes == (
        f"n = {N} patients ({2 * N} cases).",
        f"one RV: n = {N - 2} of {N} patients, 1 missed (infinite), 1 excluded (nothing to measure).",
        f"one mean: n = {N - 1} of {N} patients, 1 missed (infinite), 1 averaged over fewer cases or structures "
        "(nothing to measure in the others).",
    )
    figure = charts.box_plots({"one": twice(rows(0))}, STRUCTURES, "hd_mm")
    assert [text.get_text() for text in figure.axes[0].texts] == [f"n={N}", f"n={N - 2}\n1 missed"]
    panels = {name: pairs for (name, _), pairs in clinical(twice(rows(0))).items()}
    titles = [ax.get_title() for ax in charts.bland_altman_plots(panels, "ml").axes]
    assert all(f"(n = {N} patients ({2 * N} cases))" in title for title in titles)


def test_values_of_a_patient_are_averaged():
    given: Rows = [
        {"case": case, "patient": case[0], "structure": "LV", "dice": dice, "hd_mm": hd}
        for case, dice, hd in (
            ("a_ED", 0.9, 4.0),
            ("a_ES", 0.7, math.inf),
            ("b_ED", 0.6, 2.0),
            ("b_ES", math.nan, math.nan),
        )
    ]
    assert by_patient(given, "dice", "LV") == {"a": pytest.approx(0.8), "b": 0.6}
    assert by_patient(given, "hd_mm", "LV") == {"a": math.inf, "b": 2.0}
    found = summary_of(given, "dice", "LV")
    assert (found.mean, found.n, found.partial) == (pytest.approx(0.7), 2, 1)
    assert found.sd == pytest.approx(0.1 * math.sqrt(2))
    assert summary_of(given, "hd_mm", "LV")[2:] == (1, 1, 0, 1)
    with pytest.raises(InputError, match="a_ED: has rows of patient a and of patient c"):
        patient_by_case([*given, {**given[0], "patient": "c"}])


def test_differences_are_of_the_cases_that_both_methods_have():
    ours: Rows = [
        {"case": f"a_{phase}", "patient": "a", "structure": "LV", "dice": dice}
        for phase, dice in (("ED", 0.9), ("ES", 0.5))
    ]
    theirs: Rows = [{**ours[0], "dice": 0.8}]
    assert paired_tests.paired_differences(ours, theirs, "dice", "LV") == {"a": pytest.approx(0.1)}
    with pytest.raises(InputError, match="a_ED: is of patient a for one method, of b for another"):
        paired_tests.paired_differences(ours, [{**theirs[0], "patient": "b"}], "dice", "LV")


@pytest.mark.parametrize(
    ("case", "patient", "phase"),
    [
        ("patient001_ED", "patient001", "ED"),
        ("patient001_frame12", "patient001", ""),
        ("patient001_frame01_gt", "patient001", ""),
        ("A0S9V9_sa_es", "A0S9V9_sa", "ES"),
        ("patient7", "patient7", ""),
        ("_ED", "_ED", ""),
        ("MED", "MED", ""),
    ],
)
def test_phases_are_known_by_name(case: str, patient: str, phase: str):
    assert identity(case) == (patient, phase)


def test_plain_label_maps_of_two_phases_are_one_patient_throughout(tmp_path):
    """Files named as ACDC's: from evaluation to report, with ejection fraction; the other method names no patients."""
    rng = np.random.default_rng(0)
    for i in range(3):
        for phase, size in (("ED", 9), ("ES", 7)):
            truth = np.zeros((20, 20, 4), np.uint8)
            truth[4 : 4 + size, 4 : 4 + size] = 1
            pred = np.roll(truth, int(rng.integers(0, 2)), axis=0)
            images.save(tmp_path / "truth" / f"p{i}_{phase}.nii.gz", truth)
            images.save(tmp_path / "pred" / f"p{i}_{phase}.nii.gz", pred)
    (tmp_path / "truth" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "LV": 1}}))
    for method in ("one", "other"):
        quiet = Console(quiet=True)
        evaluate_maps(tmp_path / "pred", tmp_path / "truth", tmp_path / method, method=method, console=quiet)
    kinds = [tmp_path / "other" / f"{kind}.json" for kind in ("cases", "slices", "clinical", "volumes", "validity")]
    for path in kinds:  # as an evaluation of files whose names say nothing
        held = json.loads(path.read_text())
        held["rows"] = [{**row, "patient": row["case"], "phase": ""} for row in held["rows"]]
        path.write_text(json.dumps(held))
    entries = collect.collect([tmp_path / "one", tmp_path / "other"], "all")
    assert [set(patient_by_case(entry.results.rows).values()) for entry in entries] == [{"p0", "p1", "p2"}] * 2
    options = sections.Options("one", {}, ())
    agreed, _ = sections.clinical(entries, options).tables
    counts = {row[0].text: row[1].text for row in agreed.rows}
    assert counts == {
        "LV volume (ml)": "3 patients (6 cases)",
        **{f"LV {name}": "3 patients" for name in ("EDV (ml)", "ESV (ml)", "SV (ml)", "EF (%)")},
    }
    said = sections.statistics(entries, options).text
    assert said[0] == "Measured: 3 patients (6 cases)."
    assert all((n["patients"], n["cases"]) == (3, 6) for n in sections.numbers(entries))
