"""Any folder of images, one image file, or DICOM: cases for prediction, without labels.

    root/<id>[_<sequence>].{nii,nii.gz,nrrd,mha}     sequence: LGE or DE, bSSFP or C0, T2, cine
    root/<id>_0000.{nii,...} <id>_0001 ...           channels of nnU-Net, named by a dataset.json here or one above
    root/.../*.dcm                                   DICOM in the root or in folders of any depth: `dicom_folder.py`

Files with the same id and different sequences are one case. A file name without a sequence gives a case with the
sequence "image", which a single-sequence model takes as its own sequence. Without a dataset.json, `_0000` is the only
channel of its case, or the order of the sequences is given. Label maps and the outputs of `predict` are no images.
Each frame of a 4D file is a case, "<id>_frame01", ....
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from cardiac_jax.data.case import Dataset, Record, first_error_raised
from cardiac_jax.data.io import volume
from cardiac_jax.data.labels import CLASSES
from cardiac_jax.data.sets import description, dicom_folder
from cardiac_jax.data.sets.channels import CHANNEL, SEQUENCES, sequences
from cardiac_jax.data.sets.entries import is_label, is_output, stem
from cardiac_jax.data.sets.frame_records import by_frame
from cardiac_jax.errors import InputError

UNKNOWN = "image"
_NAMED = re.compile(r"(?P<id>.+)_(?P<sequence>LGE|DE|bSSFP|C0|T2|cine)$", re.IGNORECASE)
_SEQUENCES = {"lge": "LGE", "de": "LGE", "bssfp": "bSSFP", "c0": "bSSFP", "t2": "T2", "cine": "cine"}


def survey(root: Path, order: Sequence[str] = ()) -> tuple[list[Record], list[InputError]]:
    """Return the records sorted by id, and one error for each case whose files cannot be told apart.

    Args:
      order: sequences of the channels `_0000`, `_0001`, ...; default: as `dataset.json` names them.

    Raises:
      InputError: there is no image.
    """
    names = _channels(root if root.is_dir() else root.parent, order)
    if root.is_file() and volume.suffix(root):
        case, sequence = _place(root, names, numbered=_numbered(root.parent.iterdir()), alone=True)
        return by_frame([Record(case, case, {sequence: root}, None)]), []
    if not root.exists():
        raise InputError(root, "no such file or folder")
    dicoms = dicom_folder.find(root)[0]
    whole = {path: record.id for record in dicoms if not record.part for path in record.images.values()}
    entries = [p for p in sorted(root.iterdir()) if not p.name.startswith(".")] if root.is_dir() else []
    images = [p for p in entries if p.is_file() and volume.suffix(p) and not is_label(p) and not is_output(p)]
    if not dicoms and not images:
        raise InputError(root, f"holds no image ({', '.join(volume.SUFFIXES)} or DICOM){_deeper(entries)}")
    cases: dict[str, dict[str, Path]] = {}
    problems: dict[str, InputError] = {}
    numbered, count = _numbered(images), Counter(CHANNEL.sub(r"\g<case>", stem(path)) for path in images)
    for path in (*whole, *images):
        case = path.name
        try:
            case = CHANNEL.sub(r"\g<case>", stem(path)) if numbered else path.name
            single = count[case] == 1 and stem(path).endswith("_0000")
            case, sequence = (
                _name(Path(whole[path])) if path in whole else _place(path, names, numbered=numbered, alone=single)
            )
            first = cases.setdefault(case, {}).setdefault(sequence, path)
            if first != path:
                raise InputError(path, f"has the same case and sequence as {first.name}")
        except InputError as error:
            problems.setdefault(case, error)
    records = [Record(case, case, cases[case], None) for case in sorted(cases.keys() - problems.keys())]
    records = [*by_frame(records), *(record for record in dicoms if record.part)]
    return sorted(records, key=lambda record: record.id), list(problems.values())


find = first_error_raised(survey)


def of_channels(order: Sequence[str]) -> Dataset:
    """Return the data set of a folder whose channels `_0000`, `_0001`, ... have these sequences."""
    return DATASET._replace(survey=partial(survey, order=order)) if order else DATASET


def _channels(root: Path, order: Sequence[str]) -> tuple[str, ...]:
    """Sequences by number of the channel; () if neither `order` nor a `dataset.json` names them."""
    path = description.find(root)
    found = sequences(order or (description.channels(path) if path else ()))
    return found if len(found) != 1 or found[0] in SEQUENCES else (UNKNOWN,)


def _numbered(paths: Iterable[Path]) -> bool:
    """Whether files are numbered by channel: one of them ends with `_0000`."""
    return any(stem(path).endswith("_0000") for path in paths if volume.suffix(path))


def _place(path: Path, names: Sequence[str], *, numbered: bool, alone: bool) -> tuple[str, str]:
    """Case and sequence of an image file.

    Args:
      names: sequences of the channels.
      numbered: files are numbered by channel.
      alone: the file is the only one of its case.
    """
    match = CHANNEL.match(stem(path))
    if not match or not numbered:
        case, sequence = _name(path)
        return case, names[0] if sequence == UNKNOWN and len(names) == 1 else sequence
    case, number = match["case"], int(match["channel"])
    if number < len(names):
        return case, names[number]
    if names:
        raise InputError(path, f"is channel {number} of {case}, but only {len(names)} channels have names")
    if not alone:
        told = "name them in a dataset.json (channel_names) or by --sequences=LGE,T2,..."
        raise InputError(path, f"is one of several channels of {case}: {told}")
    return case, UNKNOWN


def _name(path: Path) -> tuple[str, str]:
    match = _NAMED.match(stem(path))
    return (match["id"], _SEQUENCES[match["sequence"].lower()]) if match else (stem(path), UNKNOWN)


def _deeper(entries: Sequence[Path]) -> str:
    folders = [path.name for path in entries if path.is_dir()]
    return f"; its folders are not searched ({', '.join(folders[:3])})" if folders else ""


DATASET = Dataset("folder", CLASSES, {}, (UNKNOWN, *SEQUENCES), find, "affine", survey=survey)
