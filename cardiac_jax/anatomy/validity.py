"""Number of anatomically invalid slices of a label map from any source, by `wall_check.check` of wall and pool."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cardiac_jax.anatomy import wall_check
from cardiac_jax.anatomy.spec import Limits
from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.labels import roles, wall_labels
from cardiac_jax.metrics.rows import Row

PREDICTION, GOLD = "prediction", "gold standard"
CHECKS = wall_check.Verdict._fields[1:-1]
"""Names of the checks; a slice that fails any of them is invalid."""
SQUARE = 0.01  # relative difference of a pixel's sides up to which it counts as square
PIXEL_MM = (0.65, 3.0)  # distances are computed up to 16 pixels, the longest limit is 10 mm; above, a wall has no pixel
_WALL, _POOL = 1, 2  # of a slice that is judged
BATCH, FRAME, STEP = 32, 64, 32  # slices per call, smallest frame and its increment: few shapes are compiled


def validity_rows(
    pred: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float], classes: Sequence[str]
) -> list[Row]:
    """Checks myocardium (with oedema and scar) and pool of every slice, with the default limits.

    Args:
      pred, truth: `[Z, H, W]` label maps on the file's own grid.
      spacing_mm: voxel size along Z, H, W.
      classes: names by label value; without "Myo" the result is empty, without "LV" the wall is judged alone.

    Returns:
      Two rows, for "prediction" and "gold standard": numbers of `slices` with myocardium or pool, of `invalid` slices,
      and of slices that fail each of `CHECKS`. For the gold standard only fully annotated slices count. `skipped` is
      the reason why nothing was checked, else "".
    """
    muscle, known = wall_labels(classes), roles(classes)
    if not muscle:
        return []
    whole = ~(truth == IGNORE).any(axis=(1, 2))
    stacks = {of: _drawn(stack, muscle, known.get("lv")) for of, stack in ((PREDICTION, pred), (GOLD, truth))}
    stacks[GOLD] = stacks[GOLD] * whole[:, None, None]
    slices = {of: stack[stack.any(axis=(1, 2))] for of, stack in stacks.items()}
    reason = unfit(spacing_mm[1], spacing_mm[2])
    if reason:
        return [_row(of, np.zeros((0, len(CHECKS)), bool), reason) for of in slices]
    both = np.concatenate(list(slices.values()))
    pools = both == _POOL if "lv" in known else None
    failed = failures(both == _WALL, (spacing_mm[1] + spacing_mm[2]) / 2, pools=pools)
    drawn = len(slices[PREDICTION])
    return [_row(PREDICTION, failed[:drawn]), _row(GOLD, failed[drawn:])]


def _drawn(labels: np.ndarray, muscle: Sequence[int], pool: int | None) -> np.ndarray:
    out = np.where(np.isin(labels, muscle), _WALL, 0).astype(np.uint8)
    return out if pool is None else np.where(labels == pool, np.uint8(_POOL), out)


def failures(
    masks: np.ndarray,
    spacing_mm: float,
    limits: wall_check.Limits = wall_check.DEFAULT,
    pools: np.ndarray | None = None,
) -> np.ndarray:
    """Returns which of `CHECKS` each mask `[N, H, W]` fails, bool `[N, checks]`; pixels are squares of `spacing_mm`.

    `pools [N, H, W]` are judged with the walls if they are given. `limits.c_shaped` may be given for each mask, `[N]`.
    """
    found = np.zeros((len(masks), len(CHECKS)), bool)
    images = np.where(masks != 0, _WALL, 0).astype(np.uint8)
    if pools is not None:
        images = np.where(pools & (images == 0), np.uint8(_POOL), images)
    of = batched_limits(limits, len(masks))
    for start, batch in batches(images):
        verdict = wall_check.check(batch == _WALL, spacing_mm, of(start), None if pools is None else batch == _POOL)
        passed = np.stack([np.asarray(getattr(verdict, name)) for name in CHECKS], axis=-1)
        found[start : start + BATCH] = ~passed[: len(masks) - start]
    return found


def batches(masks: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the index of the first mask and `[BATCH, F, F]`, each mask (or label map) shifted into one corner.

    The checks do not depend on the position.
    """
    boxes = [tuple(slice(i.min(), i.max() + 1) if i.size else slice(0) for i in np.nonzero(mask)) for mask in masks]
    extent = max((mask[box].shape[axis] for mask, box in zip(masks, boxes, strict=True) for axis in (0, 1)), default=0)
    frame = max(FRAME, -(-extent // STEP) * STEP)
    for start in range(0, len(masks), BATCH):
        batch = np.zeros((BATCH, frame, frame), masks.dtype)
        for i in range(start, min(start + BATCH, len(masks))):
            inside = masks[i][boxes[i]]
            batch[i - start, : inside.shape[0], : inside.shape[1]] = inside
        yield start, batch


def batched_limits(limits: Limits, number: int) -> Callable[[int], Limits]:
    """Returns a function from the index of the first of `number` slices to the limits of its batch, `c_shaped [BATCH]`.

    `limits.c_shaped` is one flag, or one for each slice. Always an array, so that both compile the same program.
    """
    may_open = np.zeros(-(-number // BATCH) * BATCH, bool)
    may_open[:number] = limits.c_shaped
    return lambda start: limits._replace(c_shaped=may_open[start : start + BATCH])


def unfit(height_mm: float, width_mm: float, within_mm: tuple[float, float] = PIXEL_MM) -> str:
    """Returns why a check does not support these pixels, "" if it does; it needs squares with sides `within_mm`."""
    if abs(height_mm - width_mm) > SQUARE * min(height_mm, width_mm):
        return f"pixels of {height_mm:.3g} x {width_mm:.3g} mm are not square"
    low, high = within_mm
    if not low <= (height_mm + width_mm) / 2 <= high:
        return f"pixels of {height_mm:.3g} mm, the check needs {low:g} to {high:g} mm"
    return ""


def _row(of: str, failed: np.ndarray, skipped: str = "") -> Row:
    invalid = float(np.count_nonzero(failed.any(axis=1)))
    by_check = dict(zip(CHECKS, failed.sum(axis=0).astype(float).tolist(), strict=True))
    return {"of": of, "skipped": skipped, "slices": float(len(failed)), "invalid": invalid, **by_check}
