"""Scar, anatomical validity and the latent space in a report, from label maps with an image to its tables."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cardiac_jax.errors import InputError
from cardiac_jax.metrics.structures import volume_rows
from cardiac_jax.report import anatomy, build, collect, page, sections
from cardiac_jax.results import evaluation
from cardiac_jax.runs.evaluate import evaluate_maps
from tests import images
from tests.ventricle import apart, polar, ring, stack

QUIET = Console(quiet=True)
SPACING_MM = (10.0, 1.4, 1.4)
RAW = np.array([0, 600, 200, 500, 1220, 2221], np.int16)  # values of MyoPS
CASES = [f"myops_training_{101 + i}" for i in range(6)]
CORE, PREDICTED, MARKED = 15, 25, 40  # degrees to either side of 0: what is bright, predicted and marked as scar


def _labels(case: int, scar_deg: float) -> np.ndarray:
    """Four slices between two empty ones, of another size in every case, `[Z, H, W]`."""
    label = ring(16 + case, 26 + case, None)
    label[(label == 2) & (apart(polar()[1], 0) < scar_deg)] = 5
    empty = np.zeros_like(label)
    return stack(empty, label, label, label, label, empty)


def _late() -> np.ndarray:
    """Bright in the core, half of half as bright in the rest of the scar."""
    angle = apart(polar()[1], 0)
    image = np.where(angle < CORE, 400, np.where(angle < MARKED, 100, 20))
    return np.stack([image] * 6).astype(np.int16)


def _save(path: Path, data: np.ndarray) -> None:
    images.save(path, data.transpose(2, 1, 0), images.affine(("L", "P", "S"), SPACING_MM[::-1], tilt=0.4))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Six cases: scar predicted too small, core scar as it is; one slice of the first case is broken."""
    root = tmp_path_factory.mktemp("shapes")
    for i, case in enumerate(CASES):
        truth, pred = _labels(i, MARKED), _labels(i, PREDICTED)
        if i == 0:
            pred[2, :, 34:38] = 0  # away from the scar
        _save(root / "data" / "train25" / f"{case}_C0.nii.gz", _late()[::-1])
        _save(root / "data" / "train25" / f"{case}_DE.nii.gz", _late())
        _save(root / "data" / "train25_gd" / f"{case}_gd.nii.gz", RAW[truth])
        _save(root / "net" / f"{case}.nii.gz", RAW[pred])
    evaluate_maps(root / "net", root / "data", root / "out", name="myops", console=QUIET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "embedded", lambda figure: "data:,")  # tables are read here; test_report.py draws
        build.build(collect.collect([root / "out"], "val"), root / "report", QUIET)
    return root


def _table(made: Path, name: str) -> dict[str, list[str]]:
    with (made / "report" / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
        return {line[0]: line[1:] for line in csv.reader(file)}


def test_table_1_has_every_structure_by_place(made):
    held = _table(made, "net-per-slice-in-2d-mean-half-the-95-ci")
    wanted = ["whole LV", "LV", "myocardium", "enhancement", "core scar"]
    named = [name.removesuffix(" Dice") for name in held if name.endswith(" Dice")]
    assert named == wanted
    assert held["core scar Dice"] == ["1.000 ± 0.000"] * 4, "told by the LGE, not by the first sequence"
    assert held["core scar balanced accuracy (%)"][3].startswith("100.0")
    ratios = []
    for i in range(6):
        marked, drawn = ((_labels(i, deg)[1] == 5).sum() for deg in (MARKED, PREDICTED))
        ratios.append(2 * drawn / (drawn + marked))
    assert held["enhancement Dice"][3].startswith(f"{np.mean(ratios):.3f} ±")
    assert set(held["measure"]) == {"apex", "middle", "base", "total"}


def test_table_2_has_volumes_and_shares_by_thirds(made):
    held = _table(made, "net-by-thirds-of-the-true-whole-lv-volume-mean-range")
    truths, shares = [], []
    for i in range(6):
        truth = _labels(i, MARKED)
        core = np.where((truth == 5) & (_late() == 400), 1, 0).astype(np.uint8)
        (row,) = volume_rows(core, core, SPACING_MM, ("background", "core"))
        truths.append(float(row["interpolated_volume_truth_ml"]))
        shares.append(100 * (truth == 5).sum() / np.isin(truth, (2, 5)).sum())
    assert held["core scar volume (ml)"][3] == f"{np.mean(truths):.1f} ({min(truths):.1f} to {max(truths):.1f})"
    assert held["core scar volume (ml)"][0].endswith(f"({truths[0]:.1f} to {truths[1]:.1f})"), "cases grow"
    assert held["scar share (% of myocardium)"][3].startswith(f"{np.mean(shares):.1f} (")
    assert {"enhancement volume (ml)", "myocardium norm. MAE (%)", "core scar share (% of myocardium)"} <= set(held)


def test_invalid_slices_are_counted_for_any_program(made):
    held = _table(made, "anatomically-invalid-slices")
    assert held == {"method": ["prediction", "gold standard"], "net": ["1 of 24 (4.2%)", "0 of 24 (0.0%)"]}
    page = (made / "report" / "report.html").read_text(encoding="utf-8")
    for said in (
        "histogram of the Dice of whole LV per slice",
        "histogram of the Dice of myocardium",
        "relative error of each case",
    ):
        assert said in page, said


def test_a_projection_is_printed_with_what_it_cost(made):
    told = {
        "before": 3,
        "after": 0,
        "slices": 12,
        "limits": {"holes_px": 0, "thickness_mm": 2.0, "solid": 1.0},
        "moved": 5,
        "which": "all",
        "dice": {"Myo": {"before": 0.8, "after": 0.75}},
    }
    (entry,) = collect.collect([made / "out"], "val")
    about = {**entry.results.about, "projection": told}
    entry = entry._replace(results=entry.results._replace(about=about))
    section = anatomy.validity([entry], sections.Options("net", {}, ()))
    table = section.tables[-1]
    assert [[cell.text for cell in line] for line in table.rows] == [
        ["net", "invalid slices", "3 of 12 (25.0%)", "0 of 12 (0.0%)", "-3"],
        ["net", "slices moved", "-", "5 of 12 (41.7%)", "-"],
        ["net", "Myo Dice", "0.800", "0.750", "-0.050"],
    ]
    assert (
        table.notes[0] == "net: slices projected: all; limits of the projection: holes 0 px, thickness 2 mm, solid yes."
    )
    assert "does not mean accurate" in table.notes[-1]


def test_projections_of_folds_are_added(made):
    """Slices add up; Dice is the mean over the folds, of the structures that all of them have."""
    dice = [{"Myo": {"before": 0.8, "after": 0.7}, "RV": {"before": 0.5, "after": 0.5}}]
    dice += [{"Myo": {"before": 0.6, "after": 0.7}}]
    held = []
    for fold, (before, scores) in enumerate(zip((3, 4), dice, strict=True)):
        one = evaluation.read_results(made / "out")
        told = {"before": before, "after": fold, "slices": 10, "moved": 5, "limits": {"holes_px": 0}, "dice": scores}
        held.append(one._replace(about={**one.about, "projection": told}))
    pooled = evaluation.pooled(held).about["projection"]
    assert {k: pooled[k] for k in ("before", "after", "slices", "moved")} == {
        "before": 7,
        "after": 1,
        "slices": 20,
        "moved": 10,
    }
    assert list(pooled["dice"]) == ["Myo"] and pooled["limits"] == {"holes_px": 0}
    assert pooled["dice"]["Myo"] == pytest.approx({"before": 0.7, "after": 0.7})
    assert "projection" not in evaluation.pooled([held[0], evaluation.read_results(made / "out")]).about


def test_the_mixture_of_a_run_is_shown(made, tmp_path):
    held = {
        "sizes": [1, 2, 4],
        "nll": [[5.0, 7.0], [2.0, 4.0], [2.5, 3.5]],
        "aic": [[50.0, 70.0], [20.0, 40.0], [25.0, 35.0]],
        "components_by_cv": 2,
        "components": 4,
        "accept_rate": 0.625,
        "limits": {"holes_px": 0},
    }
    out = tmp_path / "evaluation"
    out.mkdir()
    for path in (made / "out").glob("*.json"):
        (out / path.name).write_bytes(path.read_bytes())

    def with_fits(fits) -> None:
        text = json.loads((made / "out" / "cases.json").read_text(encoding="utf-8"))
        text["about"].update({"workdir": str(tmp_path / "run"), "fits": fits})
        (out / "cases.json").write_text(json.dumps(text), encoding="utf-8")

    for without in ({}, {"other": {"masks": 3}}):
        with_fits(without)
        (entry,) = collect.collect([out], "val")
        assert entry.latent is None and not anatomy.latent([entry], sections.Options("net", {}, ())).pictures
    with_fits({"other": {"masks": 3}, "prior": held})
    (entry,) = collect.collect([out], "val")
    section = anatomy.latent([entry], sections.Options("net", {}, ()))
    assert [cell.text for cell in section.tables[0].rows[0]] == ["net", "1, 2, 4", "2", "2", "4", "62.5%"]
    assert len(section.pictures) == 1 and "holes 0 px" in section.tables[0].notes[0]
    for wrong in ({**held, "sizes": [1, 2]}, {**held, "nll": [1.0]}, {"nll": held["nll"]}, ["nll"]):
        with_fits({"prior": wrong})
        with pytest.raises(InputError, match=r"cases\.json: (has|is not a mixture record)"):
            collect.collect([out], "val")


def test_an_evaluation_that_knew_fewer_rows_is_still_read(made, tmp_path):
    for name in ("cases", "slices", "clinical"):
        (tmp_path / f"{name}.json").write_bytes((made / "out" / f"{name}.json").read_bytes())
    (entry,) = collect.collect([tmp_path], "val")
    options = sections.Options("net", {}, ())
    assert not anatomy.validity([entry], options).tables
    tables = sections.locations([entry], options).tables
    assert len(tables) == 2 and not any("nearest-neighbour" in note for note in tables[1].notes)


def test_images_on_another_grid_are_refused(made, tmp_path):
    """Core scar is told by them, voxel by voxel."""
    truth = tmp_path / "truth"
    _save(truth / "a.nii.gz", _labels(0, MARKED).astype(np.int16))
    described = {"labels": {"background": 0, "RV": 1, "Myo": 2, "LV": 3, "oedema": 4, "scar": 5}}
    (truth / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    _save(tmp_path / "images" / "a_LGE.nii.gz", _late())
    given = evaluate_maps(truth, truth, tmp_path / "out", images=tmp_path / "images", console=QUIET)
    assert "core scar" in {row["structure"] for row in given.measured.volumes}
    _save(tmp_path / "images" / "a_LGE.nii.gz", _late()[1:])
    with pytest.raises(InputError, match="has shape"):
        evaluate_maps(truth, truth, tmp_path / "out", images=tmp_path / "images", console=QUIET)


def test_lesions_and_unions_have_tables_and_every_measure_is_defined(made):
    held = _table(made, "lesion-f1-of-enhancement-oedema-and-unions-mean-sd-over-patients")
    assert {"scar", "myocardium", "scar + oedema"} <= set(held["method"])
    page = (made / "report" / "report.html").read_text(encoding="utf-8")
    for said in (
        "Definitions",
        "larger of the two directions",
        "full width at half maximum",
        "voxel count x voxel volume",
    ):
        assert said in page, said
