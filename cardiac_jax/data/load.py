"""Loads the case of a record and checks its files; every fault is one InputError."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cardiac_jax.data import axes
from cardiac_jax.data.case import Case, Dataset, Fine, Record
from cardiac_jax.data.io import formats
from cardiac_jax.data.io.volume import Volume
from cardiac_jax.data.orientation import to_canonical
from cardiac_jax.data.regrid import aligned, on_grid
from cardiac_jax.data.stack import Stack, from_volume
from cardiac_jax.errors import InputError

WHOLE_TOLERANCE = 0.02  # of a label value; nibabel's rescaling of 2221 to int16 is off by up to 0.017
MOST_SHOWN = 8


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
            loaded = loaded._replace(data=_intensities(loaded.data, path))
            first = first or (path, loaded)
            images[sequence] = on_grid(path, loaded, first[1], f"the image {first[0].name}").data
        except InputError as error:
            problems.append(error)
    label, drawn = None, None
    try:
        if record.label is None and labelled:
            raise InputError(
                _folder(record), f"case {record.id} has no label file{' on the finer grid' if dataset.fine else ''}"
            )
        if record.label is not None:
            drawn = formats.read(record.label)
            drawn = drawn._replace(data=canonical_labels(drawn.data, dataset.labels, record.label))
            if first is not None and not dataset.fine:
                label = on_grid(record.label, drawn, first[1], f"the image {first[0].name}").data
    except InputError as error:
        problems.append(error)
    if problems or first is None:
        return None, problems or [InputError(_folder(record), f"case {record.id} has no image")]
    source, grid = first
    stacks = {name: from_volume(image, grid.affine, dataset.slice_order) for name, image in images.items()}
    fine = None
    if dataset.fine:
        fine, problems = _fine(record, drawn, next(iter(stacks.values())), source, sequences)
        if problems:
            return None, problems
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
        fine=fine,
    )
    return case, []


def _fine(
    record: Record, drawn: Volume | None, like: Stack, source: Path, sequences: Sequence[str] | None
) -> tuple[Fine, list[InputError]]:
    """The label `drawn` and the finer images of a record, and every problem with them."""
    name, problems = f"the image {source.name}", []
    label, images = None, {}
    try:
        if drawn is not None and record.label is not None:
            label = aligned(record.label, drawn, like, name)
    except InputError as error:
        problems.append(error)
    for sequence, path in record.fine_images.items():
        if sequences is not None and sequence not in sequences:
            continue
        try:
            loaded = formats.read(path)
            images[sequence] = aligned(path, loaded._replace(data=_intensities(loaded.data, path)), like, name)
        except InputError as error:
            problems.append(error)
    return Fine(images, label), problems


def image_on(path: Path, like: Stack, name: str) -> np.ndarray:
    """Returns the image of a file `[Z, H, W]` float32 on the grid of `like`, which messages call `name`.

    Raises:
      InputError: the file cannot be read, has another grid, or holds voxels that are NaN or infinite.
    """
    loaded = formats.read(path)
    on = on_grid(path, loaded._replace(data=_finite(loaded.data, path)), like.volume(), name)
    return np.ascontiguousarray(to_canonical(on.data, like.frame))


def resampled(path: Path, like: Stack, name: str) -> Stack:
    """Returns the image of a file on the grid of `like`, interpolated linearly, 0 outside; messages call that `name`.

    Raises:
      InputError: the file cannot be read, its axes do not run along those of `like`, or it has voxels that are NaN.
    """
    loaded = formats.read(path)
    own = aligned(path, loaded._replace(data=_finite(loaded.data, path)), like, name)
    return like.with_data(axes.between_stacks(own, like))


def canonical_labels(raw: np.ndarray, labels: Mapping[int, int], path: Path) -> np.ndarray:
    """Returns the uint8 classes (255 ignore) of a raw label map; values within `WHOLE_TOLERANCE` are rounded.

    Raises:
      InputError: there are values that are NaN or infinite, or not in `labels`; gives their counts.
    """
    values, counts, index = _levels(raw, path)
    unknown = [(v, n) for v, n in zip(values, counts, strict=True) if v not in labels]
    if unknown:
        kind = "negative label values" if all(v < 0 for v, _ in unknown) else "unknown label values"
        allowed = ", ".join(str(v) for v in sorted(labels))
        raise InputError(path, f"has {kind} {_shown(unknown)}; known are {allowed}")
    return np.array([labels[int(v)] for v in values], np.uint8)[index].reshape(raw.shape)


def label_values(raw: np.ndarray, path: Path) -> dict[int, int]:
    """Returns value -> number of voxels of a raw label map; values within `WHOLE_TOLERANCE` are rounded.

    Raises:
      InputError: there are values that are NaN, infinite, negative or not whole; gives their counts.
    """
    values, counts, _ = _levels(raw, path)
    found: dict[int, int] = {}
    for value, count in zip(values, counts, strict=True):
        found[int(value)] = found.get(int(value), 0) + count
    wrong = [(v, n) for v, n in zip(values, counts, strict=True) if v < 0 or v != int(v)]
    if wrong:
        kind = "negative values" if all(v < 0 for v, _ in wrong) else "values that are not whole numbers:"
        raise InputError(path, f"has {kind} {_shown(wrong)}; a label map holds whole numbers from 0")
    return found


def _levels(raw: np.ndarray, path: Path) -> tuple[list[float], list[int], np.ndarray]:
    """Values present, their counts, and each voxel's index into them; avoids sorting for small integers.

    Values within `WHOLE_TOLERANCE` of a whole number are that number, so that one may be there twice.

    Raises:
      InputError: there are values that are NaN or infinite, or more than `MOST_SHOWN` that are not whole.
    """
    if raw.dtype.kind in "iu" and int(raw.min()) >= 0 and int(raw.max()) < 2**16:
        flat = raw.ravel().astype(np.int32)
        histogram = np.bincount(flat)
        present = np.flatnonzero(histogram)
        index = np.zeros(len(histogram), np.intp)
        index[present] = np.arange(len(present))
        return [float(v) for v in present], [int(n) for n in histogram[present]], index[flat]
    values, index, counts = np.unique(
        _finite(raw, path) if raw.dtype.kind == "f" else raw, return_inverse=True, return_counts=True
    )
    whole = np.rint(values)
    exact = np.abs(values - whole) <= WHOLE_TOLERANCE
    broken = counts[~exact]
    if len(broken) > MOST_SHOWN:
        shown = ", ".join(f"{v:.7g}" for v in values[~exact][:3])
        raise InputError(
            path,
            f"has {broken.sum()} voxels with {len(broken)} values that are not whole numbers ({shown}, ...): "
            "probabilities or intensities, not a label map",
        )
    return [float(v) for v in np.where(exact, whole, values)], [int(n) for n in counts], index


def _shown(found: Sequence[tuple[float, int]]) -> str:
    text = ", ".join(f"{v:.7g} ({n} voxels)" for v, n in found[:MOST_SHOWN])
    return text + (f" and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else "")


def _finite(raw: np.ndarray, path: Path) -> np.ndarray:
    """`raw` as float32; raises InputError if a voxel is not finite."""
    with np.errstate(over="ignore"):
        data = raw.astype(np.float32)
    bad = data.size - int(np.count_nonzero(np.isfinite(data)))
    if bad:
        raise InputError(path, f"has {bad} voxels that are NaN or infinite")
    return data


def _intensities(raw: np.ndarray, path: Path) -> np.ndarray:
    """`raw` as float32; raises InputError if a voxel is not finite or all are equal."""
    data = _finite(raw, path)
    low, high = float(data.min()), float(data.max())
    if low == high:
        raise InputError(path, f"is a constant image (every voxel is {low:g})")
    return data


def _folder(record: Record) -> Path:
    files = [*record.images.values(), *([record.label] if record.label else [])]
    return files[0].parent if files else Path(record.id)
