"""Checkpoints of format 1: configuration and data of each system as they were stored then, read as they mean today."""

import copy
from typing import Any

import jax
import numpy as np
import pytest

from cardiac_jax import systems
from cardiac_jax.anatomy import anatomical_prior, heart_check, wall_check
from cardiac_jax.anatomy.training import AUTOENCODER
from cardiac_jax.core.config import to_config
from cardiac_jax.core.step import init_state
from cardiac_jax.core.types import Config, System
from cardiac_jax.data.augment import Augment
from cardiac_jax.data.spec import DataSpec, from_json
from cardiac_jax.errors import InputError
from cardiac_jax.runs.restore import restore
from cardiac_jax.runs.upgrade import upgraded
from cardiac_jax.train import checkpoint
from cardiac_jax.train.checkpoint import Checkpoints

OPTIM = {"clip": 0.0, "lr": 1e-3, "name": "adam", "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0}
TRAIN = {"accumulate": 1, "batch_size": 2, "ema": 0.9, "eval_every": 3, "keep_best": 1, "log_every": 10, "patience": 0}
DATA = {
    "beside": False,
    "cine_root": "",
    "clahe": False,
    "classes": [],
    "dense_share": 0.5,
    "fold": -1,
    "folds": 5,
    "lge_like": False,
    "name": "phantom",
    "overlap": 0.25,
    "patients": 40,
    "real_share": 0.0,
    "root": "runs/phantom",
    "sequences": ["LGE"],
    "size": [16, 16],
    "spacing_mm": 1.8,
    "splits": "",
    "test_share": 0.0,
}
COMMON = {
    "augment": Augment()._asdict(),
    "augmentation": True,
    "optim": OPTIM,
    "preset": "smoke",
    "seed": 0,
    "train": {**TRAIN, "steps": 6, "tensorboard": False},
}
SPEC = {
    "dataset": "phantom",
    "classes": ["background", "RV", "Myo", "LV"],
    "labels": [0, 600, 200, 500],
    "sequences": ["LGE"],
    "slice_order": "affine",
    "spacing_mm": 1.8,
    "size": [16, 16],
    "frequency": [1000, 100, 80, 120],
    "clahe": False,
    "beside": False,
    "overlap": 0.25,
}


def srscn() -> dict[str, Any]:
    own = {
        "adversarial": OPTIM,
        "loss": {"gamma_cross": 0.3, "gamma_dice": 0.3, "lambda_cross": 0.2, "lambda_dice": 0.8},
        "method": "srscn",
        "model": {"dropout": 0.2, "dtype": "float32", "features": [4, 8]},
        "prior": {**OPTIM, "code": 8, "steps": 4, "stride": 3, "swap": 0.1},
        "ramp": [0.0, 0.0],
        "system": "srscn",
        "transforms": {"adversarial": 0.0, "code_prior": 0.0, "position": 1e-6, "shape_prior": 5e-4},
    }
    return {"system": "srscn", "config": {**COMMON, **own, "data": DATA}, "data": SPEC, "format": 1}


def drunet(variant: str) -> dict[str, Any]:
    grid = {"size": [4, 32, 32], "spacing_mm": None, "clahe": True}
    own = {
        "localiser": {"box": [4, 16, 16], "filters": 4, "floor": 0.2, "steps": 6, "weight": 1.0, "window": [1, 2, 2]},
        "method": variant,
        "model": {"dtype": "float32", "filters": 4, "keep_z": True, "remat": False},
        "system": "drunet",
        "variant": variant,
    }
    config = {**COMMON, **own, "data": {**DATA, **grid}}
    return {"system": "drunet", "config": config, "data": {**SPEC, **grid}, "format": 1}


def acsnet(structures: str = "wall") -> dict[str, Any]:
    grid = {"size": [4, 32, 32], "clahe": True, "beside": True, "overlap": 0.0}
    classes = ["Myo", "LV"] if structures == "wall" else ["RV", "Myo", "LV"]
    prior = {"augment": Augment()._asdict(), "bank": 5, "batch_size": 16, "code": 2, "components": 6}
    own = {
        "localiser": {"filters": 4, "floor": 0.0, "steps": 10, "window": [1, 1, 1]},
        "loss": {"beta_ventricle": 0.6, "beta_wall": 0.4},
        "method": "acsnet",
        "model": {"box": [4, 32, 32], "dropout": 0.0, "dtype": "float32", "filters": 4, "momentum": 0.9, "slices": 2},
        "post": {"erode": 1, "least_mm2": 10.0, "pieces": 5, "project": "all", "trim": True},
        "prior": {**OPTIM, **prior, "features": [2, 2, 2], "restarts": 2, "size": [32, 32], "steps": 300},
        "structures": structures,
        "system": "acsnet",
    }
    held = {**SPEC, **grid, "classes": ["background", *classes], "labels": [0, 600, 200, 500][-len(classes) - 1 :]}
    held["frequency"] = [9] * len(held["classes"])
    return {
        "system": "acsnet",
        "config": {**COMMON, **own, "data": {**DATA, **grid, "classes": classes}},
        "data": {**held, "labels": [0, *held["labels"][1:]]},
        "format": 1,
    }


def bank(limits: tuple) -> dict[str, np.ndarray]:
    """Limits and curves lay among the prior's variables, folds and sizes beyond those in use as NaN."""
    curves = {
        "nll": np.array([[3.0, 3.2, np.nan], [2.9, 3.3, np.nan]], np.float32),
        "aic": np.array([[9.0, 9.2, np.nan], [9.4, 9.6, np.nan]], np.float32),
    }
    return {
        "codes": np.arange(10, dtype=np.float32).reshape(5, 2),
        "masks": np.zeros((5, 32, 4), np.uint8),
        "weights": np.array([0.6, 0.4, *[0.0] * 8], np.float32),
        "means": np.zeros((10, 2), np.float32),
        "cholesky": np.zeros((10, 2, 2), np.float32),
        "limits": np.array(limits, np.float32),
        "accept_rate": np.float32(0.25),
        **curves,
    }


def tree(**nets: dict[str, Any]) -> dict[str, Any]:
    """A stored state: parameters 1, their average 2."""
    variables = {name: {"params": {"kernel": np.ones(2)}, **held} for name, held in nets.items()}
    return {"variables": variables, "ema": {name: {"params": {"kernel": np.full(2, 2.0)}, "steps": 3} for name in nets}}


def built(about: dict[str, Any]) -> tuple[System, Config, DataSpec]:
    config, spec = to_config(about["config"]), from_json(about["data"], "here")
    return systems.build_system(config, spec), config, spec


def test_srscn():
    before = srscn()
    about, variables = upgraded(before, tree(segmenter={"batch_stats": {"mean": np.zeros(2)}}))
    assert before == srscn(), "the JSON that was read is left alone"
    system, config, spec = built(about)
    assert [net.name for net in system.nets] == ["segmenter", "autoencoder", "position"]
    assert config.model.net == "unet" and config.data.fully_annotated_share == 0.5 and about["fits"] == {}
    assert spec.spacing_mm == (0.0, 1.8, 1.8) and spec.tile_overlap == 0.25 == config.data.tile_overlap
    assert spec.intensity == ("z_score",) and not spec.append_clahe
    assert not {"beside", "clahe", "overlap", "dense_share"} & set(config.data)
    np.testing.assert_array_equal(variables["segmenter"]["params"]["kernel"], [2, 2])  # the average
    assert set(variables["segmenter"]) == {"params", "batch_stats"}


@pytest.mark.parametrize(
    "variant, net, nets",
    [
        ("unet3d", "unet", ["segmenter"]),
        ("vnet3d", "vnet", ["segmenter"]),
        ("drunet", "drunet", ["segmenter"]),
        ("multistage", "drunet", ["localiser", "segmenter"]),
        ("endtoend", "drunet", ["localiser", "segmenter"]),
    ],
)
def test_drunet(variant: str, net: str, nets: list[str]):
    about, variables = upgraded(drunet(variant), {**tree(segmenter={}), "ema": {}})
    system, config, spec = built(about)
    assert [net.name for net in system.nets] == nets and config.model.net == net
    assert spec.spacing_mm == (0.0, 0.0, 0.0) and spec.intensity == ("clahe", "z_score")
    np.testing.assert_array_equal(variables["segmenter"]["params"]["kernel"], [1, 1])  # no average was kept


def test_acsnet_has_the_figures_of_its_fit_beside_the_weights():
    limits = wall_check.DEFAULT._replace(circularity=0.5)
    stored = tree(localiser={}, segmenter={}, autoencoder={"bank": bank(limits)})
    about, variables = upgraded(acsnet(), stored)
    system, config, spec = built(about)
    assert config.anatomy == "wall" and "structures" not in config and config.model.net == "resunet"
    assert spec.append_clahe and spec.intensity == ("z_score",) and spec.channels == 2
    assert config.post.to_dict() == {
        **{"erode": 1, "least_mm2": 10.0, "pieces": 5, "project": "all", "trim": True},
        **{"largest": (), "fill_holes": (), "least_ml": 0.0},
    }
    figures = about["fits"]["prior"]
    assert figures["limits"] == pytest.approx(limits._asdict())
    assert [type(v) for v in figures["limits"].values()] == [type(v) for v in limits]
    assert figures["sizes"] == [1, 2] and figures["components"] == 2 and figures["accept_rate"] == 0.25
    np.testing.assert_allclose(figures["nll"], [[3.0, 3.2], [2.9, 3.3]], rtol=1e-6)
    np.testing.assert_allclose(figures["aic"], [[9.0, 9.2], [9.4, 9.6]], rtol=1e-6)
    # Both NLL lie within one standard error, the AIC of two components lies above that of one by more.
    assert figures["components_by_cv"] == 1
    like = jax.eval_shape(lambda: init_state(system, 0)).variables[AUTOENCODER]["bank"]
    held = variables[AUTOENCODER]["bank"]
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in held.items()} == {
        name: (leaf.shape, leaf.dtype) for name, leaf in like.items()
    }
    decoder = system.outputs[0].decoder(variables, about["fits"])
    assert decoder.summary().about()["which"] == "all, trimmed at the base"


def test_acsnet_of_the_whole_heart():
    stored = tree(localiser={}, segmenter={}, autoencoder={"bank": bank(heart_check.DEFAULT)})
    about, _ = upgraded(acsnet("heart"), stored)
    system, config, _ = built(about)
    assert config.anatomy == "heart" and {net.name for net in system.nets} >= {AUTOENCODER, "segmenter"}
    assert about["fits"][anatomical_prior.STAGE]["limits"] == pytest.approx(heart_check.DEFAULT._asdict())
    before = acsnet()
    del before["config"]["structures"]  # as before there was a choice
    about, _ = upgraded(before, tree(autoencoder={"bank": bank(wall_check.DEFAULT)}))
    assert about["config"]["anatomy"] == "wall"


def save(workdir, monkeypatch, about: dict[str, Any], state: Any) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 1)
        checkpoints = Checkpoints(workdir, writing=True)
        checkpoints.save(6, state, about, 0.5)
        checkpoints.close()


def test_a_run_of_format_1_is_restored(tmp_path, monkeypatch):
    now, _ = upgraded(srscn(), tree(segmenter={}))
    state = init_state(built(now)[0], 3, ema=True)
    averaged = {
        net: {**held, "params": jax.tree.map(lambda x: x + 1, held["params"])} for net, held in state.ema.items()
    }
    save(tmp_path, monkeypatch, srscn(), {"variables": state.variables, "ema": averaged})
    trained = restore(tmp_path)
    assert trained.step == 6 and trained.fits == {} and trained.spec.spacing_mm == (0.0, 1.8, 1.8)
    for net, held in averaged.items():
        for one, other in zip(
            jax.tree.leaves(trained.variables[net]["params"]), jax.tree.leaves(held["params"]), strict=True
        ):
            np.testing.assert_array_equal(one, other, err_msg=net)
    outputs = trained.predict(np.zeros((1, 16, 16, 1), np.float32))
    np.testing.assert_allclose(outputs["probabilities"].sum(-1), 1, rtol=1e-5)


def test_a_checkpoint_that_is_older_still_is_refused(tmp_path, monkeypatch):
    about = copy.deepcopy(srscn())
    del about["config"]["data"]["overlap"]
    save(tmp_path, monkeypatch, about, tree(segmenter={}))
    with pytest.raises(InputError, match="checkpoint of another version of the code: it lacks overlap"):
        restore(tmp_path)
