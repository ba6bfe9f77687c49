"""3D DR-UNet, multi-stage and end-to-end (Vesal, Maier and Ravikumar, Journal of Imaging 6:65, 2020).

    python -m launch.train --config=experiments/drunet.py:variant=multistage,data=acdc,preset=cpu \\
        --config.data.root=DIR --workdir=DIR

Variants: multistage, endtoend, drunet, unet3d, vnet3d. Data: acdc (cine, ED and ES), lasc (left atrium, LGE).
`keep_z=true` pools in plane only. Presets: smoke (a minute), cpu (about a quarter of an hour a variant on 2 cores),
paper (16 x 256 x 256 at 1.25 mm; LASC 88 x 576 x 576 and boxes of 80 x 320 x 320; until validation stops improving).
Published figures: `PUBLISHED` below.
"""

from ml_collections import ConfigDict

from cardiac_jax.core.types import Config
from cardiac_jax.data.augment import Augment
from experiments import common

SINGLE = ("unet3d", "vnet3d", "drunet")
CASCADES = ("multistage", "endtoend")
NETS = {"unet3d": "unet", "vnet3d": "vnet"}
STUDY = {
    **{name: f"variant={name},keep_z=false" for name in (*SINGLE, *CASCADES)},
    **{f"{name}_keep_z": f"variant={name},keep_z=true" for name in ("drunet", *CASCADES)},
}
"""Variants of `launch.study`: the rows of the paper's Tables 2 and 3, and the single DR-UNet that keeps Z."""
REFERENCE = "multistage_keep_z"

PUBLISHED = {
    "source": "Paper: Vesal et al. 2020, Table 3; 20 test patients of ACDC.",
    "differs": "Not the same experiment: 40 patients instead of 100, other test patients, the preset's training.",
    "dice": {
        "unet3d": {"mean": 0.825},
        "vnet3d": {"mean": 0.842},
        "drunet": {"mean": 0.848},
        "multistage": {"mean": 0.850},
        "endtoend": {"mean": 0.837},
        "multistage_keep_z": {"LV": 0.928, "RV": 0.871, "Myo": 0.853, "mean": 0.884},
        "endtoend_keep_z": {"mean": 0.875},
    },
    "hd_mm": {
        "unet3d": {"mean": 7.28},
        "vnet3d": {"mean": 5.89},
        "drunet": {"mean": 5.73},
        "multistage_keep_z": {"mean": 4.92},
    },
    "asd_mm": {
        "unet3d": {"mean": 1.68},
        "vnet3d": {"mean": 0.586},
        "drunet": {"mean": 0.591},
        "multistage_keep_z": {"mean": 0.415},
    },
}


def get_config(arg: str | None = None) -> Config:
    """Returns the configuration for `variant=...,data=...,keep_z=...,filters=...,preset=...`."""
    chosen = common.parse(
        arg,
        variant=("multistage", "endtoend", *SINGLE),
        data=("acdc", "lasc"),
        keep_z=("true", "false"),
        filters=("16", "8", "32"),
        preset=("cpu", "smoke", "paper"),
    )
    config = ConfigDict()
    config.system = "drunet"
    config.variant = chosen.variant
    config.method = f"{chosen.variant}_keep_z" if chosen.keep_z == "true" else chosen.variant
    config.preset = chosen.preset
    config.seed = 0
    config.data = common.data(name=chosen.data, root="", intensity=("clahe", "z_score"), fold=0, test_share=0.2)
    config.model = ConfigDict(
        {"net": NETS.get(chosen.variant, "drunet"), "filters": int(chosen.filters), "keep_z": chosen.keep_z == "true"}
    )
    config.model.update({"remat": False, "dtype": "float32"})
    config.localiser = ConfigDict(
        {
            "filters": 8,
            "window": (1, 2, 2),  # fine voxels per coarse voxel
            "box": (16, 128, 128),  # size of the crop that is segmented
            "floor": 0.2,  # heat below this share of its maximum is ignored
            "steps": 1000,
            "weight": 1.0,  # weight of the localiser's loss in the joint training
        }
    )
    common.add_terms(config)
    config.init = common.init("segmenter", "localiser", "autoencoder", "discriminator")
    config.post = common.post()
    config.optim = common.optim(lr=1e-4)
    config.augmentation = True
    config.augment = ConfigDict(Augment(blur_p=0.0, bias_p=0.2)._asdict())
    config.train = common.train(batch_size=2, patience=10)
    {"acdc": _acdc, "lasc": _lasc}[chosen.data](config, chosen.preset)
    return config.lock()


def _acdc(config: Config, preset: str) -> None:
    config.data.sequences = ("cine",)
    config.augment.quarter_turn_p = 0.3  # ACDC's files have no orientation, some are rotated by 90 degrees
    if preset == "paper":
        config.data.update({"size": (16, 256, 256), "spacing_mm": (0.0, 1.25, 1.25)})
        config.train.update({"steps": 20000, "eval_every": 200})
        return
    # 252 mm cover every heart of the 40 available patients, the largest of which is 140 mm; at most 17 slices.
    config.data.update({"size": (16, 144, 144), "spacing_mm": (0.0, 1.75, 1.75)})
    config.localiser.update({"box": (16, 88, 88), "steps": 200})
    _short(config, preset)


def _lasc(config: Config, preset: str) -> None:
    config.data.sequences = ("LGE",)
    if preset == "paper":
        config.data.update({"size": (88, 576, 576), "spacing_mm": (0.0, 0.0, 0.0)})
        config.localiser.update({"window": (1, 4, 4), "box": (80, 320, 320)})
        config.train.update({"steps": 20000, "eval_every": 200, "batch_size": 1})
        return
    config.data.update({"size": (88, 160, 160), "spacing_mm": (0.0, 1.5, 1.5)})
    config.localiser.update({"window": (2, 4, 4), "box": (80, 96, 96), "steps": 200})
    config.train.batch_size = 1
    _short(config, preset)


def _short(config: Config, preset: str) -> None:
    """Sets a short training: hundreds of steps, a higher rate that decays to zero, and averaged weights."""
    config.model.filters = 8
    config.optim.update({"lr": 3e-3, "schedule": "cosine"})
    config.train.update({"steps": 800, "eval_every": 200, "ema": 0.98, "patience": 0})
    if preset == "smoke":
        config.model.filters = config.localiser.filters = 4
        config.localiser.steps = 6
        config.train.update({"steps": 6, "eval_every": 3})
