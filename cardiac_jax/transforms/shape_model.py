"""The T-L network of ACNN: an autoencoder of label maps, and a predictor of its codes from images (section II-D).

prior        the denoising autoencoder alone: cross-entropy, labels swapped at random, Gaussian noise on its input
predictor    the predictor alone, to the codes of the frozen encoder (L_h)
joint        both; the encoder receives the gradients of both losses (`terms.shape_and_image`)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cardiac_jax.core.loss import term, total
from cardiac_jax.core.types import Config, Net, Objective, Stage, Stream
from cardiac_jax.errors import InputError
from cardiac_jax.losses.pixelwise import masked_cross_entropy
from cardiac_jax.nets.layers import precision
from cardiac_jax.nets.predictor import Predictor
from cardiac_jax.nets.shape_autoencoder import ShapeAutoencoder
from cardiac_jax.train.devices import AXIS
from cardiac_jax.train.optim import phase
from cardiac_jax.transforms import terms


class ShapeModel(NamedTuple):
    """An autoencoder of label maps, the predictor of its codes (None: none), and the stages that train them."""

    autoencoder: Net
    predictor: Net | None
    stages: tuple[Stage, ...]

    @property
    def nets(self) -> tuple[Net, ...]:
        """The networks."""
        return (self.autoencoder,) if self.predictor is None else (self.autoencoder, self.predictor)


class InputImage(NamedTuple):
    """The image that the predictor reads: its name, and its shape `[*S, C]`."""

    name: str
    shape: tuple[int, ...]


def shape_model(
    config: Config,
    size: Sequence[int],
    frequency: Sequence[int],
    classes: int,
    stream: Stream,
    image: InputImage | None = None,
) -> ShapeModel:
    """Returns the T-L network, or without `image` the autoencoder alone.

    Args:
      config: `prior`, `predictor`, `joint`, `model.dtype` and `train` are read.
      size: `S` of the label maps.
      frequency: number of voxels of each class `[K]` in the training set.
      classes: K.
      stream: the batches; only fully annotated examples are used.
      image: the image that the predictor reads.

    Raises:
      InputError: a number is below its minimum.
    """
    _check(config, image is not None)
    prior, dtype = config.prior, precision(config.model.dtype)
    shared = {"dtype": dtype, "axis_name": AXIS}
    module = ShapeAutoencoder(
        size=tuple(size),
        classes=classes,
        code=prior.code,
        features=tuple(prior.features),
        strides=tuple(prior.strides),
        **shared,
    )
    autoencoder = Net("autoencoder", module, ((*size, classes),))
    whole = stream._replace(flag="fully_annotated", share=1.0)
    alone = Objective(
        terms.denoise(autoencoder, classes, prior.swap, prior.noise),
        total(reconstruction_ce=term(masked_cross_entropy, **terms.RECONSTRUCTION)),
    )
    learn = phase("autoencode", (autoencoder.name,), alone, prior, prior.steps)
    first = Stage("prior", prior.steps, (learn,), whole)
    if image is None:
        return ShapeModel(autoencoder, None, (first,))
    own = config.predictor
    module = Predictor(code=prior.code, features=tuple(own.features), strides=tuple(own.strides), **shared)
    predictor = Net("predictor", module, (image.shape,))
    regression = terms.code_regression(predictor, autoencoder, classes, image.name)
    both = terms.shape_and_image(
        autoencoder, predictor, classes, prior.swap, prior.noise, entropy(frequency, classes), image.name, AXIS
    )
    follow = phase("predict_code", (predictor.name,), regression, own, own.steps)
    together = phase("joint", (autoencoder.name, predictor.name), both, config.joint, config.joint.steps)
    stages = (
        first,
        Stage("predictor", own.steps, (follow,), whole),
        Stage("joint", config.joint.steps, (together,), whole),
    )
    return ShapeModel(autoencoder, predictor, stages)


def entropy(frequency: Sequence[int], classes: int) -> float:
    """Entropy of the class frequencies in nats; ln(K) if fewer than two classes have voxels."""
    counts = np.asarray([n for n in frequency if n > 0], np.float64)
    if len(counts) < 2:
        return float(np.log(classes))
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())


def _check(config: Config, with_predictor: bool) -> None:
    least = {"prior.steps": 0, "prior.code": 1, "prior.swap": 0, "prior.noise": 0}
    least |= {"predictor.steps": 0, "joint.steps": 0} if with_predictor else {}
    for key, minimum in least.items():
        group, _, name = key.partition(".")
        if config[group][name] < minimum:
            raise InputError(key, f"{config[group][name]} is less than {minimum}")
    if config.prior.swap > 1:
        raise InputError("prior.swap", f"{config.prior.swap} is not a probability")
    part = config.train.batch_size // config.train.accumulate
    if with_predictor and config.joint.steps and part < 2:
        raise InputError("train.batch_size", "the joint stage compares the codes of at least 2 examples")
