"""What every data set turns into: where a case lies (`Record`), the loaded `Case`, the `Dataset` itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cardiac_jax.errors import InputError


@dataclass(frozen=True)
class Record:
    """Where one case lies on disk.

    Attributes:
      id: unique within the data set.
      patient: cases of one patient never lie on both sides of a split.
      images: sequence name -> file.
      label: the annotation, None where there is none.
      phase: "ED" or "ES" for cine frames.
      group: pathology group, by which splits are stratified.
      split: "train", "val" or "test" where the publisher's folders fix it.
    """

    id: str
    patient: str
    images: Mapping[str, Path]
    label: Path | None
    phase: str | None = None
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Case:
    """One loaded case, arrays in the file's own axis order.

    Attributes:
      images: sequence name -> `[X, Y, Z]` float32.
      label: `[X, Y, Z]` uint8, canonical classes, 255 where nobody annotated; None without annotation.
      affine: `[4, 4]` float64, voxel index -> RAS millimetres.
      spacing_mm: voxel size along X, Y, Z.
      source: the image file whose header a prediction copies.
    """

    id: str
    patient: str
    images: Mapping[str, np.ndarray]
    label: np.ndarray | None
    affine: np.ndarray
    spacing_mm: tuple[float, float, float]
    phase: str | None
    group: str | None
    split: str | None
    source: Path


class Dataset(NamedTuple):
    """One data set in its publisher's own layout.

    Attributes:
      classes: names of the canonical classes its labels use, background first.
      labels: raw value in the file -> canonical class.
      sequences: those a case may carry.
      find: folder (or single file) -> records sorted by id; raises InputError.
      slice_order: "affine" (apex and base read from the affine), "base_first" or "apex_first".
      registered: every case has all of `sequences`, on one grid.
      survey: like `find`, but what keeps it from reading a patient is returned beside the records of the others.
    """

    name: str
    classes: tuple[str, ...]
    labels: Mapping[int, int]
    sequences: tuple[str, ...]
    find: Callable[[Path], list[Record]]
    slice_order: str
    registered: bool = False
    survey: Callable[[Path], tuple[list[Record], list[InputError]]] | None = None
