"""Meaning of label values: as told by flags, a `dataset.json` or a data set, or as the values themselves say.

Predictions and gold standard may code their structures by different values; both are turned into the same classes, by
name. Nothing is taken for "not annotated" unless it is told so.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.case import Dataset
from cardiac_jax.data.labels import CONVENTIONS, canonical_names
from cardiac_jax.data.sets.description import IGNORE_NAME, Labels
from cardiac_jax.errors import InputError

MASK = 255  # what a mask of one structure holds if it is not 1: the white of an 8-bit picture
TELL = "name the values by --labels=NAME=VALUE,... or a dataset.json"


class Told(NamedTuple):
    """Label values and who told them, for messages."""

    labels: Labels
    where: str


class Coding(NamedTuple):
    """Common classes of predictions and gold standard.

    Attributes:
      classes: names, background first.
      truth, pred: value in the file -> class; only `truth` may hold `IGNORE`.
      regions: structures that overlap: name -> its classes; empty if classes are the structures.
      notes: lines about what was mapped.
    """

    classes: tuple[str, ...]
    truth: Mapping[int, int]
    pred: Mapping[int, int]
    regions: Mapping[str, tuple[int, ...]]
    notes: list[str]


def parse(words: Sequence[str], flag: str = "--labels") -> Labels | None:
    """Returns the labels of `NAME=VALUE` words, or of the name of a convention (`CONVENTIONS`); None without words.

    A structure may have several values, `Myo=200+1220`, and `ignore=VALUE` is not annotated.

    Raises:
      InputError: a word has another form, or a name or value occurs twice.
    """
    if not words:
        return None
    if len(words) == 1 and words[0].casefold() in CONVENTIONS:
        words = [f"{name}={value}" for name, value in CONVENTIONS[words[0].casefold()].items()]
    named: dict[str, tuple[int, ...]] = {}
    for word in words:
        name, _, text = word.partition("=")
        values = text.split("+")
        if not name.strip() or not all(value.isdecimal() and len(value) < 11 for value in values):
            raise InputError(flag, f"{word!r} is not written name=value, nor is it one of {', '.join(CONVENTIONS)}")
        if name.strip() in named:
            raise InputError(flag, f"names {name.strip()} twice")
        named[name.strip()] = tuple(map(int, values))
    flat = [value for values in named.values() for value in values]
    if len({0, *flat}) <= len(flat):
        raise InputError(flag, "gives two structures one value (0 is the background)")
    ignore = named.pop(IGNORE_NAME, None)
    if (ignore is not None and len(ignore) > 1) or not named:
        raise InputError(flag, "names no structure" if not named else f"gives {IGNORE_NAME} several values")
    return Labels(named, ignore[0] if ignore else None)


def of_dataset(chosen: Dataset) -> Labels:
    """Returns the label values of a data set."""
    own = {name: tuple(v for v, k in chosen.labels.items() if k == i) for i, name in enumerate(chosen.classes) if i}
    return Labels(own, next((value for value, k in chosen.labels.items() if k == IGNORE), None))


def as_stored(chosen: Dataset) -> Coding:
    """Returns the coding of predictions that hold the label values of the data set."""
    predicted = {value: k for value, k in chosen.labels.items() if k != IGNORE}
    return Coding(chosen.classes, chosen.labels, predicted, {}, _mask_note(chosen.classes))


def by_name(pred: Told, truth: Told) -> Coding:
    """Returns the classes that the gold standard names; predictions are matched by name.

    Names of other conventions become canonical (`labels.canonical_names`). Structures that only the predictions name
    become background, and are said.

    Raises:
      InputError: no name is in both, or structures overlap and the two are not coded alike.
    """
    if truth.labels.overlap or pred.labels.overlap:
        return _regions(pred, truth)
    notes = []
    if pred.where != truth.where:
        notes.append(f"structures are matched by name: {truth.where} and {pred.where}")
    named = []
    for told in (truth,) if pred.where == truth.where else (truth, pred):
        other = canonical_names(told.labels.structures)
        if other:
            meant = ", ".join(f"{name} is {known}" for name, known in other.items())
            notes.append(f"{told.where}: {meant}")
    for told in (truth, pred):
        other = canonical_names(told.labels.structures)
        named.append({other.get(name, name): values for name, values in told.labels.structures.items()})
    own, theirs = named
    order = list(own)
    folded = {name.casefold(): k for k, name in enumerate(order, 1)}
    common = [name for name in theirs if name.casefold() in folded]
    if not common:
        shown = f"{', '.join(theirs)} against {', '.join(own)}"
        raise InputError(pred.where, f"names no structure of {truth.where}: {shown}")
    strangers = [name for name in theirs if name not in common]
    if strangers:
        notes.append(f"not measured: {', '.join(strangers)}, which the gold standard does not name")
    missing = [name for name in order if name.casefold() not in {name.casefold() for name in theirs}]
    if missing:
        notes.append(f"{pred.where} names no {', '.join(missing)}: missed wherever the gold standard has it")
    values = {0: 0} | {v: k for k, name in enumerate(order, 1) for v in own[name]}
    predicted = {0: 0} | {v: folded.get(name.casefold(), 0) for name, given in theirs.items() for v in given}
    notes += _mask_note(("background", *order))
    ignored = {} if truth.labels.ignore is None else {truth.labels.ignore: IGNORE}
    return Coding(("background", *order), values | ignored, predicted, {}, notes)


def by_value(pred: Mapping[Path, Collection[int]], truth: Mapping[Path, Collection[int]], where: Path) -> Coding:
    """Returns one class per value, for files whose values nothing names.

    A value means the same in both. Masks of one value are one structure, whether they hold 1 or 255 (or 1 in one
    folder and anything else in the other).

    Args:
      pred, truth: file -> its values without 0.
      where: folder of the predictions.

    Raises:
      InputError: there is no value, the two have none in common, or 255 lies beside other values in only one of them.
    """
    predicted, true = (set().union(*held.values()) for held in (pred, truth))
    both = sorted(predicted | true)
    if not both:
        raise InputError(where, "holds nothing but background, and so does the gold standard")
    single = all(len(values) <= 1 for values in (*pred.values(), *truth.values()))
    if single and len(both) == 2 and 1 in both and (MASK in both or len(predicted) == len(true) == 1):
        note = f"masks of one structure: {_listed(predicted)} in the predictions, {_listed(true)} in the gold standard"
        values = {0: 0} | dict.fromkeys(both, 1)
        return Coding(("background", "mask"), values, values, {}, [note])
    if predicted and true and not predicted & true:
        shown = f"{_listed(predicted)} against {_listed(true)}"
        raise InputError(where, f"has no label value in common with the gold standard: {shown}; {TELL}")
    if MASK in both and len(both) > 1 and not (MASK in predicted and MASK in true):
        side = "the predictions" if MASK in predicted else "the gold standard"
        others = _listed(set(both) - {MASK})
        problem = f"{MASK} beside {others} in {side}: a structure or not annotated? {TELL} ({IGNORE_NAME}={MASK})"
        raise InputError(where, problem)
    values = {0: 0} | {value: k for k, value in enumerate(both, 1)}
    return Coding(("background", *(f"label {value}" for value in both)), values, values, {}, [])


def unmeasured(classes: Sequence[str]) -> list[str]:
    """Returns one line on the measures that need a structure of a name that no class has; none if nothing lacks."""
    known = {name.casefold() for name in classes}
    if {"myo", "lv", "rv"} <= known:
        return []
    lacking = [name for name in ("LV", "Myo", "RV") if name.casefold() not in known]
    lost = ["mass, wall thickness, whole LV"] if {"LV", "Myo"} & set(lacking) else []
    lost += ["anatomical validity"] if "Myo" in lacking else []
    lost += [f"ejection fraction of the {name}" for name in ("LV", "RV") if name in lacking]
    return [f"not measured, because no structure is called {' or '.join(lacking)}: {', '.join(lost)}; {TELL}"]


def _regions(pred: Told, truth: Told) -> Coding:
    """Classes are the single values; every structure is a union of them."""
    if pred.labels != truth.labels:
        raise InputError(pred.where, f"must name the same values as {truth.where}, whose structures overlap")
    held = truth.labels
    values = sorted({value for own in held.structures.values() for value in own})
    classes = {value: k for k, value in enumerate(values, 1)}
    regions = {name: tuple(classes[v] for v in own) for name, own in held.structures.items()}
    note = f"{truth.where}: structures overlap, each is measured as the union of its values"
    ignored = {} if held.ignore is None else {held.ignore: IGNORE}
    names = ("background", *(f"label {value}" for value in values))
    return Coding(names, {0: 0} | classes | ignored, {0: 0} | classes, regions, [note])


def _mask_note(classes: Sequence[str]) -> list[str]:
    return [f"a mask that holds 1 or {MASK} alone counts as {classes[1]}"] if len(classes) == 2 else []


def _listed(values: Collection[int]) -> str:
    return ", ".join(map(str, sorted(values))) or "nothing"
