"""The anatomical prior: gold standards centred and counted, limits tuned, a mixture and a bank fitted; what it says."""

import json
import os
import signal
from math import erf, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from rich.console import Console

from cardiac_jax.anatomy import anatomical_prior, wall_check
from cardiac_jax.anatomy.mixture_size import Curves, chosen
from cardiac_jax.anatomy.validity import failures
from cardiac_jax.anatomy.wall import tuned
from cardiac_jax.core import step
from cardiac_jax.core.loss import term
from cardiac_jax.core.passes import call, chain, pure
from cardiac_jax.core.types import Objective, Output, Phase, Stage, Stream, System
from cardiac_jax.data.pipeline import Examples
from cardiac_jax.errors import InputError
from cardiac_jax.inference.postprocess import unchanged
from cardiac_jax.train import log, loop
from cardiac_jax.train.checkpoint import Checkpoints
from tests import rings

SETTINGS = ConfigDict({"components": 1, "restarts": 2})
SIDE = 40
centred = jax.jit(anatomical_prior.centred, static_argnames="size")


def masks_at(shape: tuple[int, int], *centres: tuple[float, float]) -> np.ndarray:
    return np.stack([rings.ring(shape, centre, 5, 8) == 2 for centre in centres])


def test_a_mask_is_centred_wherever_it_lay_and_whatever_the_border_cuts_is_lost():
    masks = masks_at((30, 44), (12, 12), (17, 31), (9, 20), (-3, 20), (29, 43))
    found = np.asarray(centred(jnp.asarray(masks, jnp.float32), (SIDE, 24)))
    assert found.shape == (5, SIDE, 24)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
    np.testing.assert_array_equal(found.sum((1, 2)), masks.sum((1, 2)))
    for mask in found:
        centre = np.argwhere(mask > 0).mean(0)
        assert (np.abs(centre - [(SIDE - 1) / 2, 11.5]) <= 0.5 + 1e-4).all()
    cut = np.asarray(centred(jnp.asarray(masks[:1], jnp.float32), (8, 8)))
    assert cut[0].sum() < masks[0].sum() and not cut[0][2:6, 2:6].any(), "the middle of the ring"


def test_an_empty_mask_stays_empty():
    masks = np.zeros((2, 20, 20), np.float32)
    masks[1, 0, 19] = 1
    found = np.asarray(centred(jnp.asarray(masks), (16, 16)))
    assert not found[0].any() and found[1].sum() == 1 == found[1, 7:9, 7:9].sum()


def test_slices_that_are_whole_and_have_a_wall_are_the_examples():
    label = np.zeros((3, 4, 48, 48), np.uint8)
    ring = rings.ring((48, 48), (20, 25), 5, 8)
    label[0, 0] = label[0, 2] = label[2, 1] = ring
    label[2, 2], label[2, 3] = ring, np.where(ring == 2, 4, ring)
    label[2, 2, 0, 0] = 255
    label[1] = np.where(ring == 2, 0, ring)
    found = anatomical_prior.shapes((2, 4), (SIDE, SIDE))({"label": label, "image": label})
    assert found["shape"].shape == (4, SIDE, SIDE)
    np.testing.assert_array_equal(found["volume"], [0, 0, 2, 2])
    expected = np.asarray(centred(jnp.asarray(ring == 2, jnp.float32)[None], (SIDE, SIDE)))[0]
    for shape in found["shape"]:
        np.testing.assert_array_equal(shape, expected)
    only = anatomical_prior.shapes((2,), (SIDE, SIDE))({"label": label})
    np.testing.assert_array_equal(only["volume"], [0, 0, 2])


# --- limits


def measured(**values: np.ndarray) -> wall_check.Measured:
    """101 masks; what is not given lies well within the default limits."""
    held = {"circularity": 0.0, "endo_concavity_mm": 1.0, "epi_concavity_mm": 1.0, "thickness_mm": 9.0}
    held |= {"wall_mm2": 900.0, "filled_mm2": 2000.0, "cavity_mm2": 500.0, "is_c_shaped": False, **values}
    made = {name: np.broadcast_to(held.get(name, 1.0), 101) for name in wall_check.Measured._fields}
    return wall_check.Measured(**made)


def test_limits_leave_one_per_cent_outside_each():
    gold = measured(
        circularity=np.linspace(0.5, 1.5, 101),
        endo_concavity_mm=np.linspace(0, 10, 101),
        epi_concavity_mm=np.linspace(10, 0, 101),
        thickness_mm=np.linspace(1, 3, 101),
        mean_wall_mm=np.linspace(10, 30, 101),
        filled_mm2=np.linspace(9000, 1000, 101),
    )
    found = tuned(gold, gold)
    expected = wall_check.DEFAULT._replace(
        circularity=0.51,
        endo_concavity_mm=9.9,
        epi_concavity_mm=9.9,
        thickness_mm=1.02,
        mean_wall_mm=29.8,
        area_mm2=8920.0,
    )
    assert found._asdict() == pytest.approx(expected._asdict())
    for name, worse in (("circularity", np.less), ("endo_concavity_mm", np.greater), ("thickness_mm", np.less)):
        assert worse(getattr(gold, name), getattr(found, name)).sum() == 1
    assert (gold.mean_wall_mm > found.mean_wall_mm).sum() == (gold.filled_mm2 > found.area_mm2).sum() == 1


def test_only_circularity_is_tuned_to_be_stricter_and_only_as_far_as_restored_masks_go():
    easy = measured(circularity=np.linspace(0.6, 0.7, 101))
    assert tuned(easy, easy) == wall_check.DEFAULT._replace(circularity=pytest.approx(0.601))
    worse = measured(circularity=np.linspace(0.4, 0.5, 101), thickness_mm=0.5)
    assert tuned(easy, worse) == wall_check.DEFAULT._replace(circularity=pytest.approx(0.401))
    assert tuned(worse, easy).circularity == pytest.approx(0.401)
    assert tuned(measured(), measured()) == wall_check.DEFAULT


def test_openings_are_no_wider_than_those_of_the_gold_standards_and_areas_no_smaller():
    """Openings by the third quartile, if five slices are open; a crack or a wall in pieces is none."""
    is_c, objects = np.arange(101) < 7, np.where(np.arange(101) == 0, 2, 1)
    width = np.where(is_c, np.r_[99, 3, 10, 14, 18, 22, 26, np.zeros(94)], 0.0)
    five = {"is_c_shaped": is_c, "objects": objects, "opening_mm": width, "opening_ratio": width / 20}
    found = tuned(measured(**five), measured())
    assert (found.widest_opening_mm, found.widest_opening) == (pytest.approx(22), wall_check.DEFAULT.widest_opening)
    few = {**five, "is_c_shaped": np.arange(101) < 6}
    assert tuned(measured(**few), measured()) == wall_check.DEFAULT
    wide = {**five, "opening_mm": 2 * width, "opening_ratio": width / 10}
    assert tuned(measured(**wide), measured()) == wall_check.DEFAULT, "never wider"
    small = tuned(measured(wall_mm2=np.linspace(100, 200, 101), cavity_mm2=np.linspace(5, 105, 101)), measured())
    assert (small.least_wall_mm2, small.least_pool_mm2) == (pytest.approx(101), pytest.approx(6))


def test_an_older_checkpoint_gets_the_limits_it_lacks_and_loses_what_they_forbid():
    """Its bank: a heart, and a wall too small for one; asked for, both names are told."""
    codes = np.array([[0.0, 0.5], [-5.5, -1.0]])
    limits = {k: v for k, v in wall_check.DEFAULT._asdict().items() if not k.startswith(("least", "widest"))}
    held = {"autoencoder": {**rings.PARAMS, "bank": rings.bank(codes)}}
    fits = {anatomical_prior.STAGE: {"limits": limits}}
    prior = anatomical_prior.prior(rings.NET, held, fits, rings.SPACING_MM)
    assert set(prior.defaulted) == set(wall_check.DEFAULT._asdict()) - set(limits)
    assert prior.limits == pytest.approx(wall_check.DEFAULT)
    np.testing.assert_array_equal(prior.bank.codes, codes[:1].astype(np.float32))
    small = {"autoencoder": {**rings.PARAMS, "bank": rings.bank(codes[1:])}}
    with pytest.raises(InputError, match="no mask of its bank passes"):
        anatomical_prior.prior(rings.NET, small, fits, rings.SPACING_MM)


def test_solid_masks_have_no_thickness_to_tune():
    half = np.where(np.arange(101) % 2, np.inf, np.linspace(1, 2, 101))
    found = tuned(measured(thickness_mm=half), measured())
    assert found.thickness_mm == pytest.approx(np.percentile(half[::2], 1))
    assert tuned(measured(thickness_mm=np.inf), measured()).thickness_mm == wall_check.DEFAULT.thickness_mm


# --- what a prior tells


def test_a_prior_tells_its_structures_its_size_and_its_limits():
    codes = np.array([[0.0, 0.5], [1.0, 1.0]])
    prior = rings.prior(codes)
    assert prior.size == rings.SIZE and prior.spacing_mm == rings.SPACING_MM
    assert prior.limits == pytest.approx(wall_check.DEFAULT)
    assert [type(v) for v in prior.limits] == [type(v) for v in wall_check.DEFAULT]
    assert prior.spec.name == "wall" and len(prior.bank.codes) == 2
    limits = wall_check.DEFAULT._replace(endo_concavity_mm=3.5)
    held = {"autoencoder": {**rings.PARAMS, "bank": rings.bank(codes)}}
    strict = anatomical_prior.prior(rings.NET, held, json.loads(json.dumps(rings.fits(limits))), 2.0)
    assert strict.limits == limits and [type(v) for v in strict.limits] == [type(v) for v in limits]


def test_a_system_without_a_bank_has_no_prior():
    without = System((rings.NET,), (), chain(), ())
    assert anatomical_prior.prior_of(without, {"autoencoder": rings.PARAMS}, {}, 2.0) is None
    held = {"autoencoder": {**rings.PARAMS, "bank": rings.bank(np.array([[0.0, 0.5]]))}}
    found = anatomical_prior.prior_of(without, held, rings.fits(), 2.0)
    assert found is not None and len(found.bank.codes) == 1


# --- the fit


def valid(masks: np.ndarray, limits: wall_check.Limits) -> np.ndarray:
    return ~failures(masks, rings.SPACING_MM, limits).any(1)


def gold() -> np.ndarray:
    """Labels of 46 slices that count."""
    label = rings.gold(6, 8)
    label[0, 0], label[1, 0, 0, 0] = 0, 255
    return label


@pytest.fixture(scope="module")
def examples() -> dict[str, np.ndarray]:
    return anatomical_prior.shapes((2,), rings.SIZE)({"label": gold()})


@pytest.fixture(scope="module")
def fitted(examples):
    fit = anatomical_prior.fit(rings.NET, rings.SPACING_MM, SETTINGS, 0)
    return fit({"autoencoder": rings.PARAMS, "other": {"params": jnp.ones(2)}}, examples)


def test_the_fit_draws_a_bank_of_codes_that_decode_to_valid_masks(fitted, examples):
    variables, figures = fitted
    held = variables["autoencoder"]["bank"]
    codes = np.asarray(held["codes"])
    assert codes.shape == (rings.NET.module.bank_size, 2) and len(np.unique(codes, axis=0)) == len(codes)
    masks = rings.decoded(codes)
    np.testing.assert_array_equal(np.unpackbits(np.asarray(held["masks"]), axis=-1, count=40) > 0, masks)
    limits = anatomical_prior.prior(rings.NET, variables, {"prior": figures}, rings.SPACING_MM).limits
    assert valid(masks, limits).all()
    assert (codes[:, 1] >= 0).all(), "the others are cut through"
    assert figures["masks"] == len(examples["shape"]) == 46
    assert figures["components"] == 1 and figures["components_by_cv"] in (1, 2)
    assert json.loads(json.dumps(figures)) == figures
    curves = Curves(tuple(figures["sizes"]), np.array(figures["nll"]), np.array(figures["aic"]))
    assert curves.sizes == (1, 2) and curves.nll.shape == curves.aic.shape == (2, 6), "a fold for each volume"
    assert np.isfinite(curves.nll).all() and figures["components_by_cv"] == chosen(curves)
    np.testing.assert_allclose(held["weights"], [1, 0])
    assert figures["valid_gold_standards"] == pytest.approx(valid(examples["shape"] > 0, limits).mean())
    assert figures["valid_gold_standards"] >= 0.9, "one per cent is left out of each limit"


def test_the_accept_rate_is_that_of_the_mixture(fitted):
    """Of one component, the share of uncut rings is a Gaussian's; a few more fail the tuned limits."""
    variables, figures = fitted
    held = variables["autoencoder"]["bank"]
    mean, lower = np.asarray(held["means"])[0], np.asarray(held["cholesky"])[0]
    uncut = 0.5 * (1 + erf(mean[1] / np.linalg.norm(lower[1]) / sqrt(2)))
    drawn = mean + np.random.default_rng(1).normal(size=(1024, 2)) @ lower.T
    limits = anatomical_prior.prior(rings.NET, variables, {"prior": figures}, rings.SPACING_MM).limits
    expected = valid(rings.decoded(drawn), limits).mean()
    assert 0.3 < expected <= uncut + 0.05 < 0.98
    spread = sqrt(expected * (1 - expected) * (1 / 1024 + expected / rings.NET.module.bank_size))
    assert abs(figures["accept_rate"] - expected) < 4 * spread


def test_restored_gold_standards_are_judged_and_compared(fitted, examples):
    variables, figures = fitted
    prior = anatomical_prior.prior(rings.NET, variables, {"prior": figures}, rings.SPACING_MM)
    masks = examples["shape"] > 0
    again = rings.decoded(np.asarray(prior.encode(jnp.asarray(masks, jnp.float32))))
    assert figures["valid_restored"] == pytest.approx(valid(again, prior.limits).mean())
    dice = 2 * (masks & again).sum((1, 2)) / (masks.sum((1, 2)) + again.sum((1, 2)))
    assert figures["dice_restored"] == pytest.approx(dice.mean()) and dice.mean() > 0.8


def test_a_fit_with_more_components_than_ten(examples):
    """Asked for twelve, the bank has room for twelve, all in use."""
    net = rings.NET._replace(module=rings.Rings(components=12, bank_size=40))
    settings = ConfigDict({"components": 12, "restarts": 1})
    variables, figures = anatomical_prior.fit(net, rings.SPACING_MM, settings, 0)(
        {"autoencoder": rings.PARAMS}, examples
    )
    held = variables["autoencoder"]["bank"]
    assert figures["components"] == 12 and figures["sizes"] == list(range(1, 13))
    assert held["weights"].shape == (12,) and held["cholesky"].shape == (12, 2, 2)
    assert (np.asarray(held["weights"]) > 0).all() and float(held["weights"].sum()) == pytest.approx(1)


def test_a_fit_writes_nothing_but_its_collection_and_knows_averaged_parameters(fitted, examples):
    """With an average kept the codes are those of the averaged network; parameters stay as they were."""
    seen = []

    def noting(variables, arrays):
        seen.append(float(variables["autoencoder"]["params"]["gain"]))
        changed = {name: {**held, "params": {"gain": jnp.zeros(())}} for name, held in variables.items()}
        return {**changed, "autoencoder": {**changed["autoencoder"], "bank": {"n": len(arrays["shape"])}}}, {"n": 1.0}

    stage = two_stages(noting).stages[0]
    start = step.init_state(two_stages(noting), 0, ema=True)
    averaged = {"autoencoder": {"params": {"gain": jnp.asarray(5.0)}, "steps": jnp.asarray(1)}}
    after, figures = step.fit(stage, start.replace(ema=averaged), examples)
    assert seen == [5.0] and figures == {"n": 1.0}
    assert after.variables["autoencoder"]["params"] is start.variables["autoencoder"]["params"]
    assert after.variables["autoencoder"]["bank"] == {"n": 46}
    assert after.ema is averaged and after.opt is start.opt and after.step is start.step
    variables, _ = fitted
    assert variables["autoencoder"]["params"] is rings.PARAMS["params"] and set(variables) == {"autoencoder", "other"}


# --- in the loop


class Banked(rings.Rings):
    """Rings with room for what is learnt of their codes, as the real autoencoder has."""

    def setup(self) -> None:
        super().setup()
        n, k = self.bank_size, self.components
        shapes = {"codes": (n, 2), "masks": (n, 40, 5), "weights": (k,), "means": (k, 2), "cholesky": (k, 2, 2)}
        for name, shape in shapes.items():
            self.variable("bank", name, jnp.zeros, shape, jnp.uint8 if name == "masks" else jnp.float32)


NET = rings.NET._replace(module=Banked())


def two_stages(fit) -> System:
    """A stage that ends in `fit`, and one after it; the one parameter is trained in both."""

    def apart(restored, shape):
        return jnp.mean(optax.sigmoid_binary_cross_entropy(restored[..., 0], shape))

    masks = pure(lambda shape: shape[..., None].astype(jnp.float32), ["shape"], "masks")
    forward = chain(masks, call(NET, ["masks"], ["restored", "code"]))
    loss = term(apart, restored="restored", shape="masks_flat")
    flat = pure(lambda masks: masks[..., 0], ["masks"], "masks_flat")
    phase = Phase("autoencode", ("autoencoder",), Objective(chain(forward, flat), loss), optax.sgd(0.1))
    made = anatomical_prior.shapes((2,), rings.SIZE)
    prior = Stage("prior", 2, (phase,), Stream(of=made, batch_size=3), fit=fit)
    after = Stage("after", 2, (phase,), Stream(of=made), validate="restored")
    return System((NET,), (prior, after), forward, (Output("restored", "labels", unchanged),))


def go(workdir, held: System) -> tuple[int, str]:
    settings = {"batch_size": 4, "accumulate": 1, "ema": 0.9, "eval_every": 2, "log_every": 1, "keep_best": 1}
    config = ConfigDict({"seed": 3, "train": {**settings, "patience": 0, "tensorboard": False}})
    arrays = Examples({"label": gold()})
    with (workdir / "said.txt").open("w+", encoding="utf-8") as said:
        status = loop.train(held, config, arrays, lambda *_: {"dice": 0.5}, workdir, {}, Console(file=said, width=300))
        said.seek(0)
        return status, said.read()


def test_a_run_stopped_after_the_fit_goes_on_with_the_same_bank_and_figures_are_printed(tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    held, write = two_stages(anatomical_prior.fit(NET, rings.SPACING_MM, SETTINGS, 0)), log.Log.write
    status, said = go(whole, held)
    assert status == 0
    (line,) = (line for line in said.splitlines() if "accept_rate" in line)
    assert line.startswith("prior: masks 46, components 1, ") and "valid_gold_standards" in line
    (logged,) = (line for line in log.read_log(whole / "log.jsonl") if line["split"] == "fit")
    assert logged["step"] == 2 and logged["stage"] == "prior" and 0 < logged["accept_rate"] < 1

    def stopping(self, step, **values):
        write(self, step, **values)
        if values["split"] == "fit":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(log.Log, "write", stopping)
    assert go(broken, held)[0] == signal.SIGTERM
    assert Checkpoints(broken).latest() == 2
    status, said = go(broken, held)
    assert status == 0 and "going on from step 2" in said and "accept_rate" not in said, "it is not fitted again"
    one, other = (Checkpoints(workdir).about(4) for workdir in (whole, broken))
    assert one["sha256"] == other["sha256"]
    assert one["fits"] == other["fits"] and one["fits"]["prior"]["accept_rate"] == logged["accept_rate"]
    variables = Checkpoints(broken).restore(4, step.init_state(held, 3, ema=True)).variables["autoencoder"]
    codes = np.asarray(variables["bank"]["codes"])
    assert (codes[:, 1] >= 0).all() and len(np.unique(codes)) == 600
    assert float(variables["params"]["gain"]) != 1.0
