"""SRSCN (Yue et al. 2019) and the compared methods: one 2D network, and the loss transforms of the configuration.

unet                                  L_seg
scn    position                       L_seg + lambda_SC L_SC
srnn   shape_prior                    L_seg + lambda_SR L_SR
srscn  shape_prior, position          eq. 6
acnn   code_prior                     L_seg + lambda ||f(p) - f(y)||^2
gan    adversarial                    L_seg + lambda L_G, and a phase for the discriminator
"""

from cardiac_jax.core.types import Config, Output, Stage, Stream, System
from cardiac_jax.data import augment
from cardiac_jax.data.augment import Augment
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.inference.postprocess import label_decoder
from cardiac_jax.losses.pixelwise import class_weights, exponential_logarithmic
from cardiac_jax.nets.layers import precision
from cardiac_jax.nets.registry import NetRequest, bottleneck_shape, build_net
from cardiac_jax.train.devices import AXIS
from cardiac_jax.train.optim import phase
from cardiac_jax.transforms import terms
from cardiac_jax.transforms.registry import TermRequest, extend


def build(config: Config, data: DataSpec) -> System:
    """Returns the system of `config`, on slices.

    Args:
      config: from `experiments/srscn.py`.
      data: classes, channels, grid and label frequencies of the training set.

    Raises:
      InputError: a transform, network, optimiser or precision is unknown, or a size does not fit.
    """
    size, classes = data.size, data.classes_count
    if data.is_volumetric:
        raise InputError("data.size", f"{size} is not a slice (H, W)")
    request = NetRequest(size, data.channels, classes, precision(config.model.dtype), AXIS)
    segmenter = build_net(config.model, request)

    # --- the segmentation stage
    share = config.data.fully_annotated_share
    prepare = augment.augmentation(Augment(**config.augment)) if config.augmentation else None
    stream = Stream(flag="fully_annotated" if share else "", share=share or 1.0, prepare=prepare)
    loss = exponential_logarithmic(class_weights(data.frequency), axis_name=AXIS, **config.loss)
    wanted = TermRequest(config, segmenter, size, classes, bottleneck_shape(segmenter), stream, has_position=True)
    extended = extend(terms.segmentation(segmenter, loss), wanted)
    trains = ("segmenter", *extended.trains)
    segment = phase("segment", trains, extended.objective, config.optim, config.train.steps)
    last = Stage("segmentation", config.train.steps, (segment, *extended.phases), stream, validate="probabilities")

    output = Output("probabilities", "labels", label_decoder(data.classes, config.post))
    return System((segmenter, *extended.nets), (*extended.before, last), terms.segment(segmenter), (output,))
