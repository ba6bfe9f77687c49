"""Any folder of images, one image file, or one DICOM series: cases for prediction, without labels.

    root/<id>[_<sequence>].{nii,nii.gz,nrrd,mha}     sequence: LGE or DE, bSSFP or C0, T2, cine
    root/<series>/*.dcm                              one folder per DICOM series, or the root itself

Files with the same id and different sequences are one case. A file name without a sequence gives a case with the
sequence "image", which a single-sequence model takes as its own sequence. Hidden files and labels are skipped.
"""

import re
from pathlib import Path

from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.io import volume
from cardiac_jax.data.io.dicom import is_dicom
from cardiac_jax.data.labels import CLASSES
from cardiac_jax.errors import InputError

UNKNOWN = "image"
_NAMED = re.compile(r"(?P<id>.+)_(?P<sequence>LGE|DE|bSSFP|C0|T2|cine)$", re.IGNORECASE)
_SEQUENCES = {"lge": "LGE", "de": "LGE", "bssfp": "bSSFP", "c0": "bSSFP", "t2": "T2", "cine": "cine"}
_LABEL = re.compile(r"_(manual|gt|gd|seg|label)$", re.IGNORECASE)


def find(root: Path) -> list[Record]:
    """Return the records sorted by id.

    Raises:
      InputError: there is no image, or two files have the same id and sequence.
    """
    if root.is_file():
        return [Record(_stem(root), _stem(root), {_name(root)[1]: root}, None)]
    if not root.is_dir():
        raise InputError(root, "no such file or folder")
    entries = [p for p in sorted(root.iterdir()) if not p.name.startswith(".")]
    if any(p.is_file() and is_dicom(p) for p in entries):
        return [Record(root.resolve().name, root.resolve().name, {UNKNOWN: root}, None)]
    cases: dict[str, dict[str, Path]] = {}
    for path in entries:
        series = path.is_dir() and any(p.is_file() and is_dicom(p) for p in path.iterdir())
        if not series and (not path.is_file() or volume.suffix(path) is None or _LABEL.search(_stem(path))):
            continue
        case, sequence = _name(path)
        first = cases.setdefault(case, {}).setdefault(sequence, path)
        if first != path:
            raise InputError(path, f"has the same case and sequence as {first.name}")
    if not cases:
        raise InputError(root, f"holds no image ({', '.join(volume.SUFFIXES)} or DICOM)")
    return [Record(case, case, cases[case], None) for case in sorted(cases)]


def _stem(path: Path) -> str:
    return path.name[: -len(volume.suffix(path) or "") or None]


def _name(path: Path) -> tuple[str, str]:
    match = _NAMED.match(_stem(path))
    return (match["id"], _SEQUENCES[match["sequence"].lower()]) if match else (_stem(path), UNKNOWN)


DATASET = Dataset("folder", CLASSES, {}, (UNKNOWN, *dict.fromkeys(_SEQUENCES.values())), find, "affine")
