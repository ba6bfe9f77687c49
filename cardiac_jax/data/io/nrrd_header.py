"""What the header of an NRRD file means; pynrrd parses it.

A missing space field means LPS, as in ITK. Axes that are not of space (`kinds`, direction `none`): one of length 1 is
dropped, frames become the last axis, and layers of segments or components of a voxel are refused. Without
`space directions` the `spacings` are used, and position and directions are unknown (`Volume.placed`).
"""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import nrrd
import numpy as np

from cardiac_jax.data.io import geometry, volume
from cardiac_jax.errors import InputError

_TO_RAS = {
    "right-anterior-superior": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
}
_TO_RAS |= {"".join(word[0] for word in name.split("-")): signs for name, signs in _TO_RAS.items()}
_DTYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), "i8"),
    **dict.fromkeys(("int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_SPACE_KINDS = ("domain", "space", "none", "???")
_COMPONENTS = ("vector", "color", "complex", "point", "normal", "gradient", "quaternion", "matrix")
_SOURCES = ("space directions", "spacings")
_MAX_HEADER = 2**19  # bytes; pynrrd takes a second for 1 MiB of quoted text

Fields = Mapping[str, Any]


class Layout(NamedTuple):
    """How the voxels are stored.

    Attributes:
      sizes: of the axes that are kept, fastest first.
      space, frames: which of them are X, Y, Z, and which is T (at most one).
      of_space: which axes of the header X, Y, Z are.
    """

    sizes: tuple[int, ...]
    dtype: np.dtype
    space: list[int]
    frames: list[int]
    of_space: list[int]


class Located(NamedTuple):
    """Affine in RAS mm, the fields that write it again, notes, and whether position and directions are told."""

    affine: np.ndarray
    fields: dict[str, Any]
    notes: tuple[str, ...]
    placed: bool


def parse(stream: BinaryIO | gzip.GzipFile, path: Path) -> dict[str, Any]:
    """Returns the fields by name; `stream` then stands at the first byte of data.

    Raises:
      InputError: the header is not NRRD, or says of its voxels what is not supported.
    """
    lines = _lines(stream, path)
    try:
        with np.errstate(all="ignore"):
            fields = dict(nrrd.read_header(lines))
            fields["sizes"] = tuple(int(n) for n in fields["sizes"])
    except Exception as error:  # pynrrd does not check what it parses: it raises whatever it meets
        raise InputError(path, f"has a header that is not NRRD ({type(error).__name__}: {error})") from error
    for name in ("type", "encoding"):
        if name not in fields:
            raise InputError(path, f"has a header that is not NRRD (no field {name!r})")
    if {"data file", "datafile"} & fields.keys():
        raise InputError(path, "stores its voxels in another file, expected attached data")
    if fields["encoding"] not in ("raw", "gzip", "gz"):
        raise InputError(path, f"has encoding {fields['encoding']!r}, expected raw or gzip")
    if any(fields.get(name) for name in ("byte skip", "byteskip", "line skip", "lineskip")):
        raise InputError(path, "skips bytes or lines before its voxels, which is not supported")
    return fields


def layout(fields: Fields, path: Path) -> Layout:
    """Returns the layout of the voxels.

    Raises:
      InputError: the type is not one of real numbers, the axes are not those of one volume, or a size is invalid.
    """
    kind, sizes = fields["type"], fields["sizes"]
    if kind not in _DTYPES:
        raise InputError(path, f"has voxels of type {kind!r}, expected real numbers")
    dtype = np.dtype((">" if fields.get("endian") == "big" else "<") + _DTYPES[kind])
    if dtype.itemsize > 1 and fields.get("endian") not in ("big", "little"):
        raise InputError(path, f"has a header that is not NRRD (no endian for voxels of type {kind!r})")
    if fields.get("dimension", len(sizes)) != len(sizes):
        raise InputError(path, f"tells two numbers of axes: {fields['dimension']} by dimension, {len(sizes)} by sizes")
    kinds = [str(kind).lower() for kind in fields.get("kinds", ())]
    kinds += ["domain"] * (len(sizes) - len(kinds))
    directions = fields.get("space directions")
    if directions is not None and len(directions) == len(sizes):
        of_space = [k for k, row in enumerate(directions) if np.isfinite(row).any()]
    else:
        of_space = [k for k in range(len(sizes)) if kinds[k] in _SPACE_KINDS][:3]
    others = [k for k in range(len(sizes)) if k not in of_space and sizes[k] != 1]
    shown = " x ".join(map(str, sizes))
    if len(others) == 1 and is_segmentation(fields):
        raise InputError(
            path,
            f"holds {sizes[others[0]]} layers of overlapping segments (3D Slicer, {shown}), expected one label map: "
            "export the segments as one labelmap",
        )
    if others and any(word in kinds[others[0]] for word in _COMPONENTS):
        raise InputError(path, f"has {sizes[others[0]]} components a voxel ({kinds[others[0]]}), expected one")
    if len(of_space) > 3 or len(others) > 1:
        raise InputError(path, f"is {len(sizes)}D ({shown}), expected one 3D volume")
    volume.checked_shape(tuple(sizes[k] for k in (*of_space, *others)), path)
    kept = [k for k in range(len(sizes)) if k in of_space or k in others]
    space, frames = ([kept.index(k) for k in axes] for axes in (of_space, others))
    return Layout(tuple(sizes[k] for k in kept), dtype, space, frames, of_space)


def geometry_of(fields: Fields, held: Layout, path: Path) -> Located:
    """Returns where the voxels lie.

    Raises:
      InputError: the space or its units are unknown, no voxel size is told, or two statements differ (`geometry.py`).
    """
    space = str(fields.get("space", "left-posterior-superior")).lower()
    if space not in _TO_RAS:
        raise InputError(path, f"has space {space!r}, expected one of {', '.join(sorted(_TO_RAS))}")
    to_ras = np.diag([*_TO_RAS[space], 1.0])
    unit_mm = _unit_mm(fields, path)
    rows, edges = (_of_axes(fields[name], fields, held, path) if name in fields else None for name in _SOURCES)
    origin = np.asarray(fields.get("space origin", np.zeros(3)), np.float64)
    own = np.diag([0.0, 0.0, 0.0, 1.0])  # an axis that the file lacks has length 1: `with_thickness`
    if rows is not None:
        if rows.ndim != 2 or rows.shape[1] > 3 or origin.ndim != 1 or len(origin) > 3:
            raise InputError(path, "has directions that are not in a space of three dimensions")
        own[: rows.shape[1], : len(rows)] = rows.T
        own[: len(origin), 3] = origin
    elif edges is not None:
        own[range(len(edges)), range(len(edges))] = edges
    else:
        raise InputError(path, "has neither space directions nor spacings, so its voxel size is unknown")
    own[:3] *= unit_mm
    shape = (*(held.sizes[k] for k in held.space), 1, 1)[:3]
    beside = {} if rows is None or edges is None else {"spacings": unit_mm * np.pad(edges, (0, 3 - len(edges)))}
    affine = geometry.checked({_SOURCES[0]: to_ras @ own}, beside, shape, path)
    notes = geometry.notes(
        affine,
        directions="no space directions" if rows is None else "",
        assumed=geometry.with_thickness(own, shape)[1],
    )
    if rows is None:
        return Located(affine, {"spacings": np.linalg.norm(affine[:3, :3], axis=0)}, notes, False)
    placed = "space origin" in fields
    notes += () if placed else ("tells no space origin: 0 is taken",)
    again = to_ras @ affine  # signs are their own inverse
    written = {"space": space, "space directions": again[:3, :3].T, "space origin": again[:3, 3]}
    return Located(affine, written, notes, placed)


def is_segmentation(fields: Fields) -> bool:
    """Returns whether a header has fields of a segmentation of 3D Slicer."""
    return any(name.startswith(("Segment0_", "Segmentation_")) for name in fields)


def _lines(stream: BinaryIO | gzip.GzipFile, path: Path) -> list[str]:
    """Header lines up to the blank line; `stream` then stands at the first byte of data."""
    if volume.take(stream, 4, path) != b"NRRD":
        raise InputError(path, "is not NRRD")
    lines, length = ["NRRD"], 0
    while line := volume.take_line(stream, _MAX_HEADER, path):
        length += len(line)
        lines.append(line.decode("ascii", "replace").rstrip("\r\n"))
        if not lines[-1]:
            break
        if length > _MAX_HEADER:
            raise InputError(path, "has an invalid header (it does not end)")
    return [lines[0] + lines[1], *lines[2:]] if len(lines) > 1 else lines


def _of_axes(given: Any, fields: Fields, held: Layout, path: Path) -> np.ndarray:
    """The rows of `given`, one for each axis of the header, of the axes of space."""
    values, rank = np.asarray(given, np.float64), len(fields["sizes"])
    if len(values) != rank:
        raise InputError(
            path, f"has a header that is not NRRD (directions or spacings of {len(values)} of {rank} axes)"
        )
    return values[held.of_space]


def _unit_mm(fields: Fields, path: Path) -> float:
    """Millimetres in a unit of the space; unknown units count as mm."""
    units = {str(unit).strip().lower() for unit in fields.get("space units", ())} - {""}
    scales = {geometry.UNIT_MM.get(unit, 1.0) for unit in units} or {1.0}
    if len(scales) > 1:
        raise InputError(path, f"has axes of different space units ({', '.join(sorted(units))})")
    return scales.pop()
