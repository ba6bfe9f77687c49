"""Distances of partly annotated cases beside fully annotated ones: MS-CMRSeg's gold standards, shifted.

    CARDIAC_JAX_DATA=DIR python -m benchmarks.partial_annotation [--shift 3]

The "prediction" is the gold standard moved by some columns, so every case has the same error, and a right measure gives
both groups values of one range: the 25 partly annotated patients (`mscmr/train`) and the 5 annotated in full
(`mscmr/val`). The 5 are measured again with all but some of their slices hidden. Prints the mean over patients
(smallest to largest), in mm, in 3D per case and of the 2D contours of fully annotated slices.
"""

import argparse
import math
import os
from pathlib import Path

import numpy as np

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.load import load
from cardiac_jax.data.sets import dataset
from cardiac_jax.metrics.evaluate import evaluate_case
from cardiac_jax.metrics.strata import slice_rows

COLUMNS = ("asd_mm", "hd95_mm")
Maps = list[tuple[np.ndarray, tuple[float, float, float]]]


def groups(root: Path) -> dict[str, Maps]:
    """Gold standards `[Z, H, W]` with their spacing, of each group."""
    chosen = dataset("mscmr")
    found: dict[str, Maps] = {"partly annotated": [], "annotated in full": []}
    for record in chosen.find(root / "mscmr"):
        case = load(record, chosen, labelled=True)
        assert case.label is not None
        partly = bool((case.label == IGNORE).any())
        found["partly annotated" if partly else "annotated in full"].append((case.label, case.spacing_mm))
    whole = found["annotated in full"]
    return found | {
        "in full, every 2nd slice kept": [(hidden(label, 2), spacing) for label, spacing in whole],
        "in full, every 4th slice kept": [(hidden(label, 4), spacing) for label, spacing in whole],
    }


def hidden(label: np.ndarray, kept: int) -> np.ndarray:
    """The gold standard with one slice in `kept` annotated."""
    partly = label.copy()
    partly[np.arange(len(label)) % kept > 0] = IGNORE
    return partly


def measured(maps: Maps, shift: int, structure: str = "LV") -> dict[str, list[float]]:
    """Values of each patient: in 3D, and means over the 2D contours of its slices."""
    value, names = dataset("mscmr").classes.index(structure), ("background", structure)
    found: dict[str, list[float]] = {f"{column} {how}": [] for how in ("3D", "2D") for column in COLUMNS}
    for label, spacing_mm in maps:
        truth = np.where(label == IGNORE, IGNORE, label == value).astype(np.uint8)
        pred = np.roll(np.where(truth == IGNORE, 0, truth), shift, axis=2)
        volume = evaluate_case(pred, truth, spacing_mm, names, slice_axis=0)
        whole = {z for z in range(len(truth)) if not (truth[z] == IGNORE).any()}
        slices = [row for row in slice_rows(pred, truth, spacing_mm, names) if row["slice"] in whole]
        for column in COLUMNS:
            contours = [float(row[column]) for row in slices]
            found[f"{column} 3D"].append(float(volume[0][column]))
            found[f"{column} 2D"].append(float(np.mean(contours)) if contours else math.nan)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shift", type=int, default=3, help="columns")
    parser.add_argument("--structure", default="LV")
    args = parser.parse_args()
    for name, maps in groups(Path(os.environ["CARDIAC_JAX_DATA"])).items():
        print(f"{name}: n = {len(maps)}")
        for column, values in measured(maps, args.shift, args.structure).items():
            finite = [value for value in values if math.isfinite(value)]
            spread = f"{np.mean(finite):.3f} ({min(finite):.3f} to {max(finite):.3f})" if finite else "-"
            print(f"  {column:12}{spread}, n = {len(finite)}", flush=True)


if __name__ == "__main__":
    main()
