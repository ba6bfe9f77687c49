"""Warm start: initialises networks with the weights of another run or of a file.

`config.init.NET` is the source for the network NET: a work directory (its best checkpoint), `WORKDIR@OTHER` (the
network OTHER of that checkpoint), or an `.npz` file with arrays named like leaves, e.g.
`params/encoder_0/Conv_0/kernel`.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from cardiac_jax.core.step import init_state
from cardiac_jax.core.types import Config, System, TrainState
from cardiac_jax.errors import InputError
from cardiac_jax.train.checkpoint import Checkpoints, leaf_name

LISTED = 8  # unmatched leaves that are printed one by one


class Origin(NamedTuple):
    """Weights to start from: leaves by name, and a description of their source."""

    leaves: Mapping[str, np.ndarray]
    source: str


Change = Callable[[TrainState], TrainState]


def warm_start(config: Config, system: System, console: Console) -> tuple[Change | None, dict[str, Any]]:
    """Returns the change to the state before the first step (None: no change), and the JSON that records it.

    Leaves that do not match are reported on `console`; they keep their random initial values.

    Raises:
      InputError: a network is unknown, a source cannot be read, or no parameter of a source fits.
    """
    wanted = {name: str(source) for name, source in config.get("init", {}).items() if source}
    nets = {net.name for net in system.nets}
    for name in wanted:
        if name not in nets:
            raise InputError(f"init.{name}", f"the system has no network of that name, only {', '.join(sorted(nets))}")
    if not wanted:
        return None, {}
    origins = {name: read_origin(name, source) for name, source in wanted.items()}
    like = jax.eval_shape(lambda: init_state(system, config.seed))
    about = {}
    for name, origin in origins.items():
        about[name] = _matched(name, _leaves(like.variables[name]), origin)
        _tell(name, about[name], console)

    def change(state: TrainState) -> TrainState:
        return _with_weights(state, origins)

    return change, about


def read_origin(name: str, source: str) -> Origin:
    """Returns the weights of `source`, the value of `config.init.<name>`.

    Raises:
      InputError: there is no such run or file, it cannot be read, or it has no network of that name.
    """
    if source.endswith(".npz"):
        return Origin(_read_npz(Path(source)), source)
    place, _, other = source.partition("@")
    checkpoints = Checkpoints(Path(place))
    step = checkpoints.pick("best")
    tree = checkpoints.tree(step)
    checkpoints.close()
    net = other or name
    if net not in tree["variables"]:
        raise InputError(f"init.{name}", f"{place} has no network {net!r}, only {', '.join(sorted(tree['variables']))}")
    held = dict(tree["variables"][net])
    if net in tree.get("ema", {}):
        held["params"] = tree["ema"][net]["params"]
    return Origin(_leaves(held), f"{place}, step {step}, network {net}")


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            held = np.load(file, allow_pickle=False)
            if isinstance(held, np.ndarray):
                raise ValueError("one array, no archive of named ones")
            with held:
                return {name: held[name] for name in held.files}
    except FileNotFoundError:
        raise InputError(path, "no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(path, f"cannot be read as .npz ({error})") from None


def _leaves(tree: Any) -> dict[str, Any]:
    return {leaf_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _fits(own: Any, other: Any) -> bool:
    return tuple(own.shape) == tuple(other.shape) and np.dtype(own.dtype).kind == np.dtype(other.dtype).kind


def _matched(name: str, own: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
    """JSON: source, checksum and number of the leaves taken; names of leaves of another shape, missing and unused."""
    fitting = sorted(leaf for leaf in own if leaf in origin.leaves and _fits(own[leaf], origin.leaves[leaf]))
    if not any(leaf.startswith("params/") for leaf in fitting):
        raise InputError(f"init.{name}", f"no parameter of {origin.source} fits: another network or other sizes")
    digest = hashlib.sha256()
    for leaf in fitting:
        digest.update(leaf.encode() + np.ascontiguousarray(origin.leaves[leaf]).tobytes())
    other = {
        leaf: _shape(own[leaf], origin.leaves[leaf]) for leaf in own if leaf in origin.leaves and leaf not in fitting
    }
    return {
        "from": origin.source,
        "sha256": digest.hexdigest(),
        "taken": len(fitting),
        "other_shape": other,
        "missing": sorted(own.keys() - origin.leaves.keys()),
        "unused": sorted(origin.leaves.keys() - own.keys()),
    }


def _shape(own: Any, other: Any) -> str:
    return f"{list(other.shape)} there, {list(own.shape)} here"


def _tell(name: str, about: Mapping[str, Any], console: Console) -> None:
    console.print(f"init.{name}: {about['taken']} leaves taken from {about['from']}")
    for kind, what in (
        ("other_shape", "have another shape"),
        ("missing", "are missing there"),
        ("unused", "are not used"),
    ):
        held = about[kind]
        if not held:
            continue
        words = [f"{leaf} ({held[leaf]})" if kind == "other_shape" else leaf for leaf in held]
        more = f" and {len(words) - LISTED} more" if len(words) > LISTED else ""
        console.print(f"init.{name}: {len(words)} leaves {what}: {', '.join(words[:LISTED])}{more}")


def _with_weights(state: TrainState, origins: Mapping[str, Origin]) -> TrainState:
    """The state with every matching leaf replaced, also in the averages of the parameters."""

    def replaced(tree: Any, origin: Origin) -> Any:
        def one(path: Any, leaf: Any) -> Any:
            other = origin.leaves.get(leaf_name(path))
            return jnp.asarray(other, leaf.dtype) if other is not None and _fits(leaf, other) else leaf

        return jax.tree_util.tree_map_with_path(one, tree)

    variables = {
        name: replaced(held, origins[name]) if name in origins else held for name, held in state.variables.items()
    }
    ema = {
        name: {**held, "params": jax.tree.map(jnp.copy, variables[name]["params"])} if name in origins else held
        for name, held in state.ema.items()
    }
    return state.replace(variables=variables, ema=ema)
