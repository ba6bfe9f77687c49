"""Frames to series, and series of one slice each to stacks; frames that cannot belong together are named.

A series must have one patient, study, frame of reference, matrix, pixel spacing and orientation. Series with the same
ones are joined if no two of them have an image at the same position and their positions form one regular stack.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from cardiac_jax.data.io.dicom.geometry import by_position, irregular
from cardiac_jax.data.io.dicom.header import Frame
from cardiac_jax.errors import InputError

SAME_AXES = 1e-3  # difference of direction cosines
SAME_SPACING = 1e-3  # relative
T = TypeVar("T")


class Series(NamedTuple):
    """Frames that belong together.

    Attributes:
      folder: deepest folder that holds all its files.
      problem: why they cannot be one image; None if nothing was found yet.
      scattered: no orientation holds more than half of the frames, as in a localiser.
    """

    frames: tuple[Frame, ...]
    folder: Path
    problem: InputError | None = None
    scattered: bool = False

    @property
    def positions(self) -> int:
        """Number of positions along the normal."""
        return len(by_position(self.frames))


def difference(one: Frame, other: Frame) -> str:
    """Return in words what keeps `one` from lying in a stack with `other`; "" if nothing does."""
    if one.image.study != other.image.study:
        return "is of another patient or study than"
    if one.image.reference != other.image.reference:
        return "has another FrameOfReferenceUID than"
    sizes = [f"{f.image.layout.columns} x {f.image.layout.rows}" for f in (one, other)]
    if sizes[0] != sizes[1]:
        return f"has {sizes[0]} pixels, not {sizes[1]} as"
    if not np.allclose(one.spacing_mm, other.spacing_mm, rtol=SAME_SPACING, atol=0):
        shown = [" x ".join(f"{s:.4g}" for s in f.spacing_mm) for f in (one, other)]
        return f"has pixels of {shown[0]} mm, not {shown[1]} mm as"
    if np.abs(one.axes - other.axes).max() > SAME_AXES:
        return f"has another orientation ({_degrees(one, other):.1f} degrees) than"
    return ""


def same_plane(one: Frame, other: Frame) -> bool:
    """Return whether two frames are parallel, on either side."""
    return abs(float(one.normal @ other.normal)) > np.cos(SAME_AXES * 10)


def collect(frames: Sequence[Frame], root: Path) -> list[Series]:
    """Return the series of `frames`; copies of a series in several folders are kept apart."""
    found = []
    for alike in classes(frames, lambda f, g: f.image.series == g.image.series):
        parts = classes(alike, lambda f, g: f.path.parent == g.path.parent)
        copies = _repeats([Series(tuple(part), root) for part in parts])
        found += [_checked(part, root) for part in (parts if copies else [alike])]
    return found


def join(series: Sequence[Series], root: Path) -> list[Series]:
    """Return `series` with those of one stack joined: all alike under `root` if they fit, else folder by folder."""
    found: list[Series] = []
    faulty = [s for s in series if s.problem is not None]
    sound = [s for s in series if s.problem is None]
    for alike in classes(sound, lambda s, t: not difference(s.frames[0], t.frames[0])):
        joined, left = _join(alike, root, root)
        slices = [s for s in left if s.positions == 1]
        slices = [s for s in slices if not any(_repeats([s, other]) for other in slices if other is not s)]
        if len(slices) > 1 and len(by_position(_frames(slices))) > 1:  # one slice each, but no regular stack
            joined.append(_one(slices, root))
            left = _without(left, slices)
        for k, stack in enumerate(joined):
            slices = [s for s in faulty if _is_slice_of(s, stack)]
            if slices:  # a stack of one series a slice with a fault in one of them is not read without it
                frames = _frames([stack, *slices])
                joined[k] = Series(frames, common_folder(frames, root), slices[0].problem)
                faulty = _without(faulty, slices)
        found += joined + left
    return found + faulty


def classes(items: Sequence[T], alike: Callable[[T, T], bool]) -> list[list[T]]:
    """Return the items in lists; each is like the first of its list."""
    found: list[list[T]] = []
    for item in items:
        home = next((group for group in found if alike(group[0], item)), None)
        if home is None:
            found.append([item])
        else:
            home.append(item)
    return found


def common_folder(frames: Sequence[Frame], root: Path) -> Path:
    """Return the deepest folder of all their files; `root` itself if it is a file."""
    folders = {frame.path.parent for frame in frames}
    return Path(os.path.commonpath(folders)) if root.is_dir() else root


def _checked(frames: list[Frame], root: Path) -> Series:
    folder = common_folder(frames, root)
    files: dict[str, Path] = {}
    for frame in frames:
        first = files.setdefault(frame.image.uid, frame.path)
        if first != frame.path:
            problem = InputError(frame.path, f"repeats {first.name}: both have the same SOPInstanceUID")
            return Series(tuple(frames), folder, problem)
    groups = classes(frames, lambda f, g: not difference(f, g))
    most = max(groups, key=len)
    if len(groups) == 1:
        return Series(tuple(frames), folder)
    odd = next(group[0] for group in groups if group is not most)
    problem = InputError(odd.path, f"{difference(odd, most[0])} {most[0].name} of the same series")
    views = classes(frames, same_plane)
    return Series(tuple(frames), folder, problem, len(views) > 1 and 2 * max(map(len, views)) <= len(frames))


def _join(alike: list[Series], folder: Path, root: Path) -> tuple[list[Series], list[Series]]:
    """Series of one geometry under `folder`: those joined, those left."""
    joined, left = [], alike
    for group in [alike] if not _overlap(alike) else classes(alike, lambda s, t: _kind(s) == _kind(t)):
        sound = len(group) > 1 and not _repeats(group) and not _overlap(group)
        if sound and irregular(by_position(_frames(group))) is None:
            joined.append(_one(group, root))
            left = _without(left, group)
    inner = {s.folder.relative_to(folder).parts[0] for s in left if s.folder != folder} if len(left) > 1 else set()
    for name in sorted(inner):
        here = [s for s in left if folder / name in (s.folder, *s.folder.parents)]
        further, _ = _join(here, folder / name, root)
        joined += further
        used = {id(frame) for other in further for frame in other.frames}
        left = [s for s in left if id(s.frames[0]) not in used]
    return joined, left


def _one(group: list[Series], root: Path) -> Series:
    frames = _frames(group)
    pair = _overlap(group)
    problem = None
    if pair:
        words = f"lies at the position of {pair[0].name}, which is of another series"
        problem = InputError(pair[1].path, words)
    return Series(frames, common_folder(frames, root), problem)


def _is_slice_of(one: Series, stack: Series) -> bool:
    """Whether a series lies at one position and could be of a stack."""
    alike = not any(difference(frame, stack.frames[0]) for frame in one.frames)
    return alike and len(by_position(one.frames)) == 1


def _frames(group: Sequence[Series]) -> tuple[Frame, ...]:
    return tuple(frame for s in group for frame in s.frames)


def _without(series: list[Series], group: Sequence[Series]) -> list[Series]:
    return [s for s in series if not any(s is member for member in group)]


def _repeats(group: Sequence[Series]) -> bool:
    """Whether two series hold the same image, as copies in several folders do."""
    uids = [{frame.image.uid for frame in s.frames} for s in group]
    return sum(map(len, uids)) > len(set().union(*uids))


def _overlap(group: Sequence[Series]) -> tuple[Frame, Frame] | None:
    """Two frames of different series at one position."""
    owner = {id(frame): k for k, s in enumerate(group) for frame in s.frames}
    for place in by_position(_frames(group)):
        other = next((f for f in place if owner[id(f)] != owner[id(place[0])]), None)
        if other is not None:
            return place[0], other
    return None


def _kind(series: Series) -> tuple[object, ...]:
    """What distinguishes series at the same positions: image types and echoes, and whether they are cine."""
    return (frozenset(frame.kind for frame in series.frames), len(series.frames) > series.positions)


def _degrees(one: Frame, other: Frame) -> float:
    """Angle of the rotation between two orientations."""
    turns = [np.stack([*f.axes, f.normal]) for f in (one, other)]
    return float(np.degrees(np.arccos(np.clip((np.trace(turns[0] @ turns[1].T) - 1) / 2, -1, 1))))
