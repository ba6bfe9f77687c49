"""Options of a report that all sections share."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cardiac_jax.metrics.paired_tests import Comparison

Published = Mapping[str, Any]
"""`source`, `differs` (limits of the comparison), and per metric: method -> structure or "mean" -> value."""


class Options(NamedTuple):
    """Options that every section receives.

    Attributes:
      reference: the method that the others are tested against.
      published: values of the paper.
      leave_out: cases to exclude from a second copy of the main table.
      paired: tests of `reference` against every other method; empty for a single method.
    """

    reference: str
    published: Published
    leave_out: tuple[str, ...]
    paired: Sequence[Comparison] = ()
