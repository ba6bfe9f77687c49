"""The sub-pixel network of ACNN against the same network in PyTorch, and against SR-CNN on the fine grid.

    python -m benchmarks.subpixel [--batch 8] [--size 12 120 120] [--rounds 5] [--dtype float32]

A training step (cross-entropy, gradients, no optimiser) of 3D-Seg in JAX and in PyTorch, and the prediction of one
stack by ACNN-SR and SR-CNN at their published sizes, run in turn in one process; medians of wall time in ms until the
device is done. PyTorch uses channels-last memory, its own choice of algorithms (`cudnn.benchmark`) and, as JAX, TF32.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cardiac_jax.nets.subpixel import SubPixel
from cardiac_jax.nets.upsampled import SRCNN
from cardiac_jax.ops.cpu.compiler import compiler_options

CLASSES, SCALE = 3, 5


def ours(image: np.ndarray, label: np.ndarray, dtype: str) -> Callable[[], Any]:
    """A training step of 3D-Seg in JAX."""
    net = SubPixel(classes=CLASSES, dtype=jnp.dtype(dtype))
    x, y = jnp.asarray(image), jnp.asarray(label)
    variables = jax.jit(lambda: net.init(jax.random.key(0), x[:1], train=False))()

    def loss(params, stats):
        (logits, _), _ = net.apply({"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    step = jax.jit(jax.value_and_grad(loss), compiler_options=compiler_options())
    return lambda: jax.block_until_ready(step(variables["params"], variables["batch_stats"]))


def torch_step(image: np.ndarray, label: np.ndarray, dtype: str) -> Callable[[], Any]:
    """The same step in PyTorch."""
    import torch
    from torch import nn

    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True

    class Unit(nn.Sequential):
        def __init__(self, layer: nn.Module, width: int) -> None:
            super().__init__(layer, nn.BatchNorm3d(width), nn.ReLU())

    def conv(a: int, b: int, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1)) -> nn.Module:
        return Unit(nn.Conv3d(a, b, kernel, stride, tuple(k // 2 for k in kernel), bias=False), b)

    def enlarge(a: int, b: int, stride: tuple[int, int, int]) -> nn.Module:
        kernel = tuple(2 * s if s > 1 else 1 for s in stride)
        pad = tuple(-(-(k - s) // 2) for k, s in zip(kernel, stride, strict=True))
        out = tuple(2 * p - (k - s) for p, k, s in zip(pad, kernel, stride, strict=True))
        return Unit(nn.ConvTranspose3d(a, b, kernel, stride, pad, out, bias=False), b)

    class Net(nn.Module):
        def __init__(self, widths: tuple[int, ...] = tuple(SubPixel.features)) -> None:
            super().__init__()
            deep = len(widths) - 1
            self.down = nn.ModuleList()
            before = 1
            for level, width in enumerate(widths):
                kernel = (1, 3, 3) if level == deep else (3, 3, 3)
                first = conv(before, width, kernel, (1, 2, 2) if level else (1, 1, 1))
                self.down.append(nn.Sequential(first, conv(width, width, kernel)))
                before = width
            self.up, self.join = nn.ModuleList(), nn.ModuleList()
            for level in reversed(range(deep)):
                self.up.append(enlarge(before, widths[level], (1, 2, 2)))
                kernel = (1, 3, 3) if level == deep - 1 else (3, 3, 3)
                self.join.append(conv(2 * widths[level], widths[level], kernel))
                before = widths[level]
            self.fine = nn.Sequential(enlarge(before, before, (SCALE, 1, 1)), conv(before, before, (3, 3, 3)))
            self.head = nn.Conv3d(before, CLASSES, 1)

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            skips = []
            for block in self.down:
                x = block(x)
                skips.append(x)
            for up, join, skip in zip(self.up, self.join, reversed(skips[:-1]), strict=True):
                x = join(torch.cat([skip, up(x)], 1))
            return self.head(self.fine(x))

    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = Net().to(device, memory_format=torch.channels_last_3d)
    x = torch.from_numpy(np.moveaxis(image, -1, 1).copy()).to(device, memory_format=torch.channels_last_3d)
    y = torch.from_numpy(label.astype(np.int64)).to(device)
    half = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")
    print(f"PyTorch {torch.__version__}: {sum(p.numel() for p in net.parameters())} parameters")

    def step() -> None:
        net.zero_grad(set_to_none=True)
        with half:
            loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def predictions(image: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Prediction of one stack by ACNN-SR and by SR-CNN."""
    found: dict[str, Callable[[], Any]] = {}
    x = jnp.asarray(image[:1])
    for name, net in {"ACNN-SR, one stack": SubPixel(classes=1), "SR-CNN, one stack": SRCNN()}.items():
        variables = jax.jit(lambda net=net: net.init(jax.random.key(0), x, train=False))()
        run = jax.jit(lambda v, net=net: net.apply(v, x, train=False)[0], compiler_options=compiler_options())
        found[name] = lambda run=run, variables=variables: jax.block_until_ready(run(variables))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, nargs=3, default=(12, 120, 120))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    size = tuple(given.size)
    image = rng.normal(size=(given.batch, *size, 1)).astype(np.float32)
    label = rng.integers(0, CLASSES, (given.batch, SCALE * size[0], *size[1:])).astype(np.int32)
    calls = {f"3D-Seg step, batch {given.batch}": ours(image, label, given.dtype)}
    if importlib.util.find_spec("torch"):
        calls["3D-Seg step, PyTorch"] = torch_step(image, label, given.dtype)
    calls |= predictions(image)
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, {given.dtype}, {size} -> {label.shape[1:]}")
    for name, call in calls.items():
        begin = time.perf_counter()
        call()
        print(f"{name}: first after {time.perf_counter() - begin:.1f} s", flush=True)
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(given.rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            found[name].append(1e3 * (time.perf_counter() - begin))
    for name, times in found.items():
        print(f"{name:28} {statistics.median(times):9.2f} ms")


if __name__ == "__main__":
    main()
