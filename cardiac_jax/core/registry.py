"""Lookup of systems, networks, terms and data sets by name.

A name is looked up in the shipped table, then among the entry points of installed packages (group
`cardiac_jax.<kind>`). A name of the form `module:attribute` is imported, but only after `allow`: the commands allow the
names that a user wrote on the command line or in a configuration file. A checkpoint records such a name, and the user
must name it again to restore the checkpoint; nothing is imported because a file names it.
"""

import importlib
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any, TypeVar

from cardiac_jax.errors import InputError

T = TypeVar("T")
_allowed: set[str] = set()


def allow(names: Iterable[str]) -> None:
    """Lets `lookup` import these names (`module:attribute`)."""
    _allowed.update(name for name in names if ":" in name)


def lookup(kind: str, key: str, name: str, table: Mapping[str, T]) -> T:
    """Returns the object called `name`.

    Args:
      kind: "systems", "nets", "terms" or "datasets".
      key: the configuration key that holds the name, for messages.
      table: the shipped objects by name.

    Raises:
      InputError: the name is unknown, was not allowed, or cannot be imported.
    """
    if name in table:
        return table[name]
    for point in entry_points(group=f"cardiac_jax.{kind}"):
        if point.name == name:
            return point.load()
    if ":" not in name:
        raise InputError(key, f"{name!r} is not one of {', '.join(table)}, nor module:attribute, nor an entry point")
    if name not in _allowed:
        raise InputError(key, f"{name!r} is code of the user's own and is not imported unasked: add --use={name}")
    return _imported(key, name)


def _imported(key: str, name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(key, f"{name!r} cannot be imported: {error}") from None
