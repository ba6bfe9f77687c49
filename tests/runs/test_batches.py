"""One bad case does not stop the others: prediction and evaluation go on, name it, and end with one error.

The network is replaced by a threshold; everything about files is real.
"""

import csv
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from cardiac_jax.core.types import Decoded, Output
from cardiac_jax.data.case import Case
from cardiac_jax.data.io import formats
from cardiac_jax.data.label_names import parse
from cardiac_jax.errors import BatchError, InputError, printable, raise_failed
from cardiac_jax.inference.postprocess import unchanged
from cardiac_jax.progress import run_each
from cardiac_jax.runs import predict
from cardiac_jax.runs.evaluate import evaluate_maps
from tests import hearts, images, tiny

GRID = images.affine(spacing_mm=(1.5, 1.5, 8.0))
SHAPE = (48, 48, 4)


def label(shift: int = 0) -> np.ndarray:
    """Classes `[X, Y, Z]` uint8."""
    plane = hearts.heart(np.zeros(4), SHAPE[:2], (24, 24))
    return np.repeat(np.roll(plane, shift, 0)[..., None], SHAPE[2], 2).astype(np.uint8)


def image() -> np.ndarray:
    return 100 * label().astype(np.int16) + images.image(SHAPE) % 7


def threshold(members, case: Case, *_) -> list[predict.Prediction]:
    (data,) = case.images.values()
    drawn = case.stack(np.clip(np.rint(data / 100), 0, 3).astype(np.uint8))
    value = drawn.with_data(np.eye(4, dtype=np.float32)[drawn.data])
    output = Output("probabilities", "labels", unchanged)
    return [predict.Prediction(output, value, Decoded(drawn, drawn))]


@pytest.fixture
def run(monkeypatch):
    """`predict_folder` with a threshold for a network; returns what it prints."""
    outputs = (Output("probabilities", "labels", unchanged),)
    members = {
        name: [SimpleNamespace(spec=tiny.spec(labels=(0, 1, 2, 3), sequences=(name,)), outputs=outputs)]
        for name in ("LGE", "cine")
    }
    members["coded"] = [SimpleNamespace(spec=tiny.spec(), outputs=outputs)]
    monkeypatch.setattr(predict, "restore_all", lambda runs, *_: members[runs[0].name])
    monkeypatch.setattr(predict, "predict_case", threshold)

    def call(source: Path, out: Path, model: str = "LGE", **options) -> tuple[str, InputError | None]:
        console = Console(file=io.StringIO(), width=400)
        options = {"checkpoint": "best", "probabilities": False, **options}
        error = None
        try:
            predict.predict_folder([Path(model)], source, out, console=console, **options)
        except InputError as caught:
            error = caught
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue(), error

    return call


def measure(pred: Path, truth: Path, out: Path, **options) -> tuple[str, InputError | None]:
    console, error = Console(file=io.StringIO(), width=400), None
    try:
        evaluate_maps(pred, truth, out, console=console, **options)
    except InputError as caught:
        error = caught
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue(), error


def dice(out: Path) -> dict[tuple[str, str], float]:
    rows = json.loads((out / "cases.json").read_text(encoding="utf-8"))["rows"]
    return {(row["case"], row["structure"]): row["dice"] for row in rows}


def test_each_case_is_run_and_the_last_line_counts():
    def work(item: int) -> None:
        if item % 2:
            raise InputError(f"file{item}", "is odd")

    console = Console(file=io.StringIO(), width=200)
    failed = run_each([(f"case[{k}]", k) for k in range(5)], "working", console, work)
    assert list(failed) == ["case[1]", "case[3]"]
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [f"case[{k}] failed: file{k}: is odd" for k in (1, 3)]
    with pytest.raises(BatchError, match=r"^2 of 5 cases: failed, .*: case\[1\], case\[3\]; the results of the others"):
        raise_failed(failed, 3)
    with pytest.raises(InputError, match=r"^file1: is odd; all 2 cases failed$") as error:
        raise_failed(failed, 0)
    assert not isinstance(error.value, BatchError)
    raise_failed({}, 0)
    assert printable("caf\udce9 [ü]") == "caf\\xe9 [ü]"


def test_prediction_goes_on_after_a_bad_file_and_skips_what_is_there(run, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b[1]", "c"):
        images.save(source / f"{name}.nii.gz", image(), GRID)
    (source / "b[1].nii.gz").write_bytes((source / "b[1].nii.gz").read_bytes()[:200])
    said, error = run(source, out)
    assert isinstance(error, BatchError) and list(error.failed) == ["b[1]"] and "1 of 3 cases" in str(error)
    assert "b[1] failed: " in said and "truncated" in said
    assert sorted(path.name for path in out.iterdir()) == ["a.nii.gz", "c.nii.gz", "dataset.json"]
    images.save(source / "b[1].nii.gz", image(), GRID)
    written = (out / "a.nii.gz").stat().st_mtime_ns
    said, error = run(source, out, skip_existing=True)
    assert error is None and "2 cases" in said and (out / "a.nii.gz").stat().st_mtime_ns == written
    np.testing.assert_array_equal(formats.read(out / "b[1].nii.gz").data, label())
    said, error = run(source, out, skip_existing=True, probabilities=True)  # these are not there yet
    assert error is None and len(list(out.glob("*_probabilities.nii.gz"))) == 3


def test_channels_are_predicted_and_measured_under_the_name_of_their_case(run, tmp_path):
    """imagesTs -> predict --probabilities -> evaluate; only the sequence that the model needs is read.

    The model writes other values than the gold standard holds; each folder's dataset.json names its own.
    """
    for name in ("case1", "case2"):
        images.save(tmp_path / "imagesTs" / f"{name}_0001.nii.gz", image(), GRID)
        images.save(tmp_path / "imagesTs" / f"{name}_0000.nii.gz", images.image((6, 5, 3)))
        images.save(tmp_path / "labelsTs" / f"{name}.nii.gz", label(1), GRID)
    labels = {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}
    content = {"channel_names": {"0": "T2", "1": "LGE"}, "labels": labels}
    (tmp_path / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    said, error = run(tmp_path / "imagesTs", tmp_path / "pred", "coded", probabilities=True)
    assert error is None, said
    said, error = measure(tmp_path / "pred", tmp_path / "labelsTs", tmp_path / "out")
    assert error is None and "probabilities that predict wrote" in said and "MLV is Myo, LVC is LV" in said
    assert set(np.unique(formats.read(tmp_path / "pred" / "case1.nii.gz").data)) == {0, 200, 500, 600}
    found = dice(tmp_path / "out")
    assert {case for case, _ in found} == {"case1", "case2"} and {name for _, name in found} == {"RV", "Myo", "LV"}
    for k, name in enumerate(("RV", "Myo", "LV"), 1):
        drawn, gold = label() == k, label(1) == k
        assert found["case1", name] == pytest.approx(2 * (drawn & gold).sum() / (drawn.sum() + gold.sum()), abs=1e-12)


def test_frames_of_acdc_are_predicted_and_measured(run, tmp_path):
    """From the folder of the data set (`_ED`, `_ES`) and from its frames as a plain folder: the same rows."""
    patient = tmp_path / "acdc" / "patient001"
    for frame in ("01", "12"):
        images.save(patient / f"patient001_frame{frame}.nii.gz", image(), GRID)
        images.save(patient / f"patient001_frame{frame}_gt.nii.gz", label(1), GRID)
    (patient / "Info.cfg").write_text("ED: 1\nES: 12\n", encoding="utf-8")
    assert run(tmp_path / "acdc", tmp_path / "named", "cine", name="acdc")[1] is None
    names = ["dataset.json", "patient001_ED.nii.gz", "patient001_ES.nii.gz"]
    assert sorted(p.name for p in (tmp_path / "named").iterdir()) == names
    assert run(patient, tmp_path / "plain", "cine")[1] is None
    for source in ("named", "plain"):
        assert measure(tmp_path / source, tmp_path / "acdc", tmp_path / f"{source}_out", name="acdc")[1] is None
    assert dice(tmp_path / "named_out") == dice(tmp_path / "plain_out") != {}
    rows = json.loads((tmp_path / "named_out" / "cases.json").read_text(encoding="utf-8"))["rows"]
    assert {(row["patient"], row["phase"]) for row in rows} == {("patient001", "ED"), ("patient001", "ES")}


def test_evaluation_names_what_failed_in_its_files(tmp_path):
    truth, pred, out = tmp_path / "truth", tmp_path / "pred", tmp_path / "out"
    for name in ("c1", "c2", "c3"):
        for folder in (truth, pred):
            images.save(folder / f"{name}.nii.gz", label(), GRID)
    (pred / "c2.nii.gz").write_bytes((pred / "c2.nii.gz").read_bytes()[:200])
    images.save(pred / "c3.nii.gz", label()[:-1], GRID)
    said, error = measure(pred, truth, out)
    assert isinstance(error, BatchError) and str(error).startswith("2 of 3 cases: failed") and "written to" in said
    with (out / "failed.csv").open(encoding="utf-8") as file:
        assert {row["case"] for row in csv.DictReader(file)} == {"c2", "c3"}
    about = json.loads((out / "cases.json").read_text(encoding="utf-8"))["about"]
    assert about["failed"].keys() == {"c2", "c3"} and about["files"].keys() == {"c1"}
    assert "Not in this table, because they failed: c2, c3" in (out / "table.md").read_text(encoding="utf-8")
    for name in ("c2", "c3"):
        shutil.copy(truth / f"{name}.nii.gz", pred)
    assert measure(pred, truth, out)[1] is None and not (out / "failed.csv").exists()
    (pred / "c1.nii.gz").write_bytes(b"")
    for name in ("c2", "c3"):
        (pred / f"{name}.nii.gz").unlink()
    said, error = measure(pred, truth, tmp_path / "new")
    assert error is not None and error.where.endswith("c1.nii.gz") and not (tmp_path / "new").exists()


def test_other_label_values_are_said_and_mended_by_name(tmp_path):
    truth, pred = tmp_path / "truth", tmp_path / "pred"
    images.save(truth / "c1.nii.gz", label(), GRID)
    images.save(pred / "c1.nii.gz", np.array([0, 3, 2, 1], np.uint8)[label(1)], GRID)
    said, error = measure(pred, truth, tmp_path / "out")
    assert error is None and "warning: other label values in the predictions?" in said and "label 1 as label 3" in said
    assert "no structure is called LV or Myo or RV" in said
    names = {"labels": parse(["mnms"]), "truth_labels": parse(["acdc"])}
    said, error = measure(pred, truth, tmp_path / "named", **names)
    assert error is None and "warning" not in said
    plain, named = dice(tmp_path / "out"), dice(tmp_path / "named")
    assert max(plain["c1", "label 1"], plain["c1", "label 3"]) < 0.3 < 0.75 < min(named.values())


def test_regions_are_measured_as_unions_and_ignore_is_left_out(tmp_path):
    truth, pred = tmp_path / "truth", tmp_path / "pred"
    drawn = label(1)
    images.save(pred / "c1.nii.gz", drawn, GRID)
    gold = label()
    gold[..., 0] = 7
    images.save(truth / "c1.nii.gz", gold, GRID)
    regions = {"background": 0, "heart": [1, 2, 3], "left ventricle": [2, 3], "cavity": [3], "ignore": 7}
    (truth / "dataset.json").write_text(json.dumps({"labels": regions}), encoding="utf-8")
    said, error = measure(pred, truth, tmp_path / "out")
    assert error is None and "union of its values" in said, said
    found = dice(tmp_path / "out")
    assert {name for _, name in found} == {"heart", "left ventricle", "cavity"}
    for name, values in (("heart", (1, 2, 3)), ("left ventricle", (2, 3)), ("cavity", (3,))):
        one, two = np.isin(drawn[..., 1:], values), np.isin(gold[..., 1:], values)
        assert found["c1", name] == pytest.approx(2 * (one & two).sum() / (one.sum() + two.sum()), abs=1e-12)


def test_core_scar_is_measured_on_lge_or_not_at_all(tmp_path):
    """The same scar, bright on LGE and even on bSSFP: only the channel that is called LGE counts."""
    drawn = label()
    scar = np.zeros(SHAPE, bool)
    scar[:24] = drawn[:24] == 2
    drawn = np.where(scar, 4, drawn)
    late = np.where(scar, 900, 100 * (drawn == 3)).astype(np.int16) + images.image(SHAPE) % 50
    for folder in ("pred", "truth"):
        images.save(tmp_path / folder / "c1.nii.gz", drawn.astype(np.uint8), GRID)
    images.save(tmp_path / "images" / "c1_0000.nii.gz", (images.image(SHAPE) + 1).astype(np.int16), GRID)
    images.save(tmp_path / "images" / "c1_0001.nii.gz", late.astype(np.int16), GRID)
    names = {"RV": 1, "Myo": 2, "LV": 3, "scar": 4, "background": 0}
    shares = {}
    for late_name in ("LGE", "T1"):
        content = {"channel_names": {"0": "bSSFP", "1": late_name}, "labels": names}
        (tmp_path / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
        said, error = measure(tmp_path / "pred", tmp_path / "truth", tmp_path / late_name, images=tmp_path / "images")
        assert error is None
        assert ("core scar: on LGE, in 1 of 1 cases" if late_name == "LGE" else "core scar: not measured") in said
        rows = json.loads((tmp_path / late_name / "clinical.json").read_text(encoding="utf-8"))["rows"]
        shares[late_name] = [row["truth"] for row in rows if row["measure"] == "core scar"]
    assert not shares["T1"]
    assert shares["LGE"] == pytest.approx([100 * scar.sum() / np.isin(drawn, (2, 4)).sum()], abs=1e-9)
