"""Reader and encoder of NRRD with attached data, raw or gzip, also of segmentations of 3D Slicer (.seg.nrrd).

No more voxels are read than the header declares. `nrrd_header.py` says what the header means.
"""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cardiac_jax.data.io import nrrd_header, volume
from cardiac_jax.data.io.volume import Volume

_TYPES = {
    "int8": "int8", "uint8": "uchar", "int16": "short", "uint16": "ushort", "int32": "int", "uint32": "uint",
    "int64": "int64", "uint64": "uint64", "float32": "float", "float64": "double",
}  # fmt: skip


def read(path: Path) -> Volume:
    """Read `[X, Y, Z]` or `[X, Y, Z, T]`; the affine is in RAS mm.

    Raises:
      InputError: the file is not NRRD, is damaged, has detached voxels, an unsupported encoding or space, layers or
        components, or contradicts itself (`geometry.py`).
    """
    with volume.open_checked(path) as stream:
        fields = nrrd_header.parse(stream, path)
        layout = nrrd_header.layout(fields, path)
        located = nrrd_header.geometry_of(fields, layout, path)
        if fields["encoding"] in ("gzip", "gz"):
            with gzip.GzipFile(fileobj=stream) as inner:
                data = volume.voxels(inner, layout.sizes, layout.dtype, path)
        else:
            data = volume.voxels(stream, layout.sizes, layout.dtype, path)
    data = np.expand_dims(data.transpose(*layout.space, *layout.frames), tuple(range(len(layout.space), 3)))
    cropped = nrrd_header.is_segmentation(fields) or path.name.lower().endswith(".seg.nrrd")
    return Volume(data, located.affine, {**fields, **located.fields}, located.notes, located.placed, cropped)


def header_for(affine: np.ndarray) -> dict[str, Any]:
    """Return the geometry fields (LPS) of a new header for `affine` `[4, 4]` (RAS mm)."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return {"space": "left-posterior-superior", "space directions": lps[:3, :3].T, "space origin": lps[:3, 3]}


def encode(data: np.ndarray, header: Mapping[str, Any]) -> bytes:
    """Return the file bytes of `data` `[X, Y, Z]`, compressed with gzip, with the geometry fields of `header`."""
    fields = {"type": _TYPES[data.dtype.name], "dimension": "3"}
    if "space directions" in header:
        fields |= {
            "space": header.get("space", "left-posterior-superior"),
            "space directions": " ".join(_vector(row) for row in header["space directions"]),
            "space origin": _vector(header.get("space origin", np.zeros(3))),
        }
    else:
        fields["spacings"] = " ".join(repr(float(edge)) for edge in header["spacings"])
    fields |= {"sizes": " ".join(map(str, data.shape)), "kinds": "domain domain domain"}
    fields |= {"endian": "little", "encoding": "gzip"}
    text = "NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in fields.items()) + "\n"
    body = np.asarray(data, data.dtype.newbyteorder("<")).tobytes(order="F")
    return text.encode("ascii") + gzip.compress(body, 6, mtime=0)


def _vector(values: np.ndarray) -> str:
    return "(" + ",".join(repr(float(v)) for v in values) + ")"
