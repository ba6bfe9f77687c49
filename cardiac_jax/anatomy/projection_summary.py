"""How many slices were invalid before and after a projection, and what the guarantee costs in Dice."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cardiac_jax.anatomy.stack_projection import ProjectedSlices
from cardiac_jax.data.labels import roles, wall_labels
from cardiac_jax.metrics.overlap import counts, dice_of


class ProjectionSummary:
    """Adds up cases of one coding: slices with any of the structures that the prior guarantees, and Dice of all.

    Structures are the classes, of which the wall is one with whatever is drawn in it ("myocardium").
    """

    def __init__(self, classes: Sequence[str]) -> None:
        inside = wall_labels(classes)
        self._groups = {"myocardium": inside} if len(inside) > 1 else {}
        self._groups |= {classes[k]: (k,) for k in roles(classes).values()}
        self._before, self._after, self._slices, self._moved, self._from_bank = 0, 0, 0, 0, 0
        self._dice: list[tuple[list[float], list[float]]] = []

    def add(self, slices: ProjectedSlices, drawn: np.ndarray, labels: np.ndarray, truth: np.ndarray | None) -> None:
        """One case: `drawn` before, `labels` after, both `[X, Y, Z]`; without `truth` Dice is not counted."""
        self._slices += len(slices.index)
        self._before += int((~slices.before).sum())
        self._after += int((~slices.after).sum())
        self._moved += int((slices.alpha > 0).sum())
        self._from_bank += int(slices.from_bank.sum())
        if truth is not None:
            self._dice.append((self._case_dice(drawn, truth), self._case_dice(labels, truth)))

    def summary(self) -> dict[str, Any]:
        """JSON: slices, invalid before and after, and mean Dice over cases before and after by structure."""
        held = {"slices": self._slices, "before": self._before, "after": self._after}
        held |= {"moved": self._moved, "from_bank": self._from_bank}
        if not self._dice:
            return {**held, "dice": {}}
        table = np.array(self._dice)  # [cases, 2, structures]
        means = {
            name: {side: float(np.nanmean(table[:, i, k])) for i, side in enumerate(("before", "after"))}
            for k, name in enumerate(self._groups)
            if not np.isnan(table[:, :, k]).all(0).any()
        }
        return {**held, "dice": means}

    def line(self) -> str:
        """The same in one line."""
        held = self.summary()
        changes = [f"{n} {d['after'] - d['before']:+.4f} ({d['after']:.3f})" for n, d in held["dice"].items()]
        dice = f"; Dice {', '.join(changes)}" if changes else ""
        return f"anatomically invalid slices: before {held['before']}, after {held['after']}, of {held['slices']}{dice}"

    def _case_dice(self, labels: np.ndarray, truth: np.ndarray) -> list[float]:
        found = []
        for values in self._groups.values():
            gold = np.where(truth == 255, 255, np.isin(truth, values)).astype(np.uint8)
            mine = np.isin(labels, values).astype(np.uint8)
            found.append(float(dice_of(counts(mine, gold, (1,)))[0]))
        return found
