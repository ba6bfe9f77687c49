"""Four extensions by import path, none of which touches the package: trained, evaluated, predicted, reported."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from cardiac_jax.report import sections
from cardiac_jax.report.collect import collect
from cardiac_jax.report.options import Options
from tests import tiny

EXAMPLES = Path(__file__).parent
VOLUMES = (
    "--config.data.size=8,16,16",
    "--config.data.spacing_mm=8.0",
    "--config.localiser.box=(8,16,16)",
    "--config.model.filters=2",
    "--config.localiser.filters=2",
    "--config.localiser.steps=1",
    "--config.train.steps=2",
    "--config.train.eval_every=2",
    "--config.train.batch_size=1",
)
SLICES = ("--config.data.size=16,16", "--config.data.spacing_mm=8.0", "--config.model.features=(4,)")
FEW = ("--config.train.steps=2", "--config.train.eval_every=2", "--config.train.batch_size=2")
STILL = "--config.augmentation=False"  # its program would be larger than those of the networks
NAMES = {
    "total_variation": "tests.examples.total_variation:total_variation",
    "two_layers": "tests.examples.two_layers:two_layers",
    "pairs": "tests.examples.pairs:PAIRS",
    "one_stage": "tests.examples.one_stage:build",
}


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """A phantom, and the same patients as pairs of image and mask."""
    root = tmp_path_factory.mktemp("examples")
    pairs = root / "pairs"
    pairs.mkdir()
    for image in sorted(tiny.phantom_at(root).rglob("patient*_LGE.nii.gz")):
        name = image.name.removesuffix("_LGE.nii.gz")
        (pairs / f"{name}_image.nii.gz").write_bytes(image.read_bytes())
        label = nib.load(image.with_name(f"{name}_LGE_manual.nii.gz"))
        mask = (np.asarray(label.dataobj) == 500).astype(np.uint8)
        nib.save(nib.Nifti1Image(mask, label.affine), pairs / f"{name}_mask.nii.gz")
    return root


def words_of(name: str, room: Path) -> tuple[list[str], str]:
    """Flags of the training, and the folder of its data."""
    phantom, own = tiny.phantom_at(room), NAMES[name]
    data = [f"--config.data.root={phantom}", "--config.data.name=phantom"]
    volumes = ["--config=drunet:variant=drunet,preset=smoke", *VOLUMES, STILL, *data]
    volumes += ["--config.data.sequences=LGE", "--config.data.fold=-1", "--config.data.test_share=0.0"]
    slices = ["--config=srscn:method=unet,preset=smoke", *SLICES, *FEW, STILL]
    if name == "total_variation":
        return [*slices, *data, f"--config.terms={own}=1e-3"], str(phantom)
    if name == "two_layers":
        return [*volumes, f"--config.model.net={own}"], str(phantom)
    if name == "pairs":
        pairs = room / "pairs"
        return [*slices, f"--config.data.name={own}", f"--config.data.root={pairs}"], str(pairs)
    return [*slices, *data, f"--config.system={own}"], str(phantom)


def commands_of(name: str, room: Path) -> dict[str, list[str]]:
    """The life of an extension: trained; asked for without --use; evaluated and predicted with it."""
    words, data = words_of(name, room)
    held, out, use = room / name, room / f"{name}_out", f"--use={NAMES[name]}"
    image = (sorted(Path(data).rglob("*_LGE.nii.gz")) + sorted(Path(data).glob("*_image.nii.gz")))[0]
    return {
        "train": ["launch.train", *words, f"--workdir={held}"],
        "refused": ["launch.evaluate", f"--workdir={held}", f"--out={room / name}_refused"],
        "evaluate": ["launch.evaluate", f"--workdir={held}", f"--out={out}", use],
        "predict": ["launch.predict", f"--workdir={held}", f"--input={image}", f"--output={room / name}_maps", use],
    }


@pytest.fixture(scope="module")
def done(room) -> dict[tuple[str, str], Any]:
    """Every command of every extension, in order; then the report of the own data set. All as users run them."""
    named = {(name, step): words for name in NAMES for step, words in commands_of(name, room).items()}
    named["pairs", "report"] = ["launch.report", f"--runs={room}/pairs_out", f"--out={room}/pairs_report"]
    ended = tiny.run_all([["-m", *words] for words in named.values()], tiny.environment(1, tiny.kept_cache(__name__)))
    return dict(zip(named, ended, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_an_extension_trains_evaluates_and_predicts(name, room, done):
    for step in ("train", "evaluate", "predict"):
        assert done[name, step].returncode == 0, done[name, step].stderr
    assert NAMES[name] in (room / name / "config.json").read_text(encoding="utf-8")
    assert (room / f"{name}_out" / "cases.csv").is_file()
    (written,) = (room / f"{name}_maps").glob("*.nii.gz")
    assert nib.load(written).ndim == 3


def test_extensions_are_reported(room, done):
    """A data set of your own by the command; those on the phantom, which is shown elsewhere, in one report's tables."""
    assert done["pairs", "report"].returncode == 0, done["pairs", "report"].stderr
    page = (room / "pairs_report" / "report.html").read_text(encoding="utf-8")
    assert NAMES["pairs"] in page and '<section id="cases">' in page
    others = [name for name in NAMES if name != "pairs"]
    entries = collect([room / f"{name}_out" for name in others], "val")
    options = Options(entries[0].results.name, {}, ())
    assert len(sections.overview(entries, options).tables[0].rows) == len(others)
    *_, keys = sections.provenance(entries, options).tables
    told = {cell.text for row in keys.rows for cell in row}
    assert all(any(NAMES[name] in text for text in told) for name in others)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_checkpoint_is_not_imported_unasked(name, room, done):
    refused = done[name, "refused"]
    assert refused.returncode == 2 and f"add --use={NAMES[name]}" in refused.stderr
    assert refused.stderr.count("\n") <= 2 and not (room / f"{name}_refused").exists()


def test_the_term_is_weighted_and_logged(room, done):
    lines = [json.loads(line) for line in (room / "total_variation" / "log.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["split"] == "train"]
    assert trained and all(line["total_variation"] > 0 for line in trained)
    assert all(line["total_variation_weighted"] == pytest.approx(1e-3 * line["total_variation"]) for line in trained)


@pytest.mark.parametrize("name", [NAMES[name].partition(":")[0].rpartition(".")[2] for name in NAMES])
def test_an_example_is_short(name):
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    code = [line for line in text.split('"""', 2)[2].splitlines() if line.strip()]
    assert len(code) < 30
