"""Our operations and U-Net training step against stock flax, and against PyTorch if it is installed.

    python benchmarks/ops.py [--batch 8] [--size 128] [--base 16] [--repeats 11] [--only NAME]

Runs alternate, so that other load on the machine meets all contestants. Every row is the value and the gradients
with respect to input and parameters of one operation at the network's first level (or of the whole network).
Medians of the processor time of all threads, in milliseconds, which other processes disturb less than wall time,
and ratios to ours: above 1 ours is faster. The last column is ours in wall time. On a GPU all is wall time, until the
device is done.
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
from itertools import pairwise
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cardiac_jax.nets.layers import BatchNorm, Conv, ConvTranspose, Dropout
from cardiac_jax.nets.unet import UNet
from cardiac_jax.ops.cpu.compiler import compiler_options
from cardiac_jax.ops.pool import max_pool

CLASSES = 4


class Case(NamedTuple):
    """`stock` and `ours` are modules called with (x, train=); `size` is that of one example, channels last."""

    size: tuple[int, ...]
    stock: nn.Module
    ours: nn.Module
    torch: Callable  # torch.nn -> module


class Train(nn.Module):
    """A stock layer, or a function, under the call of our modules."""

    layer: Callable
    random: str = ""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        match self.random:
            case "norm":
                return nn.relu(self.layer(use_running_average=not train)(x))
            case "dropout":
                return self.layer(deterministic=not train)(x)
            case "ours":
                return self.layer()(x, train=train)
            case "norm ours":
                return nn.relu(self.layer()(x, train=train))
        return self.layer(x) if not isinstance(self.layer, partial) else self.layer()(x)


class StockUNet(nn.Module):
    """The same network in stock layers."""

    features: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        def norm(x: jax.Array) -> jax.Array:
            return nn.BatchNorm(use_running_average=not train)(x)

        def block(x: jax.Array, features: int) -> jax.Array:
            for _ in range(2):
                x = norm(nn.Conv(features, (3, 3), use_bias=False)(x))
                x = nn.relu(nn.Dropout(0.2, deterministic=not train)(x))
            return x

        skips: list[jax.Array] = []
        for level, features in enumerate(self.features):
            x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2)) if level else x
            x = block(x, features)
            skips.append(x)
        for features, skip in list(zip(self.features, skips, strict=True))[-2::-1]:
            x = nn.relu(norm(nn.ConvTranspose(features, (2, 2), (2, 2), use_bias=False)(x)))
            x = block(jnp.concatenate([skip, x], axis=-1), features)
        return nn.Conv(CLASSES, (1, 1))(x)


def torch_unet(tn, features: tuple[int, ...]):
    """The same network in PyTorch."""
    torch = importlib.import_module("torch")

    def block(a: int, b: int):
        layers = []
        for cin in (a, b):
            layers += [tn.Conv2d(cin, b, 3, padding=1, bias=False), tn.BatchNorm2d(b), tn.Dropout(0.2), tn.ReLU()]
        return tn.Sequential(*layers)

    class Net(tn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = tn.ModuleList(block(a, b) for a, b in pairwise((1, *features)))
            pairs = list(pairwise(features))
            self.up = tn.ModuleList(
                tn.Sequential(tn.ConvTranspose2d(b, a, 2, 2, bias=False), tn.BatchNorm2d(a), tn.ReLU())
                for a, b in pairs
            )
            self.merge = tn.ModuleList(block(2 * a, a) for a, _ in pairs)
            self.head = tn.Conv2d(features[0], CLASSES, 1)

        def forward(self, x):
            skips = []
            for level, part in enumerate(self.down):
                x = part(tn.functional.max_pool2d(x, 2) if level else x)
                skips.append(x)
            for level in reversed(range(len(self.up))):
                x = self.merge[level](torch.cat([skips[level], self.up[level](x)], 1))
            return self.head(x)

    return Net()


def cases(size: int, base: int) -> dict[str, Case]:
    features = tuple(base * 2**i for i in range(5))
    plane, c = (size, size), base
    return {
        "max-pool 2x2": Case(
            (*plane, c),
            Train(lambda x: nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))),
            Train(max_pool),
            lambda tn: tn.MaxPool2d(2),
        ),
        "transposed 2x2": Case(
            (size // 2, size // 2, 2 * c),
            Train(partial(nn.ConvTranspose, c, (2, 2), (2, 2), use_bias=False)),
            Train(partial(ConvTranspose, c, bias=False)),
            lambda tn: tn.ConvTranspose2d(2 * c, c, 2, 2, bias=False),
        ),
        "transposed 4x4": Case(
            (size // 2, size // 2, c),
            Train(partial(nn.ConvTranspose, c, (4, 4), (2, 2), use_bias=False)),
            Train(partial(ConvTranspose, c, 4, bias=False)),
            lambda tn: tn.ConvTranspose2d(c, c, 4, 2, padding=1, bias=False),
        ),
        "3x3 stride 2": Case(
            (*plane, c),
            Train(partial(nn.Conv, c, (3, 3), (2, 2), use_bias=False)),
            Train(partial(Conv, c, 3, 2, bias=False)),
            lambda tn: tn.Conv2d(c, c, 3, 2, padding=1, bias=False),
        ),
        "3x3": Case(
            (*plane, c),
            Train(partial(nn.Conv, c, (3, 3), use_bias=False)),
            Train(partial(Conv, c, bias=False)),
            lambda tn: tn.Conv2d(c, c, 3, padding=1, bias=False),
        ),
        "3x3, one channel": Case(
            (*plane, 1),
            Train(partial(nn.Conv, c, (3, 3), use_bias=False)),
            Train(partial(Conv, c, bias=False)),
            lambda tn: tn.Conv2d(1, c, 3, padding=1, bias=False),
        ),
        "3x3x3": Case(
            (8, size // 2, size // 2, c // 2),
            Train(partial(nn.Conv, c // 2, (3, 3, 3), use_bias=False)),
            Train(partial(Conv, c // 2, bias=False)),
            lambda tn: tn.Conv3d(c // 2, c // 2, 3, padding=1, bias=False),
        ),
        "batch norm + ReLU": Case(
            (*plane, c),
            Train(partial(nn.BatchNorm), "norm"),
            Train(partial(BatchNorm), "norm ours"),
            lambda tn: tn.Sequential(tn.BatchNorm2d(c), tn.ReLU()),
        ),
        "dropout": Case(
            (*plane, c),
            Train(partial(nn.Dropout, 0.2), "dropout"),
            Train(partial(Dropout, 0.2), "ours"),
            lambda tn: tn.Dropout(0.2),
        ),
        "U-Net step": Case((*plane, 1), StockUNet(features), UNet(features), lambda tn: torch_unet(tn, features)),
    }


def compiled(module: nn.Module, x: np.ndarray, options: dict[str, str]) -> Callable[[], object]:
    """Value and gradients of a sum of squares of the output."""
    key = jax.random.key(0)
    v = jax.jit(partial(module.init, train=False), compiler_options=compiler_options(once=True))(key, x)
    rest = {k: s for k, s in v.items() if k != "params"}

    def loss(params, x):
        rngs = {"dropout": key}
        out, new = module.apply({"params": params, **rest}, x, train=True, rngs=rngs, mutable=["batch_stats"])
        y = out[0] if isinstance(out, tuple) else out
        return (y * y).sum(), new

    step = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True), compiler_options=options)
    x_ = jnp.asarray(x)
    return lambda: jax.block_until_ready(step(v.get("params", {}), x_))


def with_torch(build: Callable, x: np.ndarray) -> Callable[[], object]:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else its threads spin while the others are timed
    torch = importlib.import_module("torch")
    torch.set_num_threads(os.cpu_count() or 1)
    layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    torch.backends.cudnn.benchmark = True  # XLA chooses its convolutions by trying them, too
    module = build(torch.nn).train().to(device, memory_format=layout)
    t = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).to(device, memory_format=layout).requires_grad_()

    def run() -> None:
        module.zero_grad()
        t.grad = None
        module(t).square().sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def measure(contestants: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median processor and wall time in milliseconds of each, alternated, after one run to warm up.

    On a GPU the wall time is given twice: a processor that waits for it counts nothing.
    """
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for turn in range(repeats + 1):
        for name, run in contestants.items():
            time.sleep(0.03)  # the threads of the one before stop spinning
            cpu, wall = clock(), time.perf_counter()
            run()
            if turn:
                times[name].append((clock() - cpu, time.perf_counter() - wall))
    return {
        n: (1e3 * statistics.median(a for a, _ in t), 1e3 * statistics.median(b for _, b in t))
        for n, t in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--base", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    args = parser.parse_args()
    torch = importlib.util.find_spec("torch") is not None
    if not torch:
        print("PyTorch is not installed: its column is left out")
    print(f"{'operation':20}{'ours ms':>9}{'stock':>8}{'no option':>11}{'torch':>8}{'wall ms':>10}")
    for name, case in cases(args.size, args.base).items():
        if args.only not in name:
            continue
        x = np.random.default_rng(0).standard_normal((args.batch, *case.size)).astype(np.float32)
        contestants = {
            "ours": compiled(case.ours, x, compiler_options()),
            "stock": compiled(case.stock, x, {}),
            "no option": compiled(case.ours, x, {}),
        }
        if torch:
            contestants["torch"] = with_torch(case.torch, x)
        result = measure(contestants, args.repeats)
        cpu, wall = result["ours"]
        ratio = {n: f"{t / cpu:.2f}" for n, (t, _) in result.items()}
        line = f"{name:20}{cpu:9.2f}{ratio['stock']:>8}{ratio['no option']:>11}{ratio.get('torch', '-'):>8}{wall:10.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
