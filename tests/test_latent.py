"""The command that compares code lengths: each is a run of the prior alone; the shortest that serves is taken."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from cardiac_jax import anatomical
from cardiac_jax.data import source
from cardiac_jax.errors import InputError
from cardiac_jax.ops import project
from cardiac_jax.ops.mixture_size import Curves
from cardiac_jax.runs import latent, run
from experiments.acsnet import get_config
from tests import tiny

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
    real = project.resample

    def lenient(key, model, decode, check, wanted):
        return real(key, model, decode, lambda masks: jnp.ones(len(masks), bool), wanted)

    monkeypatch.setattr(anatomical.project, "resample", lenient)
    held = get_config("data=phantom,preset=smoke")
    with held.unlocked():
        held.data.update({"root": str(tiny.phantom_at(tmp_path)), "size": (4, 48, 48), "spacing_mm": 4.0})
        held.model.update({"filters": 1, "box": (4, 32, 32)})
        held.localiser.filters = 1
        held.prior.update({"size": (32, 32), "features": (2, 2, 2), "steps": 4, "bank": 20, "batch_size": 4})
        held.train.update({"batch_size": 2, "log_every": 1})
    return held.lock()


def test_each_length_is_a_run_of_the_prior_alone_and_is_not_trained_twice(tmp_path, config):
    out = tmp_path / "sizes"
    with (tmp_path / "said.txt").open("w+") as said:
        console = Console(file=said, width=200)
        assert latent.sweep(config, out, (3,), console) == 0
        assert latent.sweep(config, out, (3, 3), console) == 0
        said.seek(0)
        text = said.read()
    assert text.count("trained already: 4 steps") == 1
    rows = list(csv.DictReader((out / "latent.csv").read_text(encoding="utf-8").splitlines()))
    assert [int(row["code"]) for row in rows] == [3]
    cases = source.load(config.data, 0, Console(quiet=True)).cases["val"]
    assert len(cases) == 1
    for row in rows:
        trained = run.restore(out / f"code{row['code']}", "latest")
        assert trained.step == 4 and trained.prior is not None
        assert trained.config.localiser.steps == trained.config.train.steps == 0
        shapes = anatomical.shapes_of([cases[0].label], (2,), (32, 32))["shape"]
        assert int(row["shapes"]) == len(shapes) > 1
        again = np.asarray(trained.prior.restore(jnp.asarray(shapes)))
        both = 2 * (again & (shapes > 0)).sum((1, 2)) / (again.sum((1, 2)) + (shapes > 0).sum((1, 2)))
        assert float(row["dice_restored"]) == pytest.approx(both.mean())
    about = json.loads((out / "latent.json").read_text())["about"]
    assert about["code"] == 3 and (out / "latent.png").stat().st_size > 1000
    assert "Chosen: a code of 3" in (out / "latent.md").read_text()


def test_what_cannot_be_swept_is_refused(tmp_path, config):
    with pytest.raises(InputError, match=r"^--codes: wants lengths"):
        latent.sweep(config, tmp_path, (0, 4), Console(quiet=True))
    with pytest.raises(InputError, match=r"^--config: srscn learns no anatomical prior"):
        latent.sweep(tiny.config("unet"), tmp_path, (4,), Console(quiet=True))
