"""The simulated scanner: grids, sampling with partial volume, coils, k-space truncation, ghosts and noise."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.ndimage import label as ndlabel

from cardiac_jax.phantom import anatomy, tissue, torso
from cardiac_jax.phantom.heart import Heart

REACH_MM = 74.0  # atria and great vessels lie within this distance of the long axis


class Grid(NamedTuple):
    """Voxel grid in the scanner: affine from voxel indices to right-anterior-superior mm, and shape (x, y, z)."""

    affine: np.ndarray
    shape: tuple[int, int, int]

    @property
    def spacing_mm(self) -> np.ndarray:
        """Voxel spacing along x, y, z in mm, `[3]`."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)


class Rendered(NamedTuple):
    """Noise-free signed signal, label map with pathology (0..5), dominant tissue of the heart; `[X, Y, Z]` each."""

    signal: np.ndarray
    pathology: np.ndarray
    tissue: np.ndarray


def _offsets(count: int) -> np.ndarray:
    return (np.arange(count, dtype=np.float32) + 0.5) / count - 0.5


def _points(matrix: np.ndarray, origin: np.ndarray, ijk: tuple[np.ndarray, np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """Three coordinates of the lattice spanned by the three index vectors `ijk`, each `[I, J, K]` float32."""
    i, j, k = ijk[0][:, None, None], ijk[1][None, :, None], ijk[2][None, None, :]
    m, o = matrix.astype(np.float32), origin.astype(np.float32)
    return [m[d, 0] * i + m[d, 1] * j + m[d, 2] * k + o[d] for d in range(3)]


def _signal(code: np.ndarray, noise: np.ndarray, signals: tissue.Signals) -> np.ndarray:
    return signals.level[code] * (1 + signals.texture[code] * noise)


def render(
    heart: Heart,
    body: torso.Torso,
    signals: tissue.Signals,
    grid: Grid,
    centre_mm: np.ndarray,
    shift_mm: np.ndarray,
    samples: tuple[int, int, int],
    *,
    thickness: float = 1.0,
    classes: np.ndarray = tissue.PATHOLOGY,
    near_mm: float = REACH_MM,
    field_mm: float | None = None,
) -> Rendered:
    """Sample heart and torso on a grid, averaging the signed signal over the sub-samples of each voxel.

    Args:
      centre_mm: centre of the diastolic left ventricle in the scanner, `[3]`.
      shift_mm: displacement of the anatomy in each slice, along (x, y, z) of the grid, `[Z, 3]`.
      samples: sub-samples per voxel along x, y, z for the heart; the torso has one in-plane and half as many along z.
      thickness: slice thickness as a fraction of the distance between slices.
      classes: canonical class with pathology of each tissue code, `[26]`.
      near_mm: largest distance of the heart and its vessels from the long axis.
      field_mm: their largest distance from the heart's centre along x and y; by default `near_mm`.
    """
    linear, spacing = grid.affine[:3, :3], grid.spacing_mm
    nx, ny, nz = grid.shape
    axes = heart.patient.axes
    offset = 37 * heart.patient.case + 11 * heart.patient.seed
    apex = np.array([0, 0, 0.5 * heart.diastolic_length_mm])
    signal = np.empty(grid.shape, np.float32)
    pathology = np.zeros(grid.shape, np.uint8)
    dominant = np.zeros(grid.shape, np.uint8)
    middle = np.linalg.solve(linear, centre_mm - grid.affine[:3, 3])
    reach = max(near_mm, float(heart.envelope.max()) + 8)
    ranges = []
    for axis, count in ((0, nx), (1, ny)):
        half = (field_mm or reach) / spacing[axis] + 4
        ranges.append((max(0, int(middle[axis] - half)), min(count, int(middle[axis] + half) + 1)))
    (x0, x1), (y0, y1) = ranges
    coarse_ij = np.arange(nx, dtype=np.float32), np.arange(ny, dtype=np.float32)
    fine_i = (np.arange(x0, x1, dtype=np.float32)[:, None] + _offsets(samples[0])).ravel()
    fine_j = (np.arange(y0, y1, dtype=np.float32)[:, None] + _offsets(samples[1])).ravel()
    for z in range(nz):
        origin = grid.affine[:3, 3] - centre_mm - (linear / spacing) @ shift_mm[z]
        coarse_k = z + thickness * _offsets(max(1, samples[2] // 2))
        x, y, s = _points(linear, origin, (*coarse_ij, coarse_k))
        noise = anatomy.texture(x, y, s, offset)
        noise = 0.8 * noise + 0.6 * anatomy.texture(x / 4, y / 4, s / 4, offset + 50)
        signal[..., z] = _signal(torso.classify(body, x, y, s, noise), noise, signals).mean(-1)
        a, b, s = _points(axes @ linear, axes @ origin + apex, (fine_i, fine_j, z + thickness * _offsets(samples[2])))
        if samples[2] > 1:
            # neighbouring pixels sample slightly different depths; otherwise thin sheets would show as stripes
            depth = (np.arange(len(fine_i))[:, None] * 5 + np.arange(len(fine_j)) * 3) % 8 / 8 - 0.4375
            step = (axes @ linear)[:, 2] * thickness / samples[2]
            a, b, s = (c + (step[d] * depth[..., None]).astype(np.float32) for d, c in enumerate((a, b, s)))
        near = np.flatnonzero((np.hypot(a, b) < reach) & (s > -0.34 * heart.length_mm) & (s < 1.72 * heart.length_mm))
        if not len(near) or x1 <= x0 or y1 <= y0:
            continue
        a, b, s = a.ravel()[near], b.ravel()[near], s.ravel()[near]
        noise = anatomy.texture(a, b, s, offset + 5)
        code = anatomy.classify(heart, a, b, s, noise)
        heart_here = code != anatomy.OUTSIDE
        voxel = _voxel_of(near[heart_here], (x1 - x0, y1 - y0), samples)
        code = code[heart_here]
        size, total = (x1 - x0) * (y1 - y0), float(np.prod(samples))
        value = _signal(code, noise[heart_here], signals)
        share = (np.bincount(voxel, minlength=size) / total).reshape(x1 - x0, y1 - y0)
        value = (np.bincount(voxel, value, minlength=size) / total).reshape(x1 - x0, y1 - y0)
        signal[x0:x1, y0:y1, z] = signal[x0:x1, y0:y1, z] * (1 - share) + value
        votes = _votes(voxel, classes[code], size, 6, total).reshape(x1 - x0, y1 - y0, 6)
        votes = gaussian_filter(votes.astype(np.float32), (0.7, 0.7, 0))  # manual contours are smooth
        pathology[x0:x1, y0:y1, z] = _tidy(_majority(votes), float(25 / (spacing[0] * spacing[1])))
        dominant[x0:x1, y0:y1, z] = _votes(voxel, code, size, 26, total).argmax(1).reshape(x1 - x0, y1 - y0)
    return Rendered(signal, pathology, dominant)


def _voxel_of(index: np.ndarray, shape: tuple[int, int], samples: tuple[int, int, int]) -> np.ndarray:
    """Flat in-plane voxel index of flat sub-sample indices."""
    in_plane = index // samples[2]
    i, j = np.divmod(in_plane, shape[1] * samples[1])
    return (i // samples[0]) * shape[1] + j // samples[1]


def _votes(voxel: np.ndarray, code: np.ndarray, size: int, kinds: int, total: float) -> np.ndarray:
    """Number of sub-samples of each kind in each voxel, `[size, kinds]`; kind 0 includes those outside the heart."""
    count = np.bincount(voxel * kinds + code, minlength=size * kinds).reshape(size, kinds)
    count[:, 0] += int(total) - count.sum(1)
    return count


def _majority(votes: np.ndarray) -> np.ndarray:
    """Class by majority, `[..., 6]` -> `[...]`: first the structure, then the most frequent class of the wall."""
    wall = votes[..., [2, 4, 5]]
    structure = np.stack([votes[..., 0], votes[..., 1], wall.sum(-1), votes[..., 3]], axis=-1).argmax(-1)
    return np.where(structure == 2, np.array([2, 4, 5])[wall.argmax(-1)], structure).astype(np.uint8)


def _tidy(pathology: np.ndarray, smallest: float) -> np.ndarray:
    """Relabel components of fewer than `smallest` pixels, too small to contour: LV to wall, others to background."""
    structure = tissue.STRUCTURE[pathology]
    for kind, instead in ((3, 2), (2, 0), (1, 0)):
        islands = np.empty(structure.shape, np.int32)
        ndlabel(structure == kind, output=islands)
        small = np.bincount(islands.ravel()) < smallest
        small[0] = False
        pathology[small[islands]] = instead
        structure[small[islands]] = instead
    return pathology


def coils(grid: Grid, centre_mm: np.ndarray, body: torso.Torso, rng: np.random.Generator) -> np.ndarray:
    """Sensitivity of an anterior and a posterior coil array after partial correction, `[X, Y, Z]`; 1 at the heart."""
    step = 6
    index = [
        np.arange(0, n + step, step, dtype=np.float32) if n > 4 * step else np.arange(n, dtype=np.float32)
        for n in grid.shape
    ]
    x, y, z = _points(grid.affine[:3, :3], grid.affine[:3, 3] - centre_mm, (index[0], index[1], index[2]))
    total, at_heart = np.zeros_like(x), 0.0
    for n in range(6):
        front = n < 4
        cx = body.midline + (rng.uniform(-150, 60) if front else rng.uniform(-100, 100))
        depth = body.half_depth * np.sqrt(max(0.05, 1 - ((cx - body.midline) / body.half_width) ** 2))
        cy = body.centre_y + (depth + 10 if front else -depth - 10)
        cz, reach, gain = rng.uniform(-70, 70), rng.uniform(55, 95), rng.uniform(0.6, 1.4)
        total += (gain / (1 + ((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) / reach**2)) ** 2
        at_heart += (gain / (1 + (cx**2 + cy**2 + cz**2) / reach**2)) ** 2
    field = (total / at_heart) ** (0.5 * rng.uniform(0.35, 0.95))
    for axis, n in enumerate(grid.shape):
        if n > 4 * step:
            field = _stretch(field, axis, n, step)
    return np.clip(field, 0.05, 6.0)


def _stretch(field: np.ndarray, axis: int, count: int, step: int) -> np.ndarray:
    """Linear interpolation along one axis, to `count` indices, of a field known at every `step`-th index."""
    position = np.arange(count) / step
    low = np.minimum(position.astype(int), field.shape[axis] - 2)
    weight = (position - low).astype(np.float32).reshape([-1 if d == axis else 1 for d in range(field.ndim)])
    return np.take(field, low, axis) * (1 - weight) + np.take(field, low + 1, axis) * weight


def detect(
    signal: np.ndarray,
    snr: float,
    rng: np.random.Generator,
    resolution: tuple[float, float],
    block: int | None = None,
) -> np.ndarray:
    """Magnitude image `[X, Y, Z]` of a signed signal, with truncated k-space, ghosts and Rician noise.

    Args:
      signal: `[X, Y, Z]`, about 1 for a bright structure.
      snr: signal-to-noise ratio of a signal of 1.
      resolution: acquired fraction of k-space along x and y; the remaining k-space is zero-filled.
      block: number of slices transformed at a time, to bound memory; by default all.
    """
    nx, ny, nz = signal.shape
    window = 1.0
    for axis, (n, keep) in enumerate(zip((nx, ny), resolution, strict=True)):
        k = np.abs(np.fft.fftfreq(n)) * 2 / keep
        cut = np.where(k < 0.75, 1, np.cos(np.clip((k - 0.75) / 0.5, 0, 1) * np.pi / 2) ** 2)
        window = window * cut.reshape([-1 if d == axis else 1 for d in range(2)])
    window = np.asarray(window, np.float32)
    # white noise in acquired k-space; its standard deviation in the image is 1/snr for every acquired fraction
    noise = rng.standard_normal((2, nx, ny, nz), np.float32) * np.float32(1 / (snr * np.sqrt(np.mean(window**2))))
    phase_axis = int(rng.integers(2))
    ghost = rng.choice([0.0, rng.uniform(0.02, 0.09)], p=[0.6, 0.4])
    wobble = None
    if ghost:
        # breathing modulates the lines of k-space, which causes faint displaced copies along the phase direction
        lines = np.arange(signal.shape[phase_axis])
        wobble = 1 + 2 * ghost * np.cos(2 * np.pi * lines / rng.uniform(2.3, 7.0))
        wobble = wobble.astype(np.float32).reshape([-1 if d == phase_axis else 1 for d in range(3)])
    image = np.empty(signal.shape, np.float32)
    for z in range(0, nz, block or nz):
        part = np.s_[..., z : z + (block or nz)]
        space = np.fft.fft2(signal[part] + noise[0][part] + 1j * noise[1][part], axes=(0, 1)).astype(np.complex64)
        if wobble is not None:
            space *= wobble
        image[part] = np.abs(np.fft.ifft2(space * window[..., None], axes=(0, 1)))
    return image
