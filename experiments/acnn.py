"""ACNN: 3D sub-pixel segmentation and super-resolution under a learnt shape prior (Oktay et al., IEEE TMI 2018).

    python -m launch.train --config=experiments/acnn.py:task=seg,method=acnn,data=lasc,preset=cpu \\
        --config.data.root=PAIRS --workdir=DIR
    python -m launch.study --config=experiments/acnn.py:data=phantom --only=seg3d,maug,acnn --workdir=DIR

PAIRS are low-resolution stacks with high-resolution labels and images (data set `twins`) that `launch.prepare --twins`
makes from a data set of high-resolution volumes. Those of the phantom are simulated in `runs/twins`.

Tasks and their methods, the reference first:
  seg       acnn, fcn2d, seg3d, unet3d, ae_seg, maug (slice motion of the input), ae_seg_m (a larger autoencoder)
  sr        acnn, linear, bspline (nothing to train), srcnn, unet3d, sr (no prior)
  tl        the T-L network: predictor and decoder segment, and the code is written too
  classify  the autoencoder alone, of the label maps of ED and ES
  us        acnn, fcn, seg3d on 3D ultrasound
Data: phantom, lasc (pairs of these); acdc for classify; us (layout of CETUS) for us.
Presets: smoke (minutes, mostly compilation), cpu (for 2 cores), paper (12 x 120 x 120 at 1.25 x 1.25 x 10 mm to 60 x
120 x 120, half as many slices for lasc; one GPU).
Published figures: `PUBLISHED` below.
"""

from ml_collections import ConfigDict

from cardiac_jax.core.types import Config
from cardiac_jax.data.augment import IDENTITY
from cardiac_jax.errors import InputError
from cardiac_jax.nets.fcn import FCN
from cardiac_jax.nets.shape_autoencoder import AE_SEG, AE_SEG_M
from cardiac_jax.nets.subpixel import SubPixel
from cardiac_jax.nets.upsampled import SRCNN
from experiments import common

METHODS = {
    "seg": ("acnn", "fcn2d", "seg3d", "unet3d", "ae_seg", "maug", "ae_seg_m"),
    "sr": ("acnn", "linear", "bspline", "srcnn", "unet3d", "sr"),
    "tl": ("tl",),
    "classify": ("classify",),
    "us": ("acnn", "fcn", "seg3d"),
}
PAIRS = ("phantom", "lasc")
DATA = {"seg": PAIRS, "sr": PAIRS, "tl": PAIRS, "classify": ("acdc", *PAIRS), "us": ("us",)}
"""Data of each task, the one that it takes where none is named first."""
NAMES = {
    **{("sr", name): f"sr_{name}" for name in ("acnn", "unet3d")},
    **{("us", name): f"us_{name}" for name in METHODS["us"]},
}
"""Names in tables, where a name of a method serves several tasks."""
INTERPOLATIONS = ("linear", "bspline")
NETS = {"fcn2d": "fcn2d", "unet3d": "unet", "srcnn": "srcnn", "fcn": "multiview"}
"""Networks by method; the others have the sub-pixel network of Fig. 2."""
WIDTHS = {
    "fcn2d": FCN.features,
    "fcn": FCN.features,
    "unet3d": (18, 36, 72, 136),  # 1.64 million parameters, as in Table I
    "srcnn": SRCNN.features,
}
"""Channels of the stages of the networks by method; the others have those of the sub-pixel network."""
ISOTROPIC = (16, 40, 64, 96)
"""Those of the sub-pixel network that pools along every axis; 1.59 million parameters, as many as in plane."""
LAMBDA_1, LAMBDA_2 = 1e-2, 5e-6
"""Weights of the prior and of the weight decay (supplement, 1)."""

STUDY = {
    **{name: f"task=seg,method={name}" for name in (*METHODS["seg"][1:], "acnn")},
    "tl": "task=tl,method=tl",
    **{NAMES.get(("sr", name), name): f"task=sr,method={name}" for name in (*METHODS["sr"][1:], "acnn")},
    **{NAMES["us", name]: f"task=us,method={name}" for name in (*METHODS["us"][1:], "acnn")},
}
"""Variants of `launch.study`: the rows of Tables I (with the T-L network), III and II. A study has one kind of output:
name its rows by --only."""
REFERENCE = "acnn"

PUBLISHED = {
    "source": "Paper: Oktay et al. 2018. Table I (LV: endocardium; 200 test subjects, UK Digital Heart Project), the "
    "T-L network's Dice from section III-C, Table II at ED (30 test sequences of CETUS) and Table III (200 subjects).",
    "differs": "Not the same experiment: those pairs of stack and volume are not public; here the stacks are made from "
    "high-resolution volumes, of other and fewer patients, and the preset's training is shorter.",
    "dice": {
        "fcn2d": {"LV": 0.908, "Myo": 0.727},
        "seg3d": {"LV": 0.923, "Myo": 0.773},
        "unet3d": {"LV": 0.923, "Myo": 0.764},
        "ae_seg": {"LV": 0.926, "Myo": 0.779},
        "maug": {"LV": 0.928, "Myo": 0.785},
        "ae_seg_m": {"LV": 0.927, "Myo": 0.791},
        "acnn": {"LV": 0.939, "Myo": 0.811},
        "tl": {"mean": 0.734},
        "us_fcn": {"LV": 0.906},
        "us_acnn": {"LV": 0.912},
    },
    "hd_mm": {
        "fcn2d": {"LV": 11.37, "Myo": 9.19},
        "seg3d": {"LV": 10.28, "Myo": 10.15},
        "unet3d": {"LV": 9.94, "Myo": 9.81},
        "ae_seg": {"LV": 8.42, "Myo": 8.52},
        "maug": {"LV": 8.52, "Myo": 9.41},
        "ae_seg_m": {"LV": 7.52, "Myo": 7.12},
        "acnn": {"LV": 7.89, "Myo": 7.31},
        "us_fcn": {"LV": 11.94},
        "us_acnn": {"LV": 6.96},
    },
    "asd_mm": {
        "fcn2d": {"LV": 2.07, "Myo": 1.58},
        "seg3d": {"LV": 1.77, "Myo": 1.48},
        "unet3d": {"LV": 1.66, "Myo": 1.45},
        "ae_seg": {"LV": 1.75, "Myo": 1.51},
        "maug": {"LV": 1.59, "Myo": 1.37},
        "ae_seg_m": {"LV": 1.59, "Myo": 1.32},
        "acnn": {"LV": 1.37, "Myo": 1.14},
        "us_fcn": {"LV": 1.98},
        "us_acnn": {"LV": 1.89},
    },
    "ssim": {
        "linear": {"image": 0.777},
        "bspline": {"image": 0.779},
        "srcnn": {"image": 0.783},
        "sr_unet3d": {"image": 0.784},
        "sr_acnn": {"image": 0.796},
    },
}


def get_config(arg: str | None = None) -> Config:
    """Returns the configuration for `task=...,method=...,data=...,preset=...`.

    Raises:
      InputError: an unknown word, or a method or data that the task does not have.
    """
    every = tuple(dict.fromkeys(("", *(name for names in METHODS.values() for name in names))))
    chosen = common.parse(
        arg,
        task=tuple(METHODS),
        method=every,
        data=("", "phantom", "lasc", "acdc", "us"),
        preset=("cpu", "smoke", "paper"),
    )
    task, method = chosen.task, chosen.method or METHODS[chosen.task][0]
    if method not in METHODS[task]:
        raise InputError("--config", f"method={method!r}: task={task} has {', '.join(METHODS[task])}")
    data = chosen.data or DATA[task][0]
    if data not in DATA[task]:
        raise InputError("--config", f"data={data!r}: task={task} has {', '.join(DATA[task])}")
    config = ConfigDict()
    config.system = "interpolation" if method in INTERPOLATIONS else "acnn"
    config.task = task
    config.method = NAMES.get((task, method), method)
    config.preset = chosen.preset
    config.seed = 0
    config.data = _data(task, data)
    config.model = ConfigDict({"net": NETS.get(method, "subpixel"), "features": (), "dropout": 0.0, "dtype": "float32"})
    config.model.keep_z = task != "us"  # pooling in plane only: stacks have few, thick slices
    common.add_terms(config, _terms(task, method))
    _shape_model(config, task)
    config.refine = method in ("ae_seg", "ae_seg_m")
    # Motion of each slice by itself: of the low-resolution input; in super-resolution before slices are made thick.
    config.motion = ConfigDict({"on": method == "maug" or task == "sr", "shift_mm": 4.0, "rotation_deg": 5.0})
    config.degrade = ConfigDict({"sigma_mm": 4.0, "noise": 0.05})  # noise in SD of the image
    config.init = common.init("segmenter", "enhancer", "autoencoder", "predictor", "discriminator")
    config.post = common.post()
    config.optim = common.optim()
    config.augmentation = True
    config.augment = ConfigDict(_augment(task)._asdict())
    config.train = common.train()
    {"paper": _paper, "cpu": _cpu, "smoke": _smoke}[chosen.preset](config, method)
    return config.lock()


def _data(task: str, data: str) -> Config:
    """The published grid; 3D ultrasound is isotropic, and codes are learnt from labels on the grid of the labels."""
    name = {"acdc": "acdc", "us": "cetus"}.get(data, "twins")
    sequence = {"lasc": "LGE", "us": "US"}.get(data, "cine")
    root = "runs/twins" if data == "phantom" else ""  # simulated there
    held = common.data(name=name, root=root, sequences=(sequence,), fold=0, test_share=0.2)
    if data == "us":
        held.update({"size": (144, 144, 144), "spacing_mm": (1.0, 1.0, 1.0)})
    elif task == "classify" and data == "acdc":
        held.update({"size": (60, 120, 120), "spacing_mm": (2.0, 1.25, 1.25)})
    else:
        depth = 6 if data == "lasc" else 12  # volumes of LASC are 55 mm deep
        held.update({"size": (depth, 120, 120), "spacing_mm": (10.0, 1.25, 1.25), "target_scale": (5, 1, 1)})
    return held


def _terms(task: str, method: str) -> dict[str, float]:
    if task in ("tl", "classify") or method in INTERPOLATIONS:
        return {}
    prior = {"predictor_prior" if task == "sr" else "code_prior": LAMBDA_1} if method == "acnn" else {}
    return {"weight_decay": LAMBDA_2, **prior}


def _shape_model(config: Config, task: str) -> None:
    """Adds the keys of the T-L network: Tables IV and V as default."""
    config.prior = common.optim()
    config.prior.update({"steps": 10000, "code": 64, "features": (16, 32, 64), "swap": 0.1, "noise": 0.1})
    config.prior.strides = ((1, 2, 2), 2, 2, 3) if task != "us" else (2, 2, 2, 3)
    config.predictor = common.optim()
    config.predictor.update({"steps": 5000, "features": (32, 64, 128, 256), "strides": (1, 2, 2, 2)})
    config.joint = common.optim()
    config.joint.steps = 5000


def _augment(task: str):
    """Affine transforms and Gaussian noise (section III-B); through the planes too where voxels are isotropic."""
    affine = {"rotation_p": 0.8, "rotation_deg": 15.0, "scale_p": 0.8, "scale": 0.15, "shear_p": 0.5, "shear": 0.1}
    moved = {"translation_p": 0.8, "translation_px": 8.0, "noise_p": 1.0, "noise": 0.1}
    return IDENTITY._replace(**affine, **moved, depth_px=1.0 if task == "us" else 0.0)


def _paper(config: Config, method: str) -> None:
    config.model.features = _widths(config, method, 1)
    config.model.dropout = FCN.dropout if config.model.net in ("fcn2d", "multiview") else 0.0
    if config.refine:
        config.prior.features = AE_SEG if method == "ae_seg" else AE_SEG_M
    config.train.update({"steps": 20000, "eval_every": 1000})
    if config.task == "us":
        config.train.batch_size = 2  # 144^3 voxels have 3.5 times as many as 60 x 120 x 120


def _cpu(config: Config, method: str) -> None:
    """Half the resolution in plane, a quarter of the widths, few steps of high, decaying rates, averaged weights.

    With cross-entropy alone and a structure of 2% of the voxels, the head must first learn how rare it is: at a rate
    of 2e-3 and 200 steps 3D-Seg predicted nothing on LASC, at 1e-2 it had a Dice of .33 after as many.

    The autoencoder has half of its widths: it must restore label maps better than the segmenter segments them. One
    of its steps takes 2.6 CPU seconds, one of ACNN-Seg 3.2 (batch 4, two cores shared with other processes).
    """
    if config.task == "us":
        config.data.update({"size": (48, 48, 48), "spacing_mm": (3.0, 3.0, 3.0)})
        config.augment.translation_px = 3.0
    else:
        depth, thick_mm = config.data.size[0], config.data.spacing_mm[0]
        config.data.update({"size": (depth, 64, 64), "spacing_mm": (thick_mm, 2.5, 2.5)})
        config.augment.translation_px = 4.0
    config.model.features = _widths(config, method, 4)
    config.prior.features = {"ae_seg": (2, 4, 6), "ae_seg_m": (3, 6, 12)}.get(method, (8, 16, 32))
    config.predictor.features = (8, 16, 32, 64)
    for group, steps in (("prior", 300), ("predictor", 150), ("joint", 150)):
        config[group].update({"steps": steps, "lr": 5e-3, "schedule": "cosine"})
    config.optim.update({"lr": 1e-2, "schedule": "cosine"})
    config.train.update({"steps": 500, "eval_every": 250, "ema": 0.97, "batch_size": 4})


def _smoke(config: Config, method: str) -> None:
    _cpu(config, method)
    size = (24, 24, 24) if config.task == "us" else (*config.data.size[:1], 24, 24)
    spacing_mm = (6.0, 6.0, 6.0) if config.task == "us" else (*config.data.spacing_mm[:1], 6.0, 6.0)
    config.data.update({"size": size, "spacing_mm": spacing_mm})
    config.model.features = _widths(config, method, 8)
    config.prior.update({"features": (2, 4, 8), "code": 16, "steps": 6})
    config.predictor.update({"features": (4, 4, 8, 8), "steps": 4})
    config.joint.steps = 4
    config.train.update({"steps": 6, "eval_every": 3})


def _widths(config: Config, method: str, part: int) -> tuple[int, ...]:
    """Channels of each stage of a method's network, 1 / `part` of the published ones."""
    own = ISOTROPIC if config.task == "us" else SubPixel.features
    return tuple(max(width // part, 2) for width in WIDTHS.get(method, own))
