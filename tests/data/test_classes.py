"""Classes told apart by configuration, and cine made LGE-like that takes over the classes of the real cases."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data import cohort, pipeline
from cardiac_jax.data.labels import merged
from cardiac_jax.data.sets import DATASETS, dataset
from cardiac_jax.errors import InputError
from experiments.acsnet import get_config
from tests import images

QUIET = Console(quiet=True)


@pytest.mark.parametrize("name", DATASETS)
def test_without_a_choice_a_data_set_is_whole(name: str):
    assert dataset(name) is DATASETS[name] is dataset(name, ())


def test_myops_of_which_some_classes_are_told_apart():
    whole = DATASETS["myops"]
    assert {"RV", "Myo", "LV", "oedema", "scar"} <= set(whole.classes)
    kept = dataset("myops", ("scar", "LV", "Myo"))
    assert kept.classes[0] == "background" and set(kept.classes[1:]) == {"Myo", "LV", "scar"}
    assert [c for c in whole.classes if c in kept.classes] == list(kept.classes), "in the data set's own order"
    becomes = {"RV": "background", "oedema": "Myo"}
    for raw, k in whole.labels.items():
        if k == IGNORE:
            assert kept.labels[raw] == IGNORE
        else:
            name = whole.classes[k]
            assert kept.classes[kept.labels[raw]] == becomes.get(name, name)
    assert kept._replace(classes=whole.classes, labels=whole.labels) == whole


def test_what_is_not_annotated_stays_so():
    kept = dataset("mscmr", ("LV",))
    ignored = {raw for raw, k in DATASETS["mscmr"].labels.items() if k == IGNORE}
    assert ignored and {raw for raw, k in kept.labels.items() if k == IGNORE} == ignored
    assert kept.classes == ("background", "LV")
    assert {k for k in kept.labels.values()} == {0, 1, IGNORE}


@pytest.mark.parametrize(
    "name, classes, value",
    [
        ("LV", ("background", "Myo", "LV"), 2),
        ("scar", ("background", "Myo", "scar"), 2),
        ("scar", ("background", "LV", "Myo"), 2),
        ("oedema", ("background", "LV"), 0),
        ("RV", ("background", "Myo", "LV"), 0),
        ("background", ("background", "Myo"), 0),
    ],
)
def test_what_a_structure_counts_as(name: str, classes: tuple[str, ...], value: int):
    assert merged(name, classes) == value


def test_an_unknown_set_or_class_is_named():
    with pytest.raises(InputError, match=r"data\.name: 'brain' is not one of acdc, .*, twins, nor module:attribute"):
        dataset("brain")
    with pytest.raises(InputError, match=r"data\.classes: acdc has no class 'scar', only background, RV, Myo, LV"):
        dataset("acdc", ("Myo", "scar"))


# --- LGE-like images beside real ones


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Two patients of LGE with labels of another program, and one of cine in ED and ES."""
    root = tmp_path_factory.mktemp("sets")
    for number, side in ((1, "train"), (2, "val")):
        images.patient(root / "mscmr" / side, number)
    cine = root / "acdc" / "patient001"
    y, x = np.mgrid[:40, :40]
    far = np.hypot(y - 20, x - 20)
    label = np.select([far < 6, far < 10, (far < 16) & (x > 24)], [3, 2, 1], 0).astype(np.uint8)
    label = np.repeat(label[..., None], 5, 2)
    image = (label * 40 + np.random.default_rng(0).integers(0, 20, label.shape)).astype(np.int16)
    for frame in (1, 9):
        images.save(cine / f"patient001_frame{frame:02d}.nii.gz", image, images.affine(spacing_mm=(1.5, 1.5, 8.0)))
        images.save(cine / f"patient001_frame{frame:02d}_gt.nii.gz", label, images.affine(spacing_mm=(1.5, 1.5, 8.0)))
    (cine / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: MINF\n", encoding="utf-8")
    return {"mscmr": root / "mscmr", "acdc": root / "acdc"}


def chosen(folders: dict[str, Path], **keys):
    config = get_config("data=mscmr,lge_like=true,preset=smoke")
    with config.unlocked():
        config.data.update({"root": str(folders["mscmr"]), "cine_root": str(folders["acdc"]), "size": (4, 32, 32)})
        config.data.update({"spacing_mm": (1.5,), **keys})
    return config.data


def test_cine_joins_the_training_with_the_classes_of_the_real_cases(folders: dict[str, Path]):
    found = cohort.load(chosen(folders), 0, QUIET)
    assert found.dataset.classes == ("background", "Myo", "LV")
    train, val = found.cases["train"], found.cases["val"]
    assert [case.synthetic for case in train] == [False, True] and not any(case.synthetic for case in val)
    real, made = train
    assert made.image.shape == real.image.shape == (4, 32, 32, 2), "as it is, and equalised"
    assert made.label is not None and set(np.unique(made.label)) == {0, 1, 2}
    ring = made.label[1] == 1
    assert 100 < ring.sum() < 300, "the wall, what is enhanced in it included"
    examples = pipeline.volumes(train)
    np.testing.assert_array_equal(examples.arrays["real_case"], [1, 0])
    batch = pipeline.batch_of(examples, "real_case", 0, 0, 4, 0.5)
    np.testing.assert_array_equal(sorted(batch["real_case"]), [0, 0, 1, 1])


def test_without_the_folder_no_cine_joins_and_other_sequences_are_refused(folders: dict[str, Path]):
    plain = cohort.load(chosen(folders, lge_like=False), 0, QUIET)
    assert [case.synthetic for case in plain.cases["train"]] == [False]
    with pytest.raises(InputError, match=r"data\.lge_like"):
        cohort.load(chosen(folders, sequences=("bSSFP",)), 0, QUIET)
    with pytest.raises(InputError, match=r"data\.cine_root: is required"):
        cohort.load(chosen(folders, cine_root=""), 0, QUIET)


def test_phantom_cine_is_simulated_once_and_only_where_it_is_asked_for(tmp_path: Path, monkeypatch):
    made = []

    def write(root: Path, layout: str, number: int, seed: int, on_patient) -> None:
        root.mkdir(parents=True)
        made.append((layout, number, seed))

    monkeypatch.setattr(cohort.phantom, "write", write)
    for words, expected in (("false", ["mscmr"]), ("true", ["mscmr", "acdc"])):
        config = get_config(f"lge_like={words},preset=smoke").data
        with config.unlocked():
            config.update({"root": str(tmp_path / words / "lge"), "patients": 12})
            config.cine_root = str(tmp_path / words / "cine") if config.cine_root else ""
        for _ in range(2):
            cohort.make_phantom(config, 3, QUIET)
        assert [layout for layout, _, _ in made] == expected
        made.clear()
    cohort.make_phantom(get_config("lge_like=true,preset=smoke,data=mscmr").data, 3, QUIET)
    assert not made
