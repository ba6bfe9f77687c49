"""Test-time averaging: the mean prediction over an image and copies of it that are moved as training moved images.

A copy is rotated, scaled, sheared, shifted, mirrored or turned by quarters in plane, as `config.augment` draws it; what
training never drew is not drawn here either. Mirroring and quarter turns are inverted exactly, the rest by linear
interpolation of the prediction. Elastic deformation and changes of intensity are left out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiac_jax.core.types import Config, Output
from cardiac_jax.data.augment import Augment, in_plane
from cardiac_jax.errors import InputError
from cardiac_jax.ops.geometry import coordinates
from cardiac_jax.ops.warp import resample

PredictAll = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Type of `image [B, *S, C] -> outputs by name`."""

MOVES = ("rotation_p", "scale_p", "shear_p", "translation_p", "flip_p", "quarter_turn_p")
"""Probabilities of the transforms that a copy can have, keys of `config.augment`."""


class Copies(NamedTuple):
    """In-plane motions: `matrices [N, 2, 2]` about the image's centre, `shifts [N, 2]` in pixels (output -> source)."""

    matrices: np.ndarray
    shifts: np.ndarray


def drawn(config: Config, number: int, seed: int = 0) -> Copies:
    """Returns `number` motions, distributed as in the training with `config`; the same for every image.

    Raises:
      InputError: training moved no image.
    """
    if not config.get("augmentation", False):
        raise InputError(
            "--tta", "config.augmentation is off: training saw no moved image, so there is no copy to draw"
        )
    augment = Augment(**config.augment)
    if not any(getattr(augment, name) for name in MOVES):
        raise InputError("--tta", f"training moved no image: config.augment has {', '.join(MOVES)} 0")
    keys = jax.random.split(jax.random.key(seed), number)
    matrices, shifts = jax.jit(jax.vmap(lambda key: in_plane(key, augment)))(keys)
    return Copies(np.asarray(matrices, np.float64), np.asarray(shifts, np.float64))


def averaged(predict: PredictAll, outputs: Sequence[Output], copies: Copies) -> PredictAll:
    """Returns a prediction that is the mean of `predict` over the image `[B, *S, C]` and its copies.

    Label maps and images are moved back first; a voxel that a copy does not show is averaged over the others. Vectors
    are averaged as they are.
    """
    spatial = {output.name for output in outputs if output.kind != "vector"}

    def mean(image: np.ndarray) -> dict[str, np.ndarray]:
        size = image.shape[-3:-1]
        total = {name: np.array(value) for name, value in predict(image).items()}
        count = {name: np.ones(value.shape[-3:-1] if name in spatial else ()) for name, value in total.items()}
        for matrix, shift in zip(*copies, strict=True):
            for name, value in predict(moved(image, matrix, shift)).items():
                if name not in spatial:
                    total[name] += value
                    count[name] += 1
                    continue
                factor = np.divide(value.shape[-3:-1], size)
                back, seen = _back(value, matrix * factor[:, None] / factor[None], shift * factor)
                total[name] += back * seen[..., None]
                count[name] += seen
        return {name: value / _as(count[name], name in spatial, value.dtype) for name, value in total.items()}

    return mean


def moved(image: np.ndarray, matrix: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Returns `image [..., H, W, C]` moved in plane: the value at x is that of the image at `matrix x + shift`.

    Positions are relative to the image's centre; its edge continues outside, as in augmentation.
    """
    return np.asarray(_resampled(image, jnp.asarray(matrix, jnp.float32), jnp.asarray(shift, jnp.float32))[0])


def _back(value: np.ndarray, matrix: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Undoes `moved`; also returns `[H, W]`, 1 at pixels that the moved image showed and 0 elsewhere."""
    inverse = np.linalg.inv(matrix)
    back, seen = _resampled(value, jnp.asarray(inverse, jnp.float32), jnp.asarray(-inverse @ shift, jnp.float32))
    return np.asarray(back), np.asarray(seen)


@jax.jit
def _resampled(image: jax.Array, matrix: jax.Array, shift: jax.Array) -> tuple[jax.Array, jax.Array]:
    size = image.shape[-3:-1]
    source = coordinates(matrix, shift, size)
    limit = jnp.asarray(size, source.dtype)[:, None, None]
    inside = jnp.all((source > -0.5 - 1e-3) & (source < limit - 0.5 + 1e-3), axis=0)
    return resample(image, source), inside.astype(jnp.float32)


def _as(count: np.ndarray, spatial: bool, dtype: np.dtype) -> np.ndarray:
    return (count[..., None] if spatial else count).astype(dtype)
