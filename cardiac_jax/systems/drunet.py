"""3D DR-UNet and the compared methods (Vesal et al. 2020).

drunet, unet3d, vnet3d  one network, `model.net`, on the complete volume
multistage              a localiser on the coarse volume gives a box by Grad-CAM, segmented at full resolution
endtoend                segments I_low x F_l, the coarse image times the localiser's features; trained jointly
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cardiac_jax.core.loss import term, total, weighted
from cardiac_jax.core.passes import call, chain, pure
from cardiac_jax.core.types import IGNORE, Array, Config, Net, Objective, Output, Pass, Stage, Stream, System
from cardiac_jax.data import augment
from cardiac_jax.data.augment import Augment
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.inference.postprocess import label_decoder
from cardiac_jax.losses.overlap import dice_loss
from cardiac_jax.losses.pixelwise import cross_entropy
from cardiac_jax.nets.layers import precision
from cardiac_jax.nets.registry import NetRequest, bottleneck_shape, build_net
from cardiac_jax.train.devices import AXIS
from cardiac_jax.train.optim import phase
from cardiac_jax.transforms import cascade
from cardiac_jax.transforms.registry import Extended, TermRequest, extend

VARIANTS = ("multistage", "endtoend", "drunet", "unet3d", "vnet3d")


class _Parts(NamedTuple):
    """Parts common to all variants: configuration, data, sizes of the coarse grid and of the box, passes."""

    config: Config
    data: DataSpec
    low: tuple[int, ...]
    box: tuple[int, ...]
    augmentation: Pass
    shrink: Pass
    low_label: Pass


def build(config: Config, data: DataSpec) -> System:
    """Returns the system of `config`, on volumes.

    Raises:
      InputError: a variant, network, transform or precision is unknown, or sizes do not divide.
    """
    if config.variant not in VARIANTS:
        raise InputError("variant", f"{config.variant!r} is not one of {', '.join(VARIANTS)}")
    size, window, box = data.size, tuple(config.localiser.window), tuple(config.localiser.box)
    if not data.is_volumetric:
        raise InputError("data.size", f"{size} is not a volume (Z, H, W)")
    if len(window) != 3 or any(s % w for s, w in zip(size, window, strict=True)):
        raise InputError("localiser.window", f"{size} is not divisible by {window}")
    if len(box) != 3:
        raise InputError("localiser.box", f"{box} is not a volume (Z, H, W)")
    parts = _Parts(
        config,
        data,
        tuple(s // w for s, w in zip(size, window, strict=True)),
        box,
        augment.augmentation(Augment(**config.augment)) if config.augmentation else chain(),
        cascade.shrink(window),
        cascade.shrink_label(window, data.classes_count),
    )
    return {"multistage": _multistage, "endtoend": _endtoend}.get(config.variant, _single)(parts)


def _single(parts: _Parts) -> System:
    config, data = parts.config, parts.data
    segmenter = _net(parts, "segmenter", data.size, data.channels)
    plain = _segment(segmenter, "image", "label", data)
    stream = Stream(prepare=parts.augmentation)
    extended = _extended(parts, plain, segmenter, data.size, stream)
    stage = _segmentation_stage(config, ("segmenter",), extended, stream)
    nets = (segmenter, *extended.nets)
    return System(nets, (*extended.before, stage), plain.forward, _outputs(parts))


def _endtoend(parts: _Parts) -> System:
    config, data = parts.config, parts.data
    localiser = _net(parts, "localiser", parts.low, data.channels)
    segmenter = _net(parts, "segmenter", parts.low, data.channels * config.localiser.filters)
    coarse = _segment(localiser, "low", "low_label", data, "low_")
    fine = _segment(segmenter, "attended", "low_label", data)
    forward = chain(coarse.forward, cascade.attend("low", "low_features", "attended"), fine.forward)
    loss = total(segmentation=fine.loss, localisation=weighted(coarse.loss, config.localiser.weight))
    # Loss transforms read `label` on the coarse grid, on which this variant segments.
    on_low = pure(lambda label: label, ["low_label"], "label")
    stream = Stream(prepare=chain(parts.augmentation, parts.shrink, parts.low_label, on_low))
    extended = _extended(parts, Objective(forward, loss), segmenter, parts.low, stream)
    stage = _segmentation_stage(config, ("localiser", "segmenter"), extended, stream)
    predict = chain(parts.shrink, forward, cascade.enlarge(data.size))
    return System((localiser, segmenter, *extended.nets), (*extended.before, stage), predict, _outputs(parts))


def _multistage(parts: _Parts) -> System:
    config, data, box = parts.config, parts.data, parts.box
    localiser = _net(parts, "localiser", parts.low, data.channels)
    segmenter = _net(parts, "segmenter", box, data.channels)
    foreground = tuple(range(1, data.classes_count))
    locate = cascade.locate(box, data.size, config.localiser.floor)
    localise = cascade.localise(parts.shrink, localiser, foreground, locate)
    coarse, fine = _segment(localiser, "low", "low_label", data, "low_"), _segment(segmenter, "image", "label", data)
    find = phase("localise", ("localiser",), coarse, config.optim, config.localiser.steps)
    stream = Stream(prepare=chain(parts.augmentation, localise, cascade.crop({"image": 0.0, "label": IGNORE}, box)))
    extended = _extended(parts, fine, segmenter, box, stream)
    coarse_stream = Stream(prepare=chain(parts.augmentation, parts.shrink, parts.low_label))
    stages = (
        Stage("localisation", config.localiser.steps, (find,), coarse_stream),
        *extended.before,
        _segmentation_stage(config, ("segmenter",), extended, stream),
    )
    predict = chain(localise, cascade.crop({"image": 0.0}, box), fine.forward, cascade.paste(data.size))
    return System((localiser, segmenter, *extended.nets), stages, predict, _outputs(parts))


def _outputs(parts: _Parts) -> tuple[Output, ...]:
    return (Output("probabilities", "labels", label_decoder(parts.data.classes, parts.config.post)),)


def _segmentation_stage(config: Config, trains: tuple[str, ...], extended: Extended, stream: Stream) -> Stage:
    """The last stage: trains the networks `trains` and those of the terms on the extended objective."""
    own = phase("segment", (*trains, *extended.trains), extended.objective, config.optim, config.train.steps)
    return Stage("segmentation", config.train.steps, (own, *extended.phases), stream, validate="probabilities")


def _extended(parts: _Parts, plain: Objective, segmenter: Net, size: tuple[int, ...], stream: Stream) -> Extended:
    bottleneck = bottleneck_shape(segmenter)
    return extend(plain, TermRequest(parts.config, segmenter, size, parts.data.classes_count, bottleneck, stream))


def _net(parts: _Parts, name: str, size: tuple[int, ...], channels: int) -> Net:
    """A network on volumes of `size`; for two classes its output is one channel for a sigmoid."""
    config, outputs = parts.config, 1 if parts.data.classes_count == 2 else parts.data.classes_count
    request = NetRequest(size, channels, outputs, precision(config.model.dtype), AXIS)
    if name == "segmenter":
        return build_net(config.model, request, name)
    settings = config.model.copy_and_resolve_references().unlock()
    settings.update({"net": "drunet", "filters": config.localiser.filters})  # Grad-CAM calls its head separately
    return build_net(settings, request, name, "localiser.filters")


def _segment(net: Net, image: str, label: str, data: DataSpec, prefix: str = "") -> Objective:
    """Logits, features and probabilities of `image`; soft Dice, plus cross-entropy if binary.

    With a prefix the pass writes `<prefix>logits, <prefix>features, <prefix>probabilities`, without it `logits,
    bottleneck, probabilities`, which the loss transforms read.
    """
    logits, probabilities = f"{prefix}logits", f"{prefix}probabilities"
    forward = [call(net, [image], [logits, f"{prefix}features" if prefix else "bottleneck"])]
    if data.classes_count == 2:
        forward.append(pure(_with_background, [logits], logits))
    forward.append(pure(jax.nn.softmax, [logits], probabilities))
    losses = {"dice": term(dice_loss, probabilities=probabilities, label=label)}
    if data.classes_count == 2:
        losses["cross"] = term(cross_entropy, logits=logits, label=label)
    return Objective(chain(*forward), total(**losses))


def _with_background(logit: Array) -> Array:
    """`[..., 1] -> [..., 2]`: softmax of (0, z) is (1 - sigmoid(z), sigmoid(z))."""
    return jnp.concatenate([jnp.zeros_like(logit), logit], -1)
