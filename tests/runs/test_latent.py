"""The command that compares code lengths: each is a run of the prior alone; the shortest that serves is taken."""

import csv
import functools
import json

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from cardiac_jax.anatomy import anatomical_prior, projection
from cardiac_jax.anatomy.mixture_size import Curves
from cardiac_jax.errors import InputError
from cardiac_jax.runs import latent
from cardiac_jax.runs.train import train_run
from experiments.acsnet import get_config
from tests import tiny

QUIET = Console(quiet=True)
CURVES = Curves((1, 2), np.ones((2, 3)), np.ones((2, 3)))


def size(code: int, *dice: float) -> latent.Size:
    return latent.Size(code, 1, np.array(dice), 1, 0.5, CURVES)


def test_the_shortest_code_within_one_standard_error_of_the_best_is_taken():
    """Of .9 and .8 the standard error is sd / sqrt(2) = (.1 / sqrt(2)) / sqrt(2) = .05: .80 is the least."""
    best = size(16, 0.9, 0.8)
    assert best.error == pytest.approx(0.05)
    assert latent.chosen([size(2, 0.79, 0.79), size(8, 0.81, 0.81), best, size(32, 0.84, 0.84)]).code == 8
    assert latent.chosen([size(2, 0.79, 0.79), size(8, 0.79, 0.79), best]).code == 16
    assert latent.chosen([best]) is best


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Networks too small to draw anything valid: here every draw counts as valid."""
    real = projection.resample

    def lenient(key, model, decode, check, wanted):
        return real(key, model, decode, lambda masks: jnp.ones(len(masks), bool), wanted)

    monkeypatch.setattr(anatomical_prior.projection, "resample", lenient)
    held = get_config("data=phantom,preset=smoke")
    with held.unlocked():
        held.data.update({"root": str(tiny.phantom_at(tmp_path)), "size": (4, 48, 48), "spacing_mm": (0.0, 4.0, 4.0)})
        held.model.update({"filters": 1, "box": (4, 32, 32)})
        held.localiser.filters = 1
        held.prior.update({"size": (32, 32), "features": (2, 2, 2), "steps": 4, "bank": 20, "batch_size": 4})
        held.train.update({"batch_size": 2, "log_every": 1})
    return held.lock()


def test_each_length_is_a_run_of_the_prior_alone_measured_on_held_out_shapes(tmp_path, config, monkeypatch):
    monkeypatch.setattr(latent, "restore", functools.cache(latent.restore))  # brought to life once
    keys = latent.alone(config, 3)
    with config.unlocked():
        config.update_from_flattened_dict(keys)
    assert train_run(config, tmp_path / "code3", QUIET) == 0
    labels = latent.held_out_labels(config, QUIET)
    assert len(labels) == 1
    found = latent.measure(tmp_path / "code3", labels)
    latent.write([found], tmp_path, QUIET)
    trained = latent.restore(tmp_path / "code3", "latest")
    prior = anatomical_prior.prior_of(trained.system, trained.variables, trained.fits, trained.spec.pixel_mm)
    figures = trained.fits["prior"]
    assert trained.step == 4 and prior is not None
    assert found.components == figures["components"] == figures["components_by_cv"]
    assert found.components == int((np.asarray(trained.variables["autoencoder"]["bank"]["weights"]) > 0).sum())
    assert found.curves.nll.tolist() == figures["nll"] and found.accept_rate == figures["accept_rate"] == 1.0
    shapes = anatomical_prior.shapes_of(labels, (2,), (32, 32))["shape"]
    again = np.asarray(prior.restore(jnp.asarray(shapes)))
    both = 2 * (again & (shapes > 0)).sum((1, 2)) / (again.sum((1, 2)) + (shapes > 0).sum((1, 2)))
    np.testing.assert_allclose(found.held_out, both)
    (row,) = csv.DictReader((tmp_path / "latent.csv").read_text(encoding="utf-8").splitlines())
    assert int(row["code"]) == 3 and int(row["shapes"]) == len(shapes) > 1
    assert float(row["dice_restored"]) == pytest.approx(both.mean())
    assert json.loads((tmp_path / "latent.json").read_text(encoding="utf-8"))["about"]["code"] == 3
    assert "Chosen: a code of 3" in (tmp_path / "latent.md").read_text(encoding="utf-8")
    assert (tmp_path / "latent.png").stat().st_size > 1000
    with pytest.raises(InputError, match="validation part: 0 shapes"):
        latent.measure(tmp_path / "code3", [np.full((4, 48, 48), 255, np.uint8)])


def test_dice_of_a_map_is_the_mean_over_its_structures():
    masks = np.zeros((2, 4, 4), np.uint8)
    masks[0, :2], masks[0, 2], masks[1, 0] = 1, 2, 2
    again = masks.copy()
    again[0, 2], again[1, 1] = 0, 1
    # The first lost its second structure; the second gained one that is not there.
    np.testing.assert_allclose(anatomical_prior.dice_of_maps(masks, again), [0.5, 0.5])
    np.testing.assert_allclose(anatomical_prior.dice_of_maps(masks, masks), [1, 1])


def test_what_cannot_be_swept_is_refused(config, tmp_path):
    with pytest.raises(InputError, match=r"^--codes: 0 is less than 1"):
        latent.alone(config, 0)
    with pytest.raises(InputError, match=r"^--config: srscn learns no anatomical prior"):
        latent.alone(tiny.config("unet"), 4)
    given = ["--config=experiments/acsnet.py:preset=smoke", f"--workdir={tmp_path}"]
    wrong = ("--codes=4,x", "'x' is not a whole number"), ("--codes=0", "0 is less than 1")
    commands = [tiny.command("latent", *given, word) for word, _ in wrong]
    for done, (_, said) in zip(tiny.run_all(commands, tiny.environment(1, tmp_path)), wrong, strict=True):
        assert done.returncode == 2 and done.stderr.strip() == f"error: --codes: {said}"
