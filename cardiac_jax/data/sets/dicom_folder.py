"""DICOM under a folder, as scanners and archives write it: cases for prediction, without labels.

    root/*.dcm                          one stack, or several (by series number), or a cine; any suffix, or none
    root/<series>/*.dcm                 a folder per series; series of one slice each are joined to one stack
    root/<patient>/.../*.dcm, DICOMDIR  whole trees

A stack is a case named by the deepest folder that holds its files: "<folder>", "<folder>_series7" where that folder has
several stacks, "<folder>_phase01", ... of a cine. A single slice in an orientation that no stack of its study has (a
long-axis view) and a localiser are kept apart. The notes say what was found and what was not read.
"""

from collections import Counter
from pathlib import Path

from cardiac_jax.data.case import Record
from cardiac_jax.data.io import dicom

SEQUENCE = "image"  # the name that `folder.py` gives to an image that does not tell its sequence


def find(root: Path) -> tuple[list[Record], list[str]]:
    """Return the cases of DICOM under `root` (a folder or one file), sorted by id, and lines about it.

    A stack that cannot be read is a case too, and so is a folder of damaged files without a stack: reading them raises.
    """
    found = dicom.survey(root)
    homes: list[tuple[Path, str]] = []
    for stack in found.stacks:
        place = root
        inside = {part: held for part, (held, _) in dicom.parts(dicom.survey(stack.folder)).items()}
        own = [part for part, held in inside.items() if _same(held, stack)]
        if own:
            place = stack.folder
        else:
            own = [part for part, (held, _) in dicom.parts(found).items() if held is stack]
        homes += [(place, part) for part in own]
    covered = {place for place, _ in homes}
    for error in found.files.damaged:
        place = root if root.is_file() else Path(error.where).parent
        if not covered & {place, *place.parents}:
            covered.add(place)
            homes.append((place, ""))
    ids = _ids([place for place, _ in homes], root)
    records = [
        Record("_".join(filter(None, [ids[place], part])), ids[place], {SEQUENCE: place}, None, part=part)
        for place, part in homes
    ]
    return sorted(records, key=lambda record: record.id), dicom.notes(found, root)


def _same(one: dicom.Stack, other: dicom.Stack) -> bool:
    files = [[(frame.path, frame.index) for frame in stack.frames] for stack in (one, other)]
    return files[0] == files[1]


def _ids(places: list[Path], root: Path) -> dict[Path, str]:
    """Name of each folder or file; with those of the folders above it, up to `root`, where two have the same."""
    names = {place: _stem(place.resolve() if place == root else place) for place in places}
    twice = {name for name, times in Counter(names.values()).items() if times > 1}
    return {
        place: "_".join([*place.relative_to(root).parent.parts, name]) if name in twice and place != root else name
        for place, name in names.items()
    }


def _stem(path: Path) -> str:
    return path.name if path.is_dir() or path.suffix[1:].isdecimal() else path.stem
