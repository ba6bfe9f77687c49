"""`dataset.json`: names of label values and of channels, as nnU-Net (v1, v2) and the Medical Segmentation Decathlon do.

    "labels": {"background": 0, "RV": 1, "Myo": 2, "LV": 3, "ignore": 4}    v2: name -> value
    "labels": {"background": 0, "whole LV": [2, 3], "LV": 3}                 v2: name -> values of a region
    "labels": {"0": "background", "1": "left atrium"}                        v1, Decathlon: value -> name
    "channel_names": {"0": "LGE", "1": "T2"}                                 v2; "modality" in v1 and the Decathlon

Both are read from the folder of the files or the folder above it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cardiac_jax.data.io.write import atomic_write
from cardiac_jax.errors import InputError

DESCRIPTION = "dataset.json"
IGNORE_NAME = "ignore"
MOST_STRUCTURES = 250  # classes are uint8, and 255 is IGNORE
LARGEST_VALUE = 2**31 - 1


class Labels(NamedTuple):
    """Meaning of the label values in a folder.

    Attributes:
      structures: name -> its values; without the background.
      ignore: value of voxels that are not annotated; None if there is no such value.
    """

    structures: Mapping[str, tuple[int, ...]]
    ignore: int | None = None

    @property
    def overlap(self) -> bool:
        """Whether a value belongs to two structures."""
        values = [value for own in self.structures.values() for value in own]
        return len(set(values)) < len(values)


def find(*folders: Path) -> Path | None:
    """Returns the first `dataset.json` in the given folders or, in the same order, the folders above them."""
    candidates = [place / DESCRIPTION for folder in folders for place in (folder, folder.absolute().parent)]
    return next((path for path in candidates if path.is_file()), None)


def labels(path: Path) -> Labels:
    """Returns the label values that a `dataset.json` names.

    Raises:
      InputError: it names none, has no background, or a name or value is invalid.
    """
    held = _content(path).get("labels")
    if not isinstance(held, dict) or not held:
        raise InputError(path, 'holds no "labels": {name: value}')
    named: dict[str, tuple[int, ...]] = {}
    for name, value in _by_name(held, path):
        if name in named:
            raise InputError(path, f"names two labels {name!r}")
        named[name] = _values(name, value, path)
    background = [name for name, values in named.items() if values == (0,)]
    if not background:
        raise InputError(path, "has no label 0, the background")
    if len(background) > 1:
        raise InputError(path, f"gives {' and '.join(background)} the label 0")
    ignored = {name: named.pop(name) for name in list(named) if name.casefold() == IGNORE_NAME}
    if len(ignored) > 1 or any(len(values) != 1 for values in ignored.values()):
        raise InputError(path, f"must give {IGNORE_NAME} one value")
    ignore = next((values[0] for values in ignored.values()), None)
    del named[background[0]]
    for name, values in named.items():
        if 0 in values or ignore in values:
            raise InputError(path, f"has the background or {IGNORE_NAME} among the values of {name}")
    if len(named) > MOST_STRUCTURES:
        raise InputError(path, f"names {len(named)} structures, over the limit of {MOST_STRUCTURES}")
    same = [name for name, values in named.items() if list(map(set, named.values())).count(set(values)) > 1]
    if same:
        raise InputError(path, f"gives {' and '.join(same)} the same value")
    return Labels(dict(sorted(named.items(), key=lambda item: item[1])), ignore)


def channels(path: Path) -> tuple[str, ...]:
    """Returns the names of the channels by number; () if the file names none.

    Raises:
      InputError: channels are not numbered from 0, or two have one name.
    """
    content = _content(path)
    held = content.get("channel_names", content.get("modality"))
    if held is None:
        return ()
    numbers = [str(k) for k in range(len(held))] if isinstance(held, dict) else []
    if not numbers or set(held) != set(numbers) or not all(isinstance(name, str) for name in held.values()):
        raise InputError(path, 'must number its "channel_names" from 0: {"0": name, "1": name}')
    names = tuple(_text(held[number], path) for number in numbers)
    if len({name.casefold() for name in names}) < len(names):
        raise InputError(path, f"gives two channels one name: {', '.join(names)}")
    return names


def write(folder: Path, values: Mapping[str, int], sequences: Sequence[str] = ()) -> None:
    """Writes a `dataset.json` that names the values of the label maps in `folder`, background first.

    Raises:
      InputError: the folder has one with other labels.
    """
    path = folder / DESCRIPTION
    if path.exists():
        own = {name: (value,) for name, value in values.items() if value}
        if labels(path) != Labels(dict(sorted(own.items(), key=lambda item: item[1]))):
            raise InputError(path, f"names other label values than those written here: {values}")
        return
    content = {"channel_names": {str(k): name for k, name in enumerate(sequences)}} if sequences else {}
    text = json.dumps(content | {"labels": dict(values), "file_ending": ".nii.gz"}, indent=1) + "\n"
    atomic_write(path, lambda to: to.write_text(text, encoding="utf-8"))


def _by_name(held: Mapping[str, Any], path: Path) -> list[tuple[str, Any]]:
    """(name, value) of both ways to write labels; numbers on both sides must mean the same either way."""
    numbered = all(key.strip().isdecimal() for key in held)
    named = all(isinstance(value, str) and not value.strip().isdecimal() for value in held.values())
    if numbered and named:
        return [(_text(name, path), int(key[:20])) for key, name in held.items()]
    if numbered and any(str(value) != key for key, value in held.items()):
        raise InputError(path, 'has numbers for names in "labels": which side is the value cannot be told')
    return [(_text(key, path), value) for key, value in held.items()]


def _values(name: str, value: Any, path: Path) -> tuple[int, ...]:
    given = value if isinstance(value, list) else [value]
    numbers = [int(v) if isinstance(v, str) and v.strip().isdecimal() and len(v) < 12 else v for v in given]
    if not numbers or not all(type(v) is int and 0 <= v <= LARGEST_VALUE for v in numbers):
        raise InputError(path, f"gives {name} the label {json.dumps(value)[:40]}, expected a whole number from 0")
    if len(set(numbers)) < len(numbers):
        raise InputError(path, f"gives {name} one value twice")
    return tuple(int(number) for number in numbers)


def _text(name: str, path: Path) -> str:
    """`name` with single spaces; raises InputError if it is empty or cannot be written."""
    text = " ".join(name.split())
    if not text or not text.isprintable():
        raise InputError(path, f"has a name that is empty or cannot be printed: {name!r}")
    return text


def _content(path: Path) -> dict[str, Any]:
    def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise InputError(path, f"has the key {twice!r} twice")
        return dict(pairs)

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, f"is not readable JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(path, "is not a JSON object")
    return content
