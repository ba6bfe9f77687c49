"""Steps of real systems under the axis of devices, of which there is one, compiled quickly."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from cardiac_jax.core.step import init_state
from cardiac_jax.core.types import System, TrainState, Values
from cardiac_jax.train.devices import AXIS
from tests import toys


def on_one_device(step: Any) -> Any:
    """`step` under the device axis that BatchNorm names."""
    mesh = Mesh(np.array(jax.devices()[:1]), (AXIS,))
    return jax.shard_map(step, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(), check_vma=False)


def under(step: Any, *args: Any) -> Any:
    """`step(*args)` on one device. Arguments are no constants, which XLA would fold."""
    return jax.jit(on_one_device(step), compiler_options=toys.QUICK)(*args)


def shapes(step: Any, *args: Any) -> Any:
    """Shapes and types of `under(step, *args)`, traced and not run."""
    return shapes_of(jax.eval_shape(on_one_device(step), *args))


def shapes_of(tree: Any) -> Any:
    """Shapes and types of the leaves."""
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def initial(system: System, ema: bool = False) -> TrainState:
    """A state without compiling what initialises it: random parameters; variances and a whole bank are ones."""
    rng = np.random.default_rng(0)

    def filled(path, leaf):
        name = jax.tree_util.keystr(path)
        if "params" in name and "variables" in name:
            deviation = np.prod(leaf.shape[:-1]) ** -0.5 if leaf.ndim > 1 else 0.3
            return jnp.asarray(rng.normal(0, deviation, leaf.shape), leaf.dtype)
        return jnp.asarray(np.full(leaf.shape, "bank" in name or "'var'" in name), leaf.dtype)

    return jax.tree_util.tree_map_with_path(filled, jax.eval_shape(lambda: init_state(system, 0, ema=ema)))


def moved(before: TrainState, after: TrainState) -> set[str]:
    """Networks whose parameters differ."""
    pairs = {name: (held["params"], after.variables[name]["params"]) for name, held in before.variables.items()}
    same = {name: jax.tree.map(np.array_equal, *pair) for name, pair in pairs.items()}
    return {name for name, held in same.items() if not all(jax.tree.leaves(held))}


def batch(label: np.ndarray, seed: int = 0) -> Values:
    """Fully annotated examples of `label [B, *S]`; the image `[B, *S, 1]` is the label and noise."""
    image = (label + np.random.default_rng(seed).normal(0, 0.1, label.shape)).astype(np.float32)[..., None]
    flags = {name: jnp.ones(len(label)) for name in ("mask", "fully_annotated")}
    return {"image": jnp.asarray(image), "label": jnp.asarray(label), "index": jnp.arange(len(label)), **flags}
