"""The cases under a folder, and an account of everything that is not a case (`data/sets/entries.py`)."""

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.io import dicom, volume
from cardiac_jax.data.sets.entries import account, normal
from cardiac_jax.data.splits import shared_patients
from cardiac_jax.errors import InputError


class Found(NamedTuple):
    """Cases of a folder.

    Attributes:
      records: sorted by id; none of them has one of the problems.
      problems: cases and entries that cannot be used: a patient whose files are incomplete, a patient in two splits, a
        broken link, two files of one name.
      notes: lines that say what was not read and why.
    """

    records: list[Record]
    problems: list[InputError]
    notes: list[str]


def discover(chosen: Dataset, root: Path) -> Found:
    """Returns the cases of the data set under `root`.

    Raises:
      InputError: there is no case.
    """
    records, problems = chosen.survey(root) if chosen.survey else (chosen.find(root), [])
    dicoms = any(path.is_dir() or volume.suffix(path) is None for record in records for path in files(record))
    said = dicom.notes(dicom.survey(root), root) if dicoms else []
    if not root.is_dir():
        return Found(records, problems, said)
    named = {normal(Path(problem.where)) for problem in problems}
    used = {path for record in records for path in files(record)}
    faults, notes = account(root, used | named, chosen.side_files)
    known = {id(fault) for path, fault in faults.items() if path in named}
    added = list({id(fault): fault for fault in faults.values() if id(fault) not in known}.values())
    shared = _shared(records)
    kept = [r for r in records if r.id not in shared and not any(normal(path) in faults for path in files(r))]
    return Found(kept, [*problems, *added, *shared_patients(records)], [*said, *notes])


def records_of(chosen: Dataset, root: Path, say: Callable[[str], None] = lambda line: None) -> list[Record]:
    """Returns the cases as `discover` does; `say` prints the notes.

    Raises:
      InputError: the first problem found.
    """
    found = discover(chosen, root)
    for problem in found.problems:
        raise problem
    for note in found.notes:
        say(note)
    return found.records


def files(record: Record) -> list[Path]:
    """Returns the files of a case: images, then the label, then images on a finer grid."""
    return [*record.images.values(), *([record.label] if record.label else []), *record.fine_images.values()]


def _shared(records: list[Record]) -> set[str]:
    """Ids of the cases whose patient is in two splits, or whose id occurs twice."""
    splits: dict[str, set[str | None]] = defaultdict(set)
    for record in records:
        splits[record.patient].add(record.split)
    ids = Counter(record.id for record in records)
    return {r.id for r in records if len(splits[r.patient]) > 1 or ids[r.id] > 1}
