"""Summary of projections over cases: invalid slices and Dice before and after."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cardiac_jax.anatomy.stack_projection import ProjectedSlices
from cardiac_jax.core.types import IGNORE, Decoded
from cardiac_jax.data.labels import roles, wall_labels
from cardiac_jax.data.stack import Stack
from cardiac_jax.metrics.overlap import counts, dice_of


class ProjectionSummary:
    """Counts slices with any of the structures that the prior guarantees, and averages Dice of all classes over cases.

    If there are classes inside the wall (oedema, scar), Dice of the complete wall is added as "myocardium".

    Args:
      classes: names by label value.
      limits: limits of the check, by name.
      which: description of the slices that were projected.
      defaulted: names of the limits that the checkpoint lacks; see `Prior`.
    """

    def __init__(
        self, classes: Sequence[str], limits: Mapping[str, Any], which: str, defaulted: Sequence[str] = ()
    ) -> None:
        inside = wall_labels(classes)
        self._groups = {"myocardium": inside} if len(inside) > 1 else {}
        self._groups |= {classes[k]: (k,) for k in roles(classes).values()}
        self._limits, self._which, self._defaulted = limits, which, tuple(defaulted)
        self._slices: list[ProjectedSlices] = []
        self._dice: list[tuple[list[float], list[float]]] = []

    def add(self, decoded: Decoded, truth: Stack | None) -> None:
        """Adds one case; without the gold standard `truth` its Dice is not computed."""
        self._slices.append(decoded.changes)
        if truth is not None:
            before, after = (self._case_dice(labels.data, truth.data) for labels in (decoded.raw, decoded.value))
            self._dice.append((before, after))

    def about(self) -> dict[str, Any]:
        """Returns JSON: counts of slices, `dice`, `limits`, `which` and `defaulted`.

        The counts: `slices` with any structure, `before` and `after` invalid, `refused` and emptied (not counted in
        `after`), `tidied` without the prior, `moved` by a changed code, `from_bank` replaced by a mask of the bank.
        `dice` is structure -> mean over cases before and after.
        """
        counted = {
            "slices": sum(len(s.index) for s in self._slices),
            "before": sum(int((~s.before).sum()) for s in self._slices),
            "after": sum(int((~s.after & ~s.refused).sum()) for s in self._slices),
            "refused": sum(int(s.refused.sum()) for s in self._slices),
            "tidied": sum(int(s.tidied.sum()) for s in self._slices),
            "moved": sum(int((s.alpha > 0).sum()) for s in self._slices),
            "from_bank": sum(int(s.from_bank.sum()) for s in self._slices),
        }
        told = {"limits": dict(self._limits), "which": self._which, "defaulted": list(self._defaulted)}
        return {**counted, "dice": self._means(), **told}

    def line(self) -> str:
        """Returns the summary in one line."""
        held = self.about()
        changes = [f"{n} {d['after'] - d['before']:+.4f} ({d['after']:.3f})" for n, d in held["dice"].items()]
        dice = f"; Dice {', '.join(changes)}" if changes else ""
        refused = f"; {held['refused']} refused and emptied" if held["refused"] else ""
        counts = f"before {held['before']}, after {held['after']}, of {held['slices']}{refused}"
        return f"anatomically invalid slices: {counts}{dice}"

    def _means(self) -> dict[str, dict[str, float]]:
        if not self._dice:
            return {}
        table = np.array(self._dice)  # [cases, 2, structures]
        return {
            name: {side: float(np.nanmean(table[:, i, k])) for i, side in enumerate(("before", "after"))}
            for k, name in enumerate(self._groups)
            if not np.isnan(table[:, :, k]).all(0).any()
        }

    def _case_dice(self, labels: np.ndarray, truth: np.ndarray) -> list[float]:
        found = []
        for values in self._groups.values():
            gold = np.where(truth == IGNORE, IGNORE, np.isin(truth, values)).astype(np.uint8)
            mine = np.isin(labels, values).astype(np.uint8)
            found.append(float(dice_of(counts(mine, gold, (1,)))[0]))
        return found
