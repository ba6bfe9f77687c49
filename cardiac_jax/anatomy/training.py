"""The training stage of ACSNet's prior (Abramson, Popescu et al. 2020, stage 3): autoencoder, then fit."""

import jax.numpy as jnp

from cardiac_jax.anatomy import anatomical_prior
from cardiac_jax.anatomy.autoencoder import AnatomicalAutoencoder
from cardiac_jax.anatomy.spec import AnatomySpec
from cardiac_jax.core.loss import term, total
from cardiac_jax.core.passes import call, chain, pure, random
from cardiac_jax.core.types import Array, Config, Net, Objective, Pass, Stage, Stream
from cardiac_jax.data.augment import Augment, augment_batch
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.nets.layers import precision
from cardiac_jax.train.optim import phase

AUTOENCODER = "autoencoder"
COMPONENTS = 10  # largest number of mixture components that cross-validation tries


def prior_stage(config: Config, data: DataSpec, kind: AnatomySpec) -> tuple[Net, Stage]:
    """Returns the autoencoder of the masks of `kind`, and the stage that trains it and fits mixture and bank.

    Args:
      config: the experiment's configuration; `prior`, `model.dtype` and `seed` are read.

    Raises:
      InputError: the size of the masks is not divisible by the network's strides, or a number is below its minimum.
    """
    settings, size, features = config.prior, tuple(config.prior.size), tuple(config.prior.features)
    factor = 2 ** len(features)
    if len(size) != 2 or any(s % factor for s in size):
        raise InputError("prior.size", f"{size} is not a slice (H, W) divisible by {factor}")
    for key, least in {"components": 0, "restarts": 1, "bank": 1, "code": 1, "batch_size": 1, "steps": 0}.items():
        if settings[key] < least:
            raise InputError(f"prior.{key}", f"{settings[key]} is less than {least}")
    module = AnatomicalAutoencoder(
        size,
        settings.code,
        features,
        settings.bank,
        max(COMPONENTS, settings.components),
        precision(config.model.dtype),
        kind.name,
    )
    net = Net(AUTOENCODER, module, ((*size, kind.channels),))
    stage = Stage(
        anatomical_prior.STAGE,
        settings.steps,
        (phase("autoencode", (AUTOENCODER,), _autoencoding(net, kind), settings, settings.steps),),
        Stream(
            of=anatomical_prior.shapes(kind.label_values(data.classes), size, kind, max(1, settings.components)),
            batch_size=settings.batch_size,
            prepare=_bent(size, Augment(**settings.augment), kind),
        ),
        fit=anatomical_prior.fit(net, data.pixel_mm, settings, config.seed),
    )
    return net, stage


def _bent(size: tuple[int, int], settings: Augment, kind: AnatomySpec) -> Pass:
    """Pass that augments `shape [B, *size]` and centres it."""

    def bend(keys: Array, shape: Array) -> tuple[Array]:
        _, bent = augment_batch(jnp.zeros((*shape.shape, 1)), shape.astype(jnp.int32), keys, settings)
        assert bent is not None
        return (anatomical_prior.centred(bent.astype(jnp.float32), size, kind.centring_mask),)

    return random(bend, ["shape"], ["shape"])


def _autoencoding(net: Net, kind: AnatomySpec) -> Objective:
    """Objective: cross-entropy and Dice of the reconstructed mask."""
    forward = chain(pure(kind.encode, ["shape"], "masks"), call(net, ["masks"], ["restored", "code"]))
    reads = {"logits": "restored", "shape": "shape"}
    loss = total(reconstruction_ce=term(kind.cross_entropy, **reads), reconstruction_dice=term(kind.dice_loss, **reads))
    return Objective(forward, loss)
