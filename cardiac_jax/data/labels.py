"""Classes by name: the canonical structures, the structures inside the wall, their label values and other names.

Names of structures are not case-sensitive in `roles`. The wall is Myo including oedema, scar and microvascular
obstruction (mvo).
"""

import re
from collections.abc import Collection, Mapping, Sequence

CLASSES = ("background", "RV", "Myo", "LV")  # canonical label values 0, 1, 2, 3
IN_WALL = ("oedema", "scar", "mvo")  # classes that are part of the myocardium
STRUCTURES = (*CLASSES[1:], *IN_WALL, "LA")
"""All structures with a canonical name; LV and RV are the blood pools."""
OTHER_NAMES: Mapping[str, str] = {
    "RV": "rvc, rvbp, rv cavity, rv pool, rv blood pool, rv endocardium",
    "Myo": (
        "mlv, lvm, lvmyo, lv myo, lv wall, lv muscle, lv myocardium, lv normal myocardium, lv healthy myocardium, "
        "lv normal myo, myocardium, normal myocardium, healthy myocardium, normal myo, myocardium of lv"
    ),
    "LV": "lvc, lvbp, lv cavity, lv pool, lv blood pool, lv endocardium, cavity of lv",
    "oedema": "edema, lv edema, myocardial edema, lv myocardial edema",
    "scar": (
        "scars, infarct, infarction, myocardial infarction, myocardial scar, myocardial scars, lv scar, lv scars, "
        "lv myocardial scar, lv myocardial scars, scar tissue"
    ),
    "mvo": "no reflow, noreflow, microvascular obstruction, permanent microvascular obstruction, lv mvo",
    "LA": "la cavity, la blood pool, la endocardium",
}
"""Canonical name -> names of other conventions, as `_plain` writes them."""
BESIDE_WALL = ("lv", "cavity", "blood pool", "pool")
"""Names that mean the cavity of the LV only where the myocardium has a label of its own."""
CONVENTIONS: Mapping[str, Mapping[str, int]] = {
    "acdc": {"RV": 1, "Myo": 2, "LV": 3},
    "mnms": {"LV": 1, "Myo": 2, "RV": 3},
    "emidec": {"LV": 1, "Myo": 2, "scar": 3, "mvo": 4},
    "mscmr": {"RV": 600, "Myo": 200, "LV": 500, "ignore": 255},
    "myops": {"RV": 600, "Myo": 200, "LV": 500, "oedema": 1220, "scar": 2221},
}
"""Label values of published data sets, by name: M&Ms counts from the LV, ACDC from the RV."""
_WORDS = {"left ventricle": "lv", "left ventricular": "lv", "right ventricle": "rv", "right ventricular": "rv"}
_WORDS |= {"left atrium": "la", "left atrial": "la", "oedema": "edema", "bloodpool": "blood pool"}
_KNOWN = {other.strip(): name for name, others in OTHER_NAMES.items() for other in others.split(",")}


def canonical_names(names: Collection[str]) -> dict[str, str]:
    """Returns the name of another convention -> the canonical name, for the names that have one.

    A structure keeps its name if it is canonical already up to case, if two names mean the same structure, or if it
    could be the whole left ventricle (`BESIDE_WALL`) because no name means the myocardium.
    """
    exact = {name.casefold(): name for name in STRUCTURES}
    meant = {name: exact.get(name.strip().casefold()) or _KNOWN.get(_plain(name)) for name in names}
    if "Myo" in meant.values() and "LV" not in meant.values():
        meant |= {name: "LV" for name in names if meant[name] is None and _plain(name) in BESIDE_WALL}
    meant |= {name: "RV" for name in names if meant[name] is None and _plain(name) == "rv"}
    meant |= {name: "LA" for name in names if meant[name] is None and _plain(name) == "la"}
    wanted = list(meant.values())
    return {name: other for name, other in meant.items() if other and other != name and wanted.count(other) == 1}


def roles(classes: Sequence[str]) -> dict[str, int]:
    """Returns name in lower case -> label value, without the background."""
    return {name.casefold(): value for value, name in enumerate(classes) if value}


def wall_labels(classes: Sequence[str]) -> tuple[int, ...]:
    """Returns the label values of the wall (Myo, oedema, scar, mvo); () if there is no class "Myo"."""
    known = roles(classes)
    return tuple(known[name] for name in ("myo", *IN_WALL) if name in known) if "myo" in known else ()


def merged(name: str, classes: Sequence[str]) -> int:
    """Returns the label value in `classes` of a structure: its own, else Myo if it is in the wall, else background."""
    own = name if name in classes else "Myo" if name in IN_WALL else ""
    return classes.index(own) if own in classes else 0


def _plain(name: str) -> str:
    """`name` in lower case, with single spaces, without brackets, the ventricles as lv and rv, the atrium as la."""
    words = re.sub(r"\(.*?\)|\bthe\b", " ", name.casefold())
    text = " ".join(re.sub(r"[_\-./,]", " ", words).split())
    for long, short in _WORDS.items():
        text = re.sub(rf"\b{long}\b", short, text)
    return text
