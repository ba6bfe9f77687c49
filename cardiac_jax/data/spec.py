"""Specification of the training data; it is stored in every checkpoint, so that restoring needs no data."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from cardiac_jax.core.config import words
from cardiac_jax.core.types import Config
from cardiac_jax.data import intensity
from cardiac_jax.data.case import Dataset
from cardiac_jax.data.preprocess import Grid
from cardiac_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """Specification of the training data, in numbers and names; `dataclasses.asdict` gives JSON.

    Attributes:
      dataset: registered name of the data set.
      classes: names, background first.
      labels: the publisher's label value of every class (`classes[k]` is written as `labels[k]`).
      sequences: channels of the image, in order.
      slice_order: how the apex is found (`affine`, `base_first`, `apex_first`, `unknown`).
      spacing_mm: voxel size of the network's grid along Z, H, W; 0: each image's own.
      size: `(H, W)` of the network's grid, or `(Z, H, W)`.
      frequency: number of labelled voxels of each class in the training set.
      intensity: operations on every image, in order.
      append_clahe: the images after CLAHE are appended as further channels.
      tile_overlap: share of a tile's size by which tiles overlap in prediction; 0: the box of `size` that holds the
        heart is predicted (`inference/region.py`).
      target_scale: voxels of the labels, and of finer images, per voxel of the network's grid along Z, H, W.
    """

    dataset: str
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    sequences: tuple[str, ...]
    slice_order: str
    spacing_mm: tuple[float, float, float]
    size: tuple[int, ...]
    frequency: tuple[int, ...] = ()
    intensity: tuple[str, ...] = ("z_score",)
    append_clahe: bool = False
    tile_overlap: float = 0.0
    target_scale: tuple[int, ...] = (1, 1, 1)

    @property
    def classes_count(self) -> int:
        """Number of classes K, with background."""
        return len(self.classes)

    @property
    def raw_values(self) -> dict[int, int]:
        """The publisher's value -> class, as `write_label` takes it."""
        return {value: k for k, value in enumerate(self.labels)}

    @property
    def channels(self) -> int:
        """Number of image channels C."""
        return len(self.sequences) * (2 if self.append_clahe else 1)

    @property
    def pixel_mm(self) -> float:
        """In-plane pixel size of the network's grid in mm; 0 if it is each image's own or pixels are not square."""
        return self.spacing_mm[1] if self.spacing_mm[1] == self.spacing_mm[2] else 0.0

    @property
    def is_volumetric(self) -> bool:
        """Whether an example is a volume (else a slice)."""
        return len(self.size) == 3

    def grid(self, *, whole: bool = False) -> Grid:
        """The network's grid, cropped or padded to `size` about the image's centre; `whole`: nothing is cropped."""
        held = Grid(self.spacing_mm, self.size, self.intensity, self.append_clahe, no_crop=whole)
        return held._replace(target_scale=self.target_scale)


def spec_of(config: Config, dataset: Dataset) -> DataSpec:
    """Returns the specification for `config.data`, after checking every key; `frequency` is set after reading the data.

    Raises:
      InputError: a key is invalid.
    """
    size = _numbers("data.size", config.size, (2, 3), "(H, W) or (Z, H, W)")
    if any(n != int(n) or n < 1 for n in size):
        raise InputError("data.size", f"{config.size!r} must be whole numbers above 0")
    spacing = _numbers("data.spacing_mm", config.spacing_mm, (1, 3), "one number (in plane) or three (Z, H, W)")
    if any(not 0 <= mm < 1000 for mm in spacing):
        raise InputError("data.spacing_mm", f"{config.spacing_mm!r} must be mm from 0 (as the image is) to 1000")
    z, h, w = spacing if len(spacing) == 3 else (0.0, *spacing, *spacing)
    if not 0 <= config.tile_overlap < 1:
        raise InputError("data.tile_overlap", f"{config.tile_overlap:g} is not at least 0 and below 1")
    target_scale = config.get("target_scale", (1, 1, 1))  # older configurations lack it
    scale = _numbers("data.target_scale", target_scale, (3,), "three numbers (Z, H, W)")
    if any(n != int(n) or n < 1 for n in scale):
        raise InputError("data.target_scale", f"{target_scale!r} must be whole numbers above 0")
    if any(n > 1 for n in scale) and len(size) != 3:
        raise InputError("data.target_scale", f"{target_scale!r} needs volumes: data.size of three numbers (Z, H, W)")
    sequences = words(config.sequences)
    for sequence in sequences:
        if dataset.sequences and sequence not in dataset.sequences:
            known = ", ".join(dataset.sequences)
            raise InputError("data.sequences", f"{dataset.name} has no sequence {sequence!r}, only {known}")
    if not sequences:
        raise InputError("data.sequences", "names no sequence")
    intensity.chain(words(config.intensity))
    raw = {canonical: value for value, canonical in reversed(list(dataset.labels.items()))}
    return DataSpec(
        dataset=dataset.name,
        classes=tuple(dataset.classes),
        labels=tuple(raw[k] for k in range(len(dataset.classes))),
        sequences=sequences,
        slice_order=dataset.slice_order,
        spacing_mm=(float(z), float(h), float(w)),
        size=tuple(int(n) for n in size),
        intensity=words(config.intensity),
        append_clahe=config.append_clahe,
        tile_overlap=config.tile_overlap,
        target_scale=tuple(int(n) for n in scale),
    )


def from_json(data: dict[str, Any], where: object) -> DataSpec:
    """Returns the specification stored in a checkpoint; messages name `where`.

    Raises:
      InputError: keys are missing or unknown.
    """
    try:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return DataSpec(**fields)
    except TypeError as error:
        raise InputError(str(where), f"its data specification does not fit this code: {error}") from None


def _numbers(key: str, value: Any, lengths: Sequence[int], meant: str) -> tuple[float, ...]:
    found = tuple(value) if isinstance(value, tuple | list) else (value,)
    if len(found) not in lengths or any(isinstance(n, bool) or not isinstance(n, int | float) for n in found):
        raise InputError(key, f"{value!r} is not {meant}")
    return found
