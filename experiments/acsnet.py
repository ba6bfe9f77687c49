"""ACSNet: LGE segmentation with guaranteed anatomy, and scar (Abramson, Popescu et al., 2020, arXiv:2010.11081).

    python -m launch.train --config=experiments/acsnet.py:data=myops,lge_like=true,preset=cpu \\
        --config.data.root=DIR --config.data.cine_root=DIR_OF_ACDC --workdir=DIR
    python -m launch.project --workdir=DIR --input=LABEL_MAPS --output=DIR

`anatomy=heart` guarantees valid LV, myocardium and RV by the criteria of VITAL, instead of the myocardium alone; no
published system of this kind does.

Data: phantom, mscmr (complete stacks; wall and pool), myops (with scar). With `lge_like=true`, a quarter of every batch
is end-diastolic cine of ACDC (`data.cine_root`), made to look like LGE with scar.
Presets: smoke (minutes), cpu (about 25 minutes on 2 cores), paper (192 x 192, box and masks of 128 x 128 at 1.4 mm).
Published figures: `PUBLISHED` below.
"""

from ml_collections import ConfigDict

from cardiac_jax.core.types import Config
from cardiac_jax.data.augment import Augment
from experiments import common

STUDY = {"acsnet": "lge_like=false", "acsnet_lge_like": "lge_like=true"}
"""Variants of `launch.study`: without and with LGE-like images."""
REFERENCE = "acsnet_lge_like"

PUBLISHED = {
    "source": "Paper: Abramson, Popescu et al. 2020, Table 1; LV is wall and pool; 39 test patients after infarction.",
    "differs": "Not the same experiment: other patients, 20 to 25 of them instead of 116, the preset's training; the "
    "paper's LV is wall and pool together.",
    "dice": {"acsnet_lge_like": {"Myo": 0.79, "scar": 0.51}},
}


def get_config(arg: str | None = None) -> Config:
    """Returns the configuration for `data=...,lge_like=...,anatomy=...,preset=...`."""
    chosen = common.parse(
        arg,
        data=("phantom", "mscmr", "myops"),
        lge_like=("false", "true"),
        anatomy=("wall", "heart"),
        preset=("cpu", "smoke", "paper"),
    )
    config = ConfigDict()
    config.system = "acsnet"
    config.method = "acsnet_lge_like" if chosen.lge_like == "true" else "acsnet"
    config.preset = chosen.preset
    config.anatomy = chosen.anatomy
    config.seed = 0
    config.data = common.data(name=chosen.data, size=(20, 192, 192), append_clahe=True)
    config.data.classes = ("Myo", "LV")
    if chosen.data == "myops":
        config.data.update({"size": (6, 192, 192), "fold": 0, "classes": ("Myo", "LV", "scar")})
    if chosen.data != "phantom":
        config.data.root = ""
    if chosen.lge_like == "true":
        cine = "runs/phantom_cine" if chosen.data == "phantom" else ""
        config.data.update({"lge_like": True, "cine_root": cine, "real_share": 0.75})
    if chosen.anatomy == "heart":
        config.method += "_heart"
        config.data.classes = ("RV", *config.data.classes)
    config.model = ConfigDict({"net": "resunet", "filters": 32, "dropout": 0.2, "momentum": 0.99, "dtype": "float32"})
    config.model.slices = 0  # number of slices of each volume per training step of the segmenter; 0: all
    config.model.box = (*config.data.size[:1], 128, 128)
    config.localiser = ConfigDict({"filters": 16, "window": (1, 1, 1), "floor": 0.0, "steps": 5000})
    config.loss = ConfigDict({"beta_ventricle": 0.6, "beta_wall": 0.4})
    config.prior = common.optim()
    config.prior.update({"size": (128, 128), "code": 16, "features": (16, 32, 64), "steps": 10000, "batch_size": 32})
    config.prior.update({"bank": 100_000, "components": 6, "restarts": 8})
    config.prior.augment = ConfigDict(Augment(translation_p=0.0, outside_image="min")._asdict())
    common.add_terms(config, settings="shape_prior")
    config.init = common.init("localiser", "autoencoder", "segmenter", "shape_autoencoder", "discriminator")
    config.post = common.post()
    config.post.update(
        {
            "project": "invalid",  # projected slices: invalid; all (valid ones too, as published); none
            "trim": False,  # leave out slices beyond the base (section "Stage 3")
            "erode": 0,  # erosion of the enhancement in pixels; 1 in the paper
            "pieces": 5,  # number of enhancement components kept in a slice, the largest
            "least_mm2": 10.0,  # smallest area of a component
        }
    )
    config.optim = common.optim()
    config.augmentation = True
    config.augment = ConfigDict(Augment(bias_p=0.2)._asdict())
    config.train = common.train(steps=10000, batch_size=4)
    if chosen.preset != "paper":
        _short(config, chosen.preset)
    if chosen.anatomy == "heart":
        _wide(config)
    return config.lock()


def _short(config: Config, preset: str) -> None:
    """Sets a short training: hundreds of steps, no dropout (see README.md, SRSCN), decaying rates, averaged weights."""
    config.model.update({"filters": 16, "dropout": 0.0, "momentum": 0.9, "box": (*config.data.size[:1], 96, 96)})
    # In partly annotated complete stacks these are the fully annotated slices; in stacks of 2 to 6, few are padding.
    config.model.slices = 4 if config.data.size[0] < 10 else 6
    config.localiser.update({"filters": 8, "window": (1, 2, 2), "steps": 200})
    config.prior.update({"size": (96, 96), "steps": 1000, "batch_size": 16, "schedule": "cosine", "lr": 2e-3})
    config.prior.update({"bank": 10_000, "restarts": 4})
    config.optim.update({"lr": 2e-3, "schedule": "cosine"})
    config.train.update({"steps": 500, "eval_every": 100, "ema": 0.97})
    if preset == "smoke":
        config.data.update({"size": (12, 96, 96), "spacing_mm": (0.0, 2.8, 2.8)})
        config.model.update({"filters": 4, "box": (12, 48, 48)})
        config.localiser.update({"filters": 4, "window": (1, 1, 1), "steps": 10})
        config.prior.update({"size": (48, 48), "steps": 300, "bank": 500, "restarts": 2, "features": (8, 16, 16)})
        config.train.update({"steps": 10, "eval_every": 5})


def _wide(config: Config) -> None:
    """Makes room for the RV: 1% of ACDC's hearts reach beyond 90 mm from the wall's centre, 68 mm from their own."""
    smoke = config.preset == "smoke"
    config.prior.size = (64, 64) if smoke else (128, 128)
    config.model.box = (
        *config.data.size[:1],
        *((64, 64) if smoke else (112, 112) if config.preset == "cpu" else (128, 128)),
    )
