"""Times measured in turn: order, the first call not counted, what has no run."""

import time

import pytest

from cardiac_jax.results import evaluation
from cardiac_jax.runs import seconds


def test_calls_alternate_and_the_first_is_not_counted(monkeypatch: pytest.MonkeyPatch):
    clock, order = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def call(name: str, takes: float) -> None:
        clock[0] += takes if name in order else 100  # compiles
        order.append(name)

    calls = {name: lambda name=name, takes=takes: call(name, takes) for name, takes in (("a", 1), ("b", 2), ("c", 4))}
    assert seconds.in_turn(calls, 3) == {"a": [1] * 3, "b": [2] * 3, "c": [4] * 3}
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"


def test_images_of_another_program_have_no_time(tmp_path):
    assert seconds.seconds_per_stack([evaluation.Results("other", evaluation.Measured(), {}, tmp_path)], 2) == {}
