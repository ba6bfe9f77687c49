"""Reader and encoder of MetaImage (.mha with attached data, raw or zlib), without ITK."""

import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from cardiac_jax.data.io import volume
from cardiac_jax.data.io.volume import Volume
from cardiac_jax.errors import InputError

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_GEOMETRY = ("TransformMatrix", "Offset", "ElementSpacing")


def read(path: Path) -> Volume:
    """Read `[X, Y, Z]` or `[X, Y, Z, T]`; the file's LPS coordinates (as written by ITK) become RAS.

    Raises:
      InputError: the file is not MetaImage, is damaged, or has detached voxels or several channels.
    """
    with volume.open_checked(path) as stream:
        fields: dict[str, str] = {}
        while "ElementDataFile" not in fields:
            line = stream.readline(2**16)
            key, equals, value = line.decode("ascii", "replace").partition("=")
            if not equals or len(fields) > 1000:
                raise InputError(path, "has a header that is not MetaImage")
            fields[key.strip()] = value.strip()
        if fields["ElementDataFile"] != "LOCAL":
            raise InputError(path, "stores its voxels in another file, expected ElementDataFile = LOCAL")
        if fields.get("ElementNumberOfChannels", "1") != "1":
            raise InputError(path, "has several channels per voxel, expected one")
        try:
            shape = volume.checked_shape(tuple(int(n) for n in fields["DimSize"].split()), path)
            big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")) == "True"
            dtype = np.dtype((">" if big else "<") + _TYPES[fields["ElementType"]])
            affine = _affine(fields)
        except (KeyError, ValueError) as error:
            raise InputError(path, f"has an invalid header ({error})") from error
        if fields.get("CompressedData", "False") == "True":
            limit = int(np.prod(shape, dtype=object)) * dtype.itemsize + volume.MAX_TRAILING + 1
            try:
                inflated = zlib.decompressobj().decompress(stream.read(), limit)
            except zlib.error as error:
                raise InputError(path, f"has a damaged zlib stream ({error})") from error
            data = volume.voxels(BytesIO(inflated), shape, dtype, path)
        else:
            data = volume.voxels(stream, shape, dtype, path)
    return Volume(data, volume.checked_affine(affine, path), fields)


def header_for(affine: np.ndarray) -> dict[str, str]:
    """Return the geometry fields (LPS) of a new header for `affine` `[4, 4]` (RAS mm)."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    values = ((lps[:3, :3] / spacing).T.ravel(), lps[:3, 3], spacing)
    return {key: " ".join(repr(float(v)) for v in value) for key, value in zip(_GEOMETRY, values, strict=True)}


def encode(data: np.ndarray, header: Mapping[str, str]) -> bytes:
    """Return the file bytes of `data` `[X, Y, Z]`, compressed with zlib, with the geometry fields of `header`."""
    body = zlib.compress(np.asarray(data, data.dtype.newbyteorder("<")).tobytes(order="F"))
    name = next(key for key, code in _TYPES.items() if np.dtype(code) == data.dtype)
    fields = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False"}
    fields |= {"CompressedData": "True", "CompressedDataSize": str(len(body))}
    fields |= {key: header[key] for key in _GEOMETRY if key in header}
    fields |= {"DimSize": " ".join(map(str, data.shape)), "ElementType": name, "ElementDataFile": "LOCAL"}
    return "".join(f"{key} = {value}\n" for key, value in fields.items()).encode("ascii") + body


def _affine(fields: Mapping[str, str]) -> np.ndarray:
    """RAS affine; files with fewer than three dimensions get unit axes for the missing ones."""
    rank = len(fields["DimSize"].split())
    n = min(rank, 3)
    numbers = {key: np.array(fields[key].split(), np.float64) for key in _GEOMETRY if key in fields}
    matrix, spacing, origin = np.eye(3), np.ones(3), np.zeros(3)
    if "TransformMatrix" in numbers:
        matrix[:n, :n] = numbers["TransformMatrix"].reshape(rank, rank)[:n, :n].T
    spacing[:n] = numbers.get("ElementSpacing", np.ones(rank))[:n]
    origin[:n] = numbers.get("Offset", np.zeros(rank))[:n]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix * spacing, origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
