"""Reader of DICOM: a folder tree, or one file, with stacks of slices, cine and enhanced multi-frame images.

Every header is checked before a pixel is read, and every file is accounted for (`survey.notes`). What cannot be one
regular stack is refused with the file at fault. pydicom is an optional extra.

    header.py    one file: its frames with geometry and times
    fields.py    values of a header, checked
    pixels.py    one file: how its pixels are stored; reading them
    listing.py   a folder: images, other objects, damaged files, the rest
    series.py    frames that belong together; series of one slice each are joined
    geometry.py  positions along the normal
    cine.py      several images at one position: phases
    survey.py    the stacks of a folder, and what is said of it
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cardiac_jax.data.io import volume
from cardiac_jax.data.io.dicom import pixels
from cardiac_jax.data.io.dicom.geometry import step_mm
from cardiac_jax.data.io.dicom.header import Frame, is_dicom
from cardiac_jax.data.io.dicom.listing import SUFFIXES
from cardiac_jax.data.io.dicom.survey import Stack, Survey, notes, survey
from cardiac_jax.data.io.volume import Volume
from cardiac_jax.errors import InputError

__all__ = ["Stack", "Survey", "claims", "is_dicom", "notes", "parts", "read", "survey"]


def claims(path: Path) -> bool:
    """Return whether a file is DICOM, or is named as DICOM whatever it holds."""
    return path.suffix.lower() in SUFFIXES or (path.is_file() and is_dicom(path))


def parts(found: Survey) -> dict[str, tuple[Stack, tuple[Frame, ...]]]:
    """Return every image of a survey by the name of its part: "", "phase03", "series7" or "series7_phase03"."""
    several = len(found.stacks) > 1
    return {
        "_".join(filter(None, [stack.name if several else "", phase])): (stack, frames)
        for stack in found.stacks
        for phase, frames in stack.parts.items()
    }


def read(path: Path, part: str = "") -> Volume:
    """Read one stack as `[X, Y, Z]`, slices sorted along their normal, scaled by each slice's slope and intercept.

    Args:
      path: a folder, with all its folders, or one file.
      part: a key of `parts`, where there are several stacks or phases.

    Raises:
      InputError: a file under `path` is damaged, there is no such part, or its slices are not one regular stack; or
        pydicom is not installed.
    """
    if not path.exists():
        raise InputError(path, "no such file or folder")
    found = survey(path)
    if found.files.damaged:
        first, *more = found.files.damaged
        beside = f"; nor can {len(more)} more files under {path.name} be used" if more else ""
        raise InputError(first.where, first.problem + beside)
    known = parts(found)
    if part not in known:
        held = f"holds {len(known)} DICOM images: {', '.join(list(known)[:4])}{', ...' * (len(known) > 4)}"
        wanted = f"none of them is {part!r}" if part else "name one of them, or its folder"
        raise InputError(path, f"{held}; {wanted}" if known else "holds no DICOM image")
    stack, frames = known[part]
    if stack.problem is not None:
        raise InputError(stack.problem.where, stack.problem.problem)
    shape = (frames[0].image.layout.columns, frames[0].image.layout.rows, len(frames))
    volume.checked_shape(shape, path)
    return Volume(_voxels(frames), volume.checked_affine(_affine(frames), path), None)


def _affine(frames: Sequence[Frame]) -> np.ndarray:
    first = frames[0]
    affine = np.eye(4)
    affine[:3, :2] = first.axes.T * first.spacing_mm
    affine[:3, 2] = first.normal * step_mm([[frame] for frame in frames])
    affine[:3, 3] = first.position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _voxels(frames: Sequence[Frame]) -> np.ndarray:
    """`[X, Y, Z]`, float32 if any slice has a slope or intercept, else the stored type."""
    slices = [pixels.read(frame.path, frame.image.layout, frame.index).T for frame in frames]
    plain = [frame.slope in (None, 1.0) and frame.intercept in (None, 0.0) for frame in frames]
    if all(plain):
        return np.stack(slices, axis=-1)
    scaled = []
    for frame, stored in zip(frames, slices, strict=True):
        if frame.slope is None or frame.intercept is None:
            raise InputError(frame.path, "lacks RescaleSlope or RescaleIntercept, by which other slices are scaled")
        with np.errstate(over="ignore"):
            scaled.append((stored * np.float64(frame.slope) + frame.intercept).astype(np.float32))
        if not np.isfinite(scaled[-1]).all():
            raise InputError(frame.path, f"scales its values beyond the range of float32 (slope {frame.slope:g})")
    return np.stack(scaled, axis=-1)
