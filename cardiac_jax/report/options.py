"""Options of a report that all sections share."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from cardiac_jax.metrics.paired_tests import Comparison
from cardiac_jax.metrics.summary import Rows

Published = Mapping[str, Any]
"""`source`, `differs` (limits of the comparison), and per metric: method -> structure or "mean" -> value."""


class Options(NamedTuple):
    """Options that every section receives.

    Attributes:
      reference: the method that the others are tested against.
      published: values of the paper.
      leave_out: cases to exclude from a second copy of the main table.
      paired: tests of `reference` against every other method; empty for a single method.
      seconds: method -> times of prediction of one stack, measured in turn (`runs/seconds.py`).
      opinions: method -> rows of readers' scores (`results/readings.py`).
    """

    reference: str
    published: Published
    leave_out: tuple[str, ...]
    paired: Sequence[Comparison] = ()
    seconds: Mapping[str, Sequence[float]] = MappingProxyType({})
    opinions: Mapping[str, Rows] = MappingProxyType({})
