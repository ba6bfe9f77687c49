"""Loads the case of a record and checks its files; every fault is one InputError."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cardiac_jax.data.case import Case, Dataset, Record
from cardiac_jax.data.io import formats
from cardiac_jax.data.io.volume import Volume
from cardiac_jax.data.stack import from_volume
from cardiac_jax.errors import InputError

SPACING_TOLERANCE = 1e-3  # relative
CORNER_TOLERANCE = 0.1  # displacement of any corner of the grid, in units of the smallest voxel edge


def load(record: Record, dataset: Dataset, sequences: Sequence[str] | None = None, *, labelled: bool = False) -> Case:
    """Returns the loaded case of `record`.

    Args:
      sequences: required sequences, which are loaded; None: every image of the record.
      labelled: whether a case without annotation is an error.

    Raises:
      InputError: the first problem found; `inspect` returns all of them.
    """
    case, problems = inspect(record, dataset, sequences, labelled=labelled)
    if problems or case is None:
        raise problems[0]
    return case


def inspect(
    record: Record, dataset: Dataset, sequences: Sequence[str] | None = None, *, labelled: bool = False
) -> tuple[Case | None, list[InputError]]:
    """Returns the case, or None, and every problem found in its files; arguments as for `load`."""
    problems: list[InputError] = []
    images: dict[str, np.ndarray] = {}
    first: tuple[Path, Volume] | None = None
    for sequence in record.images if sequences is None else sequences:
        try:
            if sequence not in record.images:
                raise InputError(_folder(record), f"case {record.id} lacks the sequence {sequence}")
            path = record.images[sequence]
            loaded = formats.read(path, record.part)
            images[sequence] = _intensities(loaded.data, path)
            first = first or (path, loaded)
            same_grid(path, loaded, first[1], f"the image {first[0].name}")
        except InputError as error:
            problems.append(error)
    label = None
    try:
        if record.label is None and labelled:
            raise InputError(_folder(record), f"case {record.id} has no label file")
        if record.label is not None:
            drawn = formats.read(record.label)
            label = canonical_labels(drawn.data, dataset.labels, record.label)
            if first is not None:
                same_grid(record.label, drawn, first[1], f"the image {first[0].name}")
    except InputError as error:
        problems.append(error)
    if problems or first is None:
        return None, problems or [InputError(_folder(record), f"case {record.id} has no image")]
    source, grid = first
    stacks = {name: from_volume(image, grid.affine, dataset.slice_order) for name, image in images.items()}
    case = Case(
        id=record.id,
        patient=record.patient,
        images={name: stack.data for name, stack in stacks.items()},
        label=None if label is None else from_volume(label, grid.affine, dataset.slice_order).data,
        frame=next(iter(stacks.values())).frame,
        affine=grid.affine,
        phase=record.phase,
        group=record.group,
        split=record.split,
        source=source,
    )
    return case, []


def canonical_labels(raw: np.ndarray, labels: Mapping[int, int], path: Path) -> np.ndarray:
    """Returns the uint8 classes (255 ignore) of a raw label map.

    Raises:
      InputError: there are values not in `labels`; gives their counts.
    """
    values, counts, index = _levels(raw)
    unknown = [(v, n) for v, n in zip(values, counts, strict=True) if v not in labels]
    if unknown:
        shown = ", ".join(f"{v:g} ({n} voxels)" for v, n in unknown[:8])
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        allowed = ", ".join(str(v) for v in sorted(labels))
        raise InputError(path, f"has unknown label values {shown}{more}; known are {allowed}")
    return np.array([labels[int(v)] for v in values], np.uint8)[index].reshape(raw.shape)


def _levels(raw: np.ndarray) -> tuple[list[float], list[int], np.ndarray]:
    """Values present, their counts, and each voxel's index into them; avoids sorting for small integers."""
    if raw.dtype.kind in "iu" and int(raw.min()) >= 0 and int(raw.max()) < 2**16:
        flat = raw.ravel().astype(np.int32)
        histogram = np.bincount(flat)
        present = np.flatnonzero(histogram)
        index = np.zeros(len(histogram), np.intp)
        index[present] = np.arange(len(present))
        return [float(v) for v in present], [int(n) for n in histogram[present]], index[flat]
    values, index, counts = np.unique(raw, return_inverse=True, return_counts=True)
    return [float(v) for v in values], [int(n) for n in counts], index


def _intensities(raw: np.ndarray, path: Path) -> np.ndarray:
    """`raw` as float32; raises InputError if a voxel is not finite or all are equal."""
    data = raw.astype(np.float32)
    bad = data.size - int(np.count_nonzero(np.isfinite(data)))
    if bad:
        raise InputError(path, f"has {bad} voxels that are NaN or infinite")
    low, high = float(data.min()), float(data.max())
    if low == high:
        raise InputError(path, f"is a constant image (every voxel is {low:g})")
    return data


def same_grid(path: Path, one: Volume, other: Volume, name: str) -> None:
    """Checks that `one`, read from `path`, is on the grid of `other`, which messages call `name`.

    Raises:
      InputError: shape, spacing or position differ.
    """
    if one.data.shape != other.data.shape:
        raise InputError(path, f"has shape {_by(one.data.shape)}, {name} has {_by(other.data.shape)}")
    if not np.allclose(one.spacing_mm, other.spacing_mm, rtol=SPACING_TOLERANCE, atol=0):
        raise InputError(path, f"has spacing {_mm(one.spacing_mm)}, {name} has {_mm(other.spacing_mm)}")
    ends = np.array(np.meshgrid(*((0, n - 1) for n in one.data.shape), [1], indexing="ij")).reshape(4, -1)
    apart_mm = float(np.linalg.norm(((one.affine - other.affine) @ ends)[:3], axis=0).max())
    if apart_mm > CORNER_TOLERANCE * min(one.spacing_mm):
        raise InputError(path, f"lies elsewhere than {name}: affines put a corner {apart_mm:.3g} mm apart")


def _folder(record: Record) -> Path:
    files = [*record.images.values(), *([record.label] if record.label else [])]
    return files[0].parent if files else Path(record.id)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _mm(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{s:.4g}" for s in spacing) + " mm"
