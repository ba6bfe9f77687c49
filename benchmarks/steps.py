"""Time of one training step of every stage of an experiment, and the device kernels it goes to.

    python -m benchmarks.steps --config=experiments/acsnet.py:preset=paper [--kernels=10 --stage=segmentation]

The steps are those of training, compiled the same way, on made-up hearts: no data is read. Printed for each stage:
seconds until the first step is done (compiling, or reading what an earlier run compiled), milliseconds a step (mean of
`--steps`, after two to warm up); with `--kernels`, where the device spent its time in three further steps, by kernel,
from JAX's profiler (GPUs only).
"""

import collections
import dataclasses
import gzip
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from cardiac_jax.commands import cli

config_flags.DEFINE_config_file("config", help_string="experiments/NAME.py[:key=value,...]")
KERNELS = flags.DEFINE_integer("kernels", 0, "of the most expensive to list; 0: none")
STEPS = flags.DEFINE_integer("steps", 10, "that are timed", lower_bound=1)
TRACE = flags.DEFINE_string("trace", "", "folder to keep the traces of --kernels in")
STAGE = flags.DEFINE_string("stage", "", "the only stage to time")


def examples(config: Any, number: int, classes: int, channels: int) -> dict[str, Any]:
    """Noise with a ring of every class about the centre, as `data.pipeline` gives slices or volumes."""
    import numpy as np

    size = tuple(config.data.size)
    rng = np.random.default_rng(0)
    y, x = (np.arange(s) - s / 2 for s in size[-2:])
    rings = np.hypot(y[:, None], x[None]) / (0.25 * min(size[-2:]) / (classes - 1))
    label = np.broadcast_to(np.where(rings < classes - 1, classes - 1 - rings.astype(int), 0), (number, *size))
    image = rng.standard_normal((number, *size, channels), np.float32) + label[..., None]
    flat = {name: np.ones(number, np.float32) for name in ("fully_annotated", "real_case", "position")}
    held = {"image": image.astype(np.float32), "label": label.astype(np.uint8), **flat}
    scale = tuple(config.data.target_scale)
    if any(factor > 1 for factor in scale):  # repeated onto the finer grid
        for axis, factor in enumerate(scale, start=1):
            label, image = (np.repeat(array, factor, axis) for array in (label, image))
        held |= {"label": label.astype(np.uint8), "fine": image.astype(np.float32)}
    return held


def kernels(folder: Path) -> list[tuple[str, float, int]]:
    """(name, milliseconds in all, times) of what ran on the GPU, from a Perfetto trace, the longest first."""
    (path,) = folder.rglob("perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    named = [
        (e.get("name"), e.get("pid"), e.get("tid"), e["args"].get("name", "")) for e in events if e.get("ph") == "M"
    ]
    devices = {pid for kind, pid, _, name in named if kind == "process_name" and "GPU" in name}
    streams = {(p, tid) for kind, p, tid, name in named if kind == "thread_name" and p in devices and "Stream" in name}
    time_us, count = collections.Counter(), collections.Counter()
    for e in events:
        if e.get("ph") == "X" and (e["pid"], e["tid"]) in streams:
            name = f"{e['name'][:70]} <- {e.get('args', {}).get('hlo_op', '?')}"
            time_us[name] += e["dur"]
            count[name] += 1
    return [(name, us / 1e3, count[name]) for name, us in time_us.most_common()]


def main() -> None:
    import jax

    from cardiac_jax import systems
    from cardiac_jax.core.step import init_state
    from cardiac_jax.data.sets import dataset
    from cardiac_jax.data.spec import spec_of
    from cardiac_jax.train import devices

    config = flags.FLAGS["config"].value
    spec = spec_of(config.data, dataset(config.data.name, config.data.classes))
    spec = dataclasses.replace(spec, frequency=(9, *[1] * (spec.classes_count - 1)))
    system = systems.build_system(config, spec)
    whole = examples(config, max(config.train.batch_size, 2), spec.classes_count, spec.channels)
    print(f"{config.system} {config.get('method', '')}, {config.model.dtype}, {devices.describe()}")
    first = init_state(system, 0, ema=config.train.ema > 0)
    for stage in system.stages:
        if STAGE.value not in ("", stage.name):
            continue
        state = devices.replicate(jax.tree.map(lambda x: x.copy(), first))  # a step consumes its state
        arrays = stage.stream.of(whole) if stage.stream.of else whole
        size = stage.stream.batch_size or config.train.batch_size
        batch = devices.shard({name: x[[i % len(x) for i in range(size)]] for name, x in arrays.items()})
        begin = time.perf_counter()
        step = devices.compile_train(stage, ema_decay=config.train.ema)
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
        first_s = time.perf_counter() - begin
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
        begin = time.perf_counter()
        for _ in range(STEPS.value):
            state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
        each_ms = 1e3 * (time.perf_counter() - begin) / STEPS.value
        memory = jax.local_devices()[0].memory_stats() or {}
        peak = f", peak memory so far {memory['peak_bytes_in_use'] / 2**30:.1f} GiB" if memory else ""
        print(
            f"{stage.name:14} batch {size:3}: {each_ms:9.2f} ms a step, the first after {first_s:.1f} s{peak}",
            flush=True,
        )
        if KERNELS.value:
            with tempfile.TemporaryDirectory() as folder:
                with jax.profiler.trace(folder, create_perfetto_trace=True):
                    for _ in range(3):
                        state, metrics = step(state, batch)
                    jax.block_until_ready(metrics)
                if TRACE.value:
                    (path,) = Path(folder).rglob("perfetto_trace.json.gz")
                    shutil.copy(path, Path(TRACE.value) / f"{config.system}_{stage.name}.json.gz")
                for name, ms, count in kernels(Path(folder))[: KERNELS.value]:
                    print(f"    {ms / 3:9.3f} ms a step {count / 3:7.1f} x  {name}", flush=True)


if __name__ == "__main__":
    cli.run(main, __name__)
