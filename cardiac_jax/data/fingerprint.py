"""Digests of the files that a run was trained on, so that a run is not resumed on other data without a word."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from cardiac_jax.data.case import Record
from cardiac_jax.data.io import formats
from cardiac_jax.data.io.write import atomic_write
from cardiac_jax.errors import InputError

FILE = "data.json"


def files_of(records: Iterable[Record], sequences: Iterable[str]) -> dict[str, Path]:
    """Returns "<case> <sequence>", "<case> label" and "<case> <sequence> fine" -> file.

    The names do not depend on the folder of the data set.
    """
    found: dict[str, Path] = {}
    for record in records:
        found |= {f"{record.id} {name}": record.images[name] for name in sequences if name in record.images}
        if record.label is not None:
            found[f"{record.id} label"] = record.label
        found |= {f"{record.id} {name} fine": path for name, path in record.fine_images.items() if name in sequences}
    return found


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """Returns name -> SHA-256 of the file's bytes; of a folder (a DICOM series), of all its files by name.

    Of a header, the file of its voxels is included.
    """
    found = {}
    for name, path in files.items():
        digest = hashlib.sha256()
        for part in sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else formats.parts(path):
            digest.update(part.read_bytes())
        found[name] = digest.hexdigest()
    return found


def refuse_changes(workdir: Path, files: Mapping[str, Path], now: Mapping[str, str]) -> None:
    """Compares with what `keep` wrote; does nothing if the run has no such file (an older version wrote none).

    Raises:
      InputError: a file has other content than when the run was started, or is new or missing; names it.
    """
    path = workdir / FILE
    if not path.is_file():
        return
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(path, f"is not readable JSON ({error})") from None
    changed = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if changed:
        first = changed[0]
        what = "is new" if first not in before else "is missing" if first not in now else "has other content"
        more = f" (and {len(changed) - 1} more files)" if len(changed) > 1 else ""
        problem = f"{first} {what} since the run in {workdir} was started{more}; use another --workdir"
        raise InputError(files.get(first, path), problem)


def keep(workdir: Path, now: Mapping[str, str]) -> None:
    """Writes the digests to the work directory."""
    text = json.dumps(dict(now), indent=1) + "\n"
    atomic_write(workdir / FILE, lambda to: to.write_text(text, encoding="utf-8"))
