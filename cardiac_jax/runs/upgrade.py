"""Conversion of checkpoints of format 1 for evaluation and prediction; they cannot be resumed."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from cardiac_jax.anatomy import anatomical_prior, mixture_size
from cardiac_jax.anatomy.registry import anatomy_spec

POST = {"largest": [], "fill_holes": [], "least_ml": 0.0}
RENAMED = {
    ("data", "beside"): ("data", "append_clahe"),
    ("data", "overlap"): ("data", "tile_overlap"),
    ("data", "dense_share"): ("data", "fully_annotated_share"),
}
FIT_LEAVES = ("limits", "nll", "aic", "accept_rate")


def upgraded(about: Mapping[str, Any], tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (about, variables for prediction) of a checkpoint of format 1, in the current form.

    Args:
      about: the JSON stored with the weights.
      tree: the stored state as nested dictionaries of arrays.

    Raises:
      KeyError: a key is missing.
    """
    about = copy.deepcopy(dict(about))
    config, data = about["config"], about["data"]
    config["data"]["intensity"] = data["intensity"] = _intensity(data.pop("clahe"), data["beside"])
    config["data"]["spacing_mm"] = data["spacing_mm"] = [0.0, *(2 * [float(data["spacing_mm"] or 0.0)])]
    config["data"].pop("clahe")
    data["append_clahe"], data["tile_overlap"] = data.pop("beside"), data.pop("overlap")
    for (group, old), (new_group, new) in RENAMED.items():
        config[new_group][new] = config[group].pop(old)
    config["post"] = {**POST, **config.get("post", {})}
    config["terms"] = []
    config.setdefault("transforms", {})
    system = about["system"]
    single = {"unet3d": "unet", "vnet3d": "vnet"}.get(config.get("variant", ""), "drunet")
    config["model"]["net"] = {"srscn": "unet", "drunet": single, "acsnet": "resunet"}[system]
    variables = {
        name: {**held, "params": tree["ema"][name]["params"] if name in tree.get("ema", {}) else held["params"]}
        for name, held in tree["variables"].items()
    }
    about["fits"] = {}
    if system == "acsnet":
        config["anatomy"] = config.pop("structures", "wall")
        bank = variables["autoencoder"]["bank"]
        about["fits"][anatomical_prior.STAGE] = _fit(bank, config["anatomy"])
        kept = {name: value for name, value in bank.items() if name not in FIT_LEAVES}
        variables["autoencoder"] = {**variables["autoencoder"], "bank": kept}
    return about, variables


def _intensity(clahe: bool, beside: bool) -> list[str]:
    return ["clahe", "z_score"] if clahe and not beside else ["z_score"]


def _fit(bank: Mapping[str, Any], anatomy: str) -> dict[str, Any]:
    """The figures of the prior's fit, which format 1 stored among its variables, padded by NaN."""
    default = anatomy_spec(anatomy).default_limits
    pairs = zip(default._asdict().items(), np.asarray(bank["limits"]), strict=False)  # later limits are at the end
    nll, aic = (np.asarray(bank[name], np.float64) for name in ("nll", "aic"))
    used = np.isfinite(nll).all(0)
    curves = mixture_size.Curves(tuple(range(1, len(nll) + 1)), nll[:, used], aic[:, used])
    return {
        "components": int((np.asarray(bank["weights"]) > 0).sum()),
        "components_by_cv": int(mixture_size.chosen(curves)),
        "accept_rate": float(bank["accept_rate"]),
        "limits": {name: type(value)(stored) for (name, value), stored in pairs},
        "sizes": list(curves.sizes),
        "nll": curves.nll.tolist(),
        "aic": curves.aic.tolist(),
    }
