"""Twins (`sets/twins.py`) made from a data set of high-resolution labelled volumes.

Image and label are resampled to 1.25 x 1.25 x 2 mm, the HR twin. Its slices are blurred along z and every fifth is
kept, each is moved in plane as between breath-holds, and noise is added: the LR twin of 10 mm slices. The label stays
where the HR image is.

A case is done when `cases.csv` has its row, which is written after its files. A second start goes on where the first
one ended, and refuses other options; `twins.json` holds them, and the number of cases when all are done. The same seed
and case give the same files.
"""

import csv
import dataclasses
import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.axes import placements
from cardiac_jax.data.case import Case, Dataset, Fine, Record
from cardiac_jax.data.io.write import atomic_write, write_array, write_label
from cardiac_jax.data.load import load
from cardiac_jax.data.preprocess import Grid, lost_share, network_stack, prepare
from cardiac_jax.data.sets import description, twins
from cardiac_jax.data.stack import Stack
from cardiac_jax.errors import InputError, printable
from cardiac_jax.ops import degrade
from cardiac_jax.progress import run_each, saying

FINE_MM = (2.0, 1.25, 1.25)
FACTOR = 5
LEAST_LEVELS = 100  # range of intensities from which they are stored as whole numbers
COLUMNS = ("id", "patient", "group", "phase", "split", "slices", "label_cut_percent")


@dataclass(frozen=True)
class Options:
    """How LR stacks are made.

    Attributes:
      sequence: the sequence that is degraded; "": the only one, or the first of the data set.
      misalign_mm, rotation_deg: largest shift along each axis, and largest rotation, of a slice.
      sigma_mm: SD of the Gaussian along z.
      noise: SD of the noise, as a share of the SD of the LR image.
      size_mm: in-plane side of the box about the middle of the label that is kept; 0: the whole image.
    """

    sequence: str = ""
    misalign_mm: float = 2.0
    rotation_deg: float = 0.0
    sigma_mm: float = 4.0
    noise: float = 0.0
    size_mm: float = 0.0
    seed: int = 0

    def checked(self) -> "Options":
        """The options themselves.

        Raises:
          InputError: one is negative.
        """
        for key in ("misalign_mm", "rotation_deg", "sigma_mm", "noise", "size_mm", "seed"):
            if getattr(self, key) < 0:
                raise InputError(f"--{key}", f"{getattr(self, key)} is less than 0")
        return self


class Twin(NamedTuple):
    """One case: images `[Z, H, W]` float32 and labels uint8, and the share of labelled voxels beyond its box."""

    lr: Stack
    hr: Stack
    lr_label: Stack
    hr_label: Stack
    lost: float


def write(
    out: Path, records: Sequence[Record], chosen: Dataset, options: Options, console: Console
) -> dict[str, InputError]:
    """Writes the twins of all records that are not there yet; returns case -> error of those that failed.

    Raises:
      InputError: `out` holds twins made otherwise, or the data set has no such sequence.
    """
    sequence = _sequence(chosen, records, options.checked().sequence)
    about = {"dataset": chosen.name, **dataclasses.asdict(options), "sequence": sequence}
    _begin(out, about)
    description.write(out, {name: k for k, name in enumerate(chosen.classes)}, (sequence,))
    rows = _rows(out / twins.TABLE)
    wanted = [(record.id, record) for record in records if record.id not in rows]
    if len(wanted) < len(records):
        saying(console)(f"skipped, because they are in {printable(str(out))}: {len(records) - len(wanted)} cases")

    def one(record: Record) -> None:
        rows[record.id] = _write_case(out / twins.FOLDER, record, chosen, sequence, options)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *(rows[name] for name in sorted(rows))])
        atomic_write(out / twins.TABLE, lambda to: to.write_text(text.getvalue(), encoding="utf-8"))

    failed = run_each(wanted, "making twins", console, one)
    if not failed:
        _put(out / twins.SOURCE, {**about, "cases": len(rows)})
    return failed


def _begin(out: Path, about: dict[str, Any]) -> None:
    """Writes what twins are made of and how.

    Raises:
      InputError: `out` holds twins made otherwise.
    """
    path = out / twins.SOURCE
    if path.is_file():
        try:
            before = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise InputError(path, "is not readable JSON") from None
        changed = next((key for key in about if about[key] != before.get(key)), None)
        if changed:
            raise InputError(path, f"holds twins with {changed}={before.get(changed)!r}, not {about[changed]!r}")
    elif (out / twins.FOLDER).exists():
        raise InputError(out, f"holds a folder {twins.FOLDER} that was not written by this command")
    else:
        _put(path, about)


def _put(path: Path, about: dict[str, Any]) -> None:
    text = json.dumps(about, indent=1) + "\n"
    atomic_write(path, lambda to: to.write_text(text, encoding="utf-8"))


def _rows(path: Path) -> dict[str, list[str]]:
    """Case -> its row, of the cases that are written."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row[0]: row for row in list(csv.reader(file))[1:] if len(row) == len(COLUMNS)}


def _write_case(folder: Path, record: Record, chosen: Dataset, sequence: str, options: Options) -> list[str]:
    """Writes the files of one case and returns its row."""
    name = record.id
    found = twin(load(record, chosen, (sequence,), labelled=True), sequence, options)
    for end, label in (("hr_label", found.hr_label), ("lr_label", found.lr_label)):
        write_label(folder / f"{name}_{end}.nii.gz", label, {k: k for k in range(IGNORE + 1)})
    whole = np.ptp(found.hr.data) >= LEAST_LEVELS
    for end, image in (("hr", found.hr), ("lr", found.lr)):
        data = np.clip(np.rint(image.to_file()), -32768, 32767).astype(np.int16) if whole else image.to_file()
        write_array(folder / f"{name}_{end}.nii.gz", data, image.affine)
    held = [record.patient, record.group or "", record.phase or "", record.split or ""]
    return [name, *held, str(len(found.lr.data)), f"{100 * found.lost:.2f}"]


def twin(case: Case, sequence: str, options: Options) -> Twin:
    """Returns the twins of a case with a label on the grid of its image.

    Raises:
      InputError: the volume has less than one thick slice.
    """
    case = _boxed(case, options.size_mm)
    image, label = case.stack(case.images[sequence]), case.truth
    assert label is not None
    finer = replace(case, label=None, fine=Fine({sequence: image}, label))
    coarse_mm = (FINE_MM[0] * FACTOR, *FINE_MM[1:])
    size = tuple(max(1, round(n * s / mm)) for n, s, mm in zip(case.shape, case.spacing_mm, coarse_mm, strict=True))
    ready = prepare(finer, Grid(coarse_mm, size, (), target_scale=(FACTOR, 1, 1)), (sequence,))
    assert ready.fine is not None and ready.label is not None
    classes = np.unique(ready.label)
    masks = (ready.label[..., None] == classes).astype(np.float32)
    key = jax.random.fold_in(jax.random.key(options.seed), zlib.crc32(case.id.encode()))
    low = np.asarray(_degraded(key, jnp.concatenate([ready.fine, masks], -1), options))
    noisy = degrade.noise(
        jax.random.fold_in(key, 1), jnp.asarray(low[..., 0]), options.noise * float(low[..., 0].std())
    )
    low_label = classes[low[..., 1:].argmax(-1)].astype(np.uint8)
    scale = (FACTOR, 1, 1)
    return Twin(
        network_stack(np.asarray(noisy), case, ready.geometry),
        network_stack(ready.fine[..., 0], case, ready.geometry, scale),
        network_stack(low_label, case, ready.geometry),
        network_stack(ready.label, case, ready.geometry, scale),
        lost_share(label.data, ready.geometry, placements(case.grid, label)),
    )


def _degraded(key: jax.Array, fine: jax.Array, options: Options) -> jax.Array:
    low = degrade.thick(fine, options.sigma_mm, spacing_mm=FINE_MM, factor=FACTOR)
    moved = (options.misalign_mm, options.rotation_deg)
    return degrade.misalign(jax.random.fold_in(key, 0), low, *moved, spacing_mm=FINE_MM) if any(moved) else low


def _boxed(case: Case, size_mm: float) -> Case:
    """The case cut to whole thick slices, where most of the label lies, and in plane to `size_mm` about the label."""
    assert case.label is not None
    structures = (case.label != 0) & (case.label != IGNORE)
    thick_mm = FINE_MM[0] * FACTOR
    depth = case.shape[0] * case.spacing_mm[0]
    slices = int(depth / thick_mm + 1e-6)
    if not slices:
        raise InputError(case.source, f"is {depth:.3g} mm deep: a slice of {thick_mm:g} mm needs more")
    lengths_mm = (slices * thick_mm, size_mm or np.inf, size_mm or np.inf)
    start, size = [], []
    for axis, (pixels, mm, wanted_mm) in enumerate(zip(case.shape, case.spacing_mm, lengths_mm, strict=True)):
        kept = int(min(pixels, np.ceil(min(wanted_mm, pixels * mm) / mm - 1e-6)))
        counts = structures.sum(axis=tuple(k for k in range(3) if k != axis))
        start.append(_window(counts, kept))
        size.append(kept)
    images = {name: case.stack(data).part(start, size).data for name, data in case.images.items()}
    label = case.stack(case.label).part(start, size)
    return replace(case, images=images, label=label.data, affine=label.affine)


def _window(counts: np.ndarray, size: int) -> int:
    """First index of the window of `size` that holds most of `counts`; of equal ones, the middle one."""
    total = np.concatenate([[0], np.cumsum(counts)])
    held = total[size:] - total[: len(total) - size]
    best = np.flatnonzero(held == held.max())
    return int(best[len(best) // 2])


def _sequence(chosen: Dataset, records: Sequence[Record], asked: str) -> str:
    """The sequence to degrade: the one asked for, or the first of the first record.

    Raises:
      InputError: the data set has no such sequence, or its labels already lie on a finer grid.
    """
    if chosen.fine:
        raise InputError("--data.name", f"{chosen.name} already holds low-resolution images with finer labels")
    held = list(records[0].images)
    if asked and asked not in (*held, *chosen.sequences):
        raise InputError("--data.sequences", f"{chosen.name} has no sequence {asked!r}, only {', '.join(held)}")
    return asked or held[0]
