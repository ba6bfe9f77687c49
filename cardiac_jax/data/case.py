"""Types common to all data sets: the files of a case (`Record`), the loaded `Case`, and the `Dataset`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cardiac_jax.data.orientation import Orientation
from cardiac_jax.data.stack import Stack
from cardiac_jax.errors import InputError


@dataclass(frozen=True)
class Record:
    """The files and properties of one case.

    Attributes:
      id: unique within the data set.
      patient: all cases of a patient are in the same split.
      images: sequence name -> file.
      label: file of the annotation; None without annotation.
      phase: "ED" or "ES" for cine frames.
      group: pathology group, by which splits are stratified.
      split: "train", "val" or "test" where the publisher's folders fix it.
      part: what to read of a file or folder that holds several images: "frame03" of a 4D file; "phase03" or "series7"
        of a folder of DICOM; "": all of it.
      height_cm, weight_kg: of the patient; None where not known.
      fine_images: sequence name -> file of the same anatomy on a finer grid, of a data set that is `fine`.
    """

    id: str
    patient: str
    images: Mapping[str, Path]
    label: Path | None
    phase: str | None = None
    group: str | None = None
    split: str | None = None
    part: str = ""
    height_cm: float | None = None
    weight_kg: float | None = None
    fine_images: Mapping[str, Path] = field(default_factory=dict)


class Fine(NamedTuple):
    """What a case of a `fine` data set has on finer grids, whose axes run along those of the case's own grid.

    Attributes:
      images: sequence name -> `[Z, H, W]` float32.
      label: `[Z, H, W]` uint8 classes, 255 where not annotated; None without annotation.
    """

    images: Mapping[str, Stack]
    label: Stack | None


@dataclass(frozen=True)
class Case:
    """One loaded case; arrays are on the file's own grid, in the canonical frame (see `stack.py`).

    Attributes:
      images: sequence name -> `[Z, H, W]` float32.
      label: `[Z, H, W]` uint8 classes, 255 where not annotated; None without annotation, or if it is finer (`fine`).
      frame: axis order and flips between file and canonical frame.
      affine: `[4, 4]` float64, index in the file's axis order -> RAS millimetres.
      source: the image file whose header a prediction copies.
      fine: the label and further images, where they lie on finer grids of their own; None in other data sets.
    """

    id: str
    patient: str
    images: Mapping[str, np.ndarray]
    label: np.ndarray | None
    frame: Orientation
    affine: np.ndarray
    phase: str | None
    group: str | None
    split: str | None
    source: Path
    fine: Fine | None = None

    def stack(self, data: np.ndarray) -> Stack:
        """Returns `data [Z, H, W, ...]` with this case's geometry."""
        return Stack(data, self.frame, self.affine)

    @property
    def truth(self) -> Stack | None:
        """The label on its own grid, finer or not; None without annotation."""
        if self.fine is not None:
            return self.fine.label
        return None if self.label is None else self.stack(self.label)

    @property
    def grid(self) -> Stack:
        """The first image, with its geometry."""
        return self.stack(next(iter(self.images.values())))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along Z, H, W."""
        z, h, w = next(iter(self.images.values())).shape
        return z, h, w

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in mm along Z, H, W."""
        return self.stack(np.empty(0)).spacing_mm


def first_error_raised(
    survey: Callable[[Path], tuple[list[Record], list[InputError]]],
) -> Callable[[Path], list[Record]]:
    """Returns the `find` of a data set from its `survey`: the records; the first of its errors is raised."""

    def find(root: Path) -> list[Record]:
        records, problems = survey(root)
        for problem in problems:
            raise problem
        return records

    return find


class Dataset(NamedTuple):
    """One data set in its publisher's own layout.

    Attributes:
      classes: names of the canonical classes in its labels, background first.
      labels: raw value in the file -> canonical class.
      sequences: sequences that a case may have.
      find: folder (or single file) -> records sorted by id; raises InputError.
      slice_order: "affine" (apex and base read from the affine), "base_first", "apex_first" or "unknown" (no stack).
      registered: every case has all of `sequences`, on one grid.
      survey: like `find`, but also returns the errors of patients that cannot be read, instead of raising them.
      side_files: patterns of names of files that lie beside the cases and are not read.
      fine: the label and `Record.fine_images` lie on finer grids of their own than the images.
      described: folder -> the data set with the classes that the folder's `dataset.json` names; None: they are fixed.
    """

    name: str
    classes: tuple[str, ...]
    labels: Mapping[int, int]
    sequences: tuple[str, ...]
    find: Callable[[Path], list[Record]]
    slice_order: str
    registered: bool = False
    survey: Callable[[Path], tuple[list[Record], list[InputError]]] | None = None
    side_files: tuple[str, ...] = ()
    fine: bool = False
    described: "Callable[[Path], Dataset] | None" = None
