"""ACSNet (Abramson, Popescu et al. 2020): localises the ventricle, segments wall and scar, learns valid shapes.

localisation    a ResU-Net segments the left ventricle (wall and pool), slice by slice on the equalised coarse image
prior           an autoencoder of masks of the myocardium; then fits a mixture of its codes and a bank of valid masks
segmentation    a ResU-Net on the box about the ventricle: myocardium and enhancement, a sigmoid each

The published system guarantees valid myocardium (`anatomy=wall`). With `anatomy=heart`, the localiser finds the whole
heart, the prior models label maps of LV, myocardium and RV, and all three are segmented; `anatomy/spec.py` lists the
functions that differ.

Examples are volumes; networks process their slices. `anatomy/decode.py` applies the prior to label maps.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp

from cardiac_jax.anatomy.anatomical_prior import Prior, prior
from cardiac_jax.anatomy.decode import projecting
from cardiac_jax.anatomy.registry import anatomy_spec
from cardiac_jax.anatomy.spec import AnatomySpec
from cardiac_jax.anatomy.training import prior_stage
from cardiac_jax.core.passes import call, chain, per, pure
from cardiac_jax.core.types import IGNORE, Array, Config, Net, Objective, Output, Pass, Stage, Stream, System, Variables
from cardiac_jax.data import augment
from cardiac_jax.data.augment import Augment
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.inference.postprocess import label_decoder
from cardiac_jax.losses.regions import region_loss
from cardiac_jax.nets.layers import precision
from cardiac_jax.nets.registry import NetRequest, bottleneck_shape, build_net
from cardiac_jax.nets.resunet import LEVELS
from cardiac_jax.ops.intensity import scaled_to_region, unit_range
from cardiac_jax.train.devices import AXIS
from cardiac_jax.train.optim import phase
from cardiac_jax.transforms import cascade
from cardiac_jax.transforms.registry import TermRequest, chosen_terms, extend

ENHANCED = "scar"


def build(config: Config, data: DataSpec) -> System:
    """Returns the system of `config`, on volumes of one sequence with two channels, without and with CLAHE.

    Raises:
      InputError: classes, channels or sizes do not fit, or a network or transform is unknown.
    """
    size, window, box = data.size, tuple(config.localiser.window), tuple(config.model.box)
    kind = anatomy_spec(config.anatomy)
    _refuse(config, data, kind)
    located = classes_of(data.classes, kind.localiser_classes)
    groups: list[Sequence[int]] = [classes_of(data.classes, names) for names in kind.outputs]
    if ENHANCED in data.classes:
        groups.append(classes_of(data.classes, (ENHANCED,)))
    dtype, low = precision(config.model.dtype), tuple(s // w for s, w in zip(size, window, strict=True))
    localiser = _localiser(config, NetRequest(low[1:], 1, 1, dtype, AXIS))
    segmenter = build_net(config.model, NetRequest(box[1:], 1, len(groups), dtype, AXIS))
    autoencoder, prior = prior_stage(config, data, kind)

    # --- passes
    # Computed before augmentation, which adds noise to padding and may move unannotated voxels into a slice.
    real = pure(lambda image: jnp.any(image != 0, (2, 3, 4)).astype(jnp.float32), ["image"], "real")
    whole = pure(lambda label: jnp.all(label != IGNORE, (2, 3)).astype(jnp.float32), ["label"], "whole")
    look = chain(
        pure(lambda image: image[..., 1:], ["image"], "equalised"),
        cascade.shrink(window, "equalised"),
        pure(unit_range, ["low"], "low"),
    )
    find = _by_slice(localiser, ["low"], ["low_logits", "low_features"])
    locate = chain(
        cascade.largest_piece("low_logits"),
        cascade.locate(box, size, config.localiser.floor),
        pure(lambda heat: cascade.repeated(heat, window), ["heat"], "region"),
    )
    scale = pure(scaled_to_region, ["image", "region"], "scaled")
    segment = _by_slice(segmenter, ["scaled"], ["logits", "bottleneck"])
    draw = pure(lambda logits, region: _drawn(logits, region, kind, data), ["logits", "region"], "probabilities")
    augmentation = augment.augmentation(Augment(**config.augment)) if config.augmentation else chain()
    low_label = cascade.shrink_label(window, data.classes_count)
    cut = cascade.crop({"image": 0.0, "label": IGNORE, "region": 0.0}, box)
    number = config.model.slices if 0 < config.model.slices < size[0] else size[0]
    # Training needs the region only with loss transforms.
    named = chosen_terms(config)
    held = ("scaled", "label", "real", *(("region",) if named else ()))
    few = cascade.some_slices(number, held) if number < size[0] else chain()
    share = config.data.real_share
    mixed: dict[str, Any] = {"flag": "real_case", "share": share} if config.data.lge_like and share else {}

    # --- stages
    coarse = Objective(find, region_loss([located], config.loss.beta_ventricle, logits="low_logits", label="low_label"))
    fine = Objective(chain(segment, draw) if named else segment, region_loss(groups, config.loss.beta_wall))
    coarse_stream = Stream(prepare=chain(real, augmentation, look, low_label), **mixed)
    stream = Stream(prepare=chain(real, whole, augmentation, look, find, locate, cut, scale, few), **mixed)
    request = TermRequest(
        config, segmenter, box[1:], data.classes_count, bottleneck_shape(segmenter), stream, _by_slice, "shape_prior"
    )
    extended = extend(fine, request)
    localise = phase("localise", ("localiser",), coarse, config.optim, config.localiser.steps)
    trains = ("segmenter", *extended.trains)
    segments = phase("segment", trains, extended.objective, config.optim, config.train.steps)
    stages = (
        Stage("localisation", config.localiser.steps, (localise,), coarse_stream),
        prior,
        *extended.before,
        Stage("segmentation", config.train.steps, (segments, *extended.phases), stream, validate="probabilities"),
    )

    # --- prediction
    uncut = cascade.crop({"image": 0.0, "region": 0.0}, box)
    predict = chain(real, look, find, locate, uncut, scale, segment, draw, cascade.paste(size))
    project = projecting(partial(_prior, autoencoder, data.pixel_mm), data.classes, config.post)
    output = Output("probabilities", "labels", label_decoder(data.classes, config.post, project))
    return System((localiser, autoencoder, segmenter, *extended.nets), stages, predict, (output,))


def _localiser(config: Config, request: NetRequest) -> Net:
    settings = config.model.copy_and_resolve_references().unlock()
    settings.update({"net": "resunet", "filters": config.localiser.filters})
    return build_net(settings, request, "localiser", "localiser.filters")


def _prior(net: Net, spacing_mm: float, variables: Variables, fits: Mapping[str, Any]) -> Prior:
    return prior(net, variables, fits, spacing_mm)


def classes_of(classes: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Returns the label values of those `names` that are among `classes`."""
    return tuple(k for k, name in enumerate(classes) if name in names)


def _refuse(config: Config, data: DataSpec, kind: AnatomySpec) -> None:
    size, window, box = tuple(data.size), tuple(config.localiser.window), tuple(config.model.box)
    if not data.is_volumetric:
        raise InputError("data.size", f"{size} is not a volume (Z, H, W)")
    if len(data.sequences) != 1 or not data.append_clahe:
        raise InputError("data.sequences", "one sequence is wanted, with data.append_clahe=True")
    for name in kind.required_classes:
        if name not in data.classes:
            raise InputError("data.name", f"{data.dataset} has no class {name}")
    if not data.pixel_mm:
        raise InputError("data.spacing_mm", "must be above 0 and square in plane: lengths of shapes are compared in it")
    if (
        len(window) != 3
        or window[0] != 1
        or any(s % (w * 2**LEVELS) for s, w in zip(size[1:], window[1:], strict=True))
    ):
        raise InputError("localiser.window", f"{window} and four poolings do not divide {size}, or it joins slices")
    if len(box) != 3 or box[0] != size[0] or any(b % 2**LEVELS for b in box[1:]):
        raise InputError("model.box", f"{box} must hold all {size[0]} slices, and be divisible by {2**LEVELS} in plane")
    if config.model.slices < 0:
        raise InputError("model.slices", f"{config.model.slices} is less than 0 (0: all)")
    share, batch = config.data.real_share, config.train.batch_size
    if config.data.lge_like and share and not 0 < round(share * batch) < batch:
        raise InputError("data.real_share", f"{share:g} of train.batch_size={batch} leaves one kind of images out")


def _by_slice(net: Net, reads: Sequence[str], writes: Sequence[str], method: str | None = None) -> Pass:
    """Pass that runs a 2D network on every slice of `[B, Z, ...]`; slices where `real` is 0 are masked as padding."""
    return per(1, call(net, reads, writes, method), reads, writes, mask="real")


def _drawn(logits: Array, region: Array, kind: AnatomySpec, data: DataSpec) -> Array:
    """Logits `[B, Z, H, W, G]` -> probabilities `[B, Z, H, W, K]` of the structures, and of enhancement in the wall."""
    number = len(kind.outputs)
    parts = dict(kind.to_probabilities(logits[..., :number], region))
    if logits.shape[-1] > number:
        wall, enhanced = parts["Myo"], logits[..., number] > 0
        parts |= {"Myo": wall * ~enhanced, ENHANCED: wall * enhanced}
    none = jnp.zeros_like(logits[..., 0])
    return jnp.stack([parts.get(name, none) for name in data.classes], -1)
