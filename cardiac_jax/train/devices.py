"""Devices: the only `pmap`, replication, placement, several processes.

Batches have the layout `[devices, batch / devices, ...]`. The state has no device axis: a checkpoint does not depend on
the number of devices, and a step compiles once.
"""

import contextlib
import functools
from collections.abc import Callable, Generator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cardiac_jax.core.step import predict_step, train_step
from cardiac_jax.core.types import Array, Stage, System, TrainState
from cardiac_jax.errors import InputError

AXIS = "devices"


def initialize(coordinator: str, processes: int, process: int) -> None:
    """Joins a run of several processes; must be called before any device is used.

    Raises:
      InputError: `process` is not in 0 to `processes` - 1.
    """
    if not 0 <= process < processes:
        raise InputError("--process", f"{process} is not one of the {processes} processes, 0 to {processes - 1}")
    jax.distributed.initialize(coordinator, num_processes=processes, process_id=process)


def is_first_process() -> bool:
    """Whether this is the process that logs and prints."""
    return jax.process_index() == 0


def describe() -> str:
    """Returns a description of the devices, for logs and reports."""
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind} ({jax.default_backend()}, {jax.process_count()} process(es))"


def barrier(name: str) -> None:
    """Waits until every process has reached this call; returns at once with a single process."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def agreed(number: int, now: bool) -> int:
    """Returns the largest `number` of all processes, the same on each (a signal may reach only some of them).

    With several processes, the exchange happens only if `now` is true, which must be the same on all; else returns 0.
    """
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number)))) if now else 0


def refuse_uneven(batch_size: int, accumulate: int) -> None:
    """Checks that an accumulated batch divides into `accumulate` equal parts on every device, without padding.

    Raises:
      InputError: it does not.
    """
    if accumulate > 1 and batch_size % (accumulate * jax.device_count()):
        problem = f"{accumulate} parts on {jax.device_count()} devices do not divide train.batch_size={batch_size}"
        raise InputError("train.accumulate", problem)


def _sharding(*axes: str) -> NamedSharding:
    return NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec(*axes))


def replicate(tree: Any) -> Any:
    """Returns a tree replicated on every local device, without a device axis."""
    return jax.device_put(tree, _sharding())


def abstract(tree: Any) -> Any:
    """Returns shapes, types and replicated placement of a tree, the target that a checkpoint is restored into."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=_sharding()), tree)


def fetch(tree: Any) -> Any:
    """Returns a host copy of a replicated tree; on a CPU, device_get alone is a view of memory that the step reuses."""
    return jax.tree.map(np.array, jax.device_get(tree))


def shard(batch: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """Returns this process's rows of a global batch `[B, ...]`, as `[devices, B / devices, ...]` on its devices.

    A batch that does not divide is padded with copies of its last row, with `mask` 0. The result always has `mask [B]`
    (1 for every row if absent) and `index [B]`, the position in the global batch.
    """
    rows = len(next(iter(batch.values())))
    devices, local = jax.device_count(), jax.local_device_count()
    share = -(-rows // devices)
    row = np.arange(jax.process_index() * local * share, (jax.process_index() + 1) * local * share)
    mask = np.asarray(batch.get("mask", np.ones(rows)), np.float32)
    mine = {name: value[np.minimum(row, rows - 1)] for name, value in batch.items()}
    mine |= {"mask": np.where(row < rows, mask[np.minimum(row, rows - 1)], 0).astype(np.float32)}
    mine |= {"index": row.astype(np.int32)}
    return {
        name: jax.device_put(value.reshape(local, share, *value.shape[1:]), _sharding(AXIS))
        for name, value in mine.items()
    }


@contextlib.contextmanager
def on_host() -> Generator[None]:
    """Context manager or decorator: computations on arrays that are not on an accelerator run on the CPU.

    For long chains of small steps (flood fills, hulls, expectation-maximisation), where each step on an accelerator
    costs a launch. No effect if the CPU is the default device or JAX may not use the CPU.
    """
    try:
        host = None if jax.default_backend() == "cpu" else jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names accelerators only
        host = None
    with jax.default_device(host) if host else contextlib.nullcontext():
        yield


def compile_train(
    stage: Stage, *, start: int = 0, accumulate: int = 1, ema_decay: float = 0.0
) -> Callable[[TrainState, Mapping[str, Array]], tuple[TrainState, dict[str, Array]]]:
    """Compiles the step of `stage` over all devices: (replicated state, sharded batch) -> (state, metrics)."""
    settings = {"start": start, "accumulate": accumulate, "ema_decay": ema_decay}
    step = functools.partial(train_step, stage, axis_name=AXIS, **settings)
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0)


def compile_predict(
    system: System, on_lost: Callable[[int], None] | None = None
) -> Callable[..., dict[str, np.ndarray]]:
    """Compiles `(variables, image [B, *S, C], quiet=False)` -> the system's outputs by name, on the host.

    B is arbitrary; examples are spread over the local devices. `on_lost` is called with the number of examples in which
    a localiser found nothing, if it is above 0, unless the call is quiet.
    """
    run = jax.pmap(functools.partial(predict_step, system), axis_name=AXIS, in_axes=(None, 0))

    def predict(variables: Any, image: np.ndarray, quiet: bool = False) -> dict[str, np.ndarray]:
        local = jax.local_device_count()
        share = -(-len(image) // local)
        row = np.minimum(np.arange(share * local), len(image) - 1)
        placed = jax.device_put(image[row].reshape(local, share, *image.shape[1:]), _sharding(AXIS))
        named = {name: np.asarray(value) for name, value in run(variables, placed).items()}
        flat = {name: value.reshape(local * share, *value.shape[2:])[: len(image)] for name, value in named.items()}
        lost = int((flat.pop("found") == 0).sum())
        if lost and on_lost is not None and not quiet:
            on_lost(lost)
        return flat

    return predict
