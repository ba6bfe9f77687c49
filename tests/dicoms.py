"""Synthetic DICOM for the tests: stacks, cine and enhanced multi-frame files, written by pydicom."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from tests import images

UID = "1.2.826.0.1.3680043.8.498.1"
MR, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
SHAPE = (12, 10, 6)
AFFINE = images.affine(("L", "P", "S"), (1.5, 1.5, 8.0), (40.0, -60.0, 30.0), tilt=0.5)


def numbers(values: Sequence[float]) -> list[str]:
    return [format_number_as_ds(float(v)) for v in values]


def place(affine: np.ndarray, z: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position, row and column direction, and spacing (columns, rows, slices) of slice `z` of an affine, LPS mm."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    return lps[:3, 3] + z * lps[:3, 2], np.r_[lps[:3, 0] / spacing[0], lps[:3, 1] / spacing[1]], spacing


def file(path: Path, plane: np.ndarray, affine: np.ndarray, z: float, series=1, number=1, **more: Any) -> Path:
    """Writes `plane [X, Y]` as slice `z` of `affine`; `more`: elements to set, or to delete (None)."""
    position, axes, spacing = place(affine, z)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = more.get("SOPClassUID", MR)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = f"{UID}.{series}.{number}"
    held = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    fields = {
        "SOPClassUID": MR, "SOPInstanceUID": meta.MediaStorageSOPInstanceUID, "StudyInstanceUID": f"{UID}.0",
        "SeriesInstanceUID": f"{UID}.0.{series}", "FrameOfReferenceUID": f"{UID}.9", "PatientID": "synthetic",
        "Modality": "MR", "SeriesNumber": series, "InstanceNumber": number, "Rows": plane.shape[1],
        "Columns": plane.shape[0], "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": int(plane.dtype.kind == "i"),
        "PixelSpacing": numbers([spacing[1], spacing[0]]), "SliceThickness": "6",
        "ImagePositionPatient": numbers(position), "ImageOrientationPatient": numbers(axes),
        "PixelData": np.ascontiguousarray(plane.T).astype(plane.dtype.newbyteorder("<")).tobytes(),
    }  # fmt: skip
    for name, value in (fields | more).items():
        if value is not None:
            setattr(held, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    held.save_as(path, enforce_file_format=True)
    return path


def stack(folder: Path, data: np.ndarray, affine: np.ndarray = AFFINE, series: int = 1, **more: Any) -> list[Path]:
    """Writes `data [X, Y, Z]` as one series, a file for each slice."""
    return [
        file(folder / f"IM{series}{z:03d}.dcm", data[:, :, z], affine, z, series, z + 1, **more)
        for z in range(data.shape[2])
    ]


def cine(
    folder: Path,
    data: np.ndarray,
    affine: np.ndarray = AFFINE,
    name: Callable[[int, int], str] = lambda z, t: f"IM{z:02d}{t:02d}.dcm",
    series: Callable[[int], int] = lambda z: 1,
    **more: Callable[[int, int], Any],
) -> list[Path]:
    """Writes `data [X, Y, Z, T]`, a file for each slice and phase; `more`: element -> its value by (z, t)."""
    found = []
    for z in range(data.shape[2]):
        for t in range(data.shape[3]):
            values = {"TriggerTime": str(40 * t)} | {key: value(z, t) for key, value in more.items()}
            number = 1 + t + data.shape[3] * z
            found.append(file(folder / name(z, t), data[..., z, t], affine, z, series(z), number, **values))
    return found


def enhanced(path: Path, planes: Sequence[np.ndarray], places: Sequence[float], times: Sequence[float]) -> Path:
    """Writes one enhanced multi-frame file of `planes [X, Y]` at slices `places` of `AFFINE` and times in ms."""
    stacked = np.stack([plane.T for plane in planes])
    none = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"))
    pixels = stacked.astype("<i2").tobytes()
    file(path, planes[0], AFFINE, 0, SOPClassUID=ENHANCED, NumberOfFrames=len(planes), PixelData=pixels, **none)
    held = pydicom.dcmread(path)
    per_frame = []
    for z, time in zip(places, times, strict=True):
        groups = Dataset()
        groups.PlanePositionSequence = Items([_item(ImagePositionPatient=numbers(place(AFFINE, z)[0]))])
        groups.CardiacSynchronizationSequence = Items([_item(NominalCardiacTriggerDelayTime=float(time))])
        per_frame.append(groups)
    _, axes, spacing = place(AFFINE, 0)
    shared = Dataset()
    shared.PlaneOrientationSequence = Items([_item(ImageOrientationPatient=numbers(axes))])
    shared.PixelMeasuresSequence = Items(
        [_item(PixelSpacing=numbers([spacing[1], spacing[0]]), SliceThickness="6", SpacingBetweenSlices="8")]
    )
    shared.PixelValueTransformationSequence = Items([_item(RescaleSlope="1", RescaleIntercept="0")])
    held.SharedFunctionalGroupsSequence, held.PerFrameFunctionalGroupsSequence = Items([shared]), Items(per_frame)
    held.save_as(path)
    return path


def change(path: Path, **fields: Any) -> None:
    """Sets elements of a file, or deletes them (None)."""
    held = pydicom.dcmread(path)
    for name, value in fields.items():
        if value is None:
            delattr(held, name)
        else:
            setattr(held, name, value)
    held.save_as(path)


def _item(**fields: Any) -> Dataset:
    item = Dataset()
    for name, value in fields.items():
        setattr(item, name, value)
    return item
