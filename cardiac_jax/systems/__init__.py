"""Registry of systems by their name in `config.system`: `(config, data specification) -> System`."""

from collections.abc import Callable

from cardiac_jax.core.registry import lookup
from cardiac_jax.core.types import Config, System
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.systems import acnn, acsnet, drunet, interpolation, srscn

SYSTEMS: dict[str, Callable[[Config, DataSpec], System]] = {
    "srscn": srscn.build,
    "drunet": drunet.build,
    "acsnet": acsnet.build,
    "acnn": acnn.build,
    "interpolation": interpolation.build,
}


def register_system(name: str, build: Callable[[Config, DataSpec], System]) -> None:
    """Registers a user's system for `config.system=NAME`, in this process."""
    SYSTEMS[name] = build


def build_system(config: Config, data: DataSpec) -> System:
    """Returns the system that `config.system` names: shipped, registered, an entry point, or `module:attribute`.

    Raises:
      InputError: there is none of that name, it does not fit the data, or it cannot be trained.
    """
    system = lookup("systems", "system", config.system, SYSTEMS)(config, data)
    if not isinstance(system, System) or not system.outputs or not system.stages:
        raise InputError("system", f"{config.system!r} does not build a System with stages and outputs")
    outputs = {output.name: output for output in system.outputs}
    spatial = [output for output in system.outputs if output.kind != "vector"]
    if any(n > 1 for n in data.target_scale) and spatial and all(max(one.scale, default=1) == 1 for one in spatial):
        problem = f"{data.target_scale} asks for finer labels, but {config.system} predicts on the grid of its image"
        raise InputError("data.target_scale", problem)
    nets = {net.name for net in system.nets}
    for stage in system.stages:
        if stage.validate and stage.validate not in outputs:
            raise InputError("system", f"stage {stage.name} is validated by {stage.validate!r}, which is no output")
        if stage.validate and outputs[stage.validate].kind == "vector":
            raise InputError(
                "system", f"stage {stage.name} is validated by an output of kind vector, which has no score"
            )
        for phase in stage.phases:
            for name in set(phase.trains) - nets:
                raise InputError(
                    "system", f"phase {phase.name} of stage {stage.name} trains {name!r}, which is no network"
                )
    return system
