"""Autoencoders of label maps in trained runs: the codes of a case, and the label maps of codes.

A volume has one code. An autoencoder of slices gives one for every slice that holds a structure. A box of the
autoencoder's size is encoded, as in training: the central box of the image, moved where it would cut structures; for an
autoencoder of a cascade's box, the box about the structures.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiac_jax.anatomy.autoencoder import AnatomicalAutoencoder
from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.case import Case
from cardiac_jax.data.preprocess import prepare
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.metrics import overlap
from cardiac_jax.runs.restore import Trained

TRAINING, HEART = BOXES = ("training", "heart")
"""Which box is encoded: as described above, or always that about the structures."""


class Autoencoder(NamedTuple):
    """A trained autoencoder of label maps.

    Attributes:
      name: of the network in the system.
      size: `(Z, H, W)` or `(H, W)` of its label maps.
      encode: classes `[*size]` -> code `[D]`.
      decode: code `[D]` -> classes `[*size]`.
    """

    name: str
    size: tuple[int, ...]
    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray], np.ndarray]


class Encoded(NamedTuple):
    """The codes of one label map.

    Attributes:
      codes: `[n, D]`, one of a volume, or one for every slice that holds a structure.
      dice: `[K - 1]` of the restored label map, NaN where a structure is in neither.
      spacing_mm: voxel size of the label map along Z, H, W.
      outside: share of the structures' voxels that the autoencoder's box does not hold.
    """

    codes: np.ndarray
    dice: np.ndarray
    spacing_mm: tuple[float, float, float]
    outside: float


def autoencoder_of(trained: Trained) -> Autoencoder:
    """Returns the autoencoder of label maps of a run.

    Raises:
      InputError: the run has none, or one for other maps than those of the network's grid.
    """
    found = [net for net in trained.system.nets if hasattr(net.module, "encode") and hasattr(net.module, "decode")]
    found = [net for net in found if not isinstance(net.module, AnatomicalAutoencoder)]
    if not found:
        how = "transforms.shape_prior or code_prior trains one"
        raise InputError(trained.workdir, f"a run of {trained.name}, which has no autoencoder of label maps ({how})")
    if trained.config.get("variant") == "endtoend":
        raise InputError(trained.workdir, "its autoencoder is of the coarse grid, on which no label maps are encoded")
    net, classes = found[0], trained.spec.classes_count
    variables, module = dict(trained.variables[net.name]), net.module

    @jax.jit
    def encode(labels: jax.Array) -> jax.Array:
        return module.apply(variables, jax.nn.one_hot(labels, classes)[None], train=False, method="encode")[0]

    @jax.jit
    def decode(code: jax.Array) -> jax.Array:
        return module.apply(variables, code[None], train=False, method="decode")[0].argmax(-1).astype(jnp.uint8)

    return Autoencoder(
        net.name,
        tuple(net.inputs[0][:-1]),
        lambda labels: np.asarray(encode(jnp.asarray(labels)), np.float64),
        lambda code: np.asarray(decode(jnp.asarray(code, jnp.float32))),
    )


def encoded(case: Case, net: Autoencoder, spec: DataSpec, box_of: str = TRAINING) -> Encoded:
    """Returns the codes of a case's label map on the network's grid; slices that are not annotated in full have none.

    Args:
      box_of: one of `BOXES`.

    Raises:
      InputError: voxels of the volume, or of all slices, are not annotated, or there is no structure.
    """
    grid = spec.grid(whole=True)._replace(intensity=(), append_clahe=False)
    ready = prepare(case, grid, tuple(case.images)[:1])
    assert ready.label is not None
    label = ready.label
    finer = np.array(label.shape) / ready.image.shape[:3]
    z, h, w = (float(mm) for mm in np.array(ready.spacing_mm) / finer)
    marked = (label > 0) & (label != IGNORE)
    if not marked.any():
        raise InputError(case.id, "its label map holds no structure")
    volume = len(net.size) == 3
    central = box_of == TRAINING and net.size == tuple(
        np.rint(np.array(spec.size) * finer[-len(spec.size) :]).astype(int).tolist()
    )
    box = boxed(label, marked, net.size if volume else (len(label), *net.size), central)
    held = (box > 0) & (box != IGNORE)
    parts = [box] if volume else [part for part, has in zip(box, held.any(axis=(1, 2)), strict=True) if has]
    parts = [part for part in parts if not (part == IGNORE).any()]
    if not parts:
        where = "the volume" if volume else "any slice"
        raise InputError(case.id, f"its label map is not annotated in full in {where}")
    codes = np.stack([net.encode(part) for part in parts])
    restored = np.stack([net.decode(code) for code in codes])
    classes = range(1, spec.classes_count)
    dice = overlap.dice_of(overlap.counts(restored, np.stack(parts), classes))
    return Encoded(codes, dice, (z, h, w), 1 - float(held.sum()) / float(marked.sum()))


def boxed(label: np.ndarray, marked: np.ndarray, size: Sequence[int], central: bool) -> np.ndarray:
    """Returns a box `[*size]` of `label [Z, H, W]`, padded by 0.

    Args:
      marked: `[Z, H, W]` bool, the structures.
      central: the box is the image's central one, moved no further than holding the structures takes; else its middle
        is that of the structures. Structures larger than the box have their middle in its middle.
    """
    out, source, target = np.zeros(size, label.dtype), [], []
    for axis, want in enumerate(size):
        at = np.flatnonzero(marked.any(axis=tuple(k for k in range(3) if k != axis)))
        first, end = int(at[0]), int(at[-1]) + 1
        start = (first + end - want) // 2
        if central and end - first <= want:
            start = min(max((label.shape[axis] - want) // 2, end - want), first)
        low, high = max(start, 0), min(start + want, label.shape[axis])
        source.append(slice(low, high))
        target.append(slice(low - start, high - start))
    out[tuple(target)] = label[tuple(source)]
    return out


def leading(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns mean `[D]`, two leading principal directions `[2, D]`, their SDs `[2]` and shares of variance `[2]`.

    A single dimension of a code has no meaning of its own, and dimensions are correlated: a step along one of them
    leaves the codes' distribution. The largest entry of a direction is positive. D is at least 2.
    """
    centre = codes.mean(0)
    _, values, directions = np.linalg.svd(codes - centre, full_matrices=False)
    variances = values**2 / (len(codes) - 1)
    directions = directions[:2]
    largest = np.abs(directions).argmax(1)
    directions = directions * np.sign(directions[[0, 1], largest])[:, None]
    return centre, directions, np.sqrt(variances[:2]), variances[:2] / max(float(variances.sum()), 1e-30)
