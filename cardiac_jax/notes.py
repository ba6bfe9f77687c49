"""Notes: what is said of a file that is used although it does not tell everything, one line each.

A note is shown on standard error, through the logger `cardiac_jax`, once in a process however often its file is read.
"""

import contextlib
import logging
from collections.abc import Iterator
from os import PathLike

_LOGGER = logging.getLogger("cardiac_jax")
_said: set[str] = set()
_collecting: list[list[tuple[str, str]]] = []


def say(where: str | PathLike[str], note: str) -> None:
    """Says `note`, one clause, of the file or key `where`; within `collected` it is gathered instead."""
    line = f"{where}: {note}"
    if _collecting:
        if (str(where), note) not in _collecting[-1]:
            _collecting[-1].append((str(where), note))
    elif line not in _said:
        _said.add(line)
        _LOGGER.warning(line)


@contextlib.contextmanager
def collected() -> Iterator[list[tuple[str, str]]]:
    """Context manager that gives the notes said within, `(where, note)` each once, and shows none of them."""
    gathered: list[tuple[str, str]] = []
    _collecting.append(gathered)
    try:
        yield gathered
    finally:
        _collecting.pop()
