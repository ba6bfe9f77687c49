"""The last basal slice of a ventricle (Abramson, Popescu et al. 2020, section "Stage 3"). Host side, NumPy."""

import numpy as np

DROP = 0.6  # relative loss of area to the next slice that ends the ventricle; the paper's 95th percentile of training


def last_slice(area: np.ndarray, c_shaped: np.ndarray, drop: float = DROP) -> int:
    """Return the index of the last slice of the ventricle, `max(i_M, min(i_C + 1, i_D))`, or -1 without myocardium.

    i_M ends the longest run of slices with increasing area. i_C is the first C-shaped slice; at most one C is kept, the
    slice after the last closed ring. i_D is the last slice before the first large loss of area. Without a C or a loss,
    i_C or i_D is the last slice. The paper's ends are exclusive; here they are the last slices that are kept.

    Args:
      area: `[Z]`, area of the myocardium in each slice, apex to base; 0 without myocardium.
      c_shaped: bool `[Z]`, whether the myocardium is open to one side.
      drop: a loss of more than this share of a slice's area to the next slice is large.
    """
    occupied = np.flatnonzero(area > 0)
    if not occupied.size:
        return -1
    first, last = int(occupied[0]), int(occupied[-1])
    run_end = _longest_run(area[first : last + 1]) + first
    open_ = [int(z) for z in np.flatnonzero(c_shaped) if first <= z <= last]
    lost = [z for z in range(first, last) if area[z] > 0 and area[z + 1] < (1 - drop) * area[z]]
    return max(run_end, min(open_[0] if open_ else last, lost[0] if lost else last))


def _longest_run(area: np.ndarray) -> int:
    """Last index of the longest run of increasing values; of equally long runs, the first one."""
    best, end, length = 1, 0, 1
    for i in range(1, len(area)):
        length = length + 1 if area[i] > area[i - 1] else 1
        if length > best:
            best, end = length, i
    return end
