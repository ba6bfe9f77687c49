"""The pixels of one DICOM frame; their layout is checked against the file before any is read."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cardiac_jax.data.io import volume
from cardiac_jax.data.io.dicom import fields
from cardiac_jax.errors import InputError

MAX_PIXELS = 2**24  # of one frame
UNDEFINED = 0xFFFFFFFF  # length of an element that ends at a delimiter: encapsulated (compressed) pixels
DEFLATED = "1.2.840.10008.1.2.1.99"
DECODERS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
_PIXEL_DATA, _ITEM, _END = 0x7FE00010, 0xFFFEE000, 0xFFFEE0DD


class Layout(NamedTuple):
    """How a file stores its pixels.

    Attributes:
      rows, columns, frames: numbers of them.
      dtype: stored type with its byte order.
      bits: number of bits in use, the lowest ones.
      start: byte of the first pixel; None if the pixels are compressed.
    """

    rows: int
    columns: int
    frames: int
    dtype: np.dtype
    bits: int
    start: int | None


class Element(NamedTuple):
    """Place of the element PixelData: byte of its value, its declared length, its value representation."""

    start: int
    length: int
    vr: str


def element(head: bytes, at: int, little: bool) -> Element | None:
    """Return the element that starts at byte `at`, or None if it is not PixelData."""
    order = "little" if little else "big"
    group, number = (int.from_bytes(head[at + k : at + k + 2], order) for k in (0, 2))
    if len(head) < at + 12 or group << 16 | number != _PIXEL_DATA:
        return None
    vr = head[at + 4 : at + 6]
    if vr in (b"OB", b"OW", b"UN"):  # explicit: two reserved bytes, then a length of four
        return Element(at + 12, int.from_bytes(head[at + 8 : at + 12], order), vr.decode())
    return Element(at + 8, int.from_bytes(head[at + 4 : at + 8], order), "OW")


def layout(header: Any, place: Element, size: int, path: Path) -> Layout:
    """Return the layout that a header (pydicom's data set) declares.

    Args:
      place: where its pixels are.
      size: length of the file in bytes.

    Raises:
      InputError: pixels are not one unsigned or signed integer of 8, 16 or 32 bits in which larger is brighter, or the
        file does not hold exactly those that the header declares.
    """
    rows, columns, samples, allocated, bits, sign = (
        fields.whole(header, name, path)
        for name in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation")
    )
    frames = fields.whole(header, "NumberOfFrames", path, 1)
    if min(rows, columns, frames) < 1 or rows * columns > MAX_PIXELS:
        raise InputError(path, f"has an invalid header: {frames} frames of {rows} rows and {columns} columns")
    colour = str(header.get("PhotometricInterpretation", "")).strip()
    if samples != 1 or colour != "MONOCHROME2":
        shown = colour or "no PhotometricInterpretation"
        raise InputError(path, f"has {samples} samples per pixel and {shown}, expected one and MONOCHROME2")
    top = fields.whole(header, "HighBit", path, bits - 1)
    if allocated not in (8, 16, 32) or not 1 <= bits <= allocated or top != bits - 1 or sign not in (0, 1):
        text = f"{allocated} bits allocated, {bits} stored, high bit {top}, PixelRepresentation {sign}"
        raise InputError(path, f"has an invalid header: {text}")
    if header.get("ModalityLUTSequence"):
        raise InputError(path, "maps its values by a table (ModalityLUTSequence), which is not supported")
    little = header.original_encoding[1] is not False
    if allocated == 8 and not little and place.vr == "OW":
        raise InputError(path, "stores single bytes in big-endian words, which is not supported")
    dtype = np.dtype(f"{'<' if little else '>'}{'i' if sign else 'u'}{allocated // 8}")
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is not None and not syntax.is_transfer_syntax:
        raise InputError(path, f"has the unknown transfer syntax {syntax}")
    if syntax is not None and syntax.is_compressed:
        _encapsulated(place, size, path)
        _decodable(syntax, path)
        return Layout(rows, columns, frames, dtype, bits, None)
    expected = rows * columns * frames * dtype.itemsize
    if place.length not in (expected, expected + expected % 2):
        held = "no defined number of" if place.length == UNDEFINED else str(place.length)
        raise InputError(path, f"holds {held} bytes of PixelData, its header declares {expected}")
    if place.start + expected > size:
        held = max(size - place.start, 0)
        raise InputError(path, f"is truncated: the header declares {expected} bytes of pixels, the file holds {held}")
    return Layout(rows, columns, frames, dtype, bits, place.start)


def read(path: Path, layout: Layout, index: int) -> np.ndarray:
    """Return the stored values `[rows, columns]` of a frame, counted from 0.

    Raises:
      InputError: the file cannot be read or decoded, or a value has bits above those declared.
    """
    shape, dtype = (layout.rows, layout.columns), layout.dtype
    if layout.start is None:
        values = _decoded(path, index)
        if values.shape != shape or values.dtype.itemsize != dtype.itemsize:
            raise InputError(path, f"decodes to {values.shape} of {values.dtype}, its header declares {shape}")
    else:
        count = layout.rows * layout.columns * dtype.itemsize
        with volume.open_checked(path) as stream:
            stream.seek(layout.start + index * count)
            body = volume.take(stream, count, path)
        if len(body) < count:
            raise InputError(path, f"is truncated: frame {index + 1} has {len(body)} of {count} bytes")
        values = np.frombuffer(body, dtype).reshape(shape)
    values = values.astype(values.dtype.newbyteorder("="))
    low, high = (-(2 ** (layout.bits - 1)), 2 ** (layout.bits - 1)) if dtype.kind == "i" else (0, 2**layout.bits)
    if dtype.kind == "i" and values.min() >= 0:  # the sign may be left in the highest bit in use
        wide = values.astype(np.int64)
        values = np.where(wide >= high, wide - 2 * high, wide).astype(values.dtype)
    if values.min() < low or values.max() >= high:
        raise InputError(path, f"has values {values.min()} to {values.max()}, more than the {layout.bits} bits stored")
    return values


def _encapsulated(place: Element, size: int, path: Path) -> None:
    """Check that the items of compressed pixels follow each other up to their delimiter."""
    if place.length != UNDEFINED:
        raise InputError(path, "has a compressed transfer syntax, but its PixelData is not encapsulated")
    at = place.start
    with volume.open_checked(path) as stream:
        while at + 8 <= size:
            stream.seek(at)
            head = volume.take(stream, 8, path)
            tag = int.from_bytes(head[:2], "little") << 16 | int.from_bytes(head[2:4], "little")
            if tag == _END:
                return
            if tag != _ITEM:
                raise InputError(path, f"has damaged compressed pixels (no item at byte {at})")
            at += 8 + int.from_bytes(head[4:], "little")
    raise InputError(path, "is truncated: its compressed pixels do not end")


def _decodable(syntax: Any, path: Path) -> None:
    from pydicom.pixels.decoders.base import get_decoder

    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise InputError(path, f"is compressed ({syntax.name}), which needs a decoder: {DECODERS}")


def _decoded(path: Path, index: int) -> np.ndarray:
    from pydicom.pixels.utils import pixel_array

    try:
        return pixel_array(path, index=index, raw=True)
    except Exception as error:  # each decoder raises errors of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(path, f"has compressed pixels that cannot be decoded ({reason})") from error
