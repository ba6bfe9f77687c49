"""Twins: low-resolution (LR) stacks, each with a high-resolution (HR) image and label of the same anatomy.

Provenance: simulated (the phantom's layout "hr"), or made from a data set of high-resolution labelled volumes by
`launch.prepare --twins` (`data/degraded.py`), whose `twins.json` names it. Licence: that of the source.

    root/twins/NAME_{ED,ES}_lr.nii.gz       the input, 10 mm slices; or NAME_lr.nii.gz where there is no phase
               NAME_{ED,ES}_hr.nii.gz       the same anatomy in slices of 2 mm, without misalignment
               NAME_{ED,ES}_hr_label.nii.gz the gold standard, on the grid of the HR image; may be absent
               NAME_{ED,ES}_lr_label.nii.gz what the LR image shows of it, not used
    root/dataset.json                       name of the sequence, names of the label values (else 1 RV, 2 Myo, 3 LV)
    root/cases.csv                          group by patient or case (column `id`); also patient, phase and split

255 is not annotated. The root may also be the folder `twins` or one LR image.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.labels import CLASSES
from cardiac_jax.data.sets import description
from cardiac_jax.errors import InputError

FOLDER = "twins"
TABLE = "cases.csv"
SOURCE = "twins.json"
SEQUENCE = "cine"
"""Name of the images where no `dataset.json` names them: the phantom's usual sequence."""
SIDE_FILES = ("*_lr_label.nii.gz", SOURCE)
_LR = re.compile(r"(?P<case>(?P<patient>.+?)(_(?P<phase>ED|ES))?)_lr\.nii\.gz")


def find(root: Path) -> list[Record]:
    """Return the records sorted by id, one per LR image.

    Raises:
      InputError: there is no LR image, `root` is a file with another name, or `dataset.json` cannot be used.
    """
    if root.is_file():
        if _LR.fullmatch(root.name) is None:
            raise InputError(root, "is not named NAME_lr.nii.gz")
        images = [root]
    elif not root.is_dir():
        raise InputError(root, "no such file or folder")
    else:
        folder = root / FOLDER if (root / FOLDER).is_dir() else root
        images = sorted(path for path in folder.iterdir() if _LR.fullmatch(path.name) and path.name[0] != ".")
    if not images:
        raise InputError(root, f"holds no {FOLDER}/NAME_lr.nii.gz; launch.prepare --twins makes a folder of twins")
    rows, sequence = _rows(images[0].parent), _sequence(images[0].parent)
    return sorted((_record(path, rows, sequence) for path in images), key=lambda record: record.id)


def described(root: Path) -> Dataset:
    """Return the data set with the classes and the sequence that the folder's `dataset.json` names.

    Raises:
      InputError: there is no such folder, `dataset.json` cannot be read, or it gives a value to two structures.
    """
    if not root.exists():
        raise InputError(root, "no such file or folder")
    folder = root.parent if root.is_file() else root
    path = description.find(folder)
    if path is None:
        return DATASET
    named = description.labels(path)
    if named.overlap:
        raise InputError(path, "gives one value to two structures, which twins cannot have")
    values = {0: 0, IGNORE: IGNORE} | {value: k for k, own in enumerate(named.structures.values(), 1) for value in own}
    if named.ignore is not None:
        values[named.ignore] = IGNORE
    classes = ("background", *named.structures)
    return DATASET._replace(classes=classes, labels=values, sequences=(_sequence(folder),))


def _record(path: Path, rows: Mapping[str, Mapping[str, str]], sequence: str) -> Record:
    match = _LR.fullmatch(path.name)
    assert match is not None
    row = rows.get(match["case"]) or rows.get(match["patient"]) or {}
    fine, label = (path.with_name(f"{match['case']}_{end}.nii.gz") for end in ("hr", "hr_label"))
    return Record(
        id=match["case"],
        patient=row.get("patient") or match["patient"],
        images={sequence: path},
        label=label if label.exists() else None,
        phase=match["phase"] or row.get("phase") or None,
        group=row.get("group") or None,
        split=row.get("split") if row.get("split") in ("train", "val", "test") else None,
        fine_images={sequence: fine} if fine.exists() else {},
    )


def _rows(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of `cases.csv` in the folder or the one above, by their `id`."""
    path = next((p for p in (folder / TABLE, folder.absolute().parent / TABLE) if p.is_file()), None)
    if path is None:
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["id"]: row for row in csv.DictReader(file)}
    except (KeyError, ValueError, csv.Error) as error:
        raise InputError(path, f"is not a table with a column id ({error})") from None


def _sequence(folder: Path) -> str:
    path = description.find(folder)
    return next(iter(description.channels(path) if path else ()), SEQUENCE)


DATASET = Dataset(
    name="twins",
    classes=CLASSES,
    labels={0: 0, 1: 1, 2: 2, 3: 3, IGNORE: IGNORE},
    sequences=(),
    find=find,
    slice_order="affine",
    side_files=SIDE_FILES,
    fine=True,
    described=described,
)
