"""SRSCN (Yue et al. 2019) and its rivals: one U-Net, and the loss transforms named in the configuration.

unet                                  L_seg
scn    position                       L_seg + lambda_SC L_SC
srnn   shape_prior                    L_seg + lambda_SR L_SR
srscn  shape_prior, position          eq. 6
acnn   code_prior                     L_seg + lambda ||f(p) - f(y)||^2
gan    adversarial                    L_seg + lambda L_G, and a phase for the discriminator
"""

import optax

from cardiac_jax.core.loss import Weight
from cardiac_jax.core.types import Config, Net, Stage, System
from cardiac_jax.data import augment
from cardiac_jax.data.augment import Augment
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.losses.pixelwise import class_weights, exponential_logarithmic
from cardiac_jax.nets.autoencoder import Autoencoder
from cardiac_jax.nets.discriminator import Discriminator
from cardiac_jax.nets.heads import PositionHead
from cardiac_jax.nets.layers import precision
from cardiac_jax.nets.unet import UNet
from cardiac_jax.train.devices import AXIS
from cardiac_jax.train.optim import phase
from cardiac_jax.transforms import terms


def build(config: Config, data: DataSpec) -> System:
    """The system of `config` on data as described.

    Args:
      config: of `experiments/srscn.py`.
      data: classes, channels, grid and label frequencies of the training set.

    Raises:
      InputError: an unknown transform, optimiser or precision.
    """
    nets = _nets(config, data)
    segmenter = nets["segmenter"]
    chosen = _transforms(config, nets, data)
    loss = exponential_logarithmic(class_weights(data.frequency), axis_name=AXIS, **config.loss)
    objective = terms.compose(*chosen.values())(terms.segmentation(segmenter, loss))

    trains = ("segmenter", "position") if "position" in chosen else ("segmenter",)
    phases = [phase("segment", trains, objective, config.optim, config.train.steps)]
    if "adversarial" in chosen:
        judge = terms.discrimination(nets["discriminator"], data.classes_count)
        phases.append(phase("discriminate", ("discriminator",), judge, config.adversarial, config.train.steps))

    stages, used = [], {"segmenter", *trains}
    augmentation = augment.augmentation(Augment(**config.augment)) if config.augmentation else None
    if {"shape_prior", "code_prior"} & chosen.keys():
        prior = terms.autoencoding(nets["autoencoder"], data.classes_count, config.prior.swap)
        learn = phase("autoencode", ("autoencoder",), prior, config.prior, config.prior.steps)
        stages.append(Stage("prior", config.prior.steps, (learn,), augmentation, draws="fully_annotated"))
        used.add("autoencoder")
    if "adversarial" in chosen:
        used.add("discriminator")
    share = config.data.fully_annotated_share
    draws = "fully_annotated" if share else ""
    stages.append(Stage("segmentation", config.train.steps, tuple(phases), augmentation, draws, share or 1.0))
    return System(tuple(net for net in nets.values() if net.name in used), tuple(stages), terms.segment(segmenter))


def _nets(config: Config, data: DataSpec) -> dict[str, Net]:
    dtype, size, classes = precision(config.model.dtype), tuple(data.size), data.classes_count
    if len(size) != 2:
        raise InputError("data.size", f"{size} is not a slice (H, W)")
    features = tuple(config.model.features)
    down = 2 ** (len(features) - 1)
    if any(s % down for s in size):
        raise InputError("data.size", f"{size} is not divisible by {down}, the pooling of {len(features)} levels")
    bottleneck = (*(s // down for s in size), features[-1])
    return {
        net.name: net
        for net in (
            Net(
                "segmenter",
                UNet(
                    features=features,
                    classes=classes,
                    dropout=config.model.dropout,
                    dtype=dtype,
                    axis_name=AXIS,
                ),
                ((*size, data.channels),),
            ),
            Net(
                "autoencoder",
                Autoencoder(
                    size=size,
                    classes=classes,
                    code=config.prior.code,
                    stride=config.prior.stride,
                    dtype=dtype,
                    axis_name=AXIS,
                ),
                ((*size, classes),),
            ),
            Net("position", PositionHead(dtype=dtype), (bottleneck,)),
            Net("discriminator", Discriminator(dtype=dtype), ((*size, classes),)),
        )
    }


def _transforms(config: Config, nets: dict[str, Net], data: DataSpec) -> dict[str, terms.LossTransform]:
    makers = {
        "shape_prior": lambda weight: terms.shape_prior(nets["autoencoder"], data.classes_count, weight),
        "code_prior": lambda weight: terms.code_prior(nets["autoencoder"], data.classes_count, weight),
        "position": lambda weight: terms.position(nets["position"], weight),
        "adversarial": lambda weight: terms.adversarial(nets["discriminator"], weight),
        "weight_decay": lambda weight: terms.weight_decay(nets["segmenter"], weight),
    }
    unknown = set(config.transforms) - set(makers)
    if unknown:
        raise InputError("transforms", f"{sorted(unknown)[0]!r} is not one of {', '.join(makers)}")
    weights = {name: config.transforms[name] for name in makers if config.transforms.get(name)}
    start, end = (round(part * config.train.steps) for part in config.ramp)
    if not 0 <= start <= end:
        raise InputError("ramp", f"{tuple(config.ramp)} is not a rising pair of parts of the training")

    def rising(weight: float) -> Weight:
        return optax.linear_schedule(0.0, weight, end - start, start) if end > start else weight

    return {name: makers[name](rising(weight)) for name, weight in weights.items()}
