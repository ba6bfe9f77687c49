"""The published systems by the name their configurations give: `(config, data description) -> System`."""

from collections.abc import Callable

from cardiac_jax.core.types import Config, System
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.systems import acsnet, drunet, srscn

SYSTEMS: dict[str, Callable[[Config, DataSpec], System]] = {
    "srscn": srscn.build,
    "drunet": drunet.build,
    "acsnet": acsnet.build,
}


def build(config: Config, data: DataSpec) -> System:
    """The system that `config.system` names.

    Raises:
      InputError: there is none of that name.
    """
    if config.system not in SYSTEMS:
        raise InputError("system", f"{config.system!r} is not one of {', '.join(SYSTEMS)}")
    return SYSTEMS[config.system](config, data)
