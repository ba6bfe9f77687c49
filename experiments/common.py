"""Parts common to all experiments' configurations: the argument, and the keys of data, optimiser and training."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from cardiac_jax.core.types import Config
from cardiac_jax.errors import InputError


def parse(arg: str | None, **choices: tuple[str, ...]) -> Config:
    """Returns the values in `"method=srscn,preset=cpu"`; a key that is not given has its first choice.

    Raises:
      InputError: a key is unknown, or a value is not one of the choices.
    """
    chosen = {key: options[0] for key, options in choices.items()}
    for part in filter(None, (arg or "").split(",")):
        key, _, value = part.partition("=")
        if key not in choices:
            raise InputError("--config", f"{key!r} is not one of {', '.join(choices)} (written key=value)")
        if value not in choices[key]:
            raise InputError("--config", f"{key}={value!r}: not one of {', '.join(choices[key])}")
        chosen[key] = value
    return ConfigDict(chosen)


def data(**changes) -> Config:
    """Returns the keys of the data: source of the cases, splits, the network's grid."""
    return _changed(
        {
            "name": "phantom",
            "root": "runs/phantom",  # folder or file; the phantom is written there if it does not exist
            "sequences": ("LGE",),  # channels, in order
            "classes": (),  # segmented, e.g. ("Myo", "LV"); other oedema and scar count as Myo; (): all
            "spacing_mm": (0.0, 1.4, 1.4),  # voxel size along Z, H, W; 0: as the image is
            "size": (128, 128),  # (H, W), or (Z, H, W) for volumes
            "target_scale": (1, 1, 1),  # voxels of labels and finer images per voxel of the network's grid (Z, H, W)
            "intensity": ("z_score",),  # operations on every image, in order: clahe, percentile, z_score
            "append_clahe": False,  # append the images after CLAHE as further channels
            "lge_like": False,  # add end-diastolic cine, made to look like LGE, to the training set
            "cine_root": "",  # folder of ACDC with that cine
            "real_share": 0.0,  # share of real (not synthetic) cases in a batch; 0: not controlled
            "tile_overlap": 0.0,  # overlap of tiles in prediction; 0: the box of `size` that holds the heart
            "fully_annotated_share": 0.0,  # share of fully annotated slices in a batch; 0: not controlled
            "fold": -1,  # validation fold, random by seed; -1: the publisher's train and val folders
            "folds": 5,
            "test_share": 0.0,  # share of test patients, the same for every fold, if the publisher defines no test set
            "splits": "",  # JSON file with the splits, used instead
            "patients": 40,  # number of phantom patients that are written
        },
        changes,
    )


def optim(**changes) -> Config:
    """Returns the keys of one phase's optimiser."""
    return _changed(
        {"name": "adam", "lr": 1e-3, "schedule": "constant", "warmup": 0.0, "clip": 0.0, "weight_decay": 0.0},
        changes,
    )


def train(**changes) -> Config:
    """Returns the keys of the training loop."""
    return _changed(
        {
            "steps": 1000,
            "batch_size": 8,  # global, over all devices
            "accumulate": 1,
            "ema": 0.0,  # decay of the parameter average; 0: none
            "eval_every": 200,
            "log_every": 10,
            "patience": 0,  # training ends after this number of validations without improvement; 0: never
            "keep_best": 1,
            "tensorboard": False,
        },
        changes,
    )


TERMS = ("shape_prior", "code_prior", "position", "adversarial", "weight_decay", "predictor_prior")


def add_terms(config: Config, weights: Mapping[str, float] | None = None, settings: str = "prior") -> None:
    """Adds the keys of the loss transforms, which any system can use (`cardiac_jax/transforms/registry.py`).

    Args:
      weights: of the active terms, by name; 0 switches a term off.
      settings: key of the autoencoder's settings, common to the shape prior and the code prior.
    """
    config.transforms = ConfigDict({name: (weights or {}).get(name, 0.0) for name in TERMS})
    config.terms = ()  # further terms, each module:attribute=weight
    config.ramp = (0.0, 0.0)  # every transform's weight rises from zero between these fractions of the training
    config[settings] = optim()
    config[settings].update({"steps": 600, "code": 64, "features": (16, 32, 64), "stride": 3, "swap": 0.1})
    config.adversarial = optim(lr=1e-4)


def post(**changes) -> Config:
    """Returns the keys of the post-processing of label maps, on each image's own grid."""
    return _changed(
        {
            "largest": (),  # structures of which only the largest 3D component is kept
            "fill_holes": (),  # structures whose holes in a slice are filled
            "least_ml": 0.0,  # components of any structure below this volume become background
        },
        changes,
    )


def init(*nets: str) -> Config:
    """Returns the keys of the warm start: for each network a run, `RUN@NETWORK`, or an .npz file; "": random."""
    return ConfigDict({name: "" for name in nets})


def _changed(defaults: dict, changes: dict) -> Config:
    config = ConfigDict(defaults)
    config.update(changes)
    return config
