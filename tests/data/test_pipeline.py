"""Batches: a pure function of (seed, step), every example once an epoch, made in a thread no further than `ahead`."""

import threading
import time

import numpy as np
import pytest

from cardiac_jax.data.pipeline import Examples, Prefetch, batch_of, class_frequency, draw, refuse_empty, slices, volumes
from cardiac_jax.data.preprocess import Axis, Geometry, Prepared
from cardiac_jax.errors import InputError


def examples(count: int = 12) -> Examples:
    """Images that say their own number; every third example is partly annotated."""
    number = np.arange(count, dtype=np.float32)
    return Examples(
        {
            "image": np.broadcast_to(number[:, None, None, None], (count, 2, 2, 1)).copy(),
            "label": np.zeros((count, 2, 2), np.uint8),
            "position": number / count,
            "fully_annotated": (np.arange(count) % 3 > 0).astype(np.float32),
        }
    )


def numbers(batch: dict[str, np.ndarray]) -> list[int]:
    return batch["image"][:, 0, 0, 0].astype(int).tolist()


def case(labels: np.ndarray | None, name: str = "a") -> Prepared:
    count = 3 if labels is None else len(labels)
    geometry = Geometry(*[Axis(2, 2, 1.0, 0, 2)] * 3)
    image = np.full((count, 2, 2, 1), float(ord(name)), np.float32)
    place = np.linspace(0, 1, count, dtype=np.float32)
    return Prepared(name, name, image, labels, place, (1.0, 1.0, 1.0), geometry, None, None, None)


# --- slices


def test_slices_without_any_annotation_are_left_out_and_partly_annotated_ones_are_flagged():
    label = np.zeros((3, 2, 2), np.uint8)
    label[1] = 255  # nothing annotated
    label[2, 0, 0] = 255  # in part
    held = slices([case(label), case(np.ones((2, 2, 2), np.uint8), "b")])
    assert len(held) == 4
    np.testing.assert_array_equal(held.arrays["fully_annotated"], [1, 0, 1, 1])
    np.testing.assert_array_equal(held.arrays["position"], [0, 1, 0, 1])
    assert held.arrays["image"][:, 0, 0, 0].tolist() == [97, 97, 98, 98]


def test_class_frequency_counts_fully_annotated_slices_only():
    label = np.array([[[0, 1], [1, 3]], [[255, 2], [2, 2]]], np.uint8)
    assert class_frequency(slices([case(label)]), 4) == (1, 2, 0, 1)


@pytest.mark.parametrize("labels", [np.full((3, 2, 2), 255, np.uint8), None])
@pytest.mark.parametrize("made", [slices, volumes])
def test_a_training_set_without_annotation_is_refused(labels, made):
    cases = [case(labels)] if labels is not None else [case(None), case(np.zeros((3, 2, 2), np.uint8))]
    with pytest.raises(InputError, match="training set: " + ("no .* annotated" if labels is not None else "every")):
        made(cases)
    with pytest.raises(InputError, match="training set: is empty"):
        made([])


def test_a_training_set_annotated_in_part_is_refused_where_whole_shapes_are_asked_for():
    """It will do for stages that take all examples, and where flagged ones are only a share of a batch."""
    label = np.zeros((3, 2, 2), np.uint8)
    label[:, 0, 0] = 255
    in_part = slices([case(label)])
    assert len(in_part) == 3 and not in_part.arrays["fully_annotated"].any()
    assert class_frequency(in_part, 2) == (9, 0)
    refuse_empty(in_part, "", 1.0)
    refuse_empty(in_part, "fully_annotated", 0.5)
    refuse_empty(slices([case(label), case(np.zeros((1, 2, 2), np.uint8))]), "fully_annotated", 1.0)
    with pytest.raises(InputError, match="training set: no example is annotated in full"):
        refuse_empty(in_part, "fully_annotated", 1.0)
    with pytest.raises(InputError, match="training set: no example has the flag odd"):
        refuse_empty(Examples({"odd": np.zeros(3, np.float32)}), "odd", 1.0)


# --- the batch of a step


def test_a_batch_is_a_pure_function_of_seed_and_step():
    held = examples()
    first = [batch_of(held, "", 3, step, 5) for step in range(8)]
    for step in (7, 0, 4, 4):  # in any order, again and again
        again = batch_of(held, "", 3, step, 5)
        assert again.keys() == first[step].keys()
        assert all(np.array_equal(again[name], first[step][name]) for name in again)
    assert any(numbers(batch_of(held, "", 4, step, 5)) != numbers(first[step]) for step in range(8))


@pytest.mark.parametrize("size", [1, 5, 12, 30])
def test_every_example_comes_once_an_epoch_in_another_order_each_time(size):
    stream = np.concatenate([draw(0, step, 12, size) for step in range(60 // size)])
    epochs = stream.reshape(5, 12)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(12), (5, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_going_on_in_mid_epoch_gives_the_same_stream():
    whole = [draw(1, step, 7, 3).tolist() for step in range(20)]
    assert [draw(1, step, 7, 3).tolist() for step in range(9, 20)] == whole[9:]


def test_only_flagged_examples_are_drawn_where_a_flag_is_named():
    seen = [n for step in range(8) for n in numbers(batch_of(examples(), "fully_annotated", 0, step, 4))]
    assert sorted(seen) == sorted([n for n in range(12) if n % 3] * 4)


# --- the thread


def test_batches_come_in_order_to_the_end():
    with Prefetch(lambda step: step * step, range(3, 9)) as batches:
        assert list(batches) == [n * n for n in range(3, 9)]


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_never_more_than_ahead_are_made_before_they_are_asked_for(ahead):
    made, taken, most = 0, 0, 0
    full = threading.Event()

    def make(step: int) -> int:
        nonlocal made, most
        made += 1
        most = max(most, made - taken)
        if most >= ahead:
            full.set()
        return step

    with Prefetch(make, range(20), ahead=ahead) as batches:
        for step in batches:
            taken += 1
            if step < 5:
                time.sleep(0.01)  # a thread that could run further ahead would do it now
    assert full.is_set(), "the thread never ran ahead at all"
    # One is being asked for while the consumer waits: it counts as taken only once it is here.
    assert most <= ahead + 1
    assert made == 20


def test_an_idle_consumer_finds_exactly_ahead_batches_made():
    made = []
    with Prefetch(lambda step: made.append(step) or step, range(20), ahead=2) as batches:
        deadline = time.monotonic() + 5
        while len(made) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.1)
        assert made == [0, 1]
        assert next(iter(batches)) == 0


@pytest.mark.parametrize("error", [InputError("x.nii", "broken"), ValueError("no"), StopIteration("odd")])
def test_an_exception_in_the_thread_reaches_the_consumer(error):
    def make(step: int) -> int:
        if step == 2:
            raise error
        return step

    seen = []
    with Prefetch(make, range(9)) as batches, pytest.raises((type(error), RuntimeError)) as caught:
        for step in batches:
            seen.append(step)
    assert seen == [0, 1]
    assert caught.value is error or caught.value.__cause__ is error


@pytest.mark.parametrize("taken", [1, 2, 3, 4])
def test_leaving_early_stops_the_thread_wherever_it_is(taken):
    """Also with the last batches made and none asked for, where the thread has nothing left to do."""
    batches = Prefetch(lambda step: step, range(4), ahead=2)
    for count, _ in enumerate(batches, start=1):
        if count >= taken:
            break
    time.sleep(0.05)  # the thread makes what it may
    leave = threading.Thread(target=batches.__exit__, args=(None, None, None), daemon=True)
    leave.start()
    leave.join(5)
    assert not leave.is_alive(), "leaving waits for a thread that waits for somebody to take its batches"


def test_waiting_is_counted():
    with Prefetch(lambda step: time.sleep(0.05), range(3), ahead=1) as batches:
        list(batches)
        assert 0.1 < batches.waited_s < 5


@pytest.mark.parametrize(("share", "size"), [(0.5, 8), (0.25, 5)])
def test_a_share_of_every_batch_is_drawn_from_the_flagged_examples_and_mixed_in(share, size):
    count = 12
    arrays = {
        "label": np.arange(count).reshape(count, 1, 1),
        "fully_annotated": (np.arange(count) < 3).astype(np.float32),
    }
    held = Examples(arrays)
    flagged, others = [], []
    for step in range(24):
        batch = batch_of(held, "fully_annotated", 0, step, size, share)
        numbers_here = batch["label"].ravel()
        assert (batch["fully_annotated"] > 0).sum() == round(share * size)
        flagged += [n for n in numbers_here if n < 3]
        others += [n for n in numbers_here if n >= 3]
    for seen, pool in ((flagged, range(3)), (others, range(3, count))):
        whole = len(seen) // len(pool)
        assert all(whole <= seen.count(n) <= whole + 1 for n in pool)  # permutations, one after the other
    if size == 8:  # evenly mixed: each half of the batch holds its part
        assert [(b > 0).sum() for b in np.split(batch["fully_annotated"], 2)] == [2, 2]


def test_a_share_of_examples_that_are_all_alike_is_all_of_them():
    held = Examples({"label": np.arange(6).reshape(6, 1, 1), "fully_annotated": np.ones(6, np.float32)})
    seen = [n for step in range(3) for n in batch_of(held, "fully_annotated", 0, step, 2, 0.5)["label"].ravel()]
    assert sorted(seen) == list(range(6))
