"""Classes by name: the canonical structures, the structures inside the wall, and their label values.

Names of structures are not case-sensitive in `roles`. The wall is Myo including oedema and scar.
"""

from collections.abc import Sequence

CLASSES = ("background", "RV", "Myo", "LV")  # canonical label values 0, 1, 2, 3
IN_WALL = ("oedema", "scar", "mvo")  # classes that are part of the myocardium


def roles(classes: Sequence[str]) -> dict[str, int]:
    """Returns name in lower case -> label value, without the background."""
    return {name.casefold(): value for value, name in enumerate(classes) if value}


def wall_labels(classes: Sequence[str]) -> tuple[int, ...]:
    """Returns the label values of the wall (Myo, oedema, scar); () if there is no class "Myo"."""
    known = roles(classes)
    return tuple(known[name] for name in ("myo", *IN_WALL) if name in known) if "myo" in known else ()


def merged(name: str, classes: Sequence[str]) -> int:
    """Returns the label value in `classes` of a structure: its own, else Myo for oedema and scar, else background."""
    own = name if name in classes else "Myo" if name in IN_WALL else ""
    return classes.index(own) if own in classes else 0
