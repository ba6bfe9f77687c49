"""Reader and encoder of MetaImage (.mha with attached voxels, .mhd with voxels in a file beside it), without ITK.

Voxels are raw or compressed by zlib.
"""

import gzip
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cardiac_jax.data.io import geometry, volume
from cardiac_jax.data.io.volume import Volume
from cardiac_jax.errors import InputError

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_GEOMETRY = ("TransformMatrix", "Offset", "ElementSpacing")
_OTHER_NAMES = {
    "TransformMatrix": ("Orientation", "Rotation"),
    "Offset": ("Origin", "Position"),
    "ElementSpacing": ("ElementSize",),
}
_MAX_HEADER = 2**16
_MAX_NAME = 255  # bytes of a file name


def read(path: Path) -> Volume:
    """Read `[X, Y, Z]` or `[X, Y, Z, T]`; the file's LPS coordinates (as written by ITK) become RAS.

    Raises:
      InputError: the file is not MetaImage, is damaged, contradicts itself (`geometry.py`), has several channels, or
        its voxels are in several files, in another folder, or after a header of their own.
    """
    with volume.open_checked(path) as stream:
        fields = _fields(stream, path)
        try:
            dims = tuple(int(n) for n in fields["DimSize"].split())
            big = _true(fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")))
            dtype = np.dtype((">" if big else "<") + _TYPES[fields["ElementType"]])
            told = int(fields.get("NDims", len(dims)))
            with np.errstate(all="ignore"):
                affine = _affine(fields, len(dims))
        except (KeyError, ValueError, OverflowError) as error:
            raise InputError(path, f"has an invalid header ({type(error).__name__}: {error})") from error
        if told != len(dims):
            raise InputError(path, f"tells two numbers of axes: {told} by NDims, {len(dims)} by DimSize")
        shape = volume.checked_shape(dims, path)
        located = geometry.checked({"ElementSpacing": affine}, {}, shape, path)
        detached = _detached(fields, path)
        if detached is None:
            data = _voxels(stream, fields, shape, dtype, path)
        else:
            with volume.open_checked(detached, gunzip=False) as apart:
                data = _voxels(apart, fields, shape, dtype, detached)
    placed = "TransformMatrix" in fields and "Offset" in fields
    missing = "" if "TransformMatrix" in fields else "no TransformMatrix"
    notes = geometry.notes(located, directions=missing, assumed=geometry.with_thickness(affine, shape)[1])
    if not placed and not missing:
        notes += ("tells no Offset: 0 is taken",)
    again = header_for(located)
    header = fields if len(dims) == 3 else {key: again[key] for key in _GEOMETRY if key in fields}
    return Volume(data, located, header, notes, placed)


def detached(path: Path) -> Path | None:
    """Return the file that holds the voxels of a header; None if they are attached.

    Raises:
      InputError: as `read`, for the header.
    """
    with volume.open_checked(path) as stream:
        return _detached(_fields(stream, path), path)


def _detached(fields: Mapping[str, str], path: Path) -> Path | None:
    name = fields["ElementDataFile"]
    if name == "LOCAL":
        return None
    if name.split()[:1] == ["LIST"] or "%" in name:
        raise InputError(path, f"stores its voxels in several files (ElementDataFile = {name[:80]}), expected one")
    if not name or Path(name).name != name or "\\" in name or not name.isprintable() or len(name.encode()) > _MAX_NAME:
        raise InputError(path, f"stores its voxels in {name[:80] or 'no file'}, expected a file in its own folder")
    if fields.get("HeaderSize", "0") != "0":
        raise InputError(path, f"has HeaderSize = {fields['HeaderSize']}, expected none before the voxels in {name}")
    return path.with_name(name)


def _voxels(
    stream: BinaryIO | gzip.GzipFile, fields: Mapping[str, str], shape: tuple[int, ...], dtype: np.dtype, path: Path
) -> np.ndarray:
    """The voxels that follow in `stream`, the file `path`."""
    if not _true(fields.get("CompressedData", "False")):
        return volume.voxels(stream, shape, dtype, path)
    declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
    packed = volume.take(stream, declared + declared // 1000 + volume.MAX_TRAILING, path)
    try:
        inflated = zlib.decompressobj().decompress(packed, declared + volume.MAX_TRAILING + 1)
    except zlib.error as error:
        raise InputError(path, f"has a damaged zlib stream ({error})") from error
    return volume.voxels(BytesIO(inflated), shape, dtype, path)


def _fields(stream: BinaryIO | gzip.GzipFile, path: Path) -> dict[str, str]:
    """Fields by name, geometry under the names of `_GEOMETRY`; `stream` then stands at the first voxel."""
    fields: dict[str, str] = {}
    length = 0
    while "ElementDataFile" not in fields:
        line = volume.take_line(stream, _MAX_HEADER, path)
        length += len(line)
        key, equals, value = line.decode("utf-8", "replace").partition("=")
        if not equals or length > _MAX_HEADER:
            raise InputError(path, "has a header that is not MetaImage")
        fields[key.strip()] = value.strip()
    for name, others in _OTHER_NAMES.items():
        found = next((other for other in others if other in fields), None)
        if name not in fields and found is not None:
            fields[name] = fields[found]
    if fields.get("ElementNumberOfChannels", "1") != "1":
        raise InputError(path, "has several channels per voxel, expected one")
    if not _true(fields.get("BinaryData", "True")):
        raise InputError(path, "stores its voxels as text, expected BinaryData = True")
    if "ElementSpacing" not in fields:
        raise InputError(path, "has no ElementSpacing, so its voxel size is unknown")
    return fields


def _true(value: str) -> bool:
    return value[:1] in ("T", "t", "1")


def header_for(affine: np.ndarray) -> dict[str, str]:
    """Return the geometry fields (LPS) of a new header for `affine` `[4, 4]` (RAS mm)."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    values = ((lps[:3, :3] / spacing).T.ravel(), lps[:3, 3], spacing)
    return {key: " ".join(repr(float(v)) for v in value) for key, value in zip(_GEOMETRY, values, strict=True)}


def encode(data: np.ndarray, header: Mapping[str, str]) -> bytes:
    """Return the file bytes of `data` `[X, Y, Z]`, compressed with zlib, with the geometry fields of `header`."""
    body = zlib.compress(_stored(data))
    return _header(data, header, {"CompressedData": "True", "CompressedDataSize": str(len(body))}, "LOCAL") + body


def encode_pair(data: np.ndarray, header: Mapping[str, str], name: str) -> tuple[bytes, bytes]:
    """Return the bytes of a header and those of the voxels of `data` `[X, Y, Z]`, raw, for a file called `name`."""
    return _header(data, header, {"CompressedData": "False"}, name), _stored(data)


def _stored(data: np.ndarray) -> bytes:
    return np.asarray(data, data.dtype.newbyteorder("<")).tobytes(order="F")


def _header(data: np.ndarray, header: Mapping[str, str], packing: Mapping[str, str], name: str) -> bytes:
    kind = next(key for key, code in _TYPES.items() if np.dtype(code) == data.dtype)
    fields = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False", **packing}
    fields |= {key: header[key] for key in _GEOMETRY if key in header}
    fields |= {"DimSize": " ".join(map(str, data.shape)), "ElementType": kind, "ElementDataFile": name}
    return "".join(f"{key} = {value}\n" for key, value in fields.items()).encode("utf-8")


def _affine(fields: Mapping[str, str], rank: int) -> np.ndarray:
    """RAS affine; an axis that the file lacks gets a column of zeros, and time none."""
    n = min(rank, 3)
    numbers = {key: np.array(fields[key].split(), np.float64) for key in _GEOMETRY if key in fields}
    matrix, spacing, origin = np.eye(3), np.zeros(3), np.zeros(3)
    if "TransformMatrix" in numbers:
        matrix[:n, :n] = numbers["TransformMatrix"].reshape(rank, rank)[:n, :n].T
    for name, row in (("ElementSpacing", spacing), ("Offset", origin)):
        if name in numbers:
            row[:n] = numbers[name].reshape(rank)[:n]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix * spacing, origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
