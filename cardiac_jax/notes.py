"""Notes: what is said of a file that is used although it does not tell everything, one line each.

A note is shown on standard error, once in a process however often its file is read, and of the first `MOST` files that
it is true of.
"""

import contextlib
import sys
from collections.abc import Generator
from os import PathLike

MOST = 3

_files: dict[str, set[str]] = {}  # note -> the files of which it was said
_collecting: list[list[tuple[str, str]]] = []


def say(where: str | PathLike[str], note: str) -> None:
    """Says `note`, one clause, of the file or key `where`; within `collected` it is gathered instead."""
    if _collecting:
        if (str(where), note) not in _collecting[-1]:
            _collecting[-1].append((str(where), note))
        return
    files = _files.setdefault(note, set())
    if str(where) in files or len(files) > MOST:
        return
    files.add(str(where))
    more = f"further files: {note} (launch.prepare --check lists them)"
    print(f"note: {where}: {note}" if len(files) <= MOST else f"note: {more}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def collected() -> Generator[list[tuple[str, str]]]:
    """Context manager that gives the notes said within, `(where, note)` each once, and shows none of them."""
    gathered: list[tuple[str, str]] = []
    _collecting.append(gathered)
    try:
        yield gathered
    finally:
        _collecting.pop()
