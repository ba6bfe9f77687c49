"""Splits by patient, stratified by group: computed from (seed, fold), or listed in a file.

The test set is selected before the folds are assigned. It is the same for every fold, and no fold validates on it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from cardiac_jax.data.case import Record
from cardiac_jax.data.io.write import atomic_write
from cardiac_jax.errors import InputError

FILE = "split.json"
FOLDS = 5


class Split(NamedTuple):
    """Patients of the training, validation and test set, each sorted."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()


def split(records: Sequence[Record], seed: int, fold: int | None, folds: int = FOLDS, test_share: float = 0.0) -> Split:
    """Return the split of `records`.

    Patients in the publisher's "test" folder always form the test set. If `fold` is None, the publisher's "train" and
    "val" folders define the rest. If `fold` is a number, all other patients are divided into `folds` parts of nearly
    equal size and group composition, and part `fold` is the validation set. Patients are ordered by a hash of
    (seed, patient), so the split depends neither on library versions nor on the order of files.

    Args:
      fold: 0 to `folds` - 1, or None.
      test_share: share of the patients, and of each group to within one patient, in the test set. It is selected from
        the seed alone, and only if the publisher defines no test set and `fold` is a number.

    Raises:
      InputError: a patient is in two sets, `fold` or `test_share` is out of range, or a set is empty.
    """
    for problem in shared_patients(records):
        raise problem
    sides: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    if fold is None:
        for record in records:
            if record.split is None:
                raise InputError("data.fold", "is required: the folders of this data set define no split")
            sides[record.split].add(record.patient)
        if not sides["val"]:
            raise InputError("data.fold", "is required: the folders of this data set define no validation patients")
    else:
        if not 0 <= fold < folds:
            raise InputError("data.fold", f"{fold} is not one of 0 to {folds - 1}")
        if not 0 <= test_share < 1:
            raise InputError("data.test_share", f"{test_share} is not a share, at least 0 and below 1")
        sides["test"] = {record.patient for record in records if record.split == "test"}
        ordered = dealing_order({r.patient: r.group or "" for r in records if r.split != "test"}, seed)
        if not sides["test"]:
            sides["test"] = set(_evenly(ordered, test_share))
            if test_share and not sides["test"]:
                raise InputError("data.test_share", f"{test_share} leaves no patient in test (of {len(ordered)})")
        for index, patient in enumerate(p for p in ordered if p not in sides["test"]):
            sides["val" if index % folds == fold else "train"].add(patient)
    for side in ("train", "val"):
        if not sides[side]:
            raise InputError("data.fold", f"leaves no patient in {side} (of {len({r.patient for r in records})})")
    return Split(*(tuple(sorted(sides[side])) for side in Split._fields))


def dealing_order(groups: Mapping[str, str], seed: int) -> list[str]:
    """Returns the patients of `groups` (patient -> group) by group, inside a group by a hash of (seed, patient).

    Dealt in this order, the patient at index i to fold i modulo the number of folds, the folds differ by one patient at
    most, and by one of each group.
    """
    return sorted(groups, key=lambda patient: (groups[patient], _rank(seed, patient)))


def read(path: Path, records: Sequence[Record], fold: int) -> Split:
    """Return split `fold` of a file `[{"train": [ids], "val": [ids], "test": [ids]}, ...]`.

    Ids are those of cases or of patients. Patients that are not listed are not used.

    Raises:
      InputError: the file has another form, lacks the fold, lists an unknown id, lists a patient in two sets, or leaves
        the training or validation set empty.
    """
    content = _json(path)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise InputError(path, 'is not a list of splits, [{"train": [...], "val": [...]}, ...]')
    if not 0 <= fold < len(content):
        raise InputError(path, f"lists {len(content)} splits, fold {fold} is not among them")
    entry = content[fold]
    known = {r.id: r.patient for r in records} | {r.patient: r.patient for r in records}
    sides = []
    for side in Split._fields:
        names = entry.get(side, [])
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise InputError(path, f"split {fold}: {side} is not a list of ids")
        unknown = [n for n in names if n not in known]
        if unknown:
            raise InputError(path, f"split {fold}: {side} lists {unknown[0]!r}, which is not in the data set")
        if not names and side != "test":
            raise InputError(path, f"split {fold}: {side} is empty")
        sides.append(tuple(sorted({known[n] for n in names})))
    return _disjoint(Split(*sides), path)


def keep(workdir: Path, chosen: Split) -> None:
    """Write the split to the work directory, unless it is already there.

    Raises:
      InputError: the work directory has another split, written by a previous run.
    """
    path = workdir / FILE
    if path.exists():
        content = _json(path)
        fields = content if isinstance(content, dict) else {}
        previous = _disjoint(Split(*(tuple(fields.get(side, ())) for side in Split._fields)), path)
        if previous != chosen:
            differing = set(previous.train) ^ set(chosen.train) | set(previous.val) ^ set(chosen.val)
            differing |= set(previous.test) ^ set(chosen.test)
            raise InputError(path, f"differs from the split of this run in {len(differing)} patients")
        return
    text = json.dumps({side: list(getattr(chosen, side)) for side in Split._fields}, indent=1)
    atomic_write(path, lambda temporary: _put(temporary, text + "\n"))


def shared_patients(records: Sequence[Record]) -> list[InputError]:
    """Return one error for each patient in two of the publisher's folders and each id that occurs twice."""
    problems = []
    seen: dict[str, Record] = {}
    ids: dict[str, Record] = {}
    for record in records:
        first = seen.setdefault(record.patient, record)
        where = next(iter(record.images.values()), Path(record.id))
        if first.split != record.split:
            sides = " and in ".join(r.split or "no split" for r in (first, record))
            text = f"patient {record.patient} is in {sides}"
            problems.append(InputError(where, text))
        elif record.id in ids:
            problems.append(InputError(where, f"case {record.id} occurs twice"))
        ids.setdefault(record.id, record)
    return problems


def _evenly(patients: Sequence[str], share: float) -> list[str]:
    """Evenly spaced elements of a sequence: any run of n elements contributes n * share to within one."""
    return [p for i, p in enumerate(patients) if int((i + 1) * share + 0.5) > int(i * share + 0.5)]


def _disjoint(chosen: Split, path: Path) -> Split:
    for one, two in combinations(Split._fields, 2):
        both = sorted(set(getattr(chosen, one)) & set(getattr(chosen, two)))
        if both:
            raise InputError(path, f"has patient {both[0]} both in {one} and in {two}")
    return chosen


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _rank(seed: int, patient: str) -> str:
    return hashlib.sha256(f"{seed}/{patient}".encode()).hexdigest()


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(path, "no such file") from error
    except (OSError, ValueError) as error:
        raise InputError(path, f"is not readable JSON ({error})") from error
