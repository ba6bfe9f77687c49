"""What every experiment's configuration shares: its argument, and the keys of data, optimiser and training."""

from ml_collections import ConfigDict

from cardiac_jax.core.types import Config
from cardiac_jax.errors import InputError


def parse(arg: str | None, **choices: tuple[str, ...]) -> Config:
    """`"method=srscn,preset=cpu"` -> the chosen values, the first of each where none is named.

    Raises:
      InputError: an unknown key, or a value that is not one of the choices.
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
    """Where the cases come from, how they are split and on which grid the network sees them."""
    return _changed(
        {
            "name": "phantom",
            "root": "runs/phantom",  # folder or file; the phantom is written there if it is not
            "sequences": ("LGE",),
            "classes": (),  # told apart, say ("Myo", "LV"); of the others oedema and scar count as Myo; (): all
            "spacing_mm": 1.4,  # in plane; 0: as the image is
            "size": (128, 128),  # (H, W), or (Z, H, W) for volumes
            "clahe": False,  # contrast equalised slice by slice, before the z-score
            "append_clahe": False,  # the equalised images as further channels, beside the images as they are
            "lge_like": False,  # whether cine at end-diastole, made to look like LGE, joins the training
            "cine_root": "",  # folder of ACDC, where that cine lies
            "real_share": 0.0,  # of a batch, real cases where others are synthetic; 0: as they come
            "overlap": 0.0,  # of tiles of this size that volumes are predicted in; 0: one crop about the centre
            "dense_share": 0.0,  # of a batch, fully annotated slices where others are partly; 0: as they come
            "fold": -1,  # validation fold dealt from the seed; -1: the publisher's train and val folders
            "folds": 5,
            "test_share": 0.0,  # of the patients, set aside for every fold alike; where the publisher names no test set
            "splits": "",  # JSON file that lists the splits instead
            "patients": 40,  # of the phantom, when it is written
        },
        changes,
    )


def optim(**changes) -> Config:
    """One phase's optimiser."""
    return _changed(
        {"name": "adam", "lr": 1e-3, "schedule": "constant", "warmup": 0.0, "clip": 0.0, "weight_decay": 0.0},
        changes,
    )


def train(**changes) -> Config:
    """The loop: how long, how large, how often."""
    return _changed(
        {
            "steps": 1000,
            "batch_size": 8,  # global, over all devices
            "accumulate": 1,
            "ema": 0.0,  # decay of the parameter average; 0: none
            "eval_every": 200,
            "log_every": 10,
            "patience": 0,  # validations without a better one after which training ends; 0: never
            "keep_best": 1,
            "tensorboard": False,
        },
        changes,
    )


def _changed(defaults: dict, changes: dict) -> Config:
    config = ConfigDict(defaults)
    config.update(changes)
    return config
