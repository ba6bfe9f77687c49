"""3D DR-UNet and its rivals (Vesal et al. 2020).

drunet, unet3d, vnet3d  one network on the whole volume
multistage              a localiser on the coarse volume; Grad-CAM; the box it finds, at full resolution, is segmented
endtoend                I_low x F_l, the coarse image times the localiser's features, is segmented; one joint training
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cardiac_jax.core.loss import term, total, weighted
from cardiac_jax.core.passes import call, chain, pure
from cardiac_jax.core.types import IGNORE, Array, Config, Net, Objective, Pass, Stage, System
from cardiac_jax.data import augment
from cardiac_jax.data.augment import Augment
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.losses.overlap import dice_loss
from cardiac_jax.losses.pixelwise import cross_entropy
from cardiac_jax.nets.drunet import DRUNet
from cardiac_jax.nets.layers import precision
from cardiac_jax.nets.unet import UNet
from cardiac_jax.nets.vnet import VNet
from cardiac_jax.train.devices import AXIS
from cardiac_jax.train.optim import phase
from cardiac_jax.transforms import cascade

VARIANTS = ("multistage", "endtoend", "drunet", "unet3d", "vnet3d")


def build(config: Config, data: DataSpec) -> System:
    """The system of `config` on volumes as described.

    Raises:
      InputError: an unknown variant or precision, or sizes that do not divide.
    """
    if config.variant not in VARIANTS:
        raise InputError("variant", f"{config.variant!r} is not one of {', '.join(VARIANTS)}")
    size, window, box = tuple(data.size), tuple(config.localiser.window), tuple(config.localiser.box)
    if len(size) != 3:
        raise InputError("data.size", f"{size} is not a volume (Z, H, W)")
    if any(s % w for s, w in zip(size, window, strict=True)):
        raise InputError("localiser.window", f"{size} is not divisible by {window}")
    low = tuple(s // w for s, w in zip(size, window, strict=True))
    augmentation = augment.augmentation(Augment(**config.augment)) if config.augmentation else None
    shrink = cascade.shrink(window)
    low_label = cascade.shrink_label(window, data.classes_count)
    if config.variant not in ("multistage", "endtoend"):
        segmenter = _net(config, data, config.variant, "segmenter", config.model.filters, size, data.channels)
        train = _segment(segmenter, "image", "label", data)
        own = phase("segment", ("segmenter",), train, config.optim, config.train.steps)
        stage = Stage("segmentation", config.train.steps, (own,), augmentation)
        return System((segmenter,), (stage,), train.forward)

    localiser = _net(config, data, "drunet", "localiser", config.localiser.filters, low, data.channels)
    if config.variant == "endtoend":
        attended = data.channels * config.localiser.filters
        segmenter = _net(config, data, "drunet", "segmenter", config.model.filters, low, attended)
        coarse = _segment(localiser, "low", "low_label", data, "low_")
        fine = _segment(segmenter, "attended", "low_label", data)
        forward = chain(coarse.forward, cascade.attend("low", "low_features", "attended"), fine.forward)
        loss = total(segmentation=fine.loss, localisation=weighted(coarse.loss, config.localiser.weight))
        both = phase("segment", ("localiser", "segmenter"), Objective(forward, loss), config.optim, config.train.steps)
        prepare = _chain(augmentation, shrink, low_label)
        stage = Stage("segmentation", config.train.steps, (both,), prepare)
        return System((localiser, segmenter), (stage,), chain(shrink, forward, cascade.enlarge(size)))

    segmenter = _net(config, data, "drunet", "segmenter", config.model.filters, box, data.channels)
    foreground = tuple(range(1, data.classes_count))
    localise = cascade.localise(shrink, localiser, foreground, cascade.locate(box, size, config.localiser.floor))
    cut = cascade.crop({"image": 0.0, "label": IGNORE}, box)
    coarse, fine = _segment(localiser, "low", "low_label", data, "low_"), _segment(segmenter, "image", "label", data)
    segment = phase("segment", ("segmenter",), fine, config.optim, config.train.steps)
    find = phase("localise", ("localiser",), coarse, config.optim, config.localiser.steps)
    stages = (
        Stage("localisation", config.localiser.steps, (find,), _chain(augmentation, shrink, low_label)),
        Stage("segmentation", config.train.steps, (segment,), _chain(augmentation, localise, cut)),
    )
    cut = cascade.crop({"image": 0.0}, box)
    return System((localiser, segmenter), stages, chain(localise, cut, fine.forward, cascade.paste(size)))


def _net(config: Config, data: DataSpec, kind: str, name: str, filters: int, size: tuple, channels: int) -> Net:
    """A network on volumes of `size`; two classes take one channel and a sigmoid."""
    outputs = 1 if data.classes_count == 2 else data.classes_count
    dtype, window = precision(config.model.dtype), (1, 2, 2) if config.model.keep_z else (2, 2, 2)
    module: nn.Module
    if kind == "unet3d":
        features = tuple(filters * 2**level for level in range(4))
        module = UNet(features, outputs, window, dropout=0.0, dtype=dtype, axis_name=AXIS)
    elif kind == "vnet3d":
        features = tuple(filters * 2**level for level in range(4))
        module = VNet(features, (1, 2, 3, 3), outputs, window=window, kernel=3, dtype=dtype, axis_name=AXIS)
    else:
        keep = config.model.keep_z
        module = DRUNet(filters, outputs, keep, config.model.remat, dtype=dtype, axis_name=AXIS)
    return Net(name, module, ((*size, channels),))


def _segment(net: Net, image: str, label: str, data: DataSpec, prefix: str = "") -> Objective:
    """`image -> <prefix>logits, <prefix>features, <prefix>probabilities`; soft Dice, and cross-entropy if binary."""
    logits, probabilities = f"{prefix}logits", f"{prefix}probabilities"
    forward = [call(net, [image], [logits, f"{prefix}features"])]
    if data.classes_count == 2:
        forward.append(pure(_with_background, [logits], logits))
    forward.append(pure(jax.nn.softmax, [logits], probabilities))
    terms = {"dice": term(dice_loss, probabilities=probabilities, label=label)}
    if data.classes_count == 2:
        terms["cross"] = term(cross_entropy, logits=logits, label=label)
    return Objective(chain(*forward), total(**terms))


def _with_background(logit: Array) -> Array:
    """`[..., 1] -> [..., 2]`: softmax of (0, z) is (1 - sigmoid(z), sigmoid(z))."""
    return jnp.concatenate([jnp.zeros_like(logit), logit], -1)


def _chain(*passes: Pass | None) -> Pass:
    return chain(*(step for step in passes if step is not None))
