"""Sequences by name, and nnU-Net's channels: `<case>_0000`, `<case>_0001` are images of one case."""

import re
from collections.abc import Sequence

SEQUENCES = ("LGE", "bSSFP", "T2", "cine")
CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})$")
_WORDS = {  # words that a name of the sequence contains, the first match counts
    "LGE": ("lge", "de", "psir", "lgemri", "demri", "lgecmr", "late gadolinium", "delayed enhancement"),
    "cine": ("cine",),
    "bSSFP": ("bssfp", "ssfp", "c0", "balanced steady state"),
    "T2": ("t2", "t2w", "t2weighted", "stir"),
}


def sequence(name: str) -> str | None:
    """Returns the sequence that a channel's name means, of `SEQUENCES`; None if it is not known."""
    text = f" {' '.join(re.findall(r'[a-z0-9]+', name.casefold()))} "
    return next((known for known, words in _WORDS.items() if any(f" {word} " in text for word in words)), None)


def sequences(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the sequences of channels by number; a channel with an unknown name, or a name known twice, keeps it."""
    found = [sequence(name) for name in names]
    return tuple(k if k and found.count(k) == 1 else name for k, name in zip(found, names, strict=True))
