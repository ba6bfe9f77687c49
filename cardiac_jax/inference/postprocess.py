"""Post-processing of label maps, configured in `config.post` for any system. Host side, on the case's own grid."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from cardiac_jax.core.config import words
from cardiac_jax.core.types import Config, Decoded, Decoder, Variables
from cardiac_jax.data.stack import Stack
from cardiac_jax.errors import InputError
from cardiac_jax.ops.pieces import kept

MM3_PER_ML = 1000.0

MakeDecoder = Callable[[Variables, Mapping[str, Any]], Decoder]


class NoSummary:
    """An empty summary, for decoders that report nothing."""

    def add(self, decoded: Decoded, truth: Stack | None) -> None:
        """Ignores the case."""

    def about(self) -> dict[str, Any]:
        """Returns {}."""
        return {}

    def line(self) -> str:
        """Returns ""."""
        return ""


def unchanged(variables: Variables, fits: Mapping[str, Any]) -> Decoder:
    """Makes a decoder that does not change the label map."""
    return Decoder(lambda labels: Decoded(labels, labels), NoSummary)


def label_decoder(classes: Sequence[str], post: Config, then: MakeDecoder = unchanged) -> MakeDecoder:
    """Returns the maker of a decoder of probabilities `[Z, H, W, K]`: argmax, `cleaned`, then the decoder of `then`.

    Args:
      classes: names by label value.
      post: `largest`, `fill_holes` (names of structures) and `least_ml` (ml), see `cleaned`.
      then: makes a decoder of label maps, e.g. one that projects them onto valid anatomy.

    Raises:
      InputError: `post` has an unknown structure or a negative volume.
    """
    largest, filled = (_values(classes, key, words(post[key])) for key in ("largest", "fill_holes"))
    if not post.least_ml >= 0:
        raise InputError("post.least_ml", f"{post.least_ml} is less than 0")

    def make(variables: Variables, fits: Mapping[str, Any]) -> Decoder:
        inner = then(variables, fits)

        def decode(probabilities: Stack) -> Decoded:
            raw = probabilities.with_data(probabilities.data.argmax(-1).astype(np.uint8))
            return inner.decode(cleaned(raw, largest, filled, post.least_ml))._replace(raw=raw)

        return Decoder(decode, inner.summary)

    return make


def cleaned(labels: Stack, largest: Sequence[int] = (), filled: Sequence[int] = (), least_ml: float = 0.0) -> Stack:
    """Returns a label map without small components and holes.

    Args:
      labels: `[Z, H, W]`.
      largest: label values of which only the largest 3D component is kept (voxels that share a corner are connected).
      filled: label values whose holes in each slice are filled.
      least_ml: components of any structure below this volume (ml) become background; 0: none.
    """
    if not (largest or filled or least_ml):
        return labels
    out = labels.data.copy()
    voxel_ml = float(np.prod(labels.spacing_mm)) / MM3_PER_ML
    for value in np.unique(out[out > 0]):
        own = out == value
        out[own & ~kept(own, 1 if value in largest else None, least_ml / voxel_ml, corners=True)] = 0
    for value in filled:
        for plane in out:
            plane[ndimage.binary_fill_holes(plane == value) & (plane == 0)] = value
    return labels.with_data(out)


def _values(classes: Sequence[str], key: str, names: Sequence[str]) -> tuple[int, ...]:
    for name in names:
        if name not in classes[1:]:
            raise InputError(f"post.{key}", f"{name!r} is not one of {', '.join(classes[1:])}")
    return tuple(classes.index(name) for name in names)
