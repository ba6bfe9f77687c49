"""Networks that start with the weights of another run or of a file: every leaf, what is told, what is refused."""

import io
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from cardiac_jax.core.step import init_state
from cardiac_jax.core.types import System, TrainState
from cardiac_jax.errors import InputError
from cardiac_jax.runs.restore import restore
from cardiac_jax.runs.warm_start import LISTED, warm_start
from cardiac_jax.train.checkpoint import Checkpoints, leaf_name
from tests import tiny
from tests.runs.conftest import unet_command

QUIET = Console(quiet=True)


def begun(system: System) -> TrainState:
    """A state before the first step: random numbers, which need no program compiled."""
    rng = np.random.default_rng(0)
    like = jax.eval_shape(lambda: init_state(system, 0, ema=True))
    return jax.tree.map(lambda leaf: rng.uniform(1, 9, leaf.shape).astype(leaf.dtype), like)


def started(source: object, method: str = "unet", **keys):
    """The state before and after the warm start of `segmenter`, its record, and the printed lines."""
    system, config = tiny.build(method, init__segmenter=str(source), **keys)
    console = Console(file=io.StringIO(), width=10_000, highlight=False)
    change, about = warm_start(config, system, console)
    assert change is not None and isinstance(console.file, io.StringIO)
    before = begun(system)
    return before, change(before), about["segmenter"], console.file.getvalue().splitlines()


@pytest.fixture(scope="module")
def weights(unet) -> dict[str, dict]:
    """Those that the trained U-Net predicts with."""
    return restore(unet).variables["segmenter"]


def leaves(tree) -> dict[str, np.ndarray]:
    return {leaf_name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def same(found, expected, **tolerance: float) -> None:
    """Fails, by name of the leaf, unless two trees agree; without tolerance, to the bit."""
    one, other = leaves(found), leaves(expected)
    assert one.keys() == other.keys()
    for name, leaf in one.items():
        np.testing.assert_allclose(leaf, other[name], **{"rtol": 0, "atol": 0, **tolerance}, err_msg=name)


def test_a_trained_unet_enters_srscn_leaf_by_leaf(unet, weights):
    before, after, about, said = started(unet, "srscn")
    same(after.variables["segmenter"], weights)
    assert weights["batch_stats"] and weights["params"]
    for part in ("params", "batch_stats"):
        old = leaves(before.variables["segmenter"][part])
        assert any((old[name] != leaf).any() for name, leaf in leaves(weights[part]).items()), part
    same(after.ema["segmenter"]["params"], weights["params"])
    same(after.ema["segmenter"]["steps"], before.ema["segmenter"]["steps"])
    for net in ("autoencoder", "position"):
        same(after.variables[net], before.variables[net])
        same(after.ema[net], before.ema[net])
    same((after.step, after.seed, after.opt, after.loss), (before.step, before.seed, before.opt, before.loss))
    count = len(leaves(weights))
    assert about["taken"] == count and not (about["other_shape"] or about["missing"] or about["unused"])
    assert said == [f"init.segmenter: {count} leaves taken from {about['from']}"]
    assert str(unet) in about["from"] and "step 2" in about["from"]


def test_the_average_is_what_is_taken(unet, weights):
    """Of a run that keeps an average it is the average that predicted best, not the last parameters."""
    checkpoints = Checkpoints(unet)
    tree = checkpoints.tree(2)
    checkpoints.close()
    last, averaged = (leaves(tree[kind]["segmenter"]["params"]) for kind in ("variables", "ema"))
    taken = leaves(started(unet)[1].variables["segmenter"]["params"])
    assert any((last[name] != averaged[name]).any() for name in last)
    for name, leaf in averaged.items():
        np.testing.assert_array_equal(taken[name], leaf, err_msg=name)


def test_training_starts_there_and_says_so(unet, weights, patients, env, tmp_path):
    """At a rate of zero the parameters stay those that came in; the record lies beside the weights."""
    words = (f"--config.init.segmenter={unet}", "--config.seed=5", "--config.optim.lr=0.0", "--config.train.steps=1")
    done = tiny.run(unet_command(patients, tmp_path, *words), env)
    assert done.returncode == 0, done.stderr
    assert f"leaves taken from {unet}, step 2, network segmenter" in done.stderr
    trained = restore(tmp_path, "latest")
    same(trained.variables["segmenter"]["params"], weights["params"], rtol=1e-6, atol=1e-7)
    assert trained.about["init"]["segmenter"] == started(unet)[2]


def test_leaves_of_another_shape_keep_their_start_and_are_named(unet, weights):
    before, after, about, said = started(unet, model__features=(4, 12))
    own, theirs = leaves(before.variables["segmenter"]), leaves(weights)
    fitting = {name for name, leaf in own.items() if theirs[name].shape == leaf.shape}
    assert own.keys() == theirs.keys() and 0 < len(fitting) < len(own)
    for name, leaf in leaves(after.variables["segmenter"]).items():
        np.testing.assert_array_equal(leaf, theirs[name] if name in fitting else own[name], err_msg=name)
    other = [name for name in own if name not in fitting]
    assert about["taken"] == len(fitting) and set(about["other_shape"]) == set(other)
    (line,) = (line for line in said if "have another shape" in line)
    assert line.startswith(f"init.segmenter: {len(other)} leaves have another shape: ")
    told = [
        name for name in other if f"{name} ({list(theirs[name].shape)} there, {list(own[name].shape)} here)" in line
    ]
    assert len(told) == min(len(other), LISTED)
    assert (f" and {len(other) - LISTED} more" in line) == (len(other) > LISTED)


def test_missing_and_unused_leaves_are_named(weights, tmp_path):
    held = leaves(weights)
    gone = sorted(held)[0]
    kept = {name: leaf for name, leaf in held.items() if name != gone}
    np.savez(tmp_path / "some.npz", **kept, **{"params/foreign/kernel": np.zeros((2, 2), np.float32)})
    before, after, about, said = started(tmp_path / "some.npz")
    assert about["missing"] == [gone] and about["unused"] == ["params/foreign/kernel"]
    assert f"init.segmenter: 1 leaves are missing there: {gone}" in said
    assert "init.segmenter: 1 leaves are not used: params/foreign/kernel" in said
    found, start = leaves(after.variables["segmenter"]), leaves(before.variables["segmenter"])
    np.testing.assert_array_equal(found[gone], start[gone])
    for name, leaf in kept.items():
        np.testing.assert_array_equal(found[name], leaf, err_msg=name)


def test_weights_of_a_file(weights, tmp_path):
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, **leaves(weights))
    _, after, about, _ = started(path)
    same(after.variables["segmenter"], weights)
    assert about["from"] == str(path)
    np.savez(path, **{**leaves(weights), sorted(leaves(weights))[0]: 1 + leaves(weights)[sorted(leaves(weights))[0]]})
    assert started(path)[2]["sha256"] != about["sha256"]


def test_another_network_of_a_run(unet, weights, tmp_path):
    checkpoints = Checkpoints(tmp_path, writing=True)
    checkpoints.save(3, {"variables": {"other": weights, "segmenter": jax.tree.map(np.zeros_like, weights)}}, {})
    checkpoints.close()
    _, after, about, _ = started(f"{tmp_path}@other")
    same(after.variables["segmenter"], weights)
    assert about["from"].endswith("step 3, network other")
    with pytest.raises(InputError, match=r"^init\.segmenter: .* has no network 'position', only other, segmenter"):
        started(f"{tmp_path}@position")


# --- what is refused


def test_an_unknown_network_and_a_source_of_which_nothing_fits_are_refused(unet, tmp_path):
    system, config = tiny.build("unet", init__autoencoder=str(unet))
    with pytest.raises(InputError, match=r"^init\.autoencoder: the system has no network of that name, only segmenter"):
        warm_start(config, system, QUIET)
    np.savez(tmp_path / "other.npz", **{"params/foreign/kernel": np.zeros((2, 2), np.float32)})
    with pytest.raises(InputError, match=r"^init\.segmenter: no parameter of .*other\.npz fits"):
        started(tmp_path / "other.npz")
    with pytest.raises(InputError, match="nowhere: no checkpoints here"):
        started(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"nowhere\.npz: no such file"):
        started(tmp_path / "nowhere.npz")


def one_array() -> bytes:
    held = io.BytesIO()
    np.save(held, np.zeros(3))
    return held.getvalue()


def spoiled(path: Path) -> None:
    """A byte in the middle of the compressed arrays."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as held:
        place = held.infolist()[0].header_offset + held.infolist()[0].compress_size // 2 + 60
    content[place] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no weights" * 50),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(one_array()),
        spoiled,
    ],
    ids=["empty", "text", "truncated", "one array", "spoiled"],
)
def test_a_file_that_is_no_sound_npz_is_refused(tmp_path, spoil):
    path = tmp_path / "weights.npz"
    rng = np.random.default_rng(0)
    np.savez_compressed(path, **{f"params/{i}": rng.normal(size=200) for i in range(3)})
    spoil(path)
    with pytest.raises(InputError, match=r"weights\.npz: cannot be read as \.npz") as error:
        started(path)
    assert "\n" not in str(error.value)
