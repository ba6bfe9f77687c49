"""Structures whose anatomy a prior can guarantee, by name. To add some, write a record and list it here."""

from cardiac_jax.anatomy.heart import HEART
from cardiac_jax.anatomy.spec import AnatomySpec
from cardiac_jax.anatomy.wall import WALL
from cardiac_jax.errors import InputError

ANATOMIES = {held.name: held for held in (WALL, HEART)}


def anatomy_spec(name: str) -> AnatomySpec:
    """The structures called `name`; raises InputError if there are none."""
    if name not in ANATOMIES:
        raise InputError("structures", f"{name!r} is not one of {', '.join(ANATOMIES)}")
    return ANATOMIES[name]
