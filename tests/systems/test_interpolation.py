"""Interpolation as a system: run like any other on twins, from training without networks to the report's files."""

import csv
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from rich.console import Console
from skimage.metrics import structural_similarity

from cardiac_jax import systems
from cardiac_jax.core.types import Config
from cardiac_jax.data.io import formats
from cardiac_jax.data.sets import phantom
from cardiac_jax.errors import BatchError, InputError
from cardiac_jax.ops.interpolate import ORDERS, upsample
from cardiac_jax.report import sections
from cardiac_jax.report.collect import collect
from cardiac_jax.results.evaluation import read_results
from cardiac_jax.runs.evaluate import evaluate
from cardiac_jax.runs.seconds import seconds_per_stack
from cardiac_jax.runs.train import train_run
from experiments import common
from tests import tiny

QUIET = Console(quiet=True)
SHAPE: dict[str, Any] = {"size": (32, 32), "spacing_mm": (1.25, 10.0), "slices": 4}


def config(root: Path, method: str = "linear") -> Config:
    grid = {"size": (4, 32, 32), "spacing_mm": (0.0, 0.0, 0.0), "target_scale": (5, 1, 1)}
    held = ConfigDict({"system": "interpolation", "method": method, "seed": 0})
    held.data = common.data(name="twins", root=str(root), sequences=("cine",), fold=0, folds=2, **grid)
    held.update({"train": common.train(batch_size=1), "post": common.post(), "init": common.init()})
    return held


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Linear interpolation trained and evaluated on two patients, one of them for validation."""
    root = tmp_path_factory.mktemp("interpolation")
    phantom.write(root / "data", "hr", 2, 0, **SHAPE)
    assert train_run(config(root / "data"), root / "linear", QUIET) == 0
    evaluate([root / "linear"], root / "linear" / "evaluation_val", console=QUIET)
    return root


def test_the_image_is_that_of_the_interpolation_in_the_intensities_of_the_file(root):
    results = read_results(root / "linear" / "evaluation_val")
    assert results.name == "linear" and len(results.about["files"]) == 2  # ED and ES of one patient
    for files in results.about["files"].values():
        low = formats.read(Path(files["image"]))
        written = formats.read(results.folder / files["prediction"])
        reference = formats.read(Path(files["truth"]))
        assert written.data.shape == reference.data.shape
        np.testing.assert_allclose(written.affine, reference.affine, atol=1e-3)
        want = upsample(jnp.asarray(low.data, np.float32)[..., None], (1, 1, 5), 1)[..., 0]
        np.testing.assert_allclose(written.data, want, atol=2e-3 * np.ptp(want))


@pytest.mark.parametrize("method", ORDERS)
def test_each_method_predicts_by_its_spline(method: str, tmp_path):
    spec = tiny.spec((4, 6, 5), target_scale=(5, 1, 1))
    system = systems.build_system(config(tmp_path, method), spec)
    image = jax.random.normal(jax.random.key(0), (2, 4, 6, 5, 1))
    found, _ = system.predict({}, {"image": image}, key=jax.random.key(0), train=frozenset())
    assert [(o.name, o.kind, o.scale) for o in system.outputs] == [("enhanced", "image", (5, 1, 1))]
    for one, got in zip(image, found["enhanced"], strict=True):
        np.testing.assert_allclose(got, upsample(one, (5, 1, 1), ORDERS[method]), atol=1e-5)


def test_the_rows_are_those_of_scikit_image(root):
    results = read_results(root / "linear" / "evaluation_val")
    options = {"gaussian_weights": True, "use_sample_covariance": False, "sigma": 1.5}
    whole = {row["case"]: row for row in results.measured.images if row["structure"] == "image"}
    for case, files in results.about["files"].items():
        truth = formats.read(Path(files["truth"])).data.astype(np.float64)
        written = formats.read(results.folder / files["prediction"]).data.astype(np.float64)
        want = structural_similarity(written, truth, data_range=np.ptp(truth), **options)
        assert whole[case]["ssim"] == pytest.approx(want, abs=1e-4)
    heart = [row for row in results.measured.images if row["structure"] == "heart"]
    assert {row["case"] for row in heart} == set(whole)
    with (results.folder / "images.csv").open(encoding="utf-8") as file:
        assert {row["patient"] for row in csv.DictReader(file)} == {str(row["patient"]) for row in heart}


def test_runs_are_reported_and_timed_together(root):
    entries = collect([root / "linear"], "val")
    assert not sections.training(entries, sections.Options("linear", {}, ())).pictures, "nothing was trained"
    (results,) = (entry.results for entry in entries)
    found = seconds_per_stack([results, results._replace(name="again")], 3)
    assert {name: len(held) for name, held in found.items()} == {"linear": 3, "again": 3}
    assert all(0 < second < 10 for held in found.values() for second in held)


def test_a_case_without_a_reference_is_named(root, tmp_path):
    data = shutil.copytree(root / "data", tmp_path / "data")
    case, files = next(iter(read_results(root / "linear" / "evaluation_val").about["files"].items()))
    next(data.rglob(Path(files["truth"]).name)).unlink()
    with pytest.raises(BatchError, match=rf"1 of 2 cases: failed, .*: {case};"):
        evaluate([root / "linear"], tmp_path / "out", root=str(data), console=QUIET)
    assert "has no finer image cine" in read_results(tmp_path / "out").about["failed"][case]


def test_what_cannot_be_built_is_refused(tmp_path):
    with pytest.raises(InputError, match="'cubic' is not one of linear, bspline"):
        systems.build_system(config(tmp_path, "cubic"), tiny.spec((4, 32, 32)))
    with pytest.raises(InputError, match="is not a volume"):
        systems.build_system(config(tmp_path), tiny.spec())
