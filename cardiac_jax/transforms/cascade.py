"""Passes of a coarse-to-fine cascade: downsample the volume, localise the organ, crop it, paste the result back.

Named values: `low` and `low_label` are image and label on the coarse grid, `heat [B, *S]` is the localiser's map there,
`start [B, n]` is the first voxel of the box on the fine grid, `found [B]` is 1 where the map had any mass.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from cardiac_jax.core.passes import call, chain, pure, random, read
from cardiac_jax.core.types import IGNORE, Array, Net, Pass, Values, Variables
from cardiac_jax.ops import roi
from cardiac_jax.ops.conv import space_to_depth
from cardiac_jax.ops.gradcam import gradcam
from cardiac_jax.ops.largest import largest


def shrink(window: Sequence[int], image: str = "image") -> Pass:
    """Pass `image -> low`: the mean of every block of `window` voxels."""
    return pure(lambda image: blocks(image, window).mean(1), [image], "low")


def shrink_label(window: Sequence[int], classes: int) -> Pass:
    """Pass `label -> low_label`: the most frequent class of every block; 255 where over half is not annotated."""

    def most(label: Array) -> Array:
        held = blocks(label[..., None], window)[..., 0]
        counts = jnp.stack([(held == k).sum(1) for k in range(classes)], -1)
        unknown = 2 * (held == IGNORE).sum(1) > held.shape[1]
        return jnp.where(unknown, IGNORE, counts.argmax(-1)).astype(jnp.int32)

    return pure(most, ["label"], "low_label")


def blocks(x: Array, window: Sequence[int]) -> Array:
    """Returns the blocks of `window` voxels, `[B, *S, C] -> [B, prod(window), *(S / window), C]`.

    Raises:
      ValueError: a size is not divisible.
    """
    sizes = x.shape[1:-1]
    if any(s % w for s, w in zip(sizes, window, strict=True)):
        raise ValueError(f"{sizes} is not divisible by {tuple(window)}")
    deep = space_to_depth(x, window)
    return jnp.moveaxis(deep.reshape(*deep.shape[:-1], -1, x.shape[-1]), -2, 1)


def largest_piece(logits: str) -> Pass:
    """Pass `<logits> [B, *S, 1], real [B, Z] -> heat`: 1 in the largest connected component, 0 elsewhere.

    `real` is 0 in slices of padding. They have no loss in training, so positive logits there are ignored.
    """

    def found(logits: Array, real: Array) -> Array:
        return largest((logits[..., 0] > 0) & (real > 0)[..., None, None]).astype(jnp.float32)

    return pure(found, [logits, "real"], "heat")


def heat_map(net: Net, reads: str, classes: Sequence[int]) -> Pass:
    """Pass `<reads> -> heat`: Grad-CAM of `classes` on the feature map `reads`, through the head of `net` only."""

    def apply(variables: Variables, values: Values, *, key: Array, train: frozenset[str]) -> tuple[Values, Variables]:
        def head(features: Array) -> Array:
            logits: Any = net.module.apply(dict(variables[net.name]), features, train=False, method="head")
            return logits

        return {**values, "heat": gradcam(head, read(values, reads), classes)}, variables

    return apply


def locate(size: Sequence[int], shape: Sequence[int], floor: float) -> Pass:
    """Pass `heat -> start, found`: boxes of `size` about the map's centre of mass, in a volume of `shape`.

    `floor` is that of `roi.box_about`.
    """

    def apply(variables: Variables, values: Values, *, key: Array, train: frozenset[str]) -> tuple[Values, Variables]:
        boxes = roi.box_about(read(values, "heat"), size, shape, floor)
        return {**values, "start": boxes.start, "found": boxes.found.astype(jnp.float32)}, variables

    return apply


def crop(fills: Mapping[str, float], size: Sequence[int]) -> Pass:
    """Pass that crops each value in `fills` to the box of `size` at `start`, with its fill value outside the volume."""

    def apply(variables: Variables, values: Values, *, key: Array, train: frozenset[str]) -> tuple[Values, Variables]:
        cut = {name: roi.crop(read(values, name), values["start"], size, fill) for name, fill in fills.items()}
        return {**values, **cut}, variables

    return apply


def some_slices(number: int, names: Sequence[str]) -> Pass:
    """Pass that selects `number` random slices of every volume; fully annotated slices first, padding last.

    Each value in `names` changes from `[B, Z, ...]` to `[B, number, ...]`. Reads `whole [B, Z]`, 1 for fully annotated
    slices, and `real [B, Z]`, 0 for padding.
    """

    def choose(keys: Array, whole: Array, real: Array, *arrays: Array) -> tuple[Array, ...]:
        rank = real * (1.0 + whole)
        order = rank + jax.vmap(lambda key: jax.random.uniform(key, rank.shape[1:]))(keys)
        index = jax.lax.top_k(order, number)[1]
        return tuple(jax.vmap(lambda array, at: array[at])(array, index) for array in arrays)

    return random(choose, ["whole", "real", *names], names)


def paste(shape: Sequence[int]) -> Pass:
    """Pass from `probabilities` of the box to those of the volume of `shape`, background outside the box."""

    def whole(probabilities: Array, start: Array) -> Array:
        out = roi.paste(probabilities, start, shape)
        covered = roi.paste(jnp.ones_like(probabilities[..., 0]), start, shape)
        return out.at[..., 0].add(1 - covered)

    return pure(whole, ["probabilities", "start"], "probabilities")


def enlarge(shape: Sequence[int]) -> Pass:
    """Pass that interpolates `probabilities` linearly from the coarse grid to `shape` over the same field of view."""

    def whole(probabilities: Array) -> Array:
        return jax.image.resize(probabilities, (probabilities.shape[0], *shape, probabilities.shape[-1]), "linear")

    return pure(whole, ["probabilities"], "probabilities")


def repeated(heat: Array, window: Sequence[int]) -> Array:
    """Returns `[B, Z, h, w] -> [B, Z, H, W]`, every voxel repeated `window` times."""
    for axis, factor in enumerate(window):
        heat = jnp.repeat(heat, factor, axis + 1)
    return heat


def attend(image: str, features: str, write: str) -> Pass:
    """Pass `write = image x features` `[B, *S, C * F]`, channel by channel (Vesal et al. 2020, section 3)."""

    def product(image: Array, features: Array) -> Array:
        return (image[..., :, None] * features[..., None, :]).reshape(*features.shape[:-1], -1)

    return pure(product, [image, features], write)


def covered(label: Array, start: Array, size: Sequence[int]) -> tuple[Array, Array]:
    """Returns the numbers of labelled voxels inside the boxes and in total, `[B]` each; their ratio is the recall."""
    marked = (label != 0) & (label != IGNORE)
    inside = roi.crop(marked, start, size, False)
    spatial = tuple(range(1, label.ndim))
    return inside.sum(spatial), marked.sum(spatial)


def localise(image: Pass, net: Net, classes: Sequence[int], box: Pass) -> Pass:
    """Pass from the image to `start`: downsample, run the localiser `net` in inference mode, Grad-CAM, box."""
    return chain(image, call(net, ["low"], ["low_logits", "low_features"]), heat_map(net, "low_features", classes), box)
