"""Structures whose anatomy a prior can guarantee, by name. To add some, write a record and list it here."""

from cardiac_jax.anatomy.heart import HEART
from cardiac_jax.anatomy.spec import Structures
from cardiac_jax.anatomy.wall import WALL
from cardiac_jax.errors import InputError

STRUCTURES = {held.name: held for held in (WALL, HEART)}


def structures(name: str) -> Structures:
    """The structures called `name`; raises InputError if there are none."""
    if name not in STRUCTURES:
        raise InputError("structures", f"{name!r} is not one of {', '.join(STRUCTURES)}")
    return STRUCTURES[name]
