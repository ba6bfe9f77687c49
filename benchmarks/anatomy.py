"""The anatomical check, the projection, nearest codes and Gaussian mixtures against scipy, scikit-image, scikit-learn.

    python -m benchmarks.anatomy [--masks 1024] [--size 128] [--bank 100000] [--repeats 5] [--only NAME]

Runs alternate, so that other load on the machine meets all contestants; medians of the wall time. The masks are
rings of the size and with the flaws of real ones (or label maps, with `CARDIAC_JAX_DATA`), and smoothed noise. The
peer of the check is the reference of the tests, which works within the bounding box of each mask. The peer of the
projection decodes, checks and searches slice by slice and stops as soon as it can.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import nibabel as nib
import numpy as np
from scipy import ndimage

from cardiac_jax.anatomy import wall_check
from cardiac_jax.anatomy.mixture import Mixture, covariances, em, sample, start
from cardiac_jax.anatomy.projection import Bank, nearest, project, resample
from tests import anatomy_reference as reference

SPACING_MM, CODES, SLICES, GRID, BISECTIONS = 1.4, 16, 12, 16, 6
LIMITS = wall_check.Limits()
Contestants = dict[str, Callable[[], object]]


def rings(module, codes, size: int):
    """Codes `[N, 16]` -> logits `[N, size, size]`; `module` is `jax.numpy` or `numpy`. Ten codes say nothing.

    Row, column, radius, wall, bend and crack, such that about half of the codes of unit variance are valid. Cheap to
    decode, so that the time is that of check and search.
    """
    axis = np.arange(size, dtype=np.float32) - size / 2
    y, x = axis[:, None], axis[None, :]
    distance, angle = np.sqrt(y * y + x * x + 1e-6), np.arctan2(y, x)
    waves = np.stack([y / distance, x / distance, np.sin(4 * angle), np.exp(-((angle / 0.3) ** 2))])
    row, column, radius, wall, bend, crack = (codes[:, i, None, None] for i in range(6))
    middle = 18 + 4 * module.tanh(radius) + 2.5 * module.maximum(bend, 0) * waves[2][None]
    half = 3 + module.tanh(wall) - 5 * module.maximum(crack, 0) * waves[3][None]
    return half - module.abs(distance[None] - 3 * row * waves[0][None] - 3 * column * waves[1][None] - middle)


def encode(module, masks):
    """Masks `[N, H, W]` -> codes `[N, 16]`: the position, and sums that have no meaning."""
    size = masks.shape[1]
    axis = module.arange(size, dtype=module.float32) - size / 2
    mass = module.maximum(masks.sum((1, 2)), 1.0)
    row, column = (masks.sum(2) * axis[None]).sum(1) / mass, (masks.sum(1) * axis[None]).sum(1) / mass
    odd = (masks * module.sin(axis)[None, :, None]).sum((1, 2)) / 20
    far = mass / 4000
    return module.stack([row / 3, column / 3, mass / 400 - 2, odd, far, odd - 0.5, *[0 * odd] * 10], 1)


def masks_of(kind: str, number: int, size: int) -> np.ndarray:
    """`[number, size, size]` bool."""
    rng = np.random.default_rng(0)
    if kind == "smoothed noise":
        noise = ndimage.gaussian_filter(rng.normal(size=(number, size, size)), (0, 3, 3))
        return noise > 0.05
    masks = rings(np, rng.normal(size=(number, CODES)).astype(np.float32), size) > 0
    return masks ^ (rng.random(masks.shape) < 2e-5)  # a stray pixel or hole in every third mask


def real_masks(root: Path, number: int, size: int) -> np.ndarray:
    """Myocardium of annotated ACDC slices at `SPACING_MM`, nearest neighbour."""
    masks: list[np.ndarray] = []
    for path in sorted((root / "acdc").rglob("*_gt.nii.gz")):
        image = nib.Nifti1Image.from_filename(path)
        zoom = float(image.header.get_zooms()[0]) / SPACING_MM
        for plane in np.moveaxis(np.asarray(image.dataobj), 2, 0):
            mask = ndimage.zoom((plane == 2).astype(np.uint8), zoom, order=0)
            if mask.any():
                mask = mask[ndimage.find_objects(mask)[0]][:size, :size]
                low = [(size - s) // 2 for s in mask.shape]
                masks.append(np.pad(mask, [(a, size - a - s) for a, s in zip(low, mask.shape, strict=True)]) > 0)
    return np.stack([masks[i % len(masks)] for i in range(number)])


def by_reference(mask: np.ndarray) -> bool:
    measured = reference.measure(mask, SPACING_MM, float(LIMITS.pocket_mm), float(LIMITS.tip_mm))
    return reference.verdict(measured, LIMITS)["valid"]


def check(masks: jax.Array) -> jax.Array:
    return wall_check.check(masks, SPACING_MM, LIMITS).valid


def checking(masks: np.ndarray) -> Contestants:
    ours = jax.jit(check)
    on_device = jnp.asarray(masks)
    expected = [by_reference(mask) for mask in masks[:200]]
    np.testing.assert_array_equal(ours(on_device)[:200], expected)
    return {
        "ours": lambda: jax.block_until_ready(ours(on_device)),
        "scipy, scikit-image": lambda: [by_reference(mask) for mask in masks],
    }


def projecting(size: int, bank_size: int, slices: int) -> Contestants:
    """Slices of which a quarter is noise."""
    mixture = Mixture(jnp.ones(1), jnp.zeros((1, CODES)), jnp.eye(CODES)[None])

    def decode(codes: jax.Array) -> jax.Array:
        return rings(jnp, codes, size) > 0

    drawn = resample(jax.random.key(0), mixture, decode, check, min(bank_size, 2000))
    again = -(-bank_size // len(drawn.bank.codes))  # the search does not care that codes repeat
    bank = Bank(*(jnp.tile(a, (again, *[1] * (a.ndim - 1)))[:bank_size] for a in drawn.bank))
    masks = masks_of("rings", slices, size)
    masks[::4] = np.random.default_rng(1).random(masks[::4].shape) < 0.4
    functions = {"encode": partial(encode, jnp), "decode": decode, "check": check}
    ours = jax.jit(partial(project, **functions, grid=GRID, bisections=BISECTIONS))
    on_device, codes_bank, stored = jnp.asarray(masks), np.asarray(bank.codes), np.asarray(bank.masks)

    def one(mask: np.ndarray) -> tuple[np.ndarray, float]:
        code = encode(np, mask[None].astype(np.float32))

        def at(alpha: float) -> tuple[np.ndarray, bool]:
            decoded = rings(np, code + np.float32(alpha) * (target - code), size)[0] > 0
            return decoded, by_reference(decoded)

        target = code
        kept, passed = at(0)
        if passed:
            return kept, 0.0
        nearest_code = np.square(codes_bank - code).sum(1).argmin()
        target = codes_bank[nearest_code][None]
        kept, high = np.unpackbits(stored[nearest_code], axis=-1, count=size).astype(bool), 1.0
        for step in range(1, GRID):
            decoded, passed = at(step / GRID)
            if passed:
                kept, high = decoded, step / GRID
                break
        low = high - 1 / GRID
        for _ in range(BISECTIONS):
            decoded, passed = at((low + high) / 2)
            low, high, kept = (low, (low + high) / 2, decoded) if passed else ((low + high) / 2, high, kept)
        return kept, high

    result = ours(on_device, bank=bank)
    np.testing.assert_allclose(result.alpha[:SLICES], [one(mask)[1] for mask in masks[:SLICES]], atol=1e-6)
    moved = np.asarray(result.alpha)[np.asarray(result.changed)]
    print(f"    {len(moved)} of {slices} slices move, by {moved.min():.2f} to {moved.max():.2f}")
    return {
        "ours": lambda: jax.block_until_ready(ours(on_device, bank=bank)),
        "numpy, scipy, scikit-image": lambda: [one(mask) for mask in masks],
    }


def searching(bank_size: int) -> Contestants:
    rng = np.random.default_rng(0)
    codes, bank = (rng.normal(size=(n, CODES)).astype(np.float32) for n in (SLICES, bank_size))
    ours, codes_, bank_ = jax.jit(nearest), jnp.asarray(codes), jnp.asarray(bank)
    contestants: Contestants = {
        "ours": lambda: jax.block_until_ready(ours(codes_, bank_)),
        "numpy": lambda: [np.square(bank - code).sum(1).argmin() for code in codes],
    }
    if importlib.util.find_spec("sklearn"):
        peer = importlib.import_module("sklearn.neighbors").NearestNeighbors(n_neighbors=1, algorithm="brute")
        peer.fit(bank)
        contestants["scikit-learn, brute force"] = lambda: peer.kneighbors(codes)
    return contestants


def fitting(points: int = 20_000, k: int = 6, steps: int = 10) -> Contestants:
    rng = np.random.default_rng(0)
    truth = Mixture(
        jnp.ones(k) / k, jnp.asarray(3 * rng.normal(size=(k, CODES)), jnp.float32), jnp.stack([jnp.eye(CODES)] * k)
    )
    x = sample(jax.random.key(0), truth, points)
    weight = jnp.ones(points)
    begin = start(jax.random.key(1), x, weight, k, 1e-6)
    contestants: Contestants = {
        "ours": lambda: jax.block_until_ready(em(begin, x, weight, steps, -jnp.inf, 1e-6)),
    }
    if importlib.util.find_spec("sklearn"):
        peers = importlib.import_module("sklearn.mixture")
        warnings = importlib.import_module("warnings")
        warnings.simplefilter("ignore")  # that it has not converged after so few steps is meant
        host = np.asarray(x)
        precisions = np.linalg.inv(np.asarray(covariances(begin), np.float64))
        peer = peers.GaussianMixture(
            k,
            tol=0.0,
            max_iter=steps,
            means_init=np.asarray(begin.means),
            precisions_init=(precisions + precisions.swapaxes(1, 2)) / 2,
        )
        contestants["scikit-learn"] = lambda: peer.fit(host)
    return contestants


def measure(contestants: Contestants, repeats: int) -> dict[str, float]:
    """Median wall time of each in seconds, in alternation, after one run to warm up."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for repeat in range(repeats + 1):
        for name, run in contestants.items():
            begin = time.perf_counter()
            run()
            if repeat:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=1024)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--bank", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    args = parser.parse_args()
    rows: dict[str, tuple[int, str, Callable[[], Contestants]]] = {
        f"check of {args.masks} rings": (
            args.masks,
            "masks",
            lambda: checking(masks_of("rings", args.masks, args.size)),
        ),
        f"check of {SLICES} rings": (SLICES, "masks", lambda: checking(masks_of("rings", SLICES, args.size))),
        "check of smoothed noise": (128, "masks", lambda: checking(masks_of("smoothed noise", 128, args.size))),
        f"projection of {SLICES} slices": (SLICES, "slices", lambda: projecting(args.size, args.bank, SLICES)),
        "projection of 240 slices": (240, "slices", lambda: projecting(args.size, args.bank, 240)),
        f"nearest of {args.bank} codes": (SLICES, "codes", lambda: searching(args.bank)),
        "mixture, 10 EM steps": (1, "fits", fitting),
    }
    if root := os.environ.get("CARDIAC_JAX_DATA"):
        real = partial(real_masks, Path(root), args.masks, args.size)
        rows[f"check of {args.masks} ACDC slices"] = (args.masks, "masks", lambda: checking(real()))
    for name, (number, unit, prepare) in rows.items():
        if args.only not in name:
            continue
        print(f"{name}, {args.size} x {args.size}, {jax.devices()[0].device_kind}")
        results = measure(prepare(), args.repeats)
        for contestant, seconds in results.items():
            ratio = seconds / results["ours"]
            print(
                f"    {contestant:28s}{1e3 * seconds:10.2f} ms{number / seconds:12.0f} {unit} / s{ratio:8.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
