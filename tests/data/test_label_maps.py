"""Label maps of any program beside the gold standard."""

import json

import numpy as np
import pytest

from cardiac_jax.data import label_maps
from cardiac_jax.data.sets import dataset
from cardiac_jax.errors import InputError
from tests import images

SHAPE = (6, 5, 4)


@pytest.fixture
def folders(tmp_path):
    """Two cases with truth, one of them predicted; values 0, 1 and 3."""
    truth, pred = tmp_path / "labelsTs", tmp_path / "pred"
    label = np.zeros(SHAPE, np.uint8)
    label[2:4, 1:4, 1:3] = 1
    label[3, 2, 1] = 3
    for folder, names in ((truth, ("a", "b")), (pred, ("b",))):
        folder.mkdir()
        for name in names:
            images.save(folder / f"{name}.nii.gz", label if folder == truth else np.flip(label, 0).copy())
    return pred, truth


def test_files_are_matched_by_name_and_values_become_classes(folders):
    found = label_maps.find(*folders)
    assert [pair.id for pair in found.pairs] == ["b"]
    assert found.missing == ["a"]
    assert found.dataset.classes == ("background", "label 1", "label 3")
    pred, truth = label_maps.load(found.pairs[0], found.dataset)
    assert truth.to_file().shape == SHAPE
    assert truth.frame == pred.frame and np.array_equal(truth.affine, images.affine())
    assert np.unique(truth.data).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(pred.to_file(), np.flip(truth.to_file(), 0))


def test_a_data_set_description_names_the_values(folders):
    pred, truth = folders
    labels = {"background": 0, "RV": 1, "Myo": 2, "LV": 3, "ignore": 4}
    (truth.parent / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    assert label_maps.find(pred, truth).dataset.classes == ("background", "RV", "Myo", "LV")


def test_a_description_beside_the_predictions_counts_too(folders):
    pred, truth = folders
    (pred / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "wall": 1, "pool": 3}}), encoding="utf-8"
    )
    assert label_maps.find(pred, truth).dataset.classes == ("background", "wall", "pool")


def test_images_of_other_names_are_refused(folders, tmp_path):
    images.save(tmp_path / "imagesTs" / "x.nii.gz", np.ones(SHAPE, np.float32))
    with pytest.raises(InputError, match="imagesTs"):
        label_maps.find(*folders, tmp_path / "imagesTs")


def test_not_annotated_is_not_a_structure(folders):
    pred, truth = folders
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[0], drawn[1] = 255, 1
    images.save(truth / "b.nii.gz", drawn)
    found = label_maps.find(pred, truth)
    assert found.dataset.classes == ("background", "label 1", "label 3")
    assert (label_maps.load(found.pairs[0], found.dataset)[1].to_file()[0] == 255).all()


def test_images_are_found_under_the_channel_of_nnunet(folders, tmp_path):
    pred, truth = folders
    (tmp_path / "imagesTs").mkdir()
    image = tmp_path / "imagesTs" / "b_0000.nii.gz"
    images.save(image, np.ones(SHAPE, np.float32))
    assert label_maps.find(pred, truth, tmp_path / "imagesTs").pairs[0].image == image
    assert label_maps.find(pred, truth).pairs[0].image is None


def test_a_data_set_matches_by_its_cases(tmp_path):
    data, pred = tmp_path / "data", tmp_path / "pred"
    for folder in (data, pred):
        folder.mkdir()
    label = np.zeros(SHAPE, np.int16)
    label[2:4, 2:4] = 500
    for name, content in (("patient7_LGE", label + 1.0), ("patient7_LGE_manual", label)):
        images.save(data / f"{name}.nii.gz", content)
    images.save(pred / "patient7.nii.gz", label)
    chosen = dataset("mscmr")
    found = label_maps.find(pred, data, chosen=chosen)
    assert found.pairs[0].image == data / "patient7_LGE.nii.gz"
    ours, truth = label_maps.load(found.pairs[0], chosen)
    np.testing.assert_array_equal(ours.data, truth.data)
    assert set(np.unique(truth.data)) == {0, chosen.classes.index("LV")}


def _stranger(pred, truth):
    images.save(pred / "c.nii.gz", np.zeros(SHAPE, np.uint8))


def _other_grid(pred, truth):
    images.save(pred / "b.nii.gz", np.zeros((6, 5, 5), np.uint8))


def _elsewhere(pred, truth):
    images.save(pred / "b.nii.gz", np.zeros(SHAPE, np.uint8), np.diag([1.0, 1.0, 3.0, 1.0]))


def _empty(pred, truth):
    (pred / "b.nii.gz").unlink()


def _no_names(pred, truth):
    (truth / "dataset.json").write_text('{"labels": ["RV"]}', encoding="utf-8")


def _no_background(pred, truth):
    (truth / "dataset.json").write_text('{"labels": {"RV": 1}}', encoding="utf-8")


def _unnamed(pred, truth):
    (truth / "dataset.json").write_text('{"labels": {"background": 0, "RV": 1}}', encoding="utf-8")


def _image(pred, truth):
    images.save(pred / "b.nii.gz", np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16))


def _other_values(pred, truth):
    images.save(pred / "b.nii.gz", np.full(SHAPE, 200, np.uint8))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_image, "an image, not a label map"),
        (_other_values, "200 against 1, 3"),
        (_stranger, "c.nii.gz"),
        (_other_grid, "b.nii.gz"),
        (_elsewhere, "b.nii.gz"),
        (_empty, "pred"),
        (_no_names, "dataset.json"),
        (_no_background, "dataset.json"),
        (_unnamed, "b.nii.gz"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(folders, spoil, named):
    pred, truth = folders
    spoil(pred, truth)
    with pytest.raises(InputError) as error:
        found = label_maps.find(pred, truth)
        label_maps.load(found.pairs[0], found.dataset)
    assert named in str(error.value)
