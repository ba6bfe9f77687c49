"""The report: from evaluations on disk to one page, and the same numbers beside it."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cardiac_jax.errors import InputError
from cardiac_jax.metrics.summary import by_case
from cardiac_jax.report import build, collect, sections
from cardiac_jax.runs.evaluate import evaluate_maps
from tests import images

SHAPE, SPACING = (40, 36, 2), (2.0, 2.0, 8.0)
QUIET = Console(quiet=True)
PUBLISHED = {"source": "A paper.", "differs": "Other patients.", "dice": {"near": {"LV": 0.321, "mean": 0.654}}}


def heart(shift: int = 0, thick: int = 4) -> np.ndarray:
    """A ring with a pool inside and a ventricle beside it, `[X, Y, Z]`, values of MS-CMRSeg."""
    x, y, _ = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    far = np.hypot(x - 22 - shift, y - 18)
    out = np.zeros(SHAPE, np.int16)
    out[(np.hypot(x - 10 - shift, y - 18) < 7) & (far > 6 + thick)] = 600
    out[far < 6 + thick] = 200
    out[far < 6] = 500
    out[..., 0] = 0
    return out


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory) -> Path:
    """Two programs on eight cases: `near` is off by a pixel at most, `far` by three and misses one RV."""
    root = tmp_path_factory.mktemp("report")
    grid = images.affine(("L", "P", "S"), SPACING, tilt=0.4)
    rng = np.random.default_rng(0)
    for i in range(8):
        truth = heart(thick=4 + i % 3)
        images.save(root / "data" / f"patient{i}_LGE_manual.nii.gz", truth, grid)
        images.save(root / "data" / f"patient{i}_LGE.nii.gz", (truth + rng.normal(0, 20, SHAPE)).astype(np.int16), grid)
        images.save(root / "near" / f"patient{i}.nii.gz", heart(i % 2, 4 + i % 3), grid)
        far = heart(3, 4)
        far[(far == 600) & (i == 5)] = 0
        images.save(root / "far" / f"patient{i}.nii.gz", far, grid)
    for name in ("near", "far"):
        evaluate_maps(root / name, root / "data", root / "out" / name, name="mscmr", console=QUIET)
    return root


@pytest.fixture(scope="module")
def made(evaluations) -> Path:
    entries = collect.collect([evaluations / "out" / name for name in ("near", "far")], "val")
    build.build(entries, evaluations / "report", QUIET, published=PUBLISHED, leave_out=["patient6"])
    return evaluations / "report"


def test_the_page_needs_nothing_else(made):
    page = (made / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert sources and all(source.startswith(("data:image/", "#")) for source in sources)
    assert "<script" not in page and "url(" not in page and "@import" not in page


def test_every_part_is_there(made):
    page = (made / "report.html").read_text(encoding="utf-8")
    for name in (
        "results",
        "measures",
        "distributions",
        "locations",
        "clinical",
        "cases",
        "misses",
        "statistics",
        "provenance",
    ):
        assert f'<section id="{name}">' in page, name
    assert '<section id="training">' not in page, "no run has a log"
    for pictured in ("Best case", "Worst case", "surfaces, axes in mm", "Bland-Altman", "AHA segment", "Histogram"):
        assert pictured in page, pictured
    assert page.count('alt=""') == 0


def test_a_miss_is_named(made):
    with (made / "tables" / "misses.csv").open(encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["method", "case", "structure", "status"],
            ["far", "patient5", "RV", "missed"],
        ]
    said = (made / "tables" / "misses.md").read_text(encoding="utf-8")
    assert "| far | patient5 | RV | missed |" in said and "- missed: structure only in the gold standard;" in said


def test_an_evaluation_under_other_anatomical_checks_is_refused(evaluations, tmp_path):
    shutil.copytree(evaluations / "out" / "near", tmp_path / "near")
    path = tmp_path / "near" / "validity.json"
    held = json.loads(path.read_text(encoding="utf-8"))
    for row in held["rows"]:
        del row["area"]
    path.write_text(json.dumps(held), encoding="utf-8")
    with pytest.raises(InputError, match=r"validity\.json: was written by an older version"):
        collect.collect([tmp_path / "near"], "val")


def test_the_published_figure_stands_beside_ours(made):
    with (made / "tables" / "dice-ours-and-published.csv").open(encoding="utf-8") as file:
        header, near, far = list(csv.reader(file))
    assert near[header.index("LV, paper")] == "0.321" and near[header.index("mean, paper")] == "0.654"
    assert far[header.index("LV, paper")] == "-"


def test_numbers_agree_with_the_rows(made, evaluations):
    held = json.loads((made / "numbers.json").read_text(encoding="utf-8"))
    rows = json.loads((evaluations / "out" / "far" / "cases.json").read_text(encoding="utf-8"))["rows"]
    values = [row["dice"] for row in rows if row["structure"] == "RV"]
    (found,) = [n for n in held["summary"] if (n["method"], n["structure"], n["metric"]) == ("far", "RV", "dice")]
    assert found["mean"] == pytest.approx(np.mean(values)) and found["sd"] == pytest.approx(np.std(values, ddof=1))
    (distance,) = [n for n in held["summary"] if (n["method"], n["structure"], n["metric"]) == ("far", "RV", "hd_mm")]
    assert (distance["n"], distance["misses"]) == (7, 1)
    assert {(p["method"], p["baseline"]) for p in held["paired"]} == {("near", "far")}


def test_a_case_left_out_gives_a_second_table(made):
    page = (made / "report.html").read_text(encoding="utf-8")
    assert "n = 7 patients, without patient6." in page and "n = 8 patients." in page


def test_the_same_evaluations_give_the_same_page(made, evaluations):
    entries = collect.collect([evaluations / "out" / name for name in ("near", "far")], "val")
    again = build.build(entries, evaluations / "again", QUIET, published=PUBLISHED, leave_out=["patient6"])
    assert again.read_bytes() == (made / "report.html").read_bytes()


def test_folds_of_one_method_are_pooled(evaluations, tmp_path):
    """Different cases side by side; the same case, measured by two folds, once with its mean."""
    for fold, numbers in ((0, (0, 1)), (1, (1, 2))):
        pred = tmp_path / f"pred{fold}"
        pred.mkdir()
        for i in numbers:
            source = evaluations / ("near" if fold else "far") / f"patient{i}.nii.gz"
            shutil.copy(source, pred)
        out = tmp_path / "net" / f"fold{fold}" / "evaluation_val"
        evaluate_maps(pred, evaluations / "data", out, name="mscmr", method="net", console=QUIET)
    (entry,) = collect.collect([tmp_path], "val")
    assert entry.results.name == "net" and entry.results.about["folds"] == 2
    dice = by_case(entry.results.rows, "dice", "LV")
    assert sorted(dice) == [f"patient{i}" for i in range(3)]
    near, far = (
        by_case(collect.collect([evaluations / "out" / name], "val")[0].results.rows, "dice", "LV")
        for name in ("near", "far")
    )
    assert dice["patient1"] == pytest.approx((near["patient1"] + far["patient1"]) / 2)
    assert (dice["patient0"], dice["patient2"]) == (far["patient0"], near["patient2"])
    for kind in entry.results.measured[:-1]:  # the last kind is of restored images
        assert {row["case"] for row in kind} == set(dice)
    assert Path(entry.results.about["files"]["patient2"]["prediction"]).parent.name == "pred1"


def test_two_runs_of_one_method_are_told_apart_by_their_folders(evaluations):
    shutil.copytree(evaluations / "out" / "near", evaluations / "out" / "seed1" / "evaluation_val")
    entries = collect.collect([evaluations / "out" / "near", evaluations / "out" / "seed1"], "val")
    assert [entry.results.name for entry in entries] == ["near (near)", "near (seed1)"]


def test_methods_stand_in_the_order_of_the_experiment(evaluations):
    entries = collect.collect([evaluations / "out" / name for name in ("near", "far")], "val")
    names = [entry.results.name for entry in collect.ordered(entries, ("far", "else", "near"))]
    assert names == ["far", "near"]


def test_cases_that_not_all_methods_have_are_said(evaluations, tmp_path):
    (tmp_path / "few").mkdir()
    for i in range(5):
        shutil.copy(evaluations / "near" / f"patient{i}.nii.gz", tmp_path / "few")
    evaluate_maps(tmp_path / "few", evaluations / "data", tmp_path / "out", name="mscmr", console=QUIET)
    entries = collect.collect([tmp_path / "out", evaluations / "out" / "far"], "val")
    said = " ".join(sections.overview(entries, sections.Options("far", {}, ())).text)
    assert "3 annotated cases have no prediction from few: patient5, patient6, patient7" in said
    assert "far was measured on 8 cases, of which 5 are common to all methods." in said


def test_what_cannot_be_shown_is_refused(evaluations, tmp_path):
    near = evaluations / "out" / "near"
    with pytest.raises(InputError, match="run launch"):
        collect.collect([tmp_path], "val")
    with pytest.raises(InputError, match="no such folder"):
        collect.collect([tmp_path / "none"], "val")
    entries = collect.collect([near], "val")
    with pytest.raises(InputError, match="reference"):
        build.build(entries, tmp_path, QUIET, reference="other")
    with pytest.raises(InputError, match="patient99"):
        build.build(entries, tmp_path, QUIET, leave_out=["patient99"])
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(evaluations / "near" / "patient7.nii.gz", alone)
    for name, given in (("one", alone), ("others", tmp_path / "few")):
        if name == "others":
            given.mkdir()
            shutil.copy(evaluations / "near" / "patient1.nii.gz", given)
        evaluate_maps(given, evaluations / "data", tmp_path / name, name="mscmr", console=QUIET)
    with pytest.raises(InputError, match="has no case in common"):
        collect.collect([tmp_path / "one", tmp_path / "others"], "val")
    truth = tmp_path / "truth"
    images.save(truth / "a.nii.gz", np.ones((4, 4, 2), np.uint8) * np.array([0, 1], np.uint8))
    evaluate_maps(truth, truth, tmp_path / "plain", console=QUIET)
    with pytest.raises(InputError, match="label 1"):
        collect.collect([near, tmp_path / "plain"], "val")
