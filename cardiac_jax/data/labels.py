"""Classes by name: the canonical structures, what lies in the wall, and which label values mean them.

Names are compared whatever their case. The wall is Myo with whatever is drawn in it (oedema, scar).
"""

from collections.abc import Sequence

CLASSES = ("background", "RV", "Myo", "LV")  # canonical label values 0, 1, 2, 3
IN_WALL = ("oedema", "scar")  # classes that are myocardium too


def roles(classes: Sequence[str]) -> dict[str, int]:
    """Name in lower case -> label value, background left out."""
    return {name.casefold(): value for value, name in enumerate(classes) if value}


def wall_labels(classes: Sequence[str]) -> tuple[int, ...]:
    """Label values of the myocardium, what is drawn in it included; none without a class "Myo"."""
    known = roles(classes)
    return tuple(known[name] for name in ("myo", *IN_WALL) if name in known) if "myo" in known else ()


def merged(name: str, classes: Sequence[str]) -> int:
    """The class of `classes` that a structure counts as: its own; of what lies in the wall Myo; else background."""
    own = name if name in classes else "Myo" if name in IN_WALL else ""
    return classes.index(own) if own in classes else 0
