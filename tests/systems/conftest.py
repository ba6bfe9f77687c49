"""Fixtures of the tests of systems."""

from collections.abc import Iterator

import pytest

from cardiac_jax.nets.registry import NETS
from tests.small_nets import small


@pytest.fixture(scope="module")
def small_nets() -> Iterator[None]:
    """Every name in the registry of networks builds the small one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in NETS:
            patch.setitem(NETS, name, small)
        yield
