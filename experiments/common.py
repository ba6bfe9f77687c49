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
            "sequences": ("LGE",),  # channels, in order
            "classes": (),  # segmented, e.g. ("Myo", "LV"); of the others oedema and scar count as Myo; (): all
            "spacing_mm": (0.0, 1.4, 1.4),  # voxels along Z, H, W; 0: as the image is
            "size": (128, 128),  # (H, W), or (Z, H, W) for volumes
            "intensity": ("z_score",),  # operations on every image, in order: clahe, percentile, z_score
            "append_clahe": False,  # the images once more as further channels, after CLAHE
            "lge_like": False,  # end-diastolic cine, made to look like LGE, joins the training
            "cine_root": "",  # folder of ACDC, where that cine lies
            "real_share": 0.0,  # of a batch, real cases where others are synthetic; 0: as they come
            "tile_overlap": 0.0,  # of tiles of this size that volumes are predicted in; 0: one crop about the centre
            "fully_annotated_share": 0.0,  # of a batch, fully annotated slices where others are partly; 0: as they come
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


TERMS = ("shape_prior", "code_prior", "position", "adversarial", "weight_decay")


def add_terms(config: Config, settings: str = "prior", **weights: float) -> None:
    """Adds the keys of the loss transforms, which any system can switch on (`cardiac_jax/transforms/registry.py`).

    Args:
      settings: key of the autoencoder's own settings, which the shape prior and the code prior share.
      weights: of the terms that are on; 0 switches a term off.
    """
    config.transforms = ConfigDict({name: weights.get(name, 0.0) for name in TERMS})
    config.terms = ()  # further ones, each module:attribute=weight
    config.ramp = (0.0, 0.0)  # parts of the training between which every transform's weight rises from zero
    config[settings] = optim()
    config[settings].update({"steps": 600, "code": 64, "stride": 3, "swap": 0.1})
    config.adversarial = optim(lr=1e-4)


def post(**changes) -> Config:
    """Post-processing of label maps, on each image's own grid."""
    return _changed(
        {
            "largest": (),  # structures of which only the largest piece in 3D stays
            "fill_holes": (),  # structures whose holes in a slice are filled
            "least_ml": 0.0,  # pieces of any structure that are smaller become background
        },
        changes,
    )


def init(*nets: str) -> Config:
    """Warm start: for each network a run, `RUN@NETWORK`, or an .npz file; "": random."""
    return ConfigDict({name: "" for name in nets})


def _changed(defaults: dict, changes: dict) -> Config:
    config = ConfigDict(defaults)
    config.update(changes)
    return config
