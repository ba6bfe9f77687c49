"""The public face: few names, imported when used; the README's Python runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

import cardiac_jax
from cardiac_jax import InputError
from cardiac_jax.runs.train import train_run
from tests import tiny

# The network is hardly trained and may see a heart anywhere in the image, which a prediction warns of.
pytestmark = pytest.mark.filterwarnings("ignore:(patient1|array). :UserWarning")


def snippet() -> str:
    """The first Python block of the README."""
    found = re.search(r"```python\n(.*?)```", (tiny.ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """A folder with RUN, a tiny trained U-Net, and patient1.nii.gz."""
    root = tmp_path_factory.mktemp("face")
    data = tiny.phantom_at(root)
    config = tiny.config("unet", data__root=str(data), train__steps=2, train__eval_every=2)
    assert train_run(config.lock(), root / "RUN", Console(quiet=True)) == 0
    image = sorted((data / "test").glob("*_LGE.nii.gz"))[0]
    (root / "patient1.nii.gz").write_bytes(image.read_bytes())
    return root


def test_the_face_has_few_names_and_every_one_is_there():
    assert len(cardiac_jax.__all__) <= 30
    assert all(getattr(cardiac_jax, name) is not None for name in cardiac_jax.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cardiac_jax.nothing


def test_importing_the_package_imports_no_jax():
    command = [sys.executable, "-c", "import sys, cardiac_jax; print(*sys.modules)"]
    loaded = subprocess.run(command, capture_output=True, text=True, cwd=tiny.ROOT, check=True).stdout.split()
    assert not {"jax", "flax", "matplotlib", "rich", "nibabel"} & set(loaded)


def test_the_readme_snippet_runs(room, monkeypatch, capsys):
    text = snippet()
    assert len(text.strip().splitlines()) <= 12
    monkeypatch.chdir(room)
    exec(compile(text, "README.md", "exec"), {})
    assert "LV" in capsys.readouterr().out
    written, image = nib.load(room / "patient1_seg.nii.gz"), nib.load(room / "patient1.nii.gz")
    np.testing.assert_allclose(written.affine, image.affine, atol=1e-6)
    assert written.shape == image.shape and set(np.unique(written.dataobj)) <= {0, 200, 500, 600}


def test_an_array_and_its_file_give_the_same_labels_and_an_ensemble_the_mean(room):
    model, image = cardiac_jax.load(room / "RUN"), nib.load(room / "patient1.nii.gz")
    one = model.predict(room / "patient1.nii.gz")
    other = model.predict(np.asarray(image.dataobj, np.float32), image.affine)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.labels, one.probabilities.argmax(-1))
    both = cardiac_jax.load(room / "RUN", room / "RUN").predict(room / "patient1.nii.gz")
    np.testing.assert_allclose(both.probabilities, one.probabilities, rtol=1e-6, atol=1e-6)
    voxel_ml = np.prod(image.header.get_zooms()[:3]) / 1000
    assert one.volume_ml("LV") == pytest.approx((one.labels == one.classes.index("LV")).sum() * voxel_ml, rel=1e-5)


def test_what_cannot_be_predicted_is_refused(room):
    model, array = cardiac_jax.load(room / "RUN"), np.ones((4, 4, 4), np.float32)
    for wanted, arguments in (
        ("either affine or spacing_mm", {"image": array}),
        ("shape", {"image": array[0], "spacing_mm": (1, 1, 1)}),
        ("NaN", {"image": array * np.nan, "spacing_mm": (1, 1, 1)}),
        ("4 cases|holds no image", {"image": room / "phantom"}),
    ):
        with pytest.raises(InputError, match=wanted):
            model.predict(**arguments)
    with pytest.raises(InputError, match="name at least one"):
        cardiac_jax.load()
