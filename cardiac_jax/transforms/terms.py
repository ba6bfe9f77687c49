"""Objectives and loss transforms: `compose(shape_prior(ae, 5e-4), position(head, 1e-6))(segmentation(...))` is SRSCN.

A loss transform takes an objective and returns one with one more pass and one more weighted term. Common named values:
`image`, `label`, `logits`, `probabilities`, `bottleneck`, `position` and the flag `fully_annotated [B]`, which is 1
where every pixel of the example is annotated. Shape terms are 0 for partly annotated slices.
"""

from collections.abc import Callable
from functools import reduce

import jax
import jax.numpy as jnp

from cardiac_jax.core.loss import Weight, term, total, weighted
from cardiac_jax.core.passes import call, chain, name_key, pure, random
from cardiac_jax.core.types import Array, Loss, LossTransform, Net, Objective, Pass
from cardiac_jax.losses.adversarial import discriminator_loss, generator_loss
from cardiac_jax.losses.latent import code_distance, relative_code_distance, sum_squared_error
from cardiac_jax.losses.overlap import dice_loss, one_hot
from cardiac_jax.losses.pixelwise import masked_cross_entropy
from cardiac_jax.losses.position import position_error
from cardiac_jax.ops import degrade

CallNet = Callable[..., Pass]
"""`core.passes.call`, or a function whose pass runs the network on every slice of a volume."""


def compose(*transforms: LossTransform) -> LossTransform:
    """Returns the loss transform that applies `transforms` from left to right."""
    return lambda objective: reduce(lambda inner, transform: transform(inner), transforms, objective)


def add(objective: Objective, forward: Pass, loss: Loss, name: str) -> Objective:
    """Returns `objective` with one more pass, run after the others, and one more named loss term."""
    base = objective.loss

    def init():
        return {"base": base.init(), "added": added.init()}

    added = total(**{name: loss})

    def apply(state, values):
        value, base_state, logs = base.apply(state["base"], values)
        if name in logs:
            raise ValueError(f"two terms are named {name!r}: one would read what the pass of the other wrote")
        extra, added_state, extra_logs = added.apply(state["added"], values)
        return value + extra, {"base": base_state, "added": added_state}, {**logs, **extra_logs}

    return Objective(chain(objective.forward, forward), Loss(init, apply))


def segment(net: Net) -> Pass:
    """Pass `image -> logits, bottleneck, probabilities`; softmax over the last axis."""
    return chain(call(net, ["image"], ["logits", "bottleneck"]), pure(jax.nn.softmax, ["logits"], "probabilities"))


def segmentation(net: Net, loss: Loss) -> Objective:
    """Returns the supervised objective, without any transform."""
    return Objective(segment(net), total(segmentation=loss))


def truth(classes: int) -> Pass:
    """Pass `label -> truth`, one-hot `[B, *S, K]`."""
    return pure(lambda label: one_hot(label, classes), ["label"], "truth")


RECONSTRUCTION = {"logits": "reconstruction_logits", "label": "label", "where": "fully_annotated"}


def autoencoding(net: Net, classes: int, swap: float = 0.1, call: CallNet = call) -> Objective:
    """Objective of a denoising autoencoder of label maps: cross-entropy + Dice of the reconstructed clean map.

    Args:
      net: an autoencoder, `[B, *S, K] -> (logits [B, *S, K], code [B, D])`.
      classes: K.
      swap: probability that the input has a random class instead of the pixel's label.
      call: runs the network, on the whole example or on every slice.
    """

    def reconstruction(logits: Array, label: Array, where: Array) -> Array:
        return where * dice_loss(jax.nn.softmax(logits), label)

    return Objective(
        denoise(net, classes, swap, call=call),
        total(
            reconstruction_ce=term(masked_cross_entropy, **RECONSTRUCTION),
            reconstruction_dice=term(reconstruction, **RECONSTRUCTION),
        ),
    )


def denoise(net: Net, classes: int, swap: float, noise_sd: float = 0.0, call: CallNet = call) -> Pass:
    """Pass `label -> corrupted, reconstruction_logits, code` of a denoising autoencoder.

    `corrupted` is the one-hot label map, where a voxel has a random class with probability `swap`, plus Gaussian noise.
    """

    def corrupt(keys: Array, label: Array) -> tuple[Array]:
        def one(key: Array, label: Array) -> Array:
            bits = jax.random.bits(key, label.shape, "uint16")
            chosen = (bits >> 8) < round(swap * 256)
            drawn = (bits & 0xFF) % classes
            held = one_hot(jnp.where(chosen, drawn.astype(label.dtype), label), classes)
            return degrade.noise(name_key(key, "noise"), held, noise_sd) if noise_sd else held

        return (jax.vmap(one)(keys, label),)

    return chain(random(corrupt, ["label"], ["corrupted"]), call(net, ["corrupted"], ["reconstruction_logits", "code"]))


def code_regression(predictor: Net, autoencoder: Net, classes: int, image: str = "image") -> Objective:
    """Objective of a predictor `image -> code [B, D]`: L_h, its squared distance to the code of the true label map."""
    forward = chain(
        truth(classes),
        call(autoencoder, ["truth"], ["code"], method="encode"),
        call(predictor, [image], ["predicted_code"]),
    )
    loss = term(code_distance, prediction="predicted_code", target="code", where="fully_annotated")
    return Objective(forward, total(code=loss))


def shape_and_image(
    autoencoder: Net,
    predictor: Net,
    classes: int,
    swap: float,
    noise_sd: float,
    entropy: float,
    image: str = "image",
    axis_name: str | None = None,
) -> Objective:
    """Objective of the T-L network's joint training (Oktay et al. 2018, section II-D), of fully annotated examples.

    The encoder receives the gradient of the cross-entropy L_x and that of the code distance L_h, "scaled to match their
    range": L_x is divided by the entropy of the class frequencies, L_h by the variance of the codes over the batch.
    Each is then 1 for an output that does not depend on the example, and 0 for a perfect one.

    Args:
      entropy: of the class frequencies in nats: the least cross-entropy of an output that is the same for every voxel.
      image: name of the image that the predictor reads.
      axis_name: the device axis.
    """
    forward = chain(
        denoise(autoencoder, classes, swap, noise_sd),
        call(predictor, [image], ["predicted_code"]),
    )
    return Objective(
        forward,
        total(
            reconstruction_ce=weighted(term(masked_cross_entropy, **RECONSTRUCTION), 1.0 / entropy),
            code=relative_code_distance("predicted_code", "code", axis_name),
        ),
    )


def shape_prior(net: Net, classes: int, weight: Weight = 5e-4, call: CallNet = call) -> LossTransform:
    """SRSCN eq. 3: squared distance of the autoencoder's reconstructions of soft prediction and gold standard."""
    forward = chain(
        truth(classes),
        call(net, ["probabilities"], ["predicted_logits", "predicted_shape_code"]),
        call(net, ["truth"], ["true_logits", "true_shape_code"]),
        pure(jax.nn.softmax, ["predicted_logits"], "predicted_shape"),
        pure(jax.nn.softmax, ["true_logits"], "true_shape"),
    )
    loss = term(sum_squared_error, prediction="predicted_shape", target="true_shape", where="fully_annotated")
    return lambda objective: add(objective, forward, weighted(loss, weight), "shape")


def code_prior(net: Net, classes: int, weight: Weight = 5e-4, call: CallNet = call) -> LossTransform:
    """ACNN eq. 1: distance of the autoencoder's codes of the soft prediction and the gold standard."""
    forward = chain(
        truth(classes),
        call(net, ["probabilities"], ["predicted_code"], method="encode"),
        call(net, ["truth"], ["true_code"], method="encode"),
    )
    loss = term(code_distance, prediction="predicted_code", target="true_code", where="fully_annotated")
    return lambda objective: add(objective, forward, weighted(loss, weight), "code")


def predictor_prior(
    net: Net, weight: Weight = 1e-2, prediction: str = "enhanced", target: str = "fine"
) -> LossTransform:
    """ACNN eq. 2: squared distance of the codes that a predictor gives a restored image and the true image."""
    forward = chain(
        call(net, [prediction], ["predicted_image_code"]),
        call(net, [target], ["true_image_code"]),
    )
    loss = term(code_distance, prediction="predicted_image_code", target="true_image_code", where="mask")
    return lambda objective: add(objective, forward, weighted(loss, weight), "image_code")


def position(head: Net, weight: Weight = 1e-6) -> LossTransform:
    """SRSCN eq. 4: error of the slice's position, regressed from the segmenter's bottleneck."""
    forward = call(head, ["bottleneck"], ["predicted_position"])
    loss = term(position_error, prediction="predicted_position", target="position")
    return lambda objective: add(objective, forward, weighted(loss, weight), "position")


def adversarial(discriminator: Net, weight: Weight = 1e-2, call: CallNet = call) -> LossTransform:
    """The generator's term of a GAN; a separate phase trains the discriminator (`discrimination`)."""
    forward = call(discriminator, ["probabilities"], ["fake"])
    loss = term(generator_loss, fake="fake", where="fully_annotated")
    return lambda objective: add(objective, forward, weighted(loss, weight), "adversarial")


def discrimination(discriminator: Net, classes: int, call: CallNet = call) -> Objective:
    """Returns the discriminator's objective, on the probabilities from the segmentation phase of the same step."""
    forward = chain(
        truth(classes),
        call(discriminator, ["truth"], ["real"]),
        call(discriminator, ["probabilities"], ["fake"]),
    )
    return Objective(
        forward, total(discrimination=term(discriminator_loss, real="real", fake="fake", where="fully_annotated"))
    )


def weight_decay(net: Net, weight: Weight) -> LossTransform:
    """Weight decay `weight / 2 * ||w||^2` over the parameters of `net` (ACNN eq. 1 and 2)."""

    def forward(variables, values, *, key, train):
        squares = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(variables[net.name]["params"]))
        return {**values, "squared_weights": jnp.broadcast_to(squares, values["mask"].shape)}, variables

    loss = term(lambda squares: 0.5 * squares, squares="squared_weights")
    return lambda objective: add(objective, forward, weighted(loss, weight), "weight_decay")
