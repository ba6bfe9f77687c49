"""Label maps of any program beside the gold standard."""

import json
import shutil

import numpy as np
import pytest

from cardiac_jax.data import label_maps
from cardiac_jax.data.label_names import parse
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
    pred, truth = label_maps.load(found.pairs[0], found)
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


def test_255_beside_other_values_is_ignored_only_where_that_is_told(folders):
    pred, truth = folders
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[0], drawn[1] = 255, 1
    images.save(truth / "b.nii.gz", drawn)
    with pytest.raises(InputError, match="255 beside 1, 3 in the gold standard: a structure or not annotated"):
        label_maps.find(pred, truth)
    found = label_maps.find(pred, truth, labels=parse(["a=1", "b=3", "ignore=255"]))
    assert found.dataset.classes == ("background", "a", "b")
    assert (label_maps.load(found.pairs[0], found)[1].to_file()[0] == 255).all()
    images.save(pred / "b.nii.gz", drawn)
    found = label_maps.find(pred, truth, labels=parse(["a=1", "b=3", "ignore=255"]))
    with pytest.raises(InputError, match=r"b\.nii\.gz: has unknown label values 255"):
        label_maps.load(found.pairs[0], found)  # a prediction has nothing to leave out
    assert label_maps.find(pred, truth).dataset.classes == ("background", "label 1", "label 255")


@pytest.mark.parametrize("codes", [(255, 255), (1, 255), (255, 1), (1, 1), (1, 200)])
def test_masks_of_one_structure_are_measured_whatever_they_hold(folders, codes):
    pred, truth = folders
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:4] = 1
    for folder, value, shift in ((pred, codes[0], 1), (truth, codes[1], 0)):
        images.save(folder / "b.nii.gz", np.roll(mask, shift, 0) * np.uint8(value))
    found = label_maps.find(pred, truth)
    assert len(found.dataset.classes) == 2
    ours, gold = label_maps.load(found.pairs[0], found)
    assert int((ours.data == 1).sum()) == int((gold.data == 1).sum()) == mask.sum()
    assert ((ours.data == 1) & (gold.data == 1)).sum() == mask.sum() / 2
    assert (codes[0] == codes[1]) or any("masks of one structure" in note for note in found.notes)


def test_masks_of_a_known_structure_may_be_white(folders):
    pred, truth = folders
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:4] = 255
    for folder in (pred, truth):
        images.save(folder / "b.nii.gz", mask)
    (truth / "dataset.json").write_text('{"labels": {"0": "background", "1": "left atrium"}}', encoding="utf-8")
    found = label_maps.find(pred, truth)
    assert found.dataset.classes == ("background", "LA")
    assert (label_maps.load(found.pairs[0], found)[0].data == 1).sum() == (mask > 0).sum()


def test_both_folders_may_have_a_description_of_their_own(folders):
    """The same maps, coded in the order of ACDC and of M&Ms, each described where it lies: nothing differs."""
    pred, truth = folders
    drawn = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint8)
    for folder, order in ((pred, "LV MYO RV"), (truth, "RV MLV LVC")):
        images.save(folder / "b.nii.gz", drawn if folder == truth else np.array([0, 3, 2, 1], np.uint8)[drawn])
        labels = {"background": 0} | {name: k for k, name in enumerate(order.split(), 1)}
        (folder / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    found = label_maps.find(pred, truth)
    assert found.dataset.classes == ("background", "RV", "Myo", "LV")
    ours, gold = label_maps.load(found.pairs[0], found)
    np.testing.assert_array_equal(ours.data, gold.data)
    np.testing.assert_array_equal(gold.to_file(), drawn)
    assert any("MLV is Myo, LVC is LV" in note for note in found.notes)
    with_flag = label_maps.find(pred, truth, labels=parse(["mnms"]))
    np.testing.assert_array_equal(label_maps.load(with_flag.pairs[0], with_flag)[0].data, gold.data)


def test_images_are_found_under_the_channels_of_nnunet(folders, tmp_path):
    pred, truth = folders
    image = tmp_path / "imagesTs" / "b_0000.nii.gz"
    images.save(image, np.ones(SHAPE, np.float32))
    assert dict(label_maps.find(pred, truth, tmp_path / "imagesTs").pairs[0].images) == {"image": image}
    assert not label_maps.find(pred, truth).pairs[0].images
    other = images.save(tmp_path / "imagesTs" / "b_0001.nii.gz", np.ones(SHAPE, np.float32))
    with pytest.raises(InputError, match=r"b_0000\.nii\.gz: is one of several channels of b"):
        label_maps.find(pred, truth, tmp_path / "imagesTs")
    named = {"channel_names": {"0": "bSSFP", "1": "LGE"}, "labels": {"background": 0, "RV": 1, "scar": 3}}
    (tmp_path / "dataset.json").write_text(json.dumps(named), encoding="utf-8")
    (pair,) = label_maps.find(pred, truth, tmp_path / "imagesTs").pairs
    assert dict(pair.images) == {"bSSFP": image, "LGE": other}


def test_outputs_of_predict_and_frames_of_a_beat(folders, tmp_path):
    """Probabilities are no label map; a prediction may have the name of its image; a name tells patient and phase."""
    pred, truth = folders
    images.save(pred / "b_probabilities.nii.gz", np.zeros((*SHAPE, 3), np.float32))
    found = label_maps.find(pred, truth)
    assert [pair.id for pair in found.pairs] == ["b"] and not found.failed
    assert any("probabilities that predict wrote (b_probabilities.nii.gz)" in note for note in found.notes)
    assert [label_maps.identity(name) for name in ("p1_ED", "p1_es", "p1_frame01", "p1")] == [
        ("p1", "ED"),
        ("p1", "ES"),
        ("p1", ""),
        ("p1", ""),
    ]


def test_one_bad_file_does_not_stop_the_others(folders):
    pred, truth = folders
    for name in ("c", "d", "e"):
        for folder in folders:
            shutil.copy(truth / "b.nii.gz", folder / f"{name}.nii.gz")
    (pred / "c.nii.gz").write_bytes((pred / "c.nii.gz").read_bytes()[:60])
    shutil.copy(pred / "d.nii.gz", pred / "d.nii")
    (pred / "f.nii.gz").symlink_to(pred / "gone.nii.gz")
    images.save(pred / "g.nii.gz", np.zeros(SHAPE, np.uint8))
    found = label_maps.find(pred, truth)
    assert [pair.id for pair in found.pairs] == ["b", "e"]
    assert found.failed.keys() == {"c", "d", "f", "g"}
    assert "truncated" in str(found.failed["c"]) and "files of one name" in str(found.failed["d"])
    assert "broken link" in str(found.failed["f"]) and "no gold standard" in str(found.failed["g"])
    shutil.copy(truth / "e.nii.gz", truth / "e.nii")
    assert "files of one name" in str(label_maps.find(pred, truth).failed["e"])


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
    assert found.pairs[0].images["LGE"] == data / "patient7_LGE.nii.gz"
    ours, truth = label_maps.load(found.pairs[0], found)
    np.testing.assert_array_equal(ours.data, truth.data)
    assert set(np.unique(truth.data)) == {0, chosen.classes.index("LV")}
    images.patient(data / "train", 8)
    shutil.copy(pred / "patient7.nii.gz", pred / "patient8.nii.gz")
    part = label_maps.find(pred, data, chosen=chosen, split="train")
    assert [pair.id for pair in part.pairs] == ["patient8"] and not part.failed
    assert any("not in the split train, and not measured: 1 predictions, such as patient7" in n for n in part.notes)
    (pred / "patient8.nii.gz").unlink()
    (pred / "patient7.nii.gz").rename(pred / "patient7_LGE.nii.gz")
    assert [pair.id for pair in label_maps.find(pred, data, chosen=chosen).pairs] == ["patient7"]
    coded = label_maps.find(pred, data, chosen=chosen, labels=parse(["mnms"]))
    with pytest.raises(InputError, match=r"unknown label values 500 .*; known are 0, 1, 2, 3"):
        label_maps.load(coded.pairs[0], coded)
    images.save(pred / "patient7_LGE.nii.gz", label // 500)
    np.testing.assert_array_equal(label_maps.load(coded.pairs[0], coded)[0].data, truth.data)


def _stranger(pred, truth):
    (pred / "b.nii.gz").rename(pred / "c.nii.gz")


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
        label_maps.load(found.pairs[0], found)
    assert named in str(error.value)
