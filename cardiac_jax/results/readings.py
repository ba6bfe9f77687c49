"""Files of a blinded reading: the key, written with the page, and the scores that each reader saves from it.

<folder>/reading.html       the page, which names no method, case or patient
<folder>/reading_key.json   {"study", "seed", "images": {id: {"method", "case", "patient"}}}; not for the readers
<name>.json                 {"format", "study", "reader", "saved", "ratings": [{"image", "score"}]}, saved by the page
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cardiac_jax.data.io.write import atomic_write
from cardiac_jax.errors import InputError
from cardiac_jax.metrics.opinions import SCALE
from cardiac_jax.metrics.rows import Row

KEY = "reading_key.json"
PAGE = "reading.html"
FORMAT = "cardiac_jax reading 1"


class Shown(NamedTuple):
    """What one image of a reading shows."""

    method: str
    case: str
    patient: str


class Key(NamedTuple):
    """The key of a reading.

    Attributes:
      study: identifies the page; the readings name it.
      seed: of the order and the ids.
      images: id -> what the image shows.
    """

    study: str
    seed: int
    images: Mapping[str, Shown]


def write_key(folder: Path, key: Key) -> None:
    """Writes the key of a reading."""
    images = {name: shown._asdict() for name, shown in key.images.items()}
    text = json.dumps({"study": key.study, "seed": key.seed, "images": images}, indent=1)
    atomic_write(folder / KEY, lambda to: to.write_text(text + "\n", encoding="utf-8"))


def read_key(folder: Path) -> Key:
    """The key in `folder`.

    Raises:
      InputError: there is none, or it has other content.
    """
    held = _json(folder / KEY, "no such file: readings lie beside the key that was written with their page")
    try:
        images = {str(name): Shown(**shown) for name, shown in held["images"].items()}
        return Key(str(held["study"]), int(held["seed"]), images)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(folder / KEY, "is not the key of a reading") from None


def read_opinions(paths: Sequence[Path]) -> dict[str, list[Row]]:
    """method -> its scores, one row per image and reader, in the order of the key; methods without scores are left out.

    A row has `case`, `patient`, `structure` (the reader), `opinion` and `image`.

    Args:
      paths: files that the page saved, each beside the key of its page, or folders that hold both.

    Raises:
      InputError: a file is no reading, lies beside the key of another page, scores an unknown image, twice or off the
        scale; two files are of one reader and one page; or nothing is scored.
    """
    found: dict[str, list[Row]] = {}
    seen: dict[tuple[str, str], Path] = {}
    for path in (file for given in paths for file in _files(given)):
        key, reading = read_key(path.parent), _reading(path)
        if reading["study"] != key.study:
            raise InputError(path, f"was saved from another page than that of {path.parent / KEY}")
        before = seen.setdefault((key.study, reading["reader"]), path)
        if before != path:
            raise InputError(path, f"is of reader {reading['reader']!r}, as is {before}")
        for shown in key.images.values():
            found.setdefault(shown.method, [])
        for image, score in _scores(path, reading["ratings"], key):
            method, case, patient = key.images[image]
            row: Row = {"case": case, "patient": patient, "structure": reading["reader"], "opinion": score}
            found[method].append({**row, "image": image})
    if not any(found.values()):
        raise InputError("--readings", "hold no score")
    return {method: rows for method, rows in found.items() if rows}


def _files(given: Path) -> list[Path]:
    """The readings in a folder, or the file itself."""
    if not given.is_dir():
        return [given]
    inside = [path for path in sorted(given.glob("*.json")) if path.name != KEY]
    if not inside:
        raise InputError(given, "holds no reading (*.json); readers save them from the page")
    return inside


def _reading(path: Path) -> dict[str, Any]:
    held = _json(path, "no such file")
    known = isinstance(held, dict) and held.get("format") == FORMAT
    if not known or not isinstance(held.get("ratings"), list) or not isinstance(held.get("study"), str):
        raise InputError(path, "is not a reading that the page saved")
    reader = held.get("reader")
    if not isinstance(reader, str) or not reader.strip():
        raise InputError(path, "names no reader")
    return {**held, "reader": reader.strip()}


def _scores(path: Path, ratings: Sequence[Any], key: Key) -> list[tuple[str, int]]:
    """The scores (image, score) of a reading."""
    found: dict[str, int] = {}
    for rating in ratings:
        image, score = (rating.get("image"), rating.get("score")) if isinstance(rating, dict) else (None, None)
        if not isinstance(image, str) or image not in key.images:
            raise InputError(path, f"scores an image {image!r} that its page does not show")
        if image in found:
            raise InputError(path, f"scores the image {image} twice")
        if isinstance(score, bool) or score not in SCALE:
            raise InputError(path, f"gives the image {image} {score!r}, not {SCALE[0]} to {SCALE[-1]}")
        found[image] = int(score)
    return list(found.items())


def _json(path: Path, absent: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(path, absent) from None
    except (ValueError, IsADirectoryError):
        raise InputError(path, "is not JSON") from None
