"""The registry: every measured column is in it, and how its numbers are printed."""

import math

import numpy as np
import pytest

from cardiac_jax.metrics.clinical import Function
from cardiac_jax.metrics.evaluate import evaluate_case
from cardiac_jax.metrics.registry import METRICS, Metric
from cardiac_jax.metrics.scar import Scar


def test_every_measured_column_is_registered():
    row = evaluate_case(np.ones((2, 2, 2), np.uint8), np.ones((2, 2, 2), np.uint8), (1, 1, 1), ("nothing", "it"))[0]
    measured = {name for name, value in row.items() if isinstance(value, float)}
    assert set(row) - measured == {"structure", "status", "annotation", "slices", "surface_slices"}
    assert measured <= set(METRICS)


@pytest.mark.parametrize("result", [Function, Scar])
def test_every_clinical_measure_is_registered(result: type):
    assert set(result._fields) <= set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_units_stand_where_the_name_says_so(name: str):
    metric = METRICS[name]
    for suffix in ("mm", "ml", "g", "db"):
        assert name.endswith(f"_{suffix}") == (metric.unit.lower() == suffix)
    # A percentage is either measured as one or printed from a share.
    assert (metric.unit == "%") == (name.endswith("_percent") or metric.scale == 100.0)
    assert metric.digits >= 0 and metric.label


def test_labels_are_told_apart():
    headings = [metric.heading for metric in METRICS.values()]
    assert len(set(headings)) == len(headings)


def test_heading_and_numbers():
    hd, share = Metric("HD", "mm", False, 2), Metric("balanced accuracy", "%", True, 1, 100.0)
    assert (hd.heading, Metric("Dice", "", True, 3).heading) == ("HD (mm)", "Dice")
    assert (hd.text(3.14159), hd.text(0.5, "+"), share.text(0.96312)) == ("3.14", "+0.50", "96.3")


def test_what_is_not_a_number_is_a_dash():
    metric = Metric("bias", "ml", None, 1)
    assert metric.with_interval(1.0, -2.0, 4.0) == "1.0 [-2.0, 4.0]"
    assert metric.with_interval(1.0, math.nan, math.nan) == "1.0 [-, -]"
    assert metric.with_interval(math.nan, math.nan, math.nan) == "-"
