"""Where a ventricle ends towards the base (Abramson, Popescu et al. 2020, section "Stage 3"). Host side, NumPy."""

import numpy as np

DROP = 0.6  # loss of area from a slice to the next that ends the ventricle; the paper's 95th percentile of training


def last_slice(area: np.ndarray, c_shaped: np.ndarray, drop: float = DROP) -> int:
    """Index of the last slice that belongs to the ventricle, `max(i_M, min(i_C + 1, i_D))`.

    Args:
      area: `[Z]` of the myocardium in every slice, apex to base; 0 where there is none.
      c_shaped: `[Z]`, whether it is open to one side.
      drop: share of a slice's area.

    i_M ends the longest run of slices of increasing area, i_C is the first C, of which one at most is kept: the slices
    up to i_C, one past the last closed ring; i_D is the last slice before the first large loss of area. Without
    any C or loss they are the last slice. The paper counts ends exclusively, here they are slices that stay.
    """
    held = np.flatnonzero(area > 0)
    if not held.size:
        return -1
    first, last = int(held[0]), int(held[-1])
    run_end = _longest_run(area[first : last + 1]) + first
    open_ = [int(z) for z in np.flatnonzero(c_shaped) if first <= z <= last]
    lost = [z for z in range(first, last) if area[z] > 0 and area[z + 1] < (1 - drop) * area[z]]
    return max(run_end, min(open_[0] if open_ else last, lost[0] if lost else last))


def _longest_run(area: np.ndarray) -> int:
    """Last index of the longest run of increasing values; of the first of equals."""
    best, end, length = 1, 0, 1
    for i in range(1, len(area)):
        length = length + 1 if area[i] > area[i - 1] else 1
        if length > best:
            best, end = length, i
    return end
