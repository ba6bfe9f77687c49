"""The report on restored images: from rows and files to Table III, its tests, pictures with errors, opinion scores."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from cardiac_jax.errors import InputError
from cardiac_jax.report import build, collect, restoration
from cardiac_jax.report.evaluation import typical
from cardiac_jax.report.options import Options
from cardiac_jax.results import evaluation
from tests import restored

QUIET = Console(quiet=True)
METHODS = {"noisy": 90.0, "fair": 30.0, "near": 10.0}
OPINIONS = {
    "fair": [
        {"case": f"p{k}", "patient": f"p{k}", "structure": reader, "opinion": score, "image": f"f{k}"}
        for reader, scores in (("R1", (2, 3, 3)), ("R2", (2, 3, 4)))
        for k, score in enumerate(scores)
    ],
    "near": [
        {"case": "p0", "patient": "p0", "structure": reader, "opinion": 5, "image": "n0"} for reader in ("R1", "R2")
    ],
}
PUBLISHED = {"source": "A paper.", "differs": "Other data.", "ssim": {"near": {"image": 0.796}}}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("restored")
    restored.results(root, METHODS)
    return root


@pytest.fixture(scope="module")
def made(root) -> Path:
    entries = collect.collect([root / name for name in METHODS], "val")
    times = {"noisy": [0.2, 0.4, 9.0], "near": [0.001, 0.003]}
    options = {"reference": "near", "published": PUBLISHED, "seconds": times, "opinions": OPINIONS}
    build.build(entries, root / "report", QUIET, **options)
    return root / "report"


def table(made: Path, name: str) -> list[list[str]]:
    with (made / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_table_has_the_numbers_of_the_rows(made, root):
    header, *lines = table(made, "restored-images-mean-sd-over-patients")
    assert header == ["method", "SSIM", "95% CI", "p (Holm)", "MOS R1", "MOS R2", "s a stack"]
    by = {line[0]: dict(zip(header, line, strict=True)) for line in lines}
    assert list(by) == list(METHODS)
    names, *lines = table(made, "other-measures-of-restored-images-mean-sd-over-patients")
    other = {line[0]: dict(zip(names, line, strict=True)) for line in lines}
    assert names[1:3] == ["SSIM, heart", "SSIM of slices, image"] and list(other) == list(METHODS)
    rows = evaluation.read_results(root / "fair").measured.images
    for part in ("image", "heart"):
        values = [float(row["psnr_db"]) for row in rows if row["structure"] == part]
        assert other["fair"][f"PSNR (dB), {part}"] == f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
    values = [float(row["ssim"]) for row in rows if row["structure"] == "image"]
    half = stats.t.ppf(0.975, 2) * stats.sem(values)
    assert by["fair"]["95% CI"] == f"[{np.mean(values) - half:.3f}, {np.mean(values) + half:.3f}]"
    assert [by[name]["p (Holm)"] for name in METHODS] == ["1.000", "1.000", "-"]  # 4 tests of .25 at least
    assert [by[name]["s a stack"] for name in METHODS] == ["0.4", "-", "0.002"]
    assert [by["fair"][f"MOS {r}"] for r in ("R1", "R2")] == ["2.67 ± 0.58", "3.00 ± 1.00"]
    assert [by[name]["MOS R1"] for name in ("noisy", "near")] == ["-", "5.00"]


def test_opinions_are_compared_and_readers_agree(made):
    header, (readers, n, equal, kappa, icc) = table(made, "agreement-of-the-readers")
    assert header[3] == "weighted kappa" and (readers, n, equal) == ("R1, R2", "4", "75")
    assert 0 < float(kappa) < 1 and re.fullmatch(r"0\.\d+ \[.*\]", icc)
    (one, *_), *others = table(made, "mos-paired-by-patient")[1:]
    assert one == "near - fair" and len(others) == 1


def test_the_paired_tests_hold_no_mean_over_parts(made):
    _, *lines = table(made, "ssim-paired-by-patient")
    assert [(line[0], line[1]) for line in lines] == [
        (f"near - {name}", part) for name in ("noisy", "fair") for part in ("image", "heart")
    ]
    held = json.loads((made / "numbers.json").read_text(encoding="utf-8"))
    assert held["seconds"]["near"] == [0.001, 0.003]
    assert {n["metric"] for n in held["summary"]} == {"ssim", "plane_ssim", "psnr_db"}
    assert {n["structure"] for n in held["summary"]} == {"image", "heart"}


def test_the_page_has_a_picture_of_each_case(made):
    page = (made / "report.html").read_text(encoding="utf-8")
    for name in ("results", "opinions", "distributions", "cases", "definitions", "provenance"):
        assert f'<section id="{name}">' in page, name
    assert "A paper." in page and "0.796" in page
    captions = re.findall(r"<figcaption>(p\d): long-axis cut", page)
    ssim = {case: 0.0 for case in ("p0", "p1", "p2")}
    for entry in METHODS:
        for row in evaluation.read_results(made.parent / entry).measured.images:
            ssim[str(row["case"])] += float(row["ssim"]) if row["structure"] == "image" else 0.0
    assert captions == sorted(ssim, key=lambda case: -ssim[case])


def test_the_picture_shows_each_image_where_it_lies(root):
    """Everything on the grid of the reference: thick slices as blocks, errors against it, the base above."""
    (one,) = [evaluation.read_results(root / "near")]
    view = restoration.restored([one], "p1")
    image, label = restored.ball(1)
    truth = restored.stack(image)
    np.testing.assert_array_equal(view.truth, truth.data)
    np.testing.assert_array_equal(view.label, restored.stack(label).data)
    blocks = view.low.reshape(-1, restored.FACTOR, *view.low.shape[1:])
    np.testing.assert_array_equal(blocks, np.broadcast_to(blocks[:, :1], blocks.shape))
    np.testing.assert_allclose(blocks[:, 0], truth.data.reshape(blocks.shape).mean(axis=1), rtol=1e-5)
    assert np.abs(view.images["near"] - view.truth).max() < 60
    figure = restoration.restored_figure([(view, "")], {"near": {"p1": 0.5}})
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:3] == ["low resolution", "near\nSSIM 0.500", "reference"]
    shown, errors = (np.asarray(figure.axes[k].images[0].get_array()) for k in (1, 4))
    z, h, w = view.box
    middle = (h.start + h.stop) // 2
    np.testing.assert_array_equal(shown, view.images["near"][:, middle, w])
    size = view.truth.max() - view.truth.min()
    np.testing.assert_allclose(errors, 100 * (shown - view.truth[:, middle, w]) / size, rtol=1e-5)
    assert z == slice(0, view.truth.shape[0]) and w.stop <= view.truth.shape[2]


def test_an_evaluation_writes_its_table_and_pictures(root, tmp_path):
    (one,) = restored.results(tmp_path, {"fair": 30.0}, failed={"p9": "p9: is damaged"})
    restoration.write(one.folder, one, ["p2"], QUIET)
    text = (one.folder / "table.md").read_text(encoding="utf-8")
    assert "n = 2 patients, without p2." in text and "because they failed: p9" in text
    assert "| fair |" in text and "| 1.25 |" in text  # of the second case: the first one compiles
    assert {path.name for path in one.folder.iterdir()} >= {"images.csv", "images.json", "failed.csv", "overlay.png"}
    with (one.folder / "images.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["structure"]) for row in rows] == [
        (f"p{k}", p) for k in range(3) for p in ("image", "heart")
    ]
    assert set(rows[0]) >= {"patient", "ssim", "psnr_db", "seconds"}
    assert list(typical([one])) == ["best", "median", "worst"]


def test_images_and_label_maps_are_reported_apart(root, tmp_path):
    row = {"case": "p0", "patient": "p0", "structure": "LV", "surface_dice": 1.0, "dice": 1.0}
    about = {"name": "labels", "data": restored.DATA, "split": "test", "files": {"p0": {}}}
    labels = evaluation.Results("labels", evaluation.Measured(cases=(row,)), about, tmp_path)
    evaluation.write_rows(tmp_path, labels)
    with pytest.raises(InputError, match=r"measures label maps, but .*near measures images; report them apart"):
        collect.collect([root / "near", tmp_path], "val")


def test_folds_of_restored_images_are_pooled(root):
    near = evaluation.read_results(root / "near")
    other = near._replace(measured=near.measured._replace(images=near.measured.images[2:]))
    pooled = evaluation.pooled([near, other])
    assert pooled.measured.images == near.measured.images and pooled.of_images
    table_of = restoration.restoration_table({"near": pooled.rows}, Options("near", {}, ()))
    assert table_of.rows[0][0].text == "near"
