"""Frames of 4D files: how many a file has, told from its header alone, and one of them.

A file `[X, Y, 1, N]` has frames only if its header says that the last axis is time; it may be N slices as well.
"""

import re
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np

from cardiac_jax.data.io import volume
from cardiac_jax.data.io.volume import METAIMAGE, NIFTI, SUFFIXES, Volume
from cardiac_jax.errors import InputError

_PART = re.compile(r"frame(\d+)$")


def count(path: Path) -> int:
    """Return the number of frames of a 4D file; 1 of every other file, also of one that cannot be read."""
    kind = SUFFIXES.get(volume.suffix(path) or "")
    try:
        sizes = _nifti(path) if kind == NIFTI else _metaimage(path) if kind == METAIMAGE else _nrrd(path)
    except Exception:  # whatever is wrong with the file, reading it says so
        return 1
    return sizes[3] if len(sizes) == 4 and min(sizes) > 0 else 1


def name(number: int, total: int) -> str:
    """Return the part of frame `number`, from 1, of `total`: "frame03"."""
    return f"frame{number:0{max(2, len(str(total)))}d}"


def frame(held: Volume, part: str, path: Path) -> Volume:
    """Return one frame `[X, Y, Z]` of a volume `[X, Y, Z, T]`.

    Raises:
      InputError: there is no such frame.
    """
    match = _PART.match(part)
    frames = held.data if held.data.ndim == 4 else held.data[..., None]
    if match is None or not 1 <= int(match[1]) <= frames.shape[3]:
        raise InputError(path, f"holds frame01 to {name(frames.shape[3], frames.shape[3])}, not {part!r}")
    return held._replace(data=frames[..., int(match[1]) - 1])


def _nifti(path: Path) -> tuple[int, ...]:
    with volume.open_checked(path) as stream:
        head = volume.take(stream, 540, path)
    small = 348 in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
    header = nib.Nifti1Header(head[:348], check=False) if small else nib.Nifti2Header(head, check=False)
    return _certain(tuple(int(n) for n in header.get_data_shape()), header.get_xyzt_units()[1] != "unknown")


def _nrrd(path: Path) -> tuple[int, ...]:
    """Sizes with frames last, wherever the header has them; () if four axes are of space, as ITK writes them."""
    header = nrrd.read_header(str(path))
    sizes = [int(n) for n in header["sizes"]]
    directions = header.get("space directions")
    of_time: list[int] = []
    if directions is not None and len(sizes) == 4:
        of_time = [k for k, row in enumerate(directions) if not np.isfinite(np.asarray(row, float)).all()]
        if not of_time:
            return ()
        sizes.append(sizes.pop(of_time[0]))
    return _certain(tuple(sizes), bool(of_time))


def _metaimage(path: Path) -> tuple[int, ...]:
    with volume.open_checked(path) as stream:
        head = volume.take(stream, 2**14, path)
    line = re.search(rb"^DimSize *= *([0-9 ]+)", head.partition(b"ElementDataFile")[0], re.MULTILINE)
    return _certain(tuple(int(n) for n in line[1].split()) if line else (), False)


def _certain(sizes: tuple[int, ...], timed: bool) -> tuple[int, ...]:
    """Sizes without trailing ones; () if the last axis may be slices."""
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes = sizes[:-1]
    return () if len(sizes) == 4 and sizes[2] == 1 and not timed else sizes
