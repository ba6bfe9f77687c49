"""Systems of one small network whose outputs are finer than the image: labels with a code, and an image.

--config.system=tests.finer_systems:segmentation, or :super_resolution
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cardiac_jax import DataSpec, Output, Stage, System, label_decoder
from cardiac_jax.core.loss import term
from cardiac_jax.core.passes import call, chain, pure
from cardiac_jax.core.types import Config, Net, Objective
from cardiac_jax.inference.postprocess import unchanged
from cardiac_jax.losses.pixelwise import cross_entropy
from cardiac_jax.train.optim import phase


class Repeated(nn.Module):
    """`[B, Z, H, W, C]` -> (`[B, s*Z, t*H, u*W, K]`, code `[B, 3]`): a convolution after repetition of the voxels."""

    outputs: int
    scale: tuple[int, ...]

    @nn.compact
    def __call__(self, x, *, train, mask=None, index=None):
        for axis, factor in enumerate(self.scale, start=1):
            x = jnp.repeat(x, factor, axis)
        features = jnp.concatenate([x, nn.tanh(nn.Conv(3, (3, 3, 3))(x))], -1)
        return nn.Conv(self.outputs, (3, 3, 3))(features), features[..., -3:].mean((1, 2, 3))


def _system(config: Config, data: DataSpec, outputs: int, loss, value, kept: tuple[Output, ...]) -> System:
    net = Net("segmenter", Repeated(outputs, data.target_scale), ((*data.size, data.channels),))
    forward = chain(call(net, ["image"], ["logits", "code"]), pure(value, ["logits"], kept[0].name))
    learn = phase("learn", ("segmenter",), Objective(forward, loss), config.optim, config.train.steps)
    stage = Stage("learning", config.train.steps, (learn,), validate=kept[0].name)
    return System((net,), (stage,), forward, kept)


def segmentation(config: Config, data: DataSpec) -> System:
    """Labels on the finer grid, and a code."""
    probabilities = Output("probabilities", "labels", label_decoder(data.classes, config.post), scale=data.target_scale)
    loss = term(cross_entropy, logits="logits", label="label")
    kept = (probabilities, Output("code", "vector", unchanged))
    return _system(config, data, data.classes_count, loss, jax.nn.softmax, kept)


def super_resolution(config: Config, data: DataSpec) -> System:
    """The image on the finer grid."""
    loss = term(lambda image, fine: jnp.mean(jnp.abs(image - fine)), image="enhanced", fine="fine")
    enhanced = Output("enhanced", "image", unchanged, scale=data.target_scale, fill=0.0, score="ssim")
    return _system(config, data, 1, loss, lambda logits: logits, (enhanced,))
