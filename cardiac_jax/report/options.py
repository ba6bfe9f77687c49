"""What the user asked of a report, and what every part of it needs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cardiac_jax.metrics.paired_tests import Comparison

Published = Mapping[str, Any]
"""`source`, `differs` (what makes the comparison unfair); of each metric method -> structure or "mean" -> value."""


class Options(NamedTuple):
    """What the user asked for, and what every part needs.

    Attributes:
      reference: the method that others are tested against.
      published: the paper's figures.
      leave_out: cases.
      paired: the tests of `reference` against every other method; none of a single one.
    """

    reference: str
    published: Published
    leave_out: tuple[str, ...]
    paired: Sequence[Comparison] = ()
