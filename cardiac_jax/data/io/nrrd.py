"""Reader and encoder of NRRD with attached data, raw or gzip.

pynrrd parses the header. No more voxels are read than the header declares.
"""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import nrrd
import numpy as np

from cardiac_jax.data.io import volume
from cardiac_jax.data.io.volume import Volume
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
    "float": "f4",
    "double": "f8",
}
_TYPES = {"uint8": "uchar", "int16": "short", "uint16": "ushort", "int32": "int", "float32": "float"}


def read(path: Path) -> Volume:
    """Read `[X, Y, Z]` or `[X, Y, Z, T]`; the affine is in RAS mm. A missing space field means LPS, as in ITK.

    Raises:
      InputError: the file is not NRRD, is damaged, has detached voxels, or has an unsupported encoding or space.
    """
    with volume.open_checked(path) as stream:
        try:
            header = nrrd.read_header(_lines(stream, path))
            shape = volume.checked_shape(tuple(int(n) for n in header["sizes"]), path)
            dtype = _dtype(header)
            affine = _affine(header, path)
        except (nrrd.NRRDError, ValueError, KeyError, OverflowError) as error:
            raise InputError(path, f"has a header that is not NRRD ({error})") from error
        if {"data file", "datafile"} & header.keys():
            raise InputError(path, "stores its voxels in another file, expected attached data")
        if header["encoding"] in ("gzip", "gz"):
            with gzip.GzipFile(fileobj=stream) as inner:
                data = volume.voxels(inner, shape, dtype, path)
        elif header["encoding"] == "raw":
            data = volume.voxels(stream, shape, dtype, path)
        else:
            raise InputError(path, f"has encoding {header['encoding']!r}, expected raw or gzip")
    return Volume(data, volume.checked_affine(affine, path), header)


def header_for(affine: np.ndarray) -> dict[str, Any]:
    """Return the geometry fields (LPS) of a new header for `affine` `[4, 4]` (RAS mm)."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return {"space": "left-posterior-superior", "space directions": lps[:3, :3].T, "space origin": lps[:3, 3]}


def encode(data: np.ndarray, header: Mapping[str, Any]) -> bytes:
    """Return the file bytes of `data` `[X, Y, Z]`, compressed with gzip, with the geometry fields of `header`."""
    fields = {
        "type": _TYPES[data.dtype.name],
        "dimension": "3",
        "space": header.get("space", "left-posterior-superior"),
        "sizes": " ".join(map(str, data.shape)),
        "space directions": " ".join(_vector(row) for row in header["space directions"]),
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "gzip",
        "space origin": _vector(header.get("space origin", np.zeros(3))),
    }
    text = "NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in fields.items()) + "\n"
    body = np.asarray(data, data.dtype.newbyteorder("<")).tobytes(order="F")
    return text.encode("ascii") + gzip.compress(body, 6, mtime=0)


def _lines(stream: BinaryIO | gzip.GzipFile, path: Path) -> list[str]:
    """Header lines up to the blank line; `stream` then stands at the first byte of data."""
    if stream.read(4) != b"NRRD":
        raise InputError(path, "is not NRRD")
    lines, length = ["NRRD"], 0
    while line := stream.readline(volume.MAX_HEADER):
        length += len(line)
        lines.append(line.decode("ascii", "replace").rstrip("\r\n"))
        if not lines[-1]:
            break
        if length > volume.MAX_HEADER:
            raise InputError(path, "has an invalid header (it does not end)")
    return [lines[0] + lines[1], *lines[2:]] if len(lines) > 1 else lines


def _dtype(header: Mapping[str, Any]) -> np.dtype:
    if header["type"] not in _DTYPES:
        raise ValueError(f"voxel type {header['type']!r}")
    return np.dtype((">" if header.get("endian") == "big" else "<") + _DTYPES[header["type"]])


def _affine(header: Mapping[str, Any], path: Path) -> np.ndarray:
    if "space directions" not in header:
        raise InputError(path, "has no space directions, so its voxel size is unknown")
    space = str(header.get("space", "left-posterior-superior")).lower()
    if space not in _TO_RAS:
        raise InputError(path, f"has space {space!r}, expected one of {', '.join(sorted(_TO_RAS))}")
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(header["space directions"], np.float64)[:3].T
    affine[:3, 3] = header.get("space origin", np.zeros(3))
    return np.diag([*_TO_RAS[space], 1.0]) @ affine


def _vector(values: np.ndarray) -> str:
    return "(" + ",".join(repr(float(v)) for v in values) + ")"
