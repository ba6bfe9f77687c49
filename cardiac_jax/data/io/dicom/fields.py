"""Values of a DICOM header: of the file, or of one frame of an enhanced file; checked numbers and times."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cardiac_jax.errors import InputError

GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "FrameAcquisitionDateTime": "FrameContentSequence",
    "FrameType": "MRImageFrameTypeSequence",
    "EffectiveEchoTime": "MREchoSequence",
}
"""Functional group of an enhanced file in which a keyword stands."""


def lookup(header: Any, groups: tuple[Any, ...]) -> Callable[[str], Any]:
    """Return a function from keyword to value: of the frame, else shared by all frames, else of the file; else None."""

    def value(name: str) -> Any:
        for group in groups:
            items = group.get(GROUPS[name]) if name in GROUPS else None
            if items and items[0].get(name) not in (None, ""):
                return items[0].get(name)
        found = header.get(name)
        return None if found is None or found == "" else found

    return value


def whole(header: Any, name: str, path: Path, default: int | None = None) -> int:
    """Return the whole number under a keyword.

    Raises:
      InputError: it is missing and there is no `default`, or it is not one whole number.
    """
    value = header.get(name)
    if value is None or value == "":
        if default is None:
            raise InputError(path, f"lacks {name}")
        return default
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise InputError(path, f"has an invalid {name} ({value})") from error


def count(value: Any) -> int | None:
    """Return a number that only names or describes something; None if there is none or it is damaged."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def required(value: str, name: str, path: Path) -> str:
    """Return a text.

    Raises:
      InputError: it is empty.
    """
    if not value:
        raise InputError(path, f"lacks {name}")
    return value


def numbers(value: Callable[[str], Any], name: str, wanted: int, path: Path) -> np.ndarray:
    """Return the numbers `[wanted]` that `lookup` finds under a keyword.

    Raises:
      InputError: they are missing, not finite, or more or fewer.
    """
    found = value(name)
    if found is None:
        raise InputError(path, f"lacks {name}")
    try:
        held = np.array([float(v) for v in ([found] if isinstance(found, str | int | float) else found)])
    except (TypeError, ValueError) as error:
        raise InputError(path, f"has an invalid {name} ({found})") from error
    if len(held) != wanted or not np.isfinite(held).all():
        raise InputError(path, f"has an invalid {name} ({found}): {wanted} numbers are expected")
    return held


def number(value: Callable[[str], Any], name: str, path: Path) -> float | None:
    """Return one number as `numbers` does; None if it is missing."""
    return None if value(name) is None else float(numbers(value, name, 1, path)[0])


def time(value: Any, name: str) -> float | None:
    """Return a time as a number that grows: s for times of the day and dates, else as it is; None if damaged."""
    try:
        if not name.startswith(("AcquisitionTime", "FrameAcquisition")):
            number = float(value)
            return number if np.isfinite(number) else None
        text = str(value).partition("+")[0].replace(":", "")
        days, clock = (int(text[:8]), text[8:]) if name.startswith("Frame") else (0, text)
        whole = clock.partition(".")[0].ljust(6, "0")
        seconds = int(whole[:2]) * 3600 + int(whole[2:4]) * 60 + int(whole[4:6])
        return days * 86400 + seconds + float("0." + (clock.partition(".")[2] or "0"))
    except (TypeError, ValueError):
        return None
