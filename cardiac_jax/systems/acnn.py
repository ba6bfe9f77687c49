"""ACNN (Oktay et al. 2018): sub-pixel segmentation and super-resolution under a learnt shape prior; the T-L network.

seg, us     a network of the registry: image -> labels, by cross-entropy; with `refine` an autoencoder of label maps
            follows (AE-Seg). ACNN-Seg adds the terms `code_prior` and `weight_decay` (eq. 1)
sr          a network of the registry: low-resolution image -> high-resolution image, by smooth L1. ACNN-SR adds the
            terms `predictor_prior` and `weight_decay` (eq. 2)
tl          the T-L network alone: predictor and decoder segment, and the code is an output
classify    the autoencoder alone, of label maps; its codes are compared elsewhere

Images lie on the network's grid, labels and high-resolution images (`fine`) on one that is `data.target_scale` times
finer. The stages that learn the prior are those of `transforms/shape_model.py`. The networks of the prior are frozen
afterwards, except in AE-Seg, where the autoencoder is trained on with the segmenter.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from cardiac_jax.core.loss import term, total
from cardiac_jax.core.passes import call, chain, pure, random
from cardiac_jax.core.types import Array, Config, Net, Objective, Output, Pass, Stage, Stream, System, Values, Variables
from cardiac_jax.data import augment
from cardiac_jax.data.augment import Augment
from cardiac_jax.data.intensity import is_affine
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.inference.postprocess import label_decoder, unchanged
from cardiac_jax.losses.pixelwise import cross_entropy
from cardiac_jax.losses.restoration import smooth_l1
from cardiac_jax.nets.layers import precision
from cardiac_jax.nets.registry import NetRequest, bottleneck_shape, build_net
from cardiac_jax.ops import degrade
from cardiac_jax.train.devices import AXIS
from cardiac_jax.train.optim import phase
from cardiac_jax.transforms import terms
from cardiac_jax.transforms.registry import TermRequest, chosen_terms, extend
from cardiac_jax.transforms.shape_model import InputImage, ShapeModel, shape_model

OF_LABELS = ("shape_prior", "code_prior", "adversarial")
"""Terms that compare label maps."""


class _Parts(NamedTuple):
    """Parts common to all tasks: configuration, data, size and spacing of the grid of the labels."""

    config: Config
    data: DataSpec
    fine: tuple[int, ...]
    fine_mm: tuple[float, ...]

    def augmentation(self, image: str = "image") -> Pass:
        """Pass that moves `image` or `fine` together with `label`."""
        if not self.config.augmentation:
            return chain()
        return augment.augmentation(Augment(**self.config.augment), self.data.target_scale, image)

    def shape_model(self, image: InputImage | None) -> ShapeModel:
        """The autoencoder of label maps, with a predictor where it is told what that reads."""
        stream = Stream(
            of=_with_fine if image is not None and image.name == "fine" else _without_fine,
            prepare=self.augmentation(image.name if image is not None else "image"),
        )
        data = self.data
        return shape_model(self.config, self.fine, data.frequency, data.classes_count, stream, image)

    def labels(self) -> Output:
        """The output of label maps, on the grid of the labels."""
        data = self.data
        return Output("probabilities", "labels", label_decoder(data.classes, self.config.post), scale=data.target_scale)


def build(config: Config, data: DataSpec) -> System:
    """Returns the system of `config`, on volumes.

    Raises:
      InputError: the task, a network, transform or precision is unknown, or sizes, spacings or terms do not fit.
    """
    tasks = {
        "seg": _segmentation,
        "us": _segmentation,
        "sr": _super_resolution,
        "tl": _code_segmentation,
        "classify": _prior_alone,
    }
    if config.task not in tasks:
        raise InputError("task", f"{config.task!r} is not one of {', '.join(tasks)}")
    if not data.is_volumetric:
        raise InputError("data.size", f"{data.size} is not a volume (Z, H, W)")
    fine = tuple(n * factor for n, factor in zip(data.size, data.target_scale, strict=True))
    fine_mm = tuple(mm / factor for mm, factor in zip(data.spacing_mm, data.target_scale, strict=True))
    return tasks[config.task](_Parts(config, data, fine, fine_mm))


def _segmentation(parts: _Parts) -> System:
    config, data = parts.config, parts.data
    chosen = chosen_terms(config)
    if config.refine and {"code_prior", "shape_prior"} & set(chosen):
        raise InputError("refine", "trains the autoencoder that code_prior and shape_prior want frozen")
    segmenter = _net(parts, "segmenter", data.classes_count)
    cross = {"logits": "logits", "label": "label"}
    plain = terms.segmentation(segmenter, term(cross_entropy, **cross))
    model = None
    if config.refine or {"code_prior", "shape_prior"} & set(chosen):
        model = parts.shape_model(None)
    if config.refine:
        assert model is not None
        plain = _refined(segmenter, model.autoencoder)
    motion = _motion(parts) if config.motion.on else chain()
    stream = Stream(of=_without_fine, prepare=chain(parts.augmentation(), motion))
    request = TermRequest(
        config, segmenter, parts.fine, data.classes_count, bottleneck_shape(segmenter), stream, shape_model=model
    )
    extended = extend(plain, request)
    own = (segmenter, model.autoencoder) if config.refine and model is not None else (segmenter,)
    before = model.stages if config.refine and model is not None else ()
    trains = (*(net.name for net in own), *extended.trains)
    segment = phase("segment", trains, extended.objective, config.optim, config.train.steps)
    last = Stage("segmentation", config.train.steps, (segment, *extended.phases), stream, validate="probabilities")
    stages = (*before, *extended.before, last)
    return System((*own, *extended.nets), stages, plain.forward, (parts.labels(),))


def _refined(segmenter: Net, autoencoder: Net) -> Objective:
    """AE-Seg: the autoencoder restores the segmenter's soft label map; cross-entropy of both, both are trained.

    The paper refers to Ravishankar et al. 2017 for the cascade and gives no loss. The autoencoder is first trained
    alone, as in ACNN (stage `prior`).
    """
    forward = chain(
        call(segmenter, ["image"], ["first_logits", "bottleneck"]),
        pure(jax.nn.softmax, ["first_logits"], "first_probabilities"),
        call(autoencoder, ["first_probabilities"], ["logits", "code"]),
        pure(jax.nn.softmax, ["logits"], "probabilities"),
    )
    losses = {
        "first": term(cross_entropy, logits="first_logits", label="label"),
        "segmentation": term(cross_entropy, logits="logits", label="label"),
    }
    return Objective(forward, total(**losses))


def _super_resolution(parts: _Parts) -> System:
    config, data = parts.config, parts.data
    _refuse_super_resolution(config, data)
    enhancer = _net(parts, "enhancer", data.channels)
    forward = call(enhancer, ["image"], ["enhanced", "bottleneck"])
    plain = Objective(forward, total(smooth_l1=term(smooth_l1, prediction="enhanced", target="fine")))
    model = None
    if "predictor_prior" in chosen_terms(config):
        model = parts.shape_model(InputImage("fine", (*parts.fine, data.channels)))
    stream = Stream(of=_with_fine, prepare=_acquisition(parts))
    request = TermRequest(
        config, enhancer, parts.fine, data.channels, bottleneck_shape(enhancer), stream, shape_model=model
    )
    extended = extend(plain, request)
    trains = ("enhancer", *extended.trains)
    enhance = phase("enhance", trains, extended.objective, config.optim, config.train.steps)
    last = Stage("super_resolution", config.train.steps, (enhance, *extended.phases), stream, validate="enhanced")
    output = Output("enhanced", "image", unchanged, scale=data.target_scale, fill=0.0, score="ssim")
    return System((enhancer, *extended.nets), (*extended.before, last), forward, (output,))


def _code_segmentation(parts: _Parts) -> System:
    """The T-L network as a segmenter: decoder of the code that the predictor gives the image (section III-C)."""
    data = parts.data
    model = parts.shape_model(InputImage("image", (*data.size, data.channels)))
    assert model.predictor is not None
    predict = chain(
        call(model.predictor, ["image"], ["code"]),
        call(model.autoencoder, ["code"], ["logits"], method="decode"),
        pure(jax.nn.softmax, ["logits"], "probabilities"),
    )
    *before, last = model.stages
    stages = (*before, last._replace(validate="probabilities"))
    return System(model.nets, stages, predict, (parts.labels(), Output("code", "vector", unchanged)))


def _prior_alone(parts: _Parts) -> System:
    model = parts.shape_model(None)
    return System(model.nets, model.stages, _no_prediction, (parts.labels(),))


def _no_prediction(
    variables: Variables, values: Values, *, key: Array, train: frozenset[str]
) -> tuple[Values, Variables]:
    raise InputError("task", "classify learns codes of label maps: it predicts nothing from images")


def _net(parts: _Parts, name: str, outputs: int) -> Net:
    config, data = parts.config, parts.data
    dtype = precision(config.model.dtype)
    return build_net(config.model, NetRequest(data.size, data.channels, outputs, dtype, AXIS, data.target_scale), name)


def _motion(parts: _Parts) -> Pass:
    """Pass that moves every slice of the image by itself, and not the label (3D-Seg-MAug)."""
    settings, spacing_mm = parts.config.motion, parts.data.spacing_mm
    _refuse_unknown_spacing(spacing_mm)

    def move(keys: Array, image: Array) -> tuple[Array]:
        def one(key: Array, image: Array) -> Array:
            return degrade.misalign(
                key, image, settings.shift_mm, settings.rotation_deg, spacing_mm=spacing_mm, factor=1
            )

        return (jax.vmap(one)(keys, image),)

    return random(move, ["image"], ["image"])


def _acquisition(parts: _Parts) -> Pass:
    """Pass that makes the low-resolution `image` from `fine`: thick slices, each moved by itself, with noise."""
    settings, factor, spacing_mm = parts.config.degrade, parts.data.target_scale[0], parts.fine_mm
    motion = _motion(parts) if parts.config.motion.on else chain()

    def expose(fine: Array) -> Array:
        return jax.vmap(lambda x: degrade.thick(x, settings.sigma_mm, spacing_mm=spacing_mm, factor=factor))(fine)

    def grain(keys: Array, image: Array) -> tuple[Array]:
        return (jax.vmap(lambda key, x: degrade.noise(key, x, settings.noise))(keys, image),)

    noise = random(grain, ["image"], ["image"]) if settings.noise else chain()
    return chain(pure(expose, ["fine"], "image"), motion, noise)


def _with_fine(arrays: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the examples, which must have high-resolution images.

    Raises:
      InputError: they do not.
    """
    if "fine" not in arrays:
        raise InputError("training set", "super-resolution needs a high-resolution image of every case")
    return arrays


def _without_fine(arrays: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the examples without high-resolution images, which would go to the device with every batch unread."""
    return {name: array for name, array in arrays.items() if name != "fine"}


def _refuse_super_resolution(config: Config, data: DataSpec) -> None:
    scale = tuple(data.target_scale)
    if scale[0] < 2 or scale[1:] != (1, 1):
        raise InputError("data.target_scale", f"{scale} is not (K, 1, 1): slices are K times as thick, K is 2 or more")
    if data.append_clahe or not is_affine(data.intensity):
        used = ", ".join((*data.intensity, *(("append_clahe",) if data.append_clahe else ())))
        raise InputError("data.intensity", f"{used}: enhanced images are returned to the scale of the input by z_score")
    _refuse_unknown_spacing(data.spacing_mm)
    if not config.degrade.sigma_mm > 0:
        raise InputError("degrade.sigma_mm", f"{config.degrade.sigma_mm} is not above 0")
    for name in chosen_terms(config):
        if name in OF_LABELS:
            raise InputError(f"transforms.{name}", "compares label maps: super-resolution predicts images")


def _refuse_unknown_spacing(spacing_mm: tuple[float, ...]) -> None:
    if not all(spacing_mm):
        raise InputError("data.spacing_mm", f"{spacing_mm} must be above 0: motion and thickness are in mm")
