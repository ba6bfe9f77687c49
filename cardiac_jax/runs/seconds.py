"""Time of prediction of several trained models, measured in one process, in turn."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cardiac_jax.results.evaluation import Results
from cardiac_jax.runs.restore import restore


def in_turn(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call, `rounds` of each, one after the other; each round starts with the next call.

    The first call of each, which may compile, is made before the rounds and not counted.
    """
    for call in calls.values():
        call()
    names, found = list(calls), {name: [] for name in calls}
    for k in range(rounds):
        shift = k % len(names)
        for name in (*names[shift:], *names[:shift]):
            start = time.perf_counter()
            calls[name]()
            found[name].append(time.perf_counter() - start)
    return found


def seconds_per_stack(methods: Sequence[Results], rounds: int) -> dict[str, list[float]]:
    """Method -> seconds for one stack of its network's input size, with the way to the device and back.

    Intensities are random; reading and preparation of files are not counted. What has no run, or one on slices, is
    left out.

    Raises:
      InputError: a checkpoint cannot be restored.
    """
    calls: dict[str, Callable[[], object]] = {}
    for one in methods:
        if "workdir" not in one.about:
            continue
        model = restore(Path(one.about["workdir"]), str(one.about["checkpoint"]["step"]))
        if model.spec.is_volumetric:
            shape = (1, *model.spec.size, model.spec.channels)
            image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
            calls[one.name] = lambda run=model.look, image=image: run(image)
    return in_turn(calls, rounds) if calls else {}
