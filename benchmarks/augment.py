"""Affine, elastic and intensity augmentation of a batch: ours, compiled, against scipy and MONAI.

    python benchmarks/augment.py [--batch 32] [--size 240] [--repeats 7]

Runs alternate, so that other load on the machine meets all contestants; medians and minima in milliseconds.
MONAI takes part if it is installed. scipy does the geometry alone, by `map_coordinates`, on as rich a field.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from cardiac_jax.data.augment import IDENTITY, Augment, augment_batch

GEOMETRY = IDENTITY._replace(rotation_p=1.0, scale_p=1.0, shear_p=1.0, translation_p=1.0, elastic_p=1.0, elastic_px=3.0)
Run = Callable[[], object]


def ours(image: np.ndarray, label: np.ndarray, config: Augment) -> Run:
    """`augment_batch` on `image` [B, H, W, 1] and `label` [B, H, W], on the default device."""
    step = jax.jit(augment_batch, static_argnames="config")
    keys = jax.random.split(jax.random.key(0), len(image))
    images, labels = jnp.asarray(image), jnp.asarray(label)
    return lambda: jax.block_until_ready(step(images, labels, keys, config))


def with_scipy(image: np.ndarray, label: np.ndarray) -> Run:
    """The geometry alone: 13 x 13 cubic field and a rotation, one `map_coordinates` per image and label."""
    rng = np.random.default_rng(0)
    size = image.shape[1:3]
    grid = np.indices(size, np.float32)
    knots = np.stack(np.meshgrid(*[np.linspace(0, 12, s) for s in size], indexing="ij"))

    def run() -> None:
        for x, y in zip(image[..., 0], label, strict=True):
            angle = rng.uniform(-0.35, 0.35)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
            centre = (np.array(size, np.float32)[:, None, None] - 1) / 2
            field = [ndimage.map_coordinates(c, knots, order=3, prefilter=False) for c in rng.normal(0, 3, (2, 13, 13))]
            coords = np.einsum("ij,jhw->ihw", turn, grid - centre) + centre + np.stack(field)
            ndimage.map_coordinates(x, coords, order=1, mode="nearest")
            ndimage.map_coordinates(y, coords, order=0)

    return run


def with_monai(image: np.ndarray, label: np.ndarray) -> Run:
    """`Rand2DElasticd` with an affine part, one example at a time, as its data loader would."""
    transforms = importlib.import_module("monai.transforms")
    warp = transforms.Rand2DElasticd(
        keys=("image", "label"),
        spacing=(image.shape[1] / 12, image.shape[2] / 12),
        magnitude_range=(1, 3),
        prob=1.0,
        rotate_range=0.35,
        shear_range=0.1,
        translate_range=10,
        scale_range=0.15,
        mode=("bilinear", "nearest"),
        padding_mode=("border", "zeros"),
    )
    examples = [{"image": np.moveaxis(x, -1, 0), "label": y[None]} for x, y in zip(image, label, strict=True)]
    return lambda: [warp(example) for example in examples]


def measure(runs: dict[str, Run], repeats: int) -> dict[str, tuple[float, float]]:
    """Median and minimum of each run in milliseconds, after one warm-up, in alternation."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: (float(np.median(t)), min(t)) for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=240)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    image = rng.standard_normal((args.batch, args.size, args.size, 1)).astype(np.float32)
    label = rng.integers(0, 4, image.shape[:3]).astype(np.uint8)
    runs = {
        "ours, affine": ours(image, label, GEOMETRY._replace(elastic_p=0.0)),
        "ours, affine + elastic": ours(image, label, GEOMETRY),
        "ours, all transforms": ours(image, label, Augment()),
        "scipy, affine + elastic": with_scipy(image, label),
    }
    if importlib.util.find_spec("monai"):
        runs["MONAI Rand2DElasticd"] = with_monai(image, label)
    results = measure(runs, args.repeats)
    reference = results["scipy, affine + elastic"][0]
    print(f"{args.batch} x {args.size} x {args.size}, image and label, {jax.devices()[0].device_kind}")
    for name, (median, least) in results.items():
        print(f"{name:26s} median {median:8.2f} ms   minimum {least:8.2f} ms   {median / reference:6.3f} of scipy")


if __name__ == "__main__":
    main()
