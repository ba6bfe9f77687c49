"""Registry of the structures whose anatomy a prior can guarantee; a new `AnatomySpec` is added to `ANATOMIES`."""

from cardiac_jax.anatomy.heart import HEART
from cardiac_jax.anatomy.spec import AnatomySpec
from cardiac_jax.anatomy.wall import WALL
from cardiac_jax.errors import InputError

ANATOMIES = {held.name: held for held in (WALL, HEART)}


def anatomy_spec(name: str) -> AnatomySpec:
    """Returns the specification called `name`.

    Raises:
      InputError: there is none.
    """
    if name not in ANATOMIES:
        raise InputError("anatomy", f"{name!r} is not one of {', '.join(ANATOMIES)}")
    return ANATOMIES[name]
