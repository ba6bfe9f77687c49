"""A trained model in Python: `cardiac_jax.load(RUN).predict(FILE)`."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cardiac_jax.data.case import Case, Dataset
from cardiac_jax.data.io.write import write_label
from cardiac_jax.data.load import load as load_case
from cardiac_jax.data.orientation import orientation
from cardiac_jax.data.sets import folder
from cardiac_jax.data.stack import from_volume
from cardiac_jax.errors import InputError
from cardiac_jax.runs.predict import GRIDS, needed_of, predict_case, sequences_of
from cardiac_jax.runs.restore import Trained, restore_all
from cardiac_jax.train import devices


class Segmentation(NamedTuple):
    """The label map of one case, in the axis order of its file.

    Attributes:
      labels: `[X, Y, Z]` uint8 classes, an index into `classes`.
      probabilities: `[X, Y, Z, K]` float32.
      affine: `[4, 4]` voxel index -> RAS millimetres.
      classes: names, background first.
      raw_values: value in the files of the training data -> class.
      source: the image file, whose header is copied by `save`; None for an array.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    affine: np.ndarray
    classes: tuple[str, ...]
    raw_values: dict[int, int]
    source: Path | None = None

    def volume_ml(self, name: str) -> float:
        """Volume of a class in ml.

        Raises:
          KeyError: there is no class of that name.
        """
        if name not in self.classes:
            raise KeyError(f"{name!r} is not one of {', '.join(self.classes)}")
        voxel_ml = abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000
        return float((self.labels == self.classes.index(name)).sum()) * voxel_ml

    def save(self, path: str | Path) -> None:
        """Writes the label map in the raw label values of the training data (.nii, .nii.gz, .nrrd, .mha, .mhd)."""
        stack = from_volume(self.labels, self.affine, "affine")
        write_label(Path(path), stack, self.raw_values, self.source)


class Model:
    """A trained model, or an ensemble whose probabilities are averaged.

    Attributes:
      members: the restored runs.
      classes: names, background first.
      sequences: names of the required sequences, in order.
    """

    def __init__(self, members: Sequence[Trained]) -> None:
        self.members = tuple(members)
        self.classes = members[0].spec.classes
        self.sequences = members[0].spec.sequences

    def predict(
        self,
        image: str | Path | np.ndarray | Mapping[str, np.ndarray],
        affine: np.ndarray | None = None,
        *,
        spacing_mm: Sequence[float] | None = None,
        crop: str = "",
        grid: str = GRIDS[0],
    ) -> Segmentation:
        """Returns the segmentation of one case; warns if foreground may be missing.

        Args:
          image: an image file or a folder with one DICOM stack; or an array `[X, Y, Z]`; or arrays by sequence.
          affine: only for arrays: `[4, 4]` voxel index -> RAS millimetres.
          spacing_mm: only for arrays, instead of `affine`: voxel size along X, Y, Z, axes as in RAS.
          crop: how an image larger than the network's input is covered: heart, centre, tiles; "": as configured.
          grid: of a label map finer than the image: "output" (its own, with its affine) or "image".

        Raises:
          InputError: the image cannot be read, lacks a sequence, or contains several cases; or the model predicts no
            label map.
        """
        if grid not in GRIDS:
            raise InputError("grid", f"{grid!r} is not one of {', '.join(GRIDS)}")
        if self.members[0].outputs[0].kind != "labels":
            raise InputError(self.members[0].workdir, "predicts no label map; use launch.predict")
        case = self._case(image, affine, spacing_mm)
        with devices.on_host():
            like = case.grid if grid == "image" else None
            found = predict_case(self.members, case, crop, warnings.warn, like)[0]
        spec = self.members[0].spec
        value = found.decoded.value
        return Segmentation(
            value.to_file(),
            found.value.to_file(),
            value.affine,
            spec.classes,
            spec.raw_values,
            case.source if isinstance(image, str | Path) and np.array_equal(value.affine, case.affine) else None,
        )

    def _case(self, image: Any, affine: np.ndarray | None, spacing_mm: Sequence[float] | None) -> Case:
        order = self.members[0].spec.slice_order
        if isinstance(image, str | Path):
            dataset: Dataset = folder.DATASET._replace(slice_order=order)
            records = folder.find(Path(image))
            if len(records) != 1:
                raise InputError(image, f"holds {len(records)} cases, one is expected")
            return load_case(records[0], dataset, needed_of(records[0], sequences_of(self.members)))
        named = dict(image) if isinstance(image, Mapping) else {folder.UNKNOWN: image}
        if (affine is None) == (spacing_mm is None):
            raise InputError("affine", "give either affine or spacing_mm for an array")
        grid = np.diag([*(spacing_mm or ()), 1.0]) if affine is None else np.asarray(affine, np.float64)
        if grid.shape != (4, 4):
            raise InputError("affine", f"has shape {grid.shape}, (4, 4) is expected, or three numbers in spacing_mm")
        shapes = {name: np.shape(array) for name, array in named.items()}
        if any(len(shape) != 3 for shape in shapes.values()) or len(set(shapes.values())) != 1:
            raise InputError("image", f"has shapes {shapes}, one shape [X, Y, Z] is expected")
        stacks = {name: from_volume(np.asarray(a, np.float32), grid, order).data for name, a in named.items()}
        if not all(np.isfinite(stack).all() for stack in stacks.values()):
            raise InputError("image", "has voxels that are NaN or infinite")
        frame = orientation(grid, order, next(iter(shapes.values())))
        return Case("array", "array", stacks, None, frame, grid, None, None, None, Path("array"))


def load(*runs: str | Path, checkpoint: str = "best", post: Mapping[str, Any] | None = None, tta: int = 0) -> Model:
    """Returns the model of a training run; for several runs, an ensemble.

    Args:
      runs: work directories.
      checkpoint: best, latest or a step.
      post: values that replace those under `config.post`, e.g. {"largest": ("LV",)}.
      tta: number of copies of every image, moved as in training, whose predictions are averaged with its own.

    Raises:
      InputError: there is no such checkpoint, it is damaged, or its training moved no images and `tta` is above 0.
    """
    if not runs:
        raise InputError("runs", "name at least one work directory")
    return Model(restore_all([Path(run) for run in runs], checkpoint, post=post, tta=tta))
