"""A whole system of your own: one network of slices, cross-entropy, one stage.

--config.system=tests.examples.one_stage:build
"""

from cardiac_jax import DataSpec, NetRequest, Output, Stage, Stream, System, label_decoder
from cardiac_jax.core.loss import term
from cardiac_jax.core.types import Config
from cardiac_jax.losses.pixelwise import cross_entropy
from cardiac_jax.nets.layers import precision
from cardiac_jax.nets.registry import build_net
from cardiac_jax.train.devices import AXIS
from cardiac_jax.train.optim import phase
from cardiac_jax.transforms.terms import segment, segmentation


def build(config: Config, data: DataSpec) -> System:
    """The system on slices of `data`."""
    request = NetRequest(data.size, data.channels, data.classes_count, precision(config.model.dtype), AXIS)
    net = build_net(config.model, request)
    objective = segmentation(net, term(cross_entropy, logits="logits", label="label"))
    learn = phase("segment", ("segmenter",), objective, config.optim, config.train.steps)
    stage = Stage("segmentation", config.train.steps, (learn,), Stream(), validate="probabilities")
    return System(
        (net,), (stage,), segment(net), (Output("probabilities", "labels", label_decoder(data.classes, config.post)),)
    )
