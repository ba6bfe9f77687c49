"""Values of label maps: rounded within tolerance, else refused with the digits that differ; images on their grid."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks import fuzz_readers
from cardiac_jax.data import label_maps
from cardiac_jax.data.io import formats
from cardiac_jax.data.load import canonical_labels, image_on, label_values
from cardiac_jax.data.sets import dataset
from cardiac_jax.data.stack import from_volume
from cardiac_jax.errors import InputError
from cardiac_jax.results import evaluation
from cardiac_jax.results.evaluation import Measured, Subject, measured
from tests import images

FILE = Path("x.nii.gz")
WHOLE = {k: k for k in range(4)}


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
@pytest.mark.parametrize("name", ["acdc", "mscmr", "myops", "lasc"])
def test_values_that_nibabel_rescaled_are_rounded(tmp_path, name, dtype):
    """Saved from floats with an integer type nibabel spreads values over its range; uint8 is too coarse above 5."""
    labels = dataset(name).labels
    raw = np.random.default_rng(0).choice(sorted(labels), (9, 8, 3))
    image = nib.Nifti1Image(raw.astype(np.float64) * (1 - 1e-7), images.affine())
    image.header.set_data_dtype(dtype)
    nib.save(image, tmp_path / "x.nii.gz")
    read = formats.read(tmp_path / "x.nii.gz").data
    apart = np.abs(read - raw).max()
    assert apart > 0
    if apart > 0.02:
        assert dtype == np.uint8 and name in ("mscmr", "myops")
        with pytest.raises(InputError, match=r"unknown label values \d+\.\d+ .\d+ voxels"):
            canonical_labels(read, labels, FILE)
    else:
        np.testing.assert_array_equal(canonical_labels(read, labels, FILE), np.vectorize(labels.get)(raw))
        values, counts = np.unique(raw, return_counts=True)
        assert label_values(read, FILE) == dict(zip(values.tolist(), counts.tolist(), strict=True))


def spoiled(value: float, count: int = 3) -> np.ndarray:
    data = np.ones((4, 3, 2), np.float32)
    data.ravel()[:count] = value
    return data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (spoiled(np.nan, 5), "has 5 voxels that are NaN or infinite"),
        (spoiled(-np.inf, 1), "has 1 voxels that are NaN or infinite"),
        (spoiled(-1.0), r"has negative (label )?values -1 .3 voxels."),
        (spoiled(-1.0).astype(np.int64), r"has negative (label )?values -1 .3 voxels."),
        (spoiled(2.05), r"2\.05 .3 voxels."),
        (spoiled(500.0458), r"500\.0458 .3 voxels."),
        (np.linspace(0, 1, 24, dtype=np.float32), r"has 22 voxels with 22 values that are not whole .*probabilities"),
    ],
)
def test_what_no_label_map_holds_is_refused_with_its_digits(data, words):
    for read in (lambda: canonical_labels(data, WHOLE, FILE), lambda: label_values(data, FILE)):
        with pytest.raises(InputError, match=words) as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint64, np.float64, np.uint32])
def test_every_type_gives_the_same_classes(dtype):
    raw = np.random.default_rng(0).integers(0, 4, (5, 4, 3))
    np.testing.assert_array_equal(canonical_labels(raw.astype(dtype), WHOLE, FILE), raw)


def test_class_maps_in_four_dimensions_are_called_what_they_are(tmp_path):
    label = np.random.default_rng(0).integers(0, 4, (6, 5, 4))
    hot = np.stack([label == k for k in range(4)], -1)
    for data, words in ((hot.astype(np.uint8), "one-hot maps of 4 classes"), (0.7 * hot + 0.075, "probabilities of 4")):
        images.save(tmp_path / "x.nii.gz", data)
        with pytest.raises(InputError, match=rf"is 4D .6 x 5 x 4 x 4.: {words}"):
            formats.read(tmp_path / "x.nii.gz")


# --- on the grid of the gold standard


def test_a_prediction_stored_otherwise_measures_the_same(tmp_path):
    label = np.zeros((8, 7, 5), np.uint8)
    label[2:6, 1:5, 1:4], label[3, 2, 2] = 1, 3
    oblique = images.affine(("L", "S", "P"), (0.7, 0.8, 6.0), tilt=0.4)
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    flip[1, 3] = 6
    for side, data, grid in (("truth", label, oblique), ("pred", np.flip(label, 1), oblique @ flip)):
        images.save(tmp_path / side / "a.nii.gz", np.ascontiguousarray(data), grid)
    found = label_maps.find(tmp_path / "pred", tmp_path / "truth")
    pred, truth = label_maps.load(found.pairs[0], found)
    np.testing.assert_array_equal(pred.data, truth.data)


def test_an_image_for_a_picture_passes_the_check_of_a_label_map(tmp_path):
    grid = images.affine(("L", "S", "P"), (0.7, 0.8, 6.0), tilt=0.4)
    truth = from_volume(images.label(), grid, "affine")
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = 11
    sound = images.save(tmp_path / "a.nii", images.image(), grid)
    again = images.save(tmp_path / "b.nii", images.image()[::-1].copy(), grid @ flip)
    for path in (sound, again):
        shown = image_on(path, truth, "the gold standard")
        np.testing.assert_array_equal(shown, from_volume(images.image(), grid, "affine").data)
    holes = images.image().astype(np.float32)
    holes[0] = np.nan
    for data, words in (
        (images.image()[..., :3], "has shape 12 x 10 x 3, the gold standard has"),
        (images.image((12, 10, 4, 2)), "is 4D"),
        (holes, "has 40 voxels that are NaN"),
    ):
        with pytest.raises(InputError, match=words):
            image_on(images.save(sound, data, grid), truth, "the gold standard")


def test_thirds_and_segments_are_given_only_where_the_apex_is_known(monkeypatch):
    monkeypatch.setattr(evaluation, "validity_rows", lambda *_: [])
    _, y, x = np.indices((6, 40, 40))
    far = np.hypot(y - 20, x - 20)
    label = np.select([far < 6, far < 10, (far < 16) & (x < 16)], [3, 2, 1], 0).astype(np.uint8).transpose(2, 1, 0)
    rows = []
    for tilt in (0.4, 0.0):
        stack = from_volume(label, images.affine(("L", "P", "S"), (1.4, 1.4, 8.0), tilt=tilt), "affine")
        rows.append(measured(Measured(), Subject("a", "a"), stack, stack, dataset("acdc")))
    known, unknown = rows
    assert {row["location"] for row in known.slices} == {"apex", "middle", "base"}
    assert {row["location"] for row in unknown.slices} == {""} and len(unknown.slices) == len(known.slices)
    assert len(known.segments) == 17 and not unknown.segments
    assert [row["measure"] for row in known.clinical] == [row["measure"] for row in unknown.clinical]
    assert "wall thickness" in {row["measure"] for row in unknown.clinical}


# --- damaged files


def test_damaged_files_are_read_or_refused_in_one_line():
    found = fuzz_readers.run(450, 0)
    assert not found.exceptions and not found.slow
    assert found.read > 60 and found.refused > 150
