"""ACSNet (Abramson, Popescu et al. 2020): find the ventricle, segment wall and enhancement, know valid shapes.

localisation    a ResU-Net finds the left ventricle, wall and pool, slice by slice on the equalised coarse image
prior           an autoencoder of the myocardium's masks; ends in a mixture of its codes and a bank of valid masks
segmentation    a ResU-Net on the box about the ventricle: myocardium and enhancement, a sigmoid each

The published system guarantees the myocardium. What else may stand for it, the whole heart, is a record of functions in
`structures/`: then heart is found, maps of three structures are learnt, and each of them is segmented.

Volumes are cases; networks see their slices. What the prior does to a label map is in `post/`.
"""

from collections.abc import Sequence

import jax.numpy as jnp

from cardiac_jax.anatomy.registry import anatomy_spec
from cardiac_jax.anatomy.spec import AnatomySpec
from cardiac_jax.anatomy.stack_projection import MODES
from cardiac_jax.anatomy.training import prior
from cardiac_jax.core.passes import by_slice, call, chain, pure
from cardiac_jax.core.types import IGNORE, Array, Config, Net, Objective, Pass, Stage, System
from cardiac_jax.data import augment
from cardiac_jax.data.augment import Augment
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.losses.regions import region_loss
from cardiac_jax.nets.layers import precision
from cardiac_jax.nets.resunet import LEVELS, resunet
from cardiac_jax.ops.intensity import scaled_to_region, unit_range
from cardiac_jax.train.devices import AXIS
from cardiac_jax.train.optim import phase
from cardiac_jax.transforms import cascade

ENHANCED = "scar"


def build(config: Config, data: DataSpec) -> System:
    """The system of `config` on volumes of one sequence, given as it is and equalised.

    Raises:
      InputError: classes, channels or sizes that do not fit.
    """
    size, window, box = tuple(data.size), tuple(config.localiser.window), tuple(config.model.box)
    kind = anatomy_spec(config.get("structures", "wall"))
    _refuse(config, data, kind)
    located = classes_of(data.classes, kind.localiser_classes)
    groups: list[Sequence[int]] = [classes_of(data.classes, names) for names in kind.outputs]
    if ENHANCED in data.classes:
        groups.append(classes_of(data.classes, (ENHANCED,)))
    dtype, low = precision(config.model.dtype), tuple(s // w for s, w in zip(size, window, strict=True))
    settings = {"dropout": config.model.dropout, "momentum": config.model.momentum, "dtype": dtype, "axis_name": AXIS}
    localiser = Net("localiser", resunet(config.localiser.filters, 1, **settings), ((*low[1:], 1),))
    segmenter = Net("segmenter", resunet(config.model.filters, len(groups), **settings), ((*box[1:], 1),))
    autoencoder, shapes = prior(config, data, kind)

    # Before augmentation, which adds noise to padding and may move what is not annotated into a slice.
    real = pure(lambda image: jnp.any(image != 0, (2, 3, 4)).astype(jnp.float32), ["image"], "real")
    whole = pure(lambda label: jnp.all(label != IGNORE, (2, 3)).astype(jnp.float32), ["label"], "whole")
    look = chain(
        pure(lambda image: image[..., 1:], ["image"], "equalised"),
        cascade.shrink(window, "equalised"),
        pure(unit_range, ["low"], "low"),
    )
    find = _by_slice_call(localiser, "low", "low_logits")
    locate = chain(
        cascade.largest_piece("low_logits"),
        cascade.locate(box, size, config.localiser.floor),
        pure(lambda heat: cascade.repeated(heat, window), ["heat"], "region"),
    )
    scale = pure(scaled_to_region, ["image", "region"], "scaled")
    segment = _by_slice_call(segmenter, "scaled", "logits")
    augmentation = augment.augmentation(Augment(**config.augment)) if config.augmentation else chain()
    low_label = cascade.shrink_label(window, data.classes_count)
    cut = cascade.crop({"image": 0.0, "label": IGNORE, "region": 0.0}, box)
    number, held = config.model.slices, ("scaled", "label", "real")
    few = cascade.some_slices(number, held) if 0 < number < size[0] else chain()
    share = config.data.real_share
    draws = {"draws": "real_case", "share": share} if config.data.lge_like and share else {}

    coarse = Objective(find, region_loss([located], config.loss.beta_ventricle, logits="low_logits", label="low_label"))
    fine = Objective(segment, region_loss(groups, config.loss.beta_wall))
    localise = phase("localise", ("localiser",), coarse, config.optim, config.localiser.steps)
    segments = phase("segment", ("segmenter",), fine, config.optim, config.train.steps)
    stages = (
        Stage("localisation", config.localiser.steps, (localise,), chain(real, augmentation, look, low_label), **draws),
        shapes,
        Stage(
            "segmentation",
            config.train.steps,
            (segments,),
            chain(real, whole, augmentation, look, find, locate, cut, scale, few),
            **draws,
        ),
    )
    uncut = cascade.crop({"image": 0.0, "region": 0.0}, box)
    draw = pure(lambda logits, region: _drawn(logits, region, kind, data), ["logits", "region"], "probabilities")
    predict = chain(real, look, find, locate, uncut, scale, segment, draw, cascade.paste(size))
    return System((localiser, autoencoder, segmenter), stages, predict)


def classes_of(classes: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """The numbers of those `names` that a data set has."""
    return tuple(k for k, name in enumerate(classes) if name in names)


def _refuse(config: Config, data: DataSpec, kind: AnatomySpec) -> None:
    size, window, box = tuple(data.size), tuple(config.localiser.window), tuple(config.model.box)
    if len(size) != 3:
        raise InputError("data.size", f"{size} is not a volume (Z, H, W)")
    if len(data.sequences) != 1 or not (data.clahe and data.append_clahe):
        raise InputError("data.sequences", "one sequence is wanted, with data.clahe=True and data.append_clahe=True")
    for name in kind.required_classes:
        if name not in data.classes:
            raise InputError("data.name", f"{data.dataset} has no class {name}")
    if not data.spacing_mm:
        raise InputError("data.spacing_mm", "is needed: lengths of shapes are compared in it")
    if window[0] != 1 or any(s % (w * 2**LEVELS) for s, w in zip(size[1:], window[1:], strict=True)):
        raise InputError("localiser.window", f"{window} and four poolings do not divide {size}, or it joins slices")
    if box[0] != size[0] or any(b % 2**LEVELS for b in box[1:]):
        raise InputError("model.box", f"{box} must hold all {size[0]} slices, and be divisible by {2**LEVELS} in plane")
    if config.model.slices < 0:
        raise InputError("model.slices", f"{config.model.slices} is less than 0 (0: all)")
    share, batch = config.data.real_share, config.train.batch_size
    if config.data.lge_like and share and not 0 < round(share * batch) < batch:
        raise InputError("data.real_share", f"{share:g} of train.batch_size={batch} leaves one kind of images out")
    if config.post.project not in MODES:
        raise InputError("post.project", f"{config.post.project!r} is not one of {', '.join(MODES)}")


def _by_slice_call(net: Net, image: str, logits: str) -> Pass:
    return by_slice(call(net, [image], [logits, "bottleneck"]), [image], [logits])


def _drawn(logits: Array, region: Array, kind: AnatomySpec, data: DataSpec) -> Array:
    """`[B, Z, H, W, G]` -> probabilities `[B, Z, H, W, K]`: the structures, and enhancement within the wall."""
    number = len(kind.outputs)
    parts = dict(kind.to_probabilities(logits[..., :number], region))
    if logits.shape[-1] > number:
        wall, enhanced = parts["Myo"], logits[..., number] > 0
        parts |= {"Myo": wall * ~enhanced, ENHANCED: wall * enhanced}
    none = jnp.zeros_like(logits[..., 0])
    return jnp.stack([parts.get(name, none) for name in data.classes], -1)
