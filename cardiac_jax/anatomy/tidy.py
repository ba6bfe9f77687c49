"""Label maps of a slice tidied without a prior: one piece of each structure, no holes, the cavity as pool. Host side.

A *slice map* `[H, W]` holds the canonical labels 1 RV, 2 Myo, 3 LV (uint8), or only the wall (bool) if the files have
no pool.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from cardiac_jax.anatomy.cavity import SLACK_MM, chambers
from cardiac_jax.anatomy.validity import BATCH, FRAME, STEP
from cardiac_jax.data.labels import CLASSES
from cardiac_jax.ops.pieces import kept

RV, MYO, LV = (CLASSES.index(name) for name in ("RV", "Myo", "LV"))
_CORNERS = np.ones((3, 3), bool)


def wall_of(maps: np.ndarray) -> np.ndarray:
    """Returns the wall of slice maps, bool of their shape."""
    return maps if maps.dtype == bool else maps == MYO


def tidied(
    maps: np.ndarray, spacing_mm: float, pocket_mm: float, outside_mm: float, close_mm: float = 0.0
) -> np.ndarray:
    """Returns slice maps in which every structure is one piece without holes, and the pool is the whole cavity.

    Of the wall and of the RV the largest 8-connected piece is kept. Enclosed pixels belong to the RV, to the wall, or,
    in the largest region that the wall encloses, to the pool (see `with_pool`).

    Args:
      maps: `[N, H, W]`.
      spacing_mm: side of a pixel.
      pocket_mm, outside_mm: as in `wall_check.Limits`.
      close_mm: the wall is first closed by a disc of this radius, over background only; 0: it is not.
    """
    walls = [_tidy_wall(one, spacing_mm, close_mm) for one in maps]
    out = with_pool(np.array(walls, bool).reshape(maps.shape), maps, spacing_mm, pocket_mm, outside_mm)
    if maps.dtype != bool:
        for one, drawn in zip(out, maps, strict=True):
            one[_right_beside(one, drawn)] = RV
    return out


def _tidy_wall(slice_map: np.ndarray, spacing_mm: float, close_mm: float) -> np.ndarray:
    wall = wall_of(slice_map)
    if close_mm and wall.any():
        pad = int(close_mm / spacing_mm) + 2
        near = _distance_px(~np.pad(wall, pad)) * spacing_mm <= close_mm
        closed = _distance_px(near) * spacing_mm > close_mm
        wall = wall | (closed[pad:-pad, pad:-pad] & (slice_map == 0))
    wall = kept(wall, 1, corners=True)
    enclosed = filled(wall) & ~wall
    return wall | (enclosed & ~kept(enclosed, 1))


def _right_beside(out: np.ndarray, slice_map: np.ndarray) -> np.ndarray:
    """The RV of `slice_map`, tidied beside the wall and the pool `out`."""
    right = kept((slice_map == RV) & (out == 0), 1, corners=True)
    right |= filled(right) & (out == 0)
    if right.any():  # the groove between RV and wall
        right |= filled(right | (out > 0)) & (out == 0)
    return right


def with_pool(
    walls: np.ndarray, former: np.ndarray, spacing_mm: float, pocket_mm: float, outside_mm: float
) -> np.ndarray:
    """Returns the slice maps `[N, H, W]` of walls with their pools: the cavity as in `wall_check.py`.

    The pool of a C also keeps what `former` has as pool beyond the opening, as far as `outside_mm` from it.

    Args:
      walls: bool `[N, H, W]`.
      former: slice maps `[N, H, W]` before; bool maps have no pool.
    """
    if former.dtype == bool:
        return walls
    out = np.where(walls, MYO, 0).astype(np.uint8)
    for one, before, (cavity, opening) in zip(out, former, _chambers(walls, spacing_mm, pocket_mm), strict=True):
        one[cavity] = LV
        beyond = (before == LV) & (one == 0)
        if opening.any() and beyond.any():
            near = _distance_px(~opening) * spacing_mm <= outside_mm + SLACK_MM
            pieces, _ = _labelled((beyond & near) | cavity)
            one[beyond & np.isin(pieces, np.unique(pieces[opening]))] = LV
    return out


def is_connected(slice_map: np.ndarray) -> bool:
    """Returns whether every structure is one piece, and neither wall and pool nor RV have holes; for any pixels."""
    wall = wall_of(slice_map)
    if slice_map.dtype == bool:
        return _pieces(wall, _CORNERS) == 1 and _pieces(filled(wall) & ~wall) <= 1
    heart = np.isin(slice_map, (MYO, LV))
    solid = (heart, slice_map == RV)
    whole = all(_pieces(part, _CORNERS) <= 1 for part in (wall, slice_map == LV, *solid))
    return whole and not any((filled(part) & ~part).any() for part in solid)


def agreement(slice_map: np.ndarray, drawn: np.ndarray) -> float:
    """Returns how much a slice map has of what was drawn: the larger one of two Dice, of the outline and of the wall.

    The outlines are filled; of what was drawn, the largest piece counts.
    """
    outlines = (filled(part) for part in (slice_map > 0, kept(drawn > 0, 1, corners=True)))
    return max(_dice(*outlines), _dice(wall_of(slice_map), wall_of(drawn)))


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * int((one & other).sum()) / max(int(one.sum() + other.sum()), 1)


def filled(mask: np.ndarray) -> np.ndarray:
    """Returns a mask `[H, W]` with all that it encloses."""
    background, _ = _labelled(~np.pad(mask, 1))  # binary_fill_holes takes ten times as long
    return (background != background[0, 0])[1:-1, 1:-1]


def _distance_px(mask: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.distance_transform_edt(mask))


def _labelled(mask: np.ndarray, structure: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    numbers = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, structure, output=numbers)
    return numbers, int(numbers.max(initial=0))


def _pieces(mask: np.ndarray, structure: np.ndarray | None = None) -> int:
    return _labelled(mask, structure)[1]


def _chambers(walls: np.ndarray, spacing_mm: float, pocket_mm: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cavity and opening of each wall `[N, H, W]`.

    Walls are cropped and padded to a frame of few sizes, so that few programs are compiled.
    """
    boxes = [_box(wall) for wall in walls]
    extent = max((size for box in boxes for size in (s.stop - s.start for s in box)), default=0)
    frame = max(FRAME, -(-extent // STEP) * STEP)
    found = []
    for start in range(0, len(walls), BATCH):
        batch = np.zeros((BATCH, frame, frame), bool)
        group = list(zip(walls, boxes, strict=True))[start : start + BATCH]
        for place, (wall, box) in zip(batch, group, strict=False):
            inside = wall[box]
            place[: inside.shape[0], : inside.shape[1]] = inside
        parts = [np.asarray(part) for part in chambers(jnp.asarray(batch), spacing_mm, pocket_mm)]
        for i, (wall, box) in enumerate(group):
            whole = np.zeros((2, *wall.shape), bool)
            for out, part in zip(whole, parts, strict=True):
                out[box] = part[i, : wall[box].shape[0], : wall[box].shape[1]]
            found.append((whole[0], whole[1]))
    return found


def _box(mask: np.ndarray) -> Sequence[slice] | tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return tuple(slice(i[0], i[-1] + 1) if i.size else slice(0, 0) for i in (rows, columns))
