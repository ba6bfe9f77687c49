"""What a system must know of its training data; stored in every checkpoint, so that no data is needed to restore."""

import dataclasses
from typing import Any

from cardiac_jax.data.preprocess import Grid
from cardiac_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """Plain numbers and names, JSON by `dataclasses.asdict`.

    Attributes:
      dataset: its registered name.
      classes: names, background first.
      labels: the publisher's value of every class, in order (`classes[k]` is written as `labels[k]`).
      sequences: channels of the image, in order.
      slice_order: how the apex is found (`affine`, `base_first`, `apex_first`).
      spacing_mm: in-plane spacing of the network's grid, None for each image's own.
      size: `(H, W)` of the network's grid, or `(Z, H, W)`.
      frequency: labelled pixels of each class in the training set.
      clahe: whether contrast is equalised.
      beside: whether the equalised images are further channels, beside the images as they are.
      overlap: of the tiles in which whole volumes are predicted; 0: one crop about the centre is.
    """

    dataset: str
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    sequences: tuple[str, ...]
    slice_order: str
    spacing_mm: float | None
    size: tuple[int, ...]
    frequency: tuple[int, ...]
    clahe: bool = False
    overlap: float = 0.0
    append_clahe: bool = False

    @property
    def classes_count(self) -> int:
        """K."""
        return len(self.classes)

    @property
    def raw_values(self) -> dict[int, int]:
        """The publisher's value -> class, as `data.files.write_label` takes it."""
        return {value: k for k, value in enumerate(self.labels)}

    @property
    def grid(self) -> Grid:
        """What cases are brought to."""
        return Grid(self.spacing_mm, self.size, self.clahe, no_crop=self.overlap > 0, append_clahe=self.append_clahe)

    @property
    def channels(self) -> int:
        """C."""
        return len(self.sequences) * (2 if self.append_clahe else 1)


def from_json(data: dict[str, Any], where: object) -> DataSpec:
    """The description stored beside a checkpoint.

    Raises:
      InputError: keys are missing or unknown.
    """
    try:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return DataSpec(**fields)
    except TypeError as error:
        raise InputError(str(where), f"its data description does not fit this code: {error}") from None
