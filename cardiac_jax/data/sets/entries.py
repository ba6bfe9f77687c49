"""An account of every entry of a folder: one rule for all data sets.

An entry is used, known to lie beside the images of its data set, or named as not read, with the reason. A broken link,
two files of one name in two formats, and a name that is not UTF-8 are faults of the case they belong to.
"""

import fnmatch
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from cardiac_jax.data.io import volume
from cardiac_jax.data.io.dicom import is_dicom
from cardiac_jax.errors import InputError, printable

SIDE_FILES = ("dataset.json", "cases.csv", "codes.csv", "readme*", "license*")
OUTPUTS = re.compile(r"_probabilities$")
LABEL = re.compile(r"_(manual|gt|gd|seg|label)$", re.IGNORECASE)
SLICER = ".seg.nrrd"  # a segmentation of 3D Slicer, which may lie beside its image of the same name
MOST_NAMED = 3
DICOMDIR = "dicomdir"
REASONS = {
    "outputs": "probabilities that predict wrote",
    "labels": "label maps",
    "images": "image files of other names",
    "dicom": "DICOM files",
    "folders": "folders",
    "hidden": "hidden files",
    "others": "other files",
}


class Account(NamedTuple):
    """What else lies in the folders of a data set.

    Attributes:
      faults: file -> why it cannot be used; a used file, or one that was passed over because of the fault. Files of
        one name share an error.
      notes: one line that says what was not read and why; empty if there is nothing to say.
    """

    faults: dict[Path, InputError]
    notes: list[str]


def stem(path: Path) -> str:
    """Returns the file name without its image suffix."""
    return path.name[: -len(volume.suffix(path) or "") or None]


def normal(path: Path) -> Path:
    """Returns the path as the keys of `Account.faults` are written: absolute, without `..`."""
    return Path(os.path.abspath(path))


def is_output(path: Path) -> bool:
    """Whether a file is named as what `predict` writes beside a label map."""
    return bool(OUTPUTS.search(stem(path)))


def is_label(path: Path) -> bool:
    """Whether an image file is named as a label map."""
    return bool(LABEL.search(stem(path))) or volume.suffix(path) == SLICER


def account(root: Path, used: Collection[Path], side_files: Sequence[str] = ()) -> Account:
    """Accounts for the entries of `root` and of every folder below it that holds a used file.

    Args:
      used: files, or folders of DICOM series, that are cases; they need not exist.
      side_files: patterns of file names that are known to lie there and need no word; not case-sensitive.
    """
    root, known = normal(root), set(map(normal, used))
    folders = {parent for path in known for parent in path.parents if parent == root or root in parent.parents}
    folders = {root, *folders} - known if root not in known else set()
    faults: dict[Path, InputError] = {}
    left: dict[str, list[str]] = {}
    for folder in sorted(folders):
        images: dict[str, list[Path]] = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            reason = "" if path in known else _reason(path, folders, side_files)
            faulty = _fault(path, path in known or reason == "images")
            if faulty:
                faults[path] = faulty
            elif reason:
                left.setdefault(reason, []).append(printable(str(path.relative_to(root))))
            if path in known or reason == "images" or (reason == "labels" and volume.suffix(path) != SLICER):
                images.setdefault(stem(path).casefold(), []).append(path)
        for twins in images.values():
            if len(twins) > 1 and known & set(twins):
                names = " and ".join(path.name for path in twins)
                faults |= dict.fromkeys(twins, InputError(twins[0], f"{names} are files of one name: keep one"))
    said = [f"{len(left[key])} {words} ({_named(left[key])})" for key, words in REASONS.items() if key in left]
    return Account(faults, [f"not read in {printable(str(root))}: {', '.join(said)}"] if said else [])


def _reason(path: Path, folders: Collection[Path], side_files: Sequence[str]) -> str:
    """Why an entry is not used, a key of `REASONS`; "" if it is known to lie there."""
    name = path.name.casefold()
    if path in folders or any(fnmatch.fnmatchcase(name, pattern.casefold()) for pattern in (*SIDE_FILES, *side_files)):
        return ""
    if path.suffix.lower() in volume.DETACHED and path.with_suffix(volume.HEADER).exists():
        return ""  # the voxels of that image
    if name.startswith("."):
        return "hidden"
    if path.is_dir():
        return "folders"
    if volume.suffix(path):
        return "outputs" if is_output(path) else "labels" if is_label(path) else "images"
    try:
        return "dicom" if name == DICOMDIR or (path.is_file() and is_dicom(path)) else "others"
    except OSError:
        return "others"


def _fault(path: Path, is_image: bool) -> InputError | None:
    if path.is_symlink() and not path.exists() and not path.name.startswith("."):
        return InputError(path, f"is a broken link to {os.readlink(path)}")
    if is_image and printable(path.name) != path.name:
        return InputError(path, "has a name that is not UTF-8: rename the file")
    return None


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
