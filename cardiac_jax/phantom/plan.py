"""Slice planning: the short-axis stack as a technician plans it, and its high-resolution twin."""

from typing import NamedTuple

import numpy as np

from cardiac_jax.errors import InputError
from cardiac_jax.phantom import patient
from cardiac_jax.phantom.acquire import Grid
from cardiac_jax.phantom.heart import Heart

TWIN_MM = (1.25, 1.25, 2.0)


class Protocol(NamedTuple):
    """Acquisition parameters of a short-axis stack.

    Attributes:
      spacing_mm: (in-plane, between slices); by default 0.9-1.5 and 8, 9 or 10.
      size: in-plane, in px; by default a field of view of 225-275 mm.
      slices: number of slices; by default 8-12, enough for apex and base.
      thickness: slice thickness as a fraction of the distance between slices; below 1 there are gaps.
      misalign_mm: standard deviation of the displacement of each breath-hold; 0 for none.
      snr: signal-to-noise ratio of a signal of 1, about that of blood; random by default.
      base_first: store slices from base to apex and in-plane axes as displayed; by default conventions vary.
    """

    spacing_mm: tuple[float, float] | None = None
    size: tuple[int, int] | None = None
    slices: int | None = None
    thickness: float = 1.0
    misalign_mm: float = 1.6
    snr: float | None = None
    base_first: bool = False

    def checked(self) -> "Protocol":
        """The protocol itself, after validation.

        Raises:
          InputError: size or slices below 1, spacing not positive, negative misalignment, or thickness not in (0, 1].
        """
        sizes = [*(self.size or ()), *(() if self.slices is None else (self.slices,))]
        if min(sizes, default=1) < 1 or min(self.spacing_mm or (1,)) <= 0 or self.misalign_mm < 0:
            where = f"size {self.size}, slices {self.slices}, spacing {self.spacing_mm}"
            raise InputError(where, "must be positive")
        if not 0 < self.thickness <= 1:
            raise InputError(f"thickness {self.thickness}", "is not in (0, 1]")
        return self


def short_axis(diastole: Heart, protocol: Protocol) -> tuple[Grid, np.ndarray]:
    """Grid of a short-axis stack, and the heart's centre in the scanner, `[3]` in mm.

    The stack is planned as a technician would: roughly perpendicular to the long axis, with the heart near the middle.
    Display conventions (flips, transposition, slice order) vary.
    """
    p, spacing_mm, size, slices = diastole.patient, protocol.spacing_mm, protocol.size, protocol.slices
    rng = patient.generator(p.seed, patient.ACQUISITION, p.case)
    in_plane = float(np.clip(rng.normal(1.22, 0.16), 0.9, 1.5))
    thickness = float(rng.choice([8.0, 9.0, 10.0]))
    if spacing_mm is not None:
        in_plane, thickness = float(spacing_mm[0]), float(spacing_mm[1])
    view, narrow = rng.uniform(215, 265), rng.uniform(0.85, 1.0)
    wide, tall = (round(view * f / in_plane / 8) * 8 for f in (1.0, narrow)) if size is None else size
    margin = rng.uniform(6, 20)
    extent = diastole.length_mm + p.apex_mm + margin
    if spacing_mm is None and slices is None and extent > 12 * thickness:
        thickness = 10.0
    count = int(np.clip(np.ceil(extent / thickness), 8, 12)) if slices is None else slices
    # planned heart axes: a few degrees off the true axes and rotated in-plane
    tilt = np.deg2rad(rng.normal(0, 4, 2).clip(-9, 9))
    normal = p.axes[2] + tilt[0] * p.axes[0] + tilt[1] * p.axes[1]
    normal /= np.linalg.norm(normal)
    right = -p.axes[0] + (p.axes[0] @ normal) * normal
    right /= np.linalg.norm(right)
    down = np.cross(normal, right)
    down *= -np.sign(down @ p.axes[1])
    turn = np.deg2rad(np.clip(rng.normal(0, 11), -26, 26))
    right, down = np.cos(turn) * right + np.sin(turn) * down, np.cos(turn) * down - np.sin(turn) * right

    centre = np.array([-35.0, 20.0, 0.0]) + rng.normal(0, 18, 3)
    off = rng.normal(0, 0.045, 2).clip(-0.09, 0.09) * np.array([wide, tall]) * in_plane
    low = -p.apex_mm - rng.uniform(-0.2, 0.6) * thickness - 0.5 * diastole.length_mm  # centre of the lowest slice
    if slices is not None:
        low = -0.5 * (count - 1) * thickness + rng.uniform(-0.35, 0.35) * thickness
    flips, transpose = rng.random(3) < (0.25, 0.6, 0.5), rng.random() < 0.25
    if protocol.base_first:
        flips, transpose = np.array([False, False, True]), False
    middle = centre + off[0] * right + off[1] * down
    steps = [right * in_plane, down * in_plane, normal * thickness]
    start = middle + low * normal - 0.5 * (wide - 1) * steps[0] - 0.5 * (tall - 1) * steps[1]
    shape = [wide, tall, count]
    for axis in range(3):
        if flips[axis]:
            start, steps[axis] = start + (shape[axis] - 1) * steps[axis], -steps[axis]
    if transpose:
        steps[0], steps[1], shape[0], shape[1] = steps[1], steps[0], shape[1], shape[0]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.stack(steps, axis=1), start
    return Grid(affine, (shape[0], shape[1], shape[2])), centre


def twin_grid(grid: Grid) -> Grid:
    """Grid of 1.25 x 1.25 x 2 mm over the same box; a slice of 10 mm corresponds to five of its slices."""
    spacing = grid.spacing_mm
    shape = tuple(round(n * s / t) for n, s, t in zip(grid.shape, spacing, TWIN_MM, strict=True))
    linear = grid.affine[:3, :3] / spacing * TWIN_MM
    corner = grid.affine[:3, 3] - 0.5 * grid.affine[:3, :3].sum(1)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, corner + 0.5 * linear.sum(1)
    return Grid(affine, (shape[0], shape[1], shape[2]))
