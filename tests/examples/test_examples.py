"""Four extensions by import path, none of which touches the package: trained, evaluated, predicted, reported."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

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
SLICES = ("--config.data.size=16,16", "--config.data.spacing_mm=8.0", "--config.model.features=4,8")
FEW = ("--config.train.steps=2", "--config.train.eval_every=2", "--config.train.batch_size=2")
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
    volumes = ["--config=drunet:variant=drunet,preset=smoke", *VOLUMES, *data]
    volumes += ["--config.data.sequences=LGE", "--config.data.fold=-1", "--config.data.test_share=0.0"]
    slices = ["--config=srscn:method=unet,preset=smoke", *SLICES, *FEW]
    if name == "total_variation":
        return [*volumes, f"--config.terms={own}=1e-3"], str(phantom)
    if name == "two_layers":
        return [*volumes, f"--config.model.net={own}"], str(phantom)
    if name == "pairs":
        pairs = room / "pairs"
        return [*slices, f"--config.data.name={own}", f"--config.data.root={pairs}"], str(pairs)
    return [*slices, *data, f"--config.system={own}"], str(phantom)


def run(room: Path, *words: str):
    return tiny.run(["-m", *words], tiny.environment(1, room / "cache"))


@pytest.mark.parametrize("name", NAMES)
def test_an_extension_trains_evaluates_predicts_and_reports(name, room):
    words, data = words_of(name, room)
    held, out = room / name, room / f"{name}_out"
    done = run(room, "launch.train", *words, f"--workdir={held}")
    assert done.returncode == 0, done.stderr
    config = json.loads((held / "config.json").read_text(encoding="utf-8"))
    assert NAMES[name] in json.dumps(config)

    # A checkpoint's name is not imported unasked.
    refused = run(room, "launch.evaluate", f"--workdir={held}", f"--out={out}")
    assert refused.returncode == 2 and f"add --use={NAMES[name]}" in refused.stderr
    assert refused.stderr.count("\n") <= 2 and not out.exists()

    use = f"--use={NAMES[name]}"
    done = run(room, "launch.evaluate", f"--workdir={held}", f"--out={out}", use)
    assert done.returncode == 0 and (out / "cases.csv").is_file(), done.stderr
    image = next(iter(sorted(Path(data).rglob("*_LGE.nii.gz")) or sorted(Path(data).glob("*_image.nii.gz"))))
    done = run(room, "launch.predict", f"--workdir={held}", f"--input={image}", f"--output={room / name}_maps", use)
    assert done.returncode == 0, done.stderr
    (written,) = Path(f"{room / name}_maps").glob("*.nii.gz")
    assert nib.load(written).shape == nib.load(image).shape
    done = run(room, "launch.report", f"--runs={out}", f"--out={room / name}_report")
    assert done.returncode == 0 and (Path(f"{room / name}_report") / "report.html").is_file(), done.stderr


def test_the_term_changes_the_loss_and_the_network_is_the_users(room):
    lines = [json.loads(line) for line in (room / "total_variation" / "log.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["split"] == "train"]
    assert all(line["total_variation"] > 0 for line in trained)
    assert all(line["total_variation_weighted"] == pytest.approx(1e-3 * line["total_variation"]) for line in trained)


@pytest.mark.parametrize("name", [NAMES[name].partition(":")[0].rpartition(".")[2] for name in NAMES])
def test_an_example_is_short(name):
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    code = [line for line in text.split('"""', 2)[2].splitlines() if line.strip()]
    assert len(code) < 30
