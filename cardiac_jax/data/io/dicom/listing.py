"""Every file of a folder tree, sorted into DICOM images, other DICOM objects, damaged files and the rest."""

import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

from cardiac_jax.data.io import volume
from cardiac_jax.data.io.dicom import header
from cardiac_jax.data.io.dicom.header import Frame
from cardiac_jax.errors import InputError

SUFFIXES = (".dcm", ".dicom", ".ima")
_LOOK = 4096  # bytes looked at to tell text from damaged DICOM


class Listing(NamedTuple):
    """What a folder tree holds.

    Attributes:
      frames: of every image file, in the order of the paths.
      damaged: one error per file that is or should be a DICOM image and cannot be used.
      objects: (file, name of its SOP class): DICOM that is no image, e.g. DICOMDIR, reports, presentation states.
      strangers: files beside DICOM that are not DICOM, nor another image format.
      hidden: files beside DICOM whose name starts with a dot; they are not read.
      closed: folders that cannot be read.
    """

    frames: tuple[Frame, ...]
    damaged: tuple[InputError, ...]
    objects: tuple[tuple[Path, str], ...]
    strangers: tuple[Path, ...]
    hidden: tuple[Path, ...]
    closed: tuple[Path, ...]


def files(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the files under `root`, sorted folder by folder, and the folders that cannot be read.

    Hidden folders are left out, links to folders are followed once.
    """
    closed: list[Path] = []

    if not root.is_dir():
        return [root], []
    found: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, onerror=lambda e: closed.append(Path(e.filename)), followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if real not in seen else []
        found += [Path(folder, name) for name in sorted(names) if real not in seen]
        seen.add(real)
    return found, closed


def listing(root: Path) -> Listing:
    """Return what the files under `root` (or the file `root`) are."""
    paths, closed = files(root)
    if importlib.util.find_spec("pydicom") is None and any(_claims(path) for path in paths):
        needs = "is DICOM, which needs an extra: pip install 'cardiac-jax[dicom]'"
        return Listing((), (InputError(root, needs),), (), (), (), tuple(closed))
    frames: list[Frame] = []
    damaged: list[InputError] = []
    objects: list[tuple[Path, str]] = []
    rest: list[Path] = []
    hidden: list[Path] = []
    dicom: set[tuple[Path, str]] = set()
    for path in paths:
        if path.name.startswith(".") and path != root:
            hidden.append(path)
        elif volume.suffix(path) is None:
            try:
                if not path.is_file() or not header.is_dicom(path):
                    rest.append(path)
                    continue
                dicom.add((path.parent, _suffix(path)))
                found = header.read(path)
            except OSError as error:
                damaged.append(InputError(path, f"cannot be read ({error.strerror})"))
            except InputError as error:
                damaged.append(error)
            else:
                if isinstance(found, str):
                    objects.append((path, found))
                else:
                    frames += found
    strangers: list[Path] = []
    for path in rest:
        if _suffix(path) in SUFFIXES or ((path.parent, _suffix(path)) in dicom and not _is_text(path)):
            damaged.append(_spoilt(path))
        elif any(folder == path.parent for folder, _ in dicom):
            strangers.append(path)
    beside = tuple(path for path in hidden if any(folder == path.parent for folder, _ in dicom))
    return Listing(tuple(frames), tuple(damaged), tuple(objects), tuple(strangers), beside, tuple(closed))


def _claims(path: Path) -> bool:
    known = path.name.startswith(".") or volume.suffix(path) is not None
    return not known and path.is_file() and header.is_dicom(path)


def _suffix(path: Path) -> str:
    """The suffix in lower case; a number after a dot (part of a UID) is none."""
    return "" if path.suffix[1:].isdecimal() else path.suffix.lower()


def _is_text(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(_LOOK)
    return bool(head) and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)


def _spoilt(path: Path) -> InputError:
    if not path.exists():
        return InputError(path, "is a broken link")
    if path.is_file() and path.stat().st_size == 0:
        return InputError(path, "is empty (zero bytes)")
    return InputError(path, "lies among DICOM files or is named as one, but is not DICOM")
