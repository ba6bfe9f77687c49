"""Several images at each position: image types and echoes to stacks of their own, the rest to phases of a cine."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cardiac_jax.data.io.dicom import pixels
from cardiac_jax.data.io.dicom.header import TIMES, Frame
from cardiac_jax.errors import InputError

SAME_PHASE = 0.75  # largest shift of a position's trigger times against the others, in phases
CARDIAC = 2  # the first of `TIMES`, which tell phases from copies of an image


def channels(places: Sequence[Sequence[Frame]]) -> dict[str, list[Frame]]:
    """Return the frames by what distinguishes images of one place: {"": all}, or {"M": magnitude, "P": phase}, ...

    They are split only if every position has the same kinds, equally often.
    """
    frames = [frame for place in places for frame in place]
    kinds = [Counter(frame.kind for frame in place) for place in places]
    if len(kinds[0]) == 1 or any(kind != kinds[0] for kind in kinds):
        return {"": frames}
    everywhere = set.intersection(*(set(kind) for kind in kinds[0]))
    found: dict[str, list[Frame]] = {}
    for k, kind in enumerate(sorted(kinds[0])):
        words = [word for word in kind if word not in everywhere]
        name = "-".join("".join(c for c in word if c.isalnum()) for word in words) or f"kind{k + 1}"
        found[name if name not in found else f"{name}{k + 1}"] = [frame for frame in frames if frame.kind == kind]
    return found


def phases(places: Sequence[Sequence[Frame]]) -> list[list[Frame]]:
    """Return the frames as `[phase][slice]`, phases ordered by the first of `TIMES` that every frame has and that
    differs between the frames of a position.

    Raises:
      InputError: the positions have different numbers of frames, or nothing orders them.
    """
    _check_counts(places)
    if len(places[0]) == 1:
        return [[place[0] for place in places]]
    frames = [frame for place in places for frame in place]
    for k, names in enumerate(TIMES):
        without = [frame for frame in frames if frame.times[k] is None]
        distinct = [len({frame.times[k] for frame in place}) for place in places]
        if len(without) == len(frames) or (not without and max(distinct) == 1):
            continue
        if without:
            raise InputError(without[0].path, f"lacks {names[0]}, which orders the other images of its position")
        for place in places:
            first = {frame.times[k]: frame for frame in reversed(place)}
            again = next((frame for frame in place if first[frame.times[k]] is not frame), None)
            if again is not None:
                words = f"has the {names[0]} of {first[again.times[k]].name} at the same position"
                raise InputError(again.path, f"{words}: a repeated image, or phases that cannot be ordered")
        ordered = [sorted(place, key=lambda frame: frame.times[k] or 0.0) for place in places]
        if k == 0:
            _check_times(ordered)
        if k >= CARDIAC:
            _check_copies(ordered)
        return [list(phase) for phase in zip(*ordered, strict=True)]
    one, other = places[0][:2]
    words = f"lies at the position of {one.name}, and nothing orders the two"
    raise InputError(other.path, f"{words} ({', '.join(names[0] for names in TIMES)})")


def _check_counts(places: Sequence[Sequence[Frame]]) -> None:
    """Raises InputError if a position has more or fewer frames than most."""
    counts = [len(place) for place in places]
    usual = max(Counter(counts).items(), key=lambda item: (item[1], item[0]))[0]
    for k, place in enumerate(places):
        if len(place) != usual:
            held = f"{len(place)} image{'s' if len(place) > 1 else ''}"
            names = ", ".join(frame.name for frame in place[:3])
            words = f"is at position {k + 1} of {len(places)}, which has {held} ({names}{', ...' * (len(place) > 3)})"
            raise InputError(place[-1].path, f"{words}; other positions have {usual}")


def _check_times(ordered: Sequence[Sequence[Frame]]) -> None:
    """Raises InputError if the phases of a position are shifted against the others, as when its first is missing."""
    times = np.array([[frame.times[0] or 0.0 for frame in place] for place in ordered])
    counted = times / np.median(np.diff(times, axis=1), axis=1, keepdims=True)
    usual = np.median(counted, axis=0) if len(counted) > 2 else counted[0]
    shifts = np.median(counted - usual, axis=1)
    if np.abs(shifts).max() > SAME_PHASE:
        k = int(np.abs(shifts).argmax())
        shown = ["{:g} to {:g} ms".format(*row[[0, -1]]) for row in (times[k], np.median(times, axis=0))]
        words = f"begins the phases at {shown[0]} of TriggerTime, other positions have {shown[1]}"
        raise InputError(ordered[k][0].path, f"{words}: a phase is missing")


def _check_copies(ordered: Sequence[Sequence[Frame]]) -> None:
    """Raises InputError if an image has the pixels of the one before it: without a cardiac time that is a copy."""
    for place in ordered:
        held = [pixels.read(frame.path, frame.image.layout, frame.index) for frame in place]
        for k in range(1, len(place)):
            if np.array_equal(held[k - 1], held[k]):
                raise InputError(place[k].path, f"is a copy of {place[k - 1].name} (same position, same pixels)")
