"""The header of one DICOM file: its frames with their geometry and times, classic or enhanced multi-frame.

Every frame is checked for itself here; how frames belong together is decided in `series.py` and `survey.py`.
"""

import logging
import warnings
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cardiac_jax.data.io import volume
from cardiac_jax.data.io.dicom import fields, pixels
from cardiac_jax.errors import InputError

MR, CT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"
IMAGES = {MR, f"{MR}.1", f"{MR}.4", CT, f"{CT}.1", f"{CT}.2"}  # single frames, enhanced, converted to enhanced
DICOMDIR = "1.2.840.10008.1.3.10"
SOP_CLASS = ("SOPClassUID", "MediaStorageSOPClassUID")  # in the data set, in the file meta information
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Secondary capture: an image if it has a position."""
TIMES = (
    ("TriggerTime", "NominalCardiacTriggerDelayTime"),
    ("TemporalPositionIdentifier", "TemporalPositionIndex"),
    ("AcquisitionTime", "FrameAcquisitionDateTime"),
    ("InstanceNumber",),
)
"""What orders the phases of a cine, the best first; the second name is that of enhanced files."""
_KEYWORDS = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID",
    "SeriesNumber", "CardiacNumberOfImages", "ImageType", "EchoNumbers", "Rows", "Columns", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames",
    "ModalityLUTSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    *(name for names in TIMES for name in names), *fields.GROUPS,
]  # fmt: skip


class Image(NamedTuple):
    """What a file says of all its frames.

    Attributes:
      uid: SOPInstanceUID, unique in the world.
      study: patient and study.
      series: SeriesInstanceUID; `number` is its name for people.
      phases: number of phases that were acquired; None where not given.
      reference: FrameOfReferenceUID; positions of different ones cannot be compared.
    """

    path: Path
    uid: str
    study: tuple[str, str]
    series: str
    number: int | None
    phases: int | None
    reference: str
    layout: pixels.Layout


class Frame(NamedTuple):
    """One slice at one time.

    Attributes:
      index: number within its file, from 0.
      position: `[3]` centre of the first pixel, LPS mm.
      axes: `[2, 3]` unit vectors along a row (towards the next column) and along a column, LPS.
      spacing_mm: distance of columns, of rows.
      thickness_mm, distance_mm: SliceThickness, SpacingBetweenSlices; None where not given.
      slope, intercept: stored values -> intensities; None where not given.
      kind: words that distinguish images of one place and time: image type, echo.
      times: by `TIMES`; None where not given.
    """

    image: Image
    index: int
    position: np.ndarray
    axes: np.ndarray
    spacing_mm: tuple[float, float]
    thickness_mm: float | None
    distance_mm: float | None
    slope: float | None
    intercept: float | None
    kind: tuple[str, ...]
    times: tuple[float | None, ...]

    @property
    def path(self) -> Path:
        return self.image.path

    @property
    def name(self) -> str:
        """File name, with the frame's number if the file has several."""
        return self.path.name + (f" frame {self.index + 1}" if self.image.layout.frames > 1 else "")

    @property
    def normal(self) -> np.ndarray:
        """`[3]` unit vector across the slice, LPS."""
        return np.cross(self.axes[0], self.axes[1])

    @property
    def height_mm(self) -> float:
        """Position along the normal."""
        return float(self.position @ self.normal)


def is_dicom(path: Path) -> bool:
    """Return whether a file starts like DICOM: the magic string at byte 128, or an element of the first groups."""
    with path.open("rb") as stream:
        head = stream.read(132)
    if head[128:] == b"DICM":
        return True
    explicit = head[4:6] in (b"UL", b"UI", b"CS", b"DA", b"TM", b"SH", b"OB")
    implicit = head[2:4] in (b"\0\0", b"\5\0", b"\x08\0", b"\x16\0") and head[6:8] == b"\0\0"
    return head[:2] in (b"\2\0", b"\x08\0") and (explicit or implicit)


def read(path: Path) -> tuple[Frame, ...] | str:
    """Return the frames of an image file, or what else it is (name of the SOP class).

    Raises:
      InputError: the file is damaged, lacks what an image needs, or stores pixels that are not supported.
    """
    about = path.stat()
    return _read(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=2**14)
def _read(path: Path, size: int, changed: int) -> tuple[Frame, ...] | str:
    """`read`, remembered for as long as the file does not change."""
    with volume.open_checked(path) as stream:
        head = volume.take(stream, volume.MAX_HEADER, path)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # it also logs what it warns of
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _frames(head, size, path)
        except InputError:
            raise
        except Exception as error:  # pydicom raises whatever its converters of damaged values raise
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise InputError(path, f"is damaged: its DICOM header cannot be read ({reason})") from error


def _frames(head: bytes, size: int, path: Path) -> tuple[Frame, ...] | str:
    import pydicom

    stream = BytesIO(head)
    header = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(_KEYWORDS))
    other = _other_object(header, path)
    if other:
        return other
    if header.file_meta.get("TransferSyntaxUID") == pixels.DEFLATED:
        raise InputError(path, "is deflated DICOM, which is not supported: rewrite it, say by dcmconv +te")
    place = pixels.element(head, stream.tell(), header.original_encoding[1] is not False)
    if place is None:
        raise InputError(path, "is truncated or damaged: it ends before its PixelData")
    layout = pixels.layout(header, place, size, path)
    uid = str(header.get("SOPInstanceUID") or header.file_meta.get("MediaStorageSOPInstanceUID") or "")
    image = Image(
        path=path,
        uid=fields.required(uid, "SOPInstanceUID", path),
        study=(str(header.get("PatientID") or ""), str(header.get("StudyInstanceUID") or "")),
        series=fields.required(str(header.get("SeriesInstanceUID") or ""), "SeriesInstanceUID", path),
        number=fields.count(header.get("SeriesNumber")),
        phases=fields.count(header.get("CardiacNumberOfImages")),
        reference=str(header.get("FrameOfReferenceUID") or ""),
        layout=layout,
    )
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    if len(per_frame) != layout.frames and (per_frame or layout.frames > 1):
        raise InputError(path, f"has {layout.frames} frames, but functional groups for {len(per_frame)}")
    sources = [(*per_frame[k : k + 1], *shared[:1]) for k in range(layout.frames)]
    return tuple(_frame(image, k, fields.lookup(header, sources[k])) for k in range(layout.frames))


def _other_object(header: Any, path: Path) -> str:
    """Name of the SOP class if the file is no image; "" if it is one.

    Raises:
      InputError: the class is not told, told twice, or one that does not exist, as in a damaged header.
    """
    from pydicom.uid import UID

    own, meta = (str(held.get(name) or "") for held, name in zip((header, header.file_meta), SOP_CLASS, strict=True))
    if own and meta and own != meta:
        raise InputError(path, "is damaged: its two SOP class UIDs differ")
    kind = UID(own or meta)
    placed = header.get("ImagePositionPatient") and header.get("ImageOrientationPatient")
    if not kind or kind in IMAGES or (kind == CAPTURE and placed):
        return ""
    if kind.name != kind and (own or kind == DICOMDIR):
        return kind.name
    if own and own == meta and kind.is_valid and not header.get("Rows"):
        return "a private SOP class"
    raise InputError(path, "is damaged, or an image of a kind that is not known (SOPClassUID)")


def _frame(image: Image, index: int, value: Callable[[str], Any]) -> Frame:
    path = image.path
    position, axes = (
        fields.numbers(value, "ImagePositionPatient", 3, path),
        fields.numbers(value, "ImageOrientationPatient", 6, path),
    )
    axes = axes.reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > volume.ORTHONORMAL_TOLERANCE:
        raise InputError(path, "has an ImageOrientationPatient that is not orthonormal")
    row = axes[0] / np.linalg.norm(axes[0])
    column = axes[1] - (axes[1] @ row) * row
    between_rows, between_columns = fields.numbers(value, "PixelSpacing", 2, path)
    if min(between_rows, between_columns) <= 0:
        raise InputError(path, f"has an invalid PixelSpacing ({between_rows:g}, {between_columns:g})")
    slope, intercept = (fields.number(value, name, path) for name in ("RescaleSlope", "RescaleIntercept"))
    if slope == 0:
        raise InputError(path, "has a RescaleSlope of 0")
    times = [next((t for name in names if (t := fields.time(value(name), name)) is not None), None) for names in TIMES]
    if image.layout.frames > 1:
        times[-1] = float(index)
    words = value("FrameType") or value("ImageType") or ()
    echo = value("EffectiveEchoTime") or value("EchoNumbers")
    return Frame(
        image=image,
        index=index,
        position=position,
        axes=np.stack([row, column / np.linalg.norm(column)]),
        spacing_mm=(float(between_columns), float(between_rows)),
        thickness_mm=fields.number(value, "SliceThickness", path),
        distance_mm=fields.number(value, "SpacingBetweenSlices", path),
        slope=slope,
        intercept=intercept,
        kind=(*((words,) if isinstance(words, str) else map(str, words)), *((f"echo{echo}",) if echo else ())),
        times=tuple(times),
    )
