"""Reader of a folder with one DICOM series; needs SimpleITK (an optional extra)."""

from pathlib import Path

import numpy as np

from cardiac_jax.data.io import volume
from cardiac_jax.data.io.volume import Volume
from cardiac_jax.errors import InputError

GAP_TOLERANCE = 0.05  # largest relative difference between slice distances; above it a slice counts as missing


def is_dicom(path: Path) -> bool:
    """Return whether a file has the DICOM magic string at byte 128."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read(folder: Path) -> Volume:
    """Read the series as `[X, Y, Z]`, slices sorted along their normal; the header is None.

    Raises:
      InputError: SimpleITK is not installed, there is no series or more than one, the series cannot be read, slices are
        missing or unevenly spaced, or voxels have several channels.
    """
    try:
        import SimpleITK as sitk
    except ImportError as error:
        raise InputError(folder, "is a DICOM series, which needs an extra: pip install 'cardiac-jax[dicom]'") from error
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        raise InputError(folder, f"holds {len(series)} DICOM series, expected one")
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    try:
        image = reader.Execute()
        positions = np.array([_position(sitk, name) for name in files])
    except (RuntimeError, ValueError) as error:  # raised by SimpleITK
        raise InputError(folder, f"is not a readable DICOM series ({str(error).splitlines()[-1]})") from error
    gaps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    if gaps.size and gaps.max() - gaps.min() > GAP_TOLERANCE * gaps.max():
        raise InputError(
            folder,
            f"has missing or repeated slices: distances {gaps.min():.2f} to {gaps.max():.2f} mm",
        )
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(folder, "has several channels per voxel, expected one")
    shape = volume.checked_shape(image.GetSize(), folder)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    data = sitk.GetArrayFromImage(image).T.reshape(shape)
    return Volume(data, volume.checked_affine(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, folder), None)


def _position(sitk, name: str) -> np.ndarray:
    reader = sitk.ImageFileReader()
    reader.SetFileName(name)
    reader.ReadImageInformation()
    return np.array(reader.GetOrigin())
