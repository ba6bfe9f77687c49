"""Twins: how their files are found, what is refused, and how they are made from high-resolution volumes."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from rich.console import Console
from scipy import ndimage

from cardiac_jax.data import degraded
from cardiac_jax.data.check import check
from cardiac_jax.data.discover import discover
from cardiac_jax.data.io import formats
from cardiac_jax.data.load import inspect, load
from cardiac_jax.data.sets import dataset, mscmr, twins
from cardiac_jax.errors import InputError
from tests import images

SHAPE = (40, 36, 60)  # 25 x 22.5 mm, 60 mm deep
MM = (0.625, 0.625, 1.0)


def sphere(affine: np.ndarray, shape: tuple[int, ...], radius_mm: float = 9.0) -> np.ndarray:
    """Distance in mm beyond a sphere about a place off the middle of the volume."""
    centre = GRID @ [*((np.array(SHAPE) - 1) / 2 + (2, -1, 4)), 1]
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3] - centre[:3], axis=-1) - radius_mm


GRID = images.affine(("L", "P", "S"), MM, tilt=0.2)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> Path:
    """Two high-resolution patients in the layout of MS-CMRSeg: a bright sphere, LV, with noise."""
    root = tmp_path_factory.mktemp("volumes")
    inside = sphere(GRID, SHAPE) < 0
    for number in (1, 2):
        noisy = np.rint(100 + 500 * inside + np.random.default_rng(number).normal(0, 20, SHAPE)).astype(np.int16)
        images.save(root / f"patient{number}_LGE.nii.gz", noisy, GRID)
        images.save(root / f"patient{number}_LGE_manual.nii.gz", np.where(inside, 500, 0).astype(np.int16), GRID)
    return root


def make(root: Path, out: Path, cases: int = 2, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=300)
    records = discover(mscmr.DATASET, root).records[:cases]
    assert not degraded.write(out, records, mscmr.DATASET, degraded.Options(**options), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def made(volumes, tmp_path_factory) -> Path:
    """Their twins without motion and noise."""
    out = tmp_path_factory.mktemp("made") / "out"
    make(volumes, out, misalign_mm=0.0)
    return out


def test_twins_of_a_volume_lie_in_place(made):
    """Both boxes are the same whole number of thick slices about the label, as ITK reads them; the sphere is there."""
    chosen = dataset("twins", root=made)
    assert chosen.classes == ("background", "RV", "Myo", "LV") and chosen.sequences == ("LGE",)
    found = check(chosen, made)
    assert found.problems == [] and len(found.rows) == 2, found.notes
    assert not [note for note in found.notes if "not read" in note]
    boxes = []
    for end in ("lr", "hr"):
        image = sitk.ReadImage(str(made / "twins" / f"patient1_{end}.nii.gz"))
        low = image.TransformContinuousIndexToPhysicalPoint((-0.5,) * 3)
        high = image.TransformContinuousIndexToPhysicalPoint([n - 0.5 for n in image.GetSize()])
        boxes.append(np.array([low, high]))
        assert image.GetSize()[2] == {"lr": 6, "hr": 30}[end]
    np.testing.assert_allclose(*boxes, atol=1e-3)
    for end in ("hr", "lr"):
        label = formats.read(made / "twins" / f"patient1_{end}_label.nii.gz")
        beyond_mm = sphere(label.affine, label.data.shape)
        clear = np.abs(beyond_mm) > {"hr": 1.2, "lr": 6.0}[end]
        np.testing.assert_array_equal(label.data[clear] == 3, beyond_mm[clear] < 0)


def test_the_low_image_is_the_high_one_blurred_and_decimated(made):
    low, high = (formats.read(made / "twins" / f"patient2_{end}.nii.gz").data.astype(float) for end in ("lr", "hr"))
    blurred = ndimage.gaussian_filter1d(high, 2.0, axis=2, mode="nearest")[..., 2::5]
    assert np.abs(low - blurred).max() <= 1.0  # both are rounded


def test_the_same_seed_gives_the_same_files_and_a_second_start_goes_on(volumes, made, tmp_path):
    options: dict[str, Any] = {"misalign_mm": 2.0, "rotation_deg": 3.0, "noise": 0.1, "size_mm": 20.0}
    first, second, other = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    make(volumes, first, **options)
    make(volumes, second, **options)
    make(volumes, other, cases=1, **options, seed=1)
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(names) == 2 * 4 + 3
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    low, high = (Path("twins") / f"patient1_{end}.nii.gz" for end in ("lr", "hr"))
    assert (first / low).read_bytes() != (other / low).read_bytes()
    assert (first / high).read_bytes() == (other / high).read_bytes()
    assert formats.read(first / high).data.shape[:2] == (16, 16)
    one, two = (formats.read(first / "twins" / f"patient{n}_lr.nii.gz").data for n in (1, 2))
    assert np.abs(one - two).max() > 50, "each case has its own motion"
    rows = (first / "cases.csv").read_text(encoding="utf-8").splitlines()
    (first / "cases.csv").write_text("\n".join(rows[:2]) + "\n", encoding="utf-8")
    (first / "twins" / "patient2_lr.nii.gz").unlink()
    before = (first / low).stat().st_mtime_ns
    assert "skipped, because they are in" in make(volumes, first, **options)
    assert (first / low).stat().st_mtime_ns == before
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    with pytest.raises(InputError, match=r"twins.json: holds twins with seed=0, not 1$"):
        make(volumes, first, **options, seed=1)
    with pytest.raises(InputError, match=r"^--noise: -1 is less than 0"):
        make(volumes, tmp_path / "d", noise=-1)


def test_files_are_found_by_name(tmp_path):
    folder = tmp_path / "twins"
    for name in ("a_ED_lr", "a_ED_hr", "a_ED_hr_label", "a_ED_lr_label", "a_ES_lr", "b_lr", "b_hr_label"):
        images.save(folder / f"{name}.nii.gz", images.image())
    (tmp_path / "cases.csv").write_text("id,group,patient,split\na,dilated,,\nb,,p9,test\n", encoding="utf-8")
    found = {record.id: record for record in twins.find(tmp_path)}
    assert list(found) == ["a_ED", "a_ES", "b"]
    held = found["a_ED"]
    assert (held.patient, held.phase, held.group, held.split) == ("a", "ED", "dilated", None)
    assert held.images == {"cine": folder / "a_ED_lr.nii.gz"}
    assert held.fine_images == {"cine": folder / "a_ED_hr.nii.gz"} and held.label == folder / "a_ED_hr_label.nii.gz"
    assert found["a_ES"].label is None and found["a_ES"].fine_images == {}
    assert (found["b"].patient, found["b"].phase, found["b"].split) == ("p9", None, "test")
    assert [record.id for record in twins.find(folder)] == list(found)
    assert [record.id for record in twins.find(folder / "b_lr.nii.gz")] == ["b"]
    with pytest.raises(InputError, match="is not named"):
        twins.find(folder / "a_ED_hr.nii.gz")
    with pytest.raises(InputError, match=r"holds no twins/NAME"):
        (tmp_path / "empty").mkdir()
        twins.find(tmp_path / "empty")


def test_classes_are_those_of_dataset_json(tmp_path):
    names = {"channel_names": {"0": "LGE"}, "labels": {"background": 0, "LA": 1, "ignore": 9}}
    (tmp_path / "dataset.json").write_text(json.dumps(names), encoding="utf-8")
    chosen = dataset("twins", root=tmp_path)
    assert chosen.classes == ("background", "LA") and chosen.labels == {0: 0, 1: 1, 255: 255, 9: 255}
    assert chosen.sequences == ("LGE",) and dataset("twins").classes == ("background", "RV", "Myo", "LV")
    assert dataset("twins", ("LA",), tmp_path).classes == ("background", "LA")


def test_a_label_turned_against_its_image_is_refused_in_one_line(made, tmp_path):
    for path in (made / "twins").glob("patient1_*"):
        volume = formats.read(path)
        affine = volume.affine.copy()
        if path.name.endswith("hr_label.nii.gz"):
            affine = images.affine(("L", "P", "S"), volume.spacing_mm, affine[:3, 3], tilt=0.25)
        images.save(tmp_path / "twins" / path.name, np.asarray(volume.data), affine)
    chosen = dataset("twins", root=made)
    (record,) = chosen.find(tmp_path)
    record = record.__class__(
        **{**record.__dict__, "images": {"LGE": next(iter(record.images.values()))}, "fine_images": {}}
    )
    case, problems = inspect(record, chosen, labelled=True)
    assert case is None and len(problems) == 1
    assert str(problems[0]).startswith(f"{tmp_path}/twins/patient1_hr_label.nii.gz: is turned by ")


def test_twins_of_twins_are_refused(made):
    with pytest.raises(InputError, match="already holds low-resolution"):
        degraded.write(made, twins.find(made), twins.DATASET, degraded.Options(), Console(file=io.StringIO()))
    with (made / "cases.csv").open(encoding="utf-8") as file:
        assert [row["slices"] for row in csv.DictReader(file)] == ["6", "6"]
    case = load(twins.find(made)[0], dataset("twins", root=made), labelled=True)
    assert case.label is None and case.truth is not None and case.truth.data.shape == (30, 18, 20)
