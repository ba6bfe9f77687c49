"""The command that encodes label maps: on hearts whose groups differ in size, written as ACDC's files."""

import csv
import json
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from cardiac_jax.core.types import Net, System
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import BatchError, InputError
from cardiac_jax.metrics import classification
from cardiac_jax.nets.autoencoder import Autoencoder
from cardiac_jax.report.figures import save
from cardiac_jax.runs import codes, encode
from cardiac_jax.runs.classify import Settings, Shape, by_patient
from cardiac_jax.runs.codes import write_codes
from cardiac_jax.runs.restore import Trained
from tests import tiny

QUIET = Console(quiet=True)
SETTINGS = Settings(3, 1, 0)
RADIUS = {"NOR": 6.0, "DCM": 9.0, "HCM": 3.5}


def heart(radius: float, phase: str) -> np.ndarray:
    """`[X, Y, Z]` in ACDC's storage, base first: a cavity in a wall, a right ventricle at its side."""
    x, y, _ = np.indices((32, 32, 4)) - np.array([15.0, 17.0, 0.0])[:, None, None, None]
    far, radius = np.hypot(x, y), radius * (1.0 if phase == "ED" else 0.7)
    return np.select([far < radius, far < radius + 2.5, np.hypot(x + radius + 5, y) < 4], [3, 2, 1], 0).astype(np.uint8)


@pytest.fixture(scope="module")
def acdc(tmp_path_factory) -> Path:
    """Nine patients, three of each group, two frames each."""
    root, rng = tmp_path_factory.mktemp("acdc"), np.random.default_rng(0)
    for i in range(9):
        group = list(RADIUS)[i % 3]
        folder = root / f"patient{i:03d}"
        folder.mkdir()
        (folder / "Info.cfg").write_text(f"ED: 1\nES: 2\nGroup: {group}\nHeight: 170\nWeight: 70\n", encoding="utf-8")
        for frame, phase in enumerate(("ED", "ES"), 1):
            label = heart(RADIUS[group] + 0.2 * (i // 3), phase)
            image = (label + rng.normal(0, 0.1, label.shape)).astype(np.float32)
            for name, data in (("", image), ("_gt", label)):
                held = nib.Nifti1Image(data, np.diag([2.0, 2.0, 8.0, 1.0]))
                nib.save(held, folder / f"{folder.name}_frame{frame:02d}{name}.nii.gz")
    return root


@pytest.fixture
def run(monkeypatch, request) -> Trained:
    """A run with a small autoencoder, of volumes or of slices, that was not trained."""
    monkeypatch.setattr(classification, "TREES", 15)
    size = getattr(request, "param", (4, 24, 24))
    module = Autoencoder(size=size, code=6, features=(4,), stride=2)
    net = Net("autoencoder", module, ((*size, 4),))
    variables = jax.jit(lambda: module.init(jax.random.key(0), np.zeros((1, *size, 4), np.float32), train=False))()
    raw = (0, 1, 2, 3)
    names = ("background", "RV", "Myo", "LV")
    spec = DataSpec("acdc", names, raw, ("cine",), "base_first", (0.0, 2.0, 2.0), size, (9,) * 4)
    parts = {"train": [f"patient{i:03d}" for i in range(5)], "val": ["patient005"], "test": []}
    about = {"splits": parts, "code": "abc", "fits": {}}
    system, config = System((net,), (), lambda *_, **__: ({}, {}), ()), tiny.config("unet")

    def predict(*_, **__):
        raise AssertionError("nothing is predicted")

    held = Trained(Path("run"), config, spec, about, 7, system, {"autoencoder": variables}, predict, predict, {})
    monkeypatch.setattr(codes, "restore", lambda *_: held)
    return held


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_every_case_has_a_code_and_every_patient_an_answer(run, acdc, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(codes, "save", lambda figure, path: path.touch())  # drawing takes seconds
    write_codes(Path("run"), out, root=str(acdc), settings=SETTINGS, console=QUIET)
    drawn = ("histograms_ED", "histograms_ES", "histograms_all", "traversals")
    pictures = [f"{name}.{suffix}" for name in drawn for suffix in ("png", "svg")]
    tables = ["codes.csv", "codes.json", "normality.csv", "predictions.csv"]
    tables += [f"classification.{suffix}" for suffix in ("csv", "json", "md")]
    assert sorted(p.name for p in out.iterdir() if p.name != ".lock") == sorted(pictures + tables)
    assert max(p.stat().st_mtime_ns for p in out.iterdir()) == (out / "codes.json").stat().st_mtime_ns
    rows = rows_of(out / "codes.csv")
    assert [row["case"] for row in rows] == [f"patient{i:03d}_{phase}" for i in range(9) for phase in ("ED", "ES")]
    assert [row["part"] for row in rows[::2]] == ["train"] * 5 + ["val"] + [""] * 3
    net = encode.autoencoder_of(run)
    label = np.zeros((4, 32, 32), np.uint8)
    label[:] = heart(RADIUS["NOR"], "ED").transpose(2, 1, 0)[::-1]  # canonical: apex first, rows downwards
    columns = [k for k in range(9) if label[:, 4:28, k : k + 24].sum() == label.sum()]  # where nothing is cut
    shift = min(columns, key=lambda k: abs(k - 4))
    assert shift < 4
    centred = label[:, 4:28, shift : shift + 24]
    written = [float(rows[0][f"code_{k:03d}"]) for k in range(1, 7)]
    np.testing.assert_allclose(written, net.encode(centred), rtol=1e-5)
    found = rows_of(out / "classification.csv")
    assert [(row["phases"], row["features"]) for row in found] == [
        ("ED", "PCA"),
        ("ED", "codes"),
        ("ED + ES", "PCA"),
        ("ED + ES", "codes"),
    ]
    assert all(float(row["accuracy"]) == 1 for row in found if row["features"] == "PCA")  # sizes differ, and stay
    assert [row["dimension"] for row in found] == ["5", "6", "20", "12"]  # six maps span five; of twelve, two are alike
    answers = rows_of(out / "predictions.csv")
    assert len(answers) == 4 * 9 and {row["part"] for row in answers} == {"train", "val", ""}
    about = json.loads((out / "codes.json").read_text(encoding="utf-8"))["about"]
    assert about["autoencoder"] == {"net": "autoencoder", "size": [4, 24, 24], "code": 6}
    assert about["normality"]["all"]["n"] == 18 and set(about["dice_restored"]) == {"RV", "Myo", "LV"}
    text = (out / "classification.md").read_text(encoding="utf-8")
    assert "trained on label maps (not groups) of 5 of these 9 patients" in text and "Published" in text


@pytest.mark.parametrize("run", [(24, 24)], indirect=True)
def test_the_code_of_slices_is_their_mean(run, acdc, tmp_path, monkeypatch):
    monkeypatch.setattr(codes, "save", lambda figure, path: path.name[0] == "h" or save(figure, path))
    write_codes(Path("run"), tmp_path, root=str(acdc), settings=None, console=QUIET)
    rows = rows_of(tmp_path / "codes.csv")
    assert {row["maps"] for row in rows} == {"4"}  # every slice of these hearts is the same
    assert not (tmp_path / "classification.csv").exists() and (tmp_path / "traversals.svg").stat().st_size > 1000


def test_the_baseline_needs_no_run(acdc, tmp_path, monkeypatch):
    monkeypatch.setattr(classification, "TREES", 15)
    write_codes(None, tmp_path, name="acdc", root=str(acdc), settings=SETTINGS, console=QUIET)
    assert {row["features"] for row in rows_of(tmp_path / "classification.csv")} == {"PCA"}
    assert not (tmp_path / "codes.csv").exists() and (tmp_path / "codes.json").exists()


def test_a_box_is_the_central_one_unless_it_cuts_structures():
    label = np.zeros((5, 9, 9), np.uint8)
    label[1:3, 6:9, 0:2] = 3
    for central, first, last in ((True, (1, 2, 0), (2, 4, 1)), (False, (1, 1, 1), (2, 3, 2))):
        box = encode.boxed(label, label > 0, (4, 5, 4), central)
        assert box.shape == (4, 5, 4) and box.sum() == label.sum()
        at = np.argwhere(box)
        assert (tuple(at.min(0)), tuple(at.max(0))) == (first, last)
    large = encode.boxed(label, label > 0, (5, 9, 11), True)
    np.testing.assert_array_equal(large[:, :, 1:10], label)
    small = encode.boxed(label, label > 0, (2, 1, 2), True)
    np.testing.assert_array_equal(small, label[1:3, 7:8, 0:2])


def test_leading_directions_are_those_of_largest_variance():
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    drawn = rng.normal(size=(4000, 5)) * (4, 2, 0.1, 0.1, 0.1) @ turn + 3
    centre, directions, sds, shares = encode.leading(drawn)
    np.testing.assert_allclose(centre, 3, atol=0.2)
    np.testing.assert_allclose(np.abs(np.sum(directions * turn[:2], 1)), 1, atol=1e-3)
    np.testing.assert_allclose(sds, (4, 2), rtol=0.05)
    np.testing.assert_allclose(shares, (0.8, 0.2), atol=0.02)


def test_patients_without_a_phase_are_left_out_and_twins_refused():
    shapes = [Shape(f"{p}_{f}", p, "NOR", f, "", {}) for p, f in (("a", "ES"), ("a", "ED"), ("b", "ED"))]
    phases, complete, left_out = by_patient(shapes)
    assert (phases, list(complete), left_out) == (("ED", "ES"), ["a"], ["b"])
    assert by_patient([shapes[1]._replace(phase="")])[0] == ("",)
    with pytest.raises(InputError, match=r"^a_ED: is a second case of patient a ED"):
        by_patient([*shapes, shapes[1]])


def test_what_cannot_be_encoded_is_refused(run, acdc, tmp_path, monkeypatch):
    def said(*args, **keys) -> str:
        with pytest.raises(InputError) as caught:
            write_codes(*args, **{"settings": SETTINGS, "root": str(acdc), "console": QUIET, **keys})
        assert "\n" not in str(caught.value)
        return str(caught.value)

    out = tmp_path / "out"
    assert said(None, out) == "--data.name: is required without --workdir"
    assert said(None, out, settings=None).startswith("--workdir: is required")
    assert said(Path("run"), out, name="phantom", root=None).startswith("--data.root: is required: the folder of the")
    assert said(Path("run"), out, settings=Settings(20, 1)) == "--folds: 20 is not from 2 to 9, the number of patients"
    assert said(Path("run"), out, box="all") == "--box: 'all' is not one of training, heart"
    assert said(Path("run"), out, settings=Settings(3, 0)) == "--repeats: 0 is less than 1"
    monkeypatch.setattr(codes, "restore", lambda *_: run._replace(system=run.system._replace(nets=())))
    assert said(Path("run"), out).startswith("run: a run of unet, which has no autoencoder of label maps")
    assert not out.exists()


def test_a_case_that_fails_does_not_stop_the_others(run, acdc, tmp_path, monkeypatch):
    """A copy of the data set in which no patient has a group, and one label map is empty."""
    monkeypatch.setattr(codes, "save", lambda figure, path: None)
    root = tmp_path / "data"
    for path in sorted(acdc.rglob("*.*")):
        target = root / path.relative_to(acdc)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        target.write_bytes(content.replace(b"Group", b"Other") if path.name == "Info.cfg" else content)
    with pytest.raises(InputError, match=r"^acdc: gives no patient's group: nothing to classify \(--noclassify"):
        write_codes(Path("run"), tmp_path / "out", root=str(root), settings=SETTINGS, console=QUIET)
    empty = nib.Nifti1Image(np.zeros((32, 32, 4), np.uint8), np.diag([2.0, 2.0, 8.0, 1.0]))
    nib.save(empty, root / "patient004" / "patient004_frame01_gt.nii.gz")
    with pytest.raises(BatchError, match="patient004_ED"):
        write_codes(Path("run"), tmp_path / "out", root=str(root), settings=None, console=QUIET)
    assert len(rows_of(tmp_path / "out" / "codes.csv")) == 17
