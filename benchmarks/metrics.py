"""Whole evaluation of a label map of three structures: ours against MONAI's own metrics, in alternation.

    python benchmarks/metrics.py [--repeats 15] [--threads 2]

Ours is `evaluate_case`: Dice, Jaccard, balanced accuracy, HD, HD95, ASD and volumes of a 16 x 256 x 256 volume of
10 x 1.4 x 1.4 mm. MONAI's is one call of each of its functions, with spacing, on one-hot maps that it is given: the
time to make these is not counted, nor are volumes, which it does not have. `boundaries only` asks both for the
boundary distances of every structure once, which MONAI's three distance functions each compute anew.

Volumes: nested ellipsoids with ragged outlines, two outlines of them that differ by about a pixel; the same 12 pixels
apart; and with CARDIAC_JAX_DATA an ACDC annotation brought to that grid, against itself bent by a pixel. Medians of
the wall time in milliseconds, and ratios: above 1 ours is faster. The values of both are compared in the same run.
MONAI takes part if it is installed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from cardiac_jax.data.io.formats import read
from cardiac_jax.data.labels import CLASSES
from cardiac_jax.metrics import surface
from cardiac_jax.metrics.evaluate import evaluate_case

SHAPE = (16, 256, 256)
SPACING_MM = (10.0, 1.4, 1.4)
AGREED = ("dice", "jaccard", "hd_mm", "asd_mm", "hd95_mm")
Maps = tuple[np.ndarray, np.ndarray]
Run = Callable[[], object]


def ragged(rng: np.random.Generator, size_px: float) -> np.ndarray:
    """A smooth random field `[Z, H, W]` of SD `size_px`, by which outlines are moved."""
    field = ndimage.gaussian_filter(rng.normal(size=SHAPE), (1, 6, 6))
    return size_px * field / field.std()


def ellipsoids(rng: np.random.Generator) -> Maps:
    """Right ventricle, myocardium and cavity, tapering to an apex, in 13 of the 16 slices; outlined twice."""
    z, y, x = np.indices(SHAPE, np.float32)
    taper = np.sqrt(np.clip(1 - 0.8 * ((z - 7.5) / 6.8) ** 2, 0, None))

    def outlined() -> np.ndarray:
        labels = np.zeros(SHAPE, np.uint8)
        right = np.hypot((y - 128) / 1.25, x - 100) + ragged(rng, 1.0)
        left = np.hypot(y - 130, x - 140) + ragged(rng, 1.0)
        for label, distance, radius in ((1, right, 38), (2, left, 34), (3, left, 24)):
            labels[(distance < radius * taper) & (np.abs(z - 7.5) < 6.6)] = label
        return labels

    return outlined(), outlined()


def acdc(root: Path, rng: np.random.Generator) -> Maps:
    """The first patient's end-diastole, nearest neighbour; the prediction displaced by about a pixel."""
    file = min((root / "acdc").glob("*/*_gt.nii.gz"))
    small = read(file).data.transpose(2, 1, 0)
    at = (np.arange(n) * m // n for n, m in zip(SHAPE, small.shape, strict=True))
    truth = small[np.ix_(*at)].astype(np.uint8)
    where = np.indices(SHAPE, np.float32)
    where[1:] += np.stack([ragged(rng, 1.0), ragged(rng, 1.0)])
    return ndimage.map_coordinates(truth, where, order=0), truth


def ours(pred: np.ndarray, truth: np.ndarray) -> dict[str, list[float]]:
    rows = evaluate_case(pred, truth, SPACING_MM, CLASSES, slice_axis=0)
    return {name: [float(row[name]) for row in rows] for name in AGREED}


def our_boundaries(pred: np.ndarray, truth: np.ndarray) -> None:
    for label in range(1, len(CLASSES)):
        surface.surface_distances(pred == label, truth == label, SPACING_MM)


def with_monai(pred: np.ndarray, truth: np.ndarray, threads: int) -> tuple[Callable[[], dict], Run]:
    """Everything, and its boundary distances alone."""
    torch, metrics = importlib.import_module("torch"), importlib.import_module("monai.metrics")
    torch.set_num_threads(threads)
    values = np.arange(len(CLASSES))[:, None, None, None]
    p, t = (torch.from_numpy((labels == values)[None].astype(np.float32)) for labels in (pred, truth))

    def run() -> dict[str, list[float]]:
        found = (
            metrics.compute_dice(p, t, include_background=False),
            metrics.compute_iou(p, t, include_background=False),
            metrics.compute_hausdorff_distance(p, t, spacing=SPACING_MM),
            metrics.compute_average_surface_distance(p, t, symmetric=True, spacing=SPACING_MM),
            metrics.compute_hausdorff_distance(p, t, percentile=95, spacing=SPACING_MM),
        )
        return {name: value[0].tolist() for name, value in zip(AGREED, found, strict=True)}

    return run, lambda: metrics.compute_hausdorff_distance(p, t, spacing=SPACING_MM)


def measure(runs: dict[str, Run], repeats: int) -> dict[str, float]:
    """Median wall time in milliseconds of each, alternated, after one run to warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(t) for name, t in times.items()}


def largest_difference(one: dict[str, list[float]], other: dict[str, list[float]]) -> float:
    """Over all measures but HD95, whose rank MONAI rounds to float32; relative, where the value is above 1."""
    pairs = [both for name in AGREED[:-1] for both in zip(one[name], other[name], strict=True)]
    return max(abs(a - b) / max(1.0, abs(b)) for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="for PyTorch")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # MONAI's own, of functions it deprecates
    rng = np.random.default_rng(0)
    pred, truth = ellipsoids(rng)
    volumes = {"ellipsoids": (pred, truth), "far apart": (np.roll(pred, 12, axis=2), truth)}
    if root := os.environ.get("CARDIAC_JAX_DATA"):
        volumes["ACDC"] = acdc(Path(root), rng)
    peer = importlib.util.find_spec("monai") is not None
    if not peer:
        print("MONAI is not installed: its columns are left out")
    print(f"{'volume':12}{'':18}{'ours ms':>9}{'MONAI ms':>10}{'ratio':>8}")
    for name, (pred, truth) in volumes.items():
        runs: dict[str, Run] = {
            "all": partial(ours, pred, truth),
            "boundaries only": partial(our_boundaries, pred, truth),
        }
        found = ours(pred, truth)
        said = f"Dice {', '.join(f'{d:.3f}' for d in found['dice'])}"
        if peer:
            theirs, their_boundaries = with_monai(pred, truth, args.threads)
            runs |= {"MONAI all": theirs, "MONAI boundaries only": their_boundaries}
            said += f"; largest difference {largest_difference(found, theirs()):.1e}"
        result = measure(runs, args.repeats)
        for what in ("all", "boundaries only"):
            ratio = f"{result[f'MONAI {what}']:10.1f}{result[f'MONAI {what}'] / result[what]:8.1f}" if peer else ""
            print(f"{name:12}{what:18}{result[what]:9.2f}{ratio}", flush=True)
        print(f"{'':12}{said}")


if __name__ == "__main__":
    main()
