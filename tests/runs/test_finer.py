"""Training, evaluation and prediction where labels and images are finer than the input: the phantom's twins."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cardiac_jax.data.io import formats
from cardiac_jax.data.sets import phantom
from tests import tiny

KEYS = [
    "--config.data.name=twins",
    "--config.data.sequences=cine",
    "--config.data.size=3,10,10",
    "--config.data.spacing_mm=10.0,8.0,8.0",
    "--config.data.target_scale=5,2,2",
    "--config.data.fold=0",
    "--config.data.folds=3",
    "--config.data.test_share=0.0",
    "--config.train.steps=2",
    "--config.train.eval_every=2",
    "--config.train.batch_size=1",
    "--config.localiser.steps=0",
    "--config.data.intensity=z_score",
]


def use(name: str) -> str:
    return f"tests.finer_systems:{name}"


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """Three patients at ED, trained on, evaluated and predicted by both systems; not to be changed."""
    root = tmp_path_factory.mktemp("finer")
    phantom.write(root / "hr", "hr", 3, 0, spacing_mm=(5.0, 10.0), size=(16, 16), slices=3)
    for systole in (root / "hr" / "twins").glob("*_ES_*"):
        systole.unlink()
    image, data = root / "hr" / "twins" / "patient1_ED_lr.nii.gz", f"--config.data.root={root / 'hr'}"
    commands = []
    for name in ("segmentation", "super_resolution"):
        run, config = f"--workdir={root / name}", f"--config.system={use(name)}"
        commands.append(["launch.train", "--config=drunet:variant=drunet,preset=smoke", *KEYS, data, config, run])
        commands.append(["launch.evaluate", run, f"--out={root / name}_out", f"--use={use(name)}"])
        for grid in ("output", "image") if name == "segmentation" else ("output",):
            out = f"--output={root / name}_{grid}"
            words = ["--data.name=twins", f"--input={root / 'hr'}"] if grid == "image" else [f"--input={image}"]
            commands.append(["launch.predict", run, out, f"--grid={grid}", f"--use={use(name)}", *words])
    runs, reads = f"--runs={root / 'super_resolution_out'}", f"--reading={root / 'page'}"
    commands.append(
        ["launch.report", runs, reads, f"--out={root / 'report'}", "--time=2", f"--use={use('super_resolution')}"]
    )
    env = tiny.environment(1, tiny.kept_cache(__name__))
    for done in tiny.run_all([["-m", *words] for words in commands], env):
        assert done.returncode == 0, f"{done.args}\n{done.stderr}"
    return root


def in_place(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a file's box in LPS mm, as ITK reads them: of its first and last face along each axis, sorted."""
    image = sitk.ReadImage(str(path))
    faces = [(-0.5,) * 3, tuple(n - 0.5 for n in image.GetSize())]
    ends = np.array([image.TransformContinuousIndexToPhysicalPoint(face) for face in faces])
    return ends.mean(axis=0), np.abs(np.array(image.GetSize()) * image.GetSpacing())


def test_the_finer_label_map_lies_over_its_image(room):
    image = room / "hr" / "twins" / "patient1_ED_lr.nii.gz"
    finer = room / "segmentation_output" / "patient1_ED_lr.nii.gz"
    volume = formats.read(finer)
    assert sorted(volume.data.shape) == [15, 20, 20] and sorted(volume.spacing_mm) == pytest.approx([2, 4, 4])
    (middle, size), (ours, our_size) = in_place(image), in_place(finer)
    np.testing.assert_allclose(ours, middle, atol=1e-3)
    np.testing.assert_allclose(our_size, size, atol=1e-3)
    for case in ("patient1_ED", "patient3_ED"):
        on_image = formats.read(room / "segmentation_image" / f"{case}.nii.gz")
        source = formats.read(room / "hr" / "twins" / f"{case}_lr.nii.gz")
        assert on_image.data.shape == source.data.shape
        np.testing.assert_allclose(on_image.affine, source.affine, atol=1e-5)


def test_evaluation_measures_on_the_grid_of_the_finer_gold_standard(room):
    out = room / "segmentation_out"
    held = json.loads((out / "cases.json").read_text(encoding="utf-8"))
    (patient,) = {row["patient"] for row in held["rows"]}
    assert {row["phase"] for row in held["rows"]} == {"ED"} and held["about"]["data"]["fine"]
    for phase in ("ED",):
        gold = formats.read(room / "hr" / "twins" / f"{patient}_{phase}_hr_label.nii.gz")
        drawn = formats.read(out / "predictions" / f"{patient}_{phase}.nii.gz")
        np.testing.assert_allclose(drawn.affine, gold.affine, atol=1e-5)
        one, two = drawn.data, gold.data
        for k, name in enumerate(("RV", "Myo", "LV"), 1):
            row = next(r for r in held["rows"] if (r["phase"], r["structure"]) == (phase, name))
            dice = 2 * ((one == k) & (two == k)).sum() / ((one == k).sum() + (two == k).sum())
            assert row["dice"] == pytest.approx(dice, abs=1e-9)
            voxel_ml = np.prod(gold.spacing_mm) / 1000
            assert row["volume_truth_ml"] == pytest.approx((two == k).sum() * voxel_ml, rel=1e-4)
    assert (out / "overlay.png").stat().st_size > 10_000


def test_codes_of_a_folder_are_one_table(room):
    folder = room / "segmentation_image"
    with (folder / "codes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [f"patient{n}_ED" for n in (1, 2, 3)]
    for row in rows:
        code = json.loads((folder / f"{row['case']}_code.json").read_text(encoding="utf-8"))["code"]
        assert [float(row[f"code_{k}"]) for k in range(3)] == code and len(row) == 4


def test_an_enhanced_image_has_the_intensity_scale_of_its_input(room):
    """Two steps from nothing: what is written is near the input's mean, and in place; so is what is measured."""
    image = formats.read(room / "hr" / "twins" / "patient1_ED_lr.nii.gz").data
    path = room / "super_resolution_output" / "patient1_ED_lr.nii.gz"
    values = formats.read(path).data
    assert sorted(values.shape) == [15, 20, 20] and values.std() > 0
    spread = np.abs(values - image.mean()).mean() / image.std()
    assert 0.05 < spread < 5, "in units of the network it would be thousands of deviations away"
    source = room / "hr" / "twins" / "patient1_ED_lr.nii.gz"
    np.testing.assert_allclose(in_place(path)[0], in_place(source)[0], atol=1e-3)
    assert not (room / "super_resolution_output" / "dataset.json").exists()


def test_an_enhanced_image_is_measured_against_the_finer_one(room):
    """SSIM and PSNR by scikit-image, of the files that were written, over the box that was predicted."""
    out = room / "super_resolution_out"
    with (out / "images.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["structure"] == "image"]
    assert [row["phase"] for row in rows] == ["ED"]
    for row in rows:
        gold = formats.read(room / "hr" / "twins" / f"{row['case']}_hr.nii.gz")
        found = formats.read(out / "predictions" / f"{row['case']}.nii.gz")
        np.testing.assert_allclose(found.affine, gold.affine, atol=1e-5)
        one, two = (volume.data.astype(np.float64) for volume in (found, gold))
        span = float(np.ptp(two))
        psnr = peak_signal_noise_ratio(two, one, data_range=span)
        assert float(row["psnr_db"]) == pytest.approx(psnr, abs=1e-3)
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": span}
        assert float(row["ssim"]) == pytest.approx(structural_similarity(two, one, **options), abs=1e-4)


def test_enhanced_images_are_reported_timed_and_shown_to_readers(room):
    numbers = json.loads((room / "report" / "numbers.json").read_text(encoding="utf-8"))
    ((method, seconds),) = numbers["seconds"].items()
    assert len(seconds) == 2 and all(second > 0 for second in seconds)
    assert {line["method"] for line in numbers["summary"]} == {method}
    key = json.loads((room / "page" / "reading_key.json").read_text(encoding="utf-8"))
    page = (room / "page" / "reading.html").read_text(encoding="utf-8")
    assert [shown["method"] for shown in key["images"].values()] == [method] and method not in page
    assert all(f'data-image="{name}"' in page for name in key["images"])
