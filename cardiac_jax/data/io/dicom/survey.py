"""The stacks of a folder of DICOM: cases to be read, views kept apart, and lines that account for every file."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cardiac_jax.data.io.dicom import cine, series
from cardiac_jax.data.io.dicom.geometry import by_position, irregular, step_mm
from cardiac_jax.data.io.dicom.header import Frame
from cardiac_jax.data.io.dicom.listing import Listing, listing
from cardiac_jax.errors import InputError, printable

SAME_DISTANCE = 0.05  # of SpacingBetweenSlices and the distance of positions, relative
SHOWN = 3  # names in a line


class Stack(NamedTuple):
    """Frames of one geometry.

    Attributes:
      name: "series7", or "series7_M" where a series holds several kinds of image.
      folder: deepest folder that holds all its files; the file if only one was given.
      frames: all of them, sorted by path.
      phases: `[phase][slice]` frames, slices in the order of the normal; empty if there is a problem.
      problem: why it cannot be read.
      scattered: a localiser: no orientation holds more than half of the frames.
    """

    name: str
    folder: Path
    frames: tuple[Frame, ...]
    phases: tuple[tuple[Frame, ...], ...]
    problem: InputError | None
    scattered: bool

    @property
    def slices(self) -> int:
        """Number of slices; 0 if there is a problem."""
        return len(self.phases[0]) if self.phases else 0

    @property
    def parts(self) -> dict[str, tuple[Frame, ...]]:
        """Name of each phase -> its frames; {"": ...} of a stack with one phase or a problem."""
        if len(self.phases) < 2:
            return {"": self.phases[0] if self.phases else ()}
        width = max(2, len(str(len(self.phases))))
        return {f"phase{k:0{width}d}": phase for k, phase in enumerate(self.phases, 1)}


class Survey(NamedTuple):
    """Stacks to be read as cases, stacks kept apart, and all files."""

    stacks: tuple[Stack, ...]
    apart: tuple[Stack, ...]
    files: Listing


def survey(root: Path) -> Survey:
    """Return what a folder tree, or one file, holds. Problems of a stack are in it, damaged files in the listing.

    A single slice whose orientation no stack of its study has (a long-axis view), and a localiser, are kept apart where
    the study has a stack.

    Raises:
      InputError: there is DICOM, but pydicom is not installed.
    """
    found = listing(root)
    stacks = [stack for s in series.join(series.collect(found.frames, root), root) for stack in _stacks(s)]
    stacks = _named(sorted(stacks, key=lambda s: (s.frames[0].image.number or 0, str(s.frames[0].path), s.name)))
    cases, apart = [], []
    for stack in stacks:
        study = [s for s in stacks if s.slices > 1 and _study(s) == _study(stack)]
        other_plane = not any(series.same_plane(s.frames[0], stack.frames[0]) for s in study)
        lone = stack.slices == 1 and other_plane
        (apart if study and (stack.scattered or lone) else cases).append(stack)
    return Survey(tuple(cases), tuple(apart), found)


def notes(found: Survey, root: Path) -> list[str]:
    """Return lines that say what is in `root`: cine and joined series, views kept apart, files that are not read."""
    lines = []
    for stack in found.stacks:
        numbers = sorted({frame.image.number for frame in stack.frames if frame.image.number is not None})
        if stack.phases and (len(stack.phases) > 1 or len({f.image.series for f in stack.frames}) > 1):
            acquired = max((frame.image.phases or 0 for frame in stack.frames), default=0)
            rest = f" (of {acquired} acquired)" if acquired > len(stack.phases) else ""
            shape = f"{len(stack.phases)} phases{rest} of " * (len(stack.phases) > 1)
            shape += f"{stack.slices} slices" if stack.slices > 1 else "one slice"
            places = [[frame] for phase in stack.phases[:1] for frame in phase]
            distance = f" {step_mm(places):.3g} mm apart" if stack.slices > 1 else ""
            lines.append(f"{printable(str(stack.folder))}: {shape}{distance}, series {_few([str(n) for n in numbers])}")
    for one, several, names in (
        (
            "other view kept apart",
            "other views kept apart",
            [_inside(f.path, root) for s in found.apart for f in s.frames],
        ),
        (
            "DICOM object without an image",
            "DICOM objects without an image",
            [f"{_inside(path, root)} ({name})" for path, name in found.files.objects],
        ),
        ("file that is not DICOM", "files that are not DICOM", [_inside(p, root) for p in found.files.strangers]),
        ("hidden file", "hidden files", [_inside(p, root) for p in found.files.hidden]),
        ("folder that cannot be read", "folders that cannot be read", [_inside(p, root) for p in found.files.closed]),
    ):
        if names:
            names = [printable(name) for name in names]
            lines.append(f"{printable(str(root))}: {len(names)} {one if len(names) == 1 else several}: {_few(names)}")
    return lines


def _stacks(one: series.Series) -> list[Stack]:
    """A series as one stack, or as one of each kind where it has several images at each position."""
    if one.problem is not None:
        return [_stack(one, "", list(one.frames))]
    places = by_position(one.frames)
    return [_stack(one, kind, frames) for kind, frames in cine.channels(places).items()]


def _stack(one: series.Series, kind: str, frames: list[Frame]) -> Stack:
    phases: list[list[Frame]] = []
    problem = one.problem
    if problem is None:
        places = by_position(frames)
        try:
            problem = irregular(places) or _other_distance(places)
            phases = cine.phases(places) if problem is None else []
        except InputError as error:
            problem = error
    number = min((frame.image.number for frame in frames if frame.image.number is not None), default=None)
    name = "series" + ("" if number is None else str(number)) + (f"_{kind}" if kind else "")
    ordered = sorted(frames, key=lambda f: (str(f.path), f.index))
    return Stack(name, one.folder, tuple(ordered), tuple(map(tuple, phases)), problem, one.scattered)


def _other_distance(places: Sequence[Sequence[Frame]]) -> InputError | None:
    """A SpacingBetweenSlices that is neither the distance of the positions nor, as some write it, the gap between."""
    if len(places) == 1:
        return None
    step = step_mm(places)
    stacked = {f.image.series for f in places[0]} & {f.image.series for f in places[-1]}  # not one series a slice
    for frame in (frame for place in places for frame in place if frame.image.series in stacked):
        distance = abs(frame.distance_mm or 0.0)
        meant = (distance, distance + (frame.thickness_mm or 0.0))
        if distance and all(abs(mm - step) > SAME_DISTANCE * step for mm in meant):
            words = f"has SpacingBetweenSlices {distance:g} mm, but positions are {step:.4g} mm apart"
            return InputError(frame.path, f"{words}: slices are missing, or one of them is wrong")
    return None


def _named(stacks: list[Stack]) -> list[Stack]:
    """Stacks with unique names: a letter is added where two are the same."""
    names = [stack.name for stack in stacks]
    marks = [f"{chr(ord('a') + names[:k].count(n))}" if names.count(n) > 1 else "" for k, n in enumerate(names)]
    return [stack._replace(name=stack.name + mark) for stack, mark in zip(stacks, marks, strict=True)]


def _study(stack: Stack) -> tuple[str, str]:
    return stack.frames[0].image.study


def _inside(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path != root and path.is_relative_to(root) else path.name


def _few(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) <= SHOWN + 1 else [*names[:SHOWN], f"... {names[-1]}"])
