"""Batches from prepared cases, in memory; one thread prepares them ahead of the training.

The batch of a step is a pure function of (seed, stage, step), so a checkpoint holds no state of the pipeline.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.preprocess import Prepared
from cardiac_jax.errors import InputError


class Examples(NamedTuple):
    """Training examples: `image [N, *S, C]`, `label [N, *S]`, the flag `fully_annotated [N]`.

    Slices also have `position [N]`, volumes the flag `real_case [N]`. Labels of volumes lie on a grid
    `data.target_scale` times finer; so does the high-resolution image, `fine [N, *S, C]`, if every case has one.
    """

    arrays: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))


def slices(cases: Sequence[Prepared]) -> Examples:
    """Returns every slice with at least one annotated pixel as an example.

    Raises:
      InputError: a case has no label, or no slice is annotated.
    """
    label = np.concatenate(_labels(cases))
    known = label != IGNORE
    annotated, whole = known.any((1, 2)), known.all((1, 2))
    if not annotated.any():
        raise InputError("training set", "no slice has an annotated pixel")
    arrays = {
        "image": np.concatenate([case.image for case in cases]),
        "label": label,
        "position": np.concatenate([case.position for case in cases]),
        "fully_annotated": whole.astype(np.float32),
    }
    return Examples({name: np.ascontiguousarray(array[annotated]) for name, array in arrays.items()})


def volumes(cases: Sequence[Prepared]) -> Examples:
    """Returns every case as one example; all cases must have the same size.

    Raises:
      InputError: a case has no label, or no voxel is annotated.
    """
    label = np.stack(_labels(cases))
    if not (label != IGNORE).any():
        raise InputError("training set", "no volume has an annotated voxel")
    whole = (label != IGNORE).all((1, 2, 3))
    flags = {"fully_annotated": whole, "real_case": np.array([not case.synthetic for case in cases])}
    held = {name: flag.astype(np.float32) for name, flag in flags.items()}
    fine = [case.fine for case in cases if case.fine is not None]
    if len(fine) == len(cases):
        held["fine"] = np.stack(fine)
    return Examples({"image": np.stack([case.image for case in cases]), "label": label, **held})


def _labels(cases: Sequence[Prepared]) -> list[np.ndarray]:
    labels = [case.label for case in cases if case.label is not None]
    if not cases or len(labels) != len(cases):
        raise InputError("training set", "every training case needs a label" if cases else "is empty")
    return labels


def class_frequency(examples: Examples, classes: int) -> tuple[int, ...]:
    """Returns the number of voxels of each class `[K]` in the fully annotated examples, or in all if there are none."""
    label = examples.arrays["label"]
    whole = examples.arrays["fully_annotated"] > 0
    label = label[whole] if whole.any() else label
    return tuple(int(n) for n in np.bincount(label.ravel(), minlength=classes)[:classes])


def refuse_empty(examples: Examples, flag: str, share: float) -> None:
    """Checks that a stage which uses flagged examples only has any.

    Raises:
      InputError: it has none.
    """
    if flag and share == 1.0 and not (examples.arrays[flag] > 0).any():
        what = {"fully_annotated": "is annotated in full: there are no whole shapes to learn from"}
        raise InputError("training set", f"no example {what.get(flag, f'has the flag {flag}')}")


def draw(seed: int, step: int, pool: int, batch: int) -> np.ndarray:
    """Returns indices `[batch]` into a pool of examples, for `step`.

    The indices of all steps are a sequence of permutations of the pool, each seeded by (seed, epoch).
    """
    stream = np.arange(step * batch, (step + 1) * batch)
    epochs = {epoch: _permutation(seed, int(epoch), pool) for epoch in np.unique(stream // pool)}
    return np.array([epochs[place // pool][place % pool] for place in stream], dtype=np.intp)


def _permutation(seed: int, epoch: int, pool: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(pool)


def batch_of(
    examples: Examples, flag: str, seed: int, step: int, size: int, share: float = 1.0
) -> dict[str, np.ndarray]:
    """Returns the global batch of a step.

    Args:
      flag: name of a 0/1 array of the examples; "": no distinction.
      share: share of the batch with flag 1; the rest has flag 0 and is spread evenly over the batch. If both kinds are
        required and one of them is empty, the flag is ignored.
    """
    marked = examples.arrays[flag] > 0 if flag else np.ones(len(examples), bool)
    flagged, others = np.flatnonzero(marked), np.flatnonzero(~marked)
    count = round(share * size)
    if count < size and not (len(flagged) and len(others)):
        flagged, count = np.arange(len(examples)), size
    chosen = flagged[draw(seed, step, len(flagged), count)]
    if count < size:
        rest = others[draw(seed ^ 0xA5A5A5A5, step, len(others), size - count)]
        places = np.concatenate([(np.arange(n) + 0.5) / max(n, 1) for n in (count, size - count)])
        chosen = np.concatenate([chosen, rest])[np.argsort(places, kind="stable")]
    return {name: array[chosen] for name, array in examples.arrays.items()}


class Prefetch:
    """Makes the batches of `steps` in a separate thread, at most `ahead` batches before they are used.

    Iteration yields them in order. `waited_s` is the total time in s that the consumer has waited for batches.
    """

    def __init__(self, make: Callable[[int], Any], steps: range, ahead: int = 2) -> None:
        self.waited_s = 0.0
        self._made: queue.SimpleQueue = queue.SimpleQueue()
        self._room = threading.Semaphore(ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(make, steps), daemon=True, name="prefetch")
        self._thread.start()

    def _run(self, make: Callable[[int], Any], steps: range) -> None:
        for step in steps:
            self._room.acquire()  # before the batch is made, so that no batch is held outside the queue
            if self._stop.is_set():
                return
            try:
                self._made.put((make(step), None))
            except BaseException as error:  # passed to the consumer, which raises it
                self._made.put((None, error))
                return
        self._made.put(None)

    def __iter__(self) -> Iterator[Any]:
        while True:
            start = time.perf_counter()
            made = self._made.get()
            self.waited_s += time.perf_counter() - start
            if made is None:
                return
            item, error = made
            if error is not None:
                raise error
            self._room.release()
            yield item

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *exc: object) -> None:
        """Stops the thread; unused batches are dropped."""
        self._stop.set()
        self._room.release()
        self._thread.join()
