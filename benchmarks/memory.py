"""Memory of a training step of the 3D DR-UNet, with and without rematerialisation (`config.model.remat`).

    python -m benchmarks.memory [--size=16,256,256 --filters=8 --batch=1 --keep_z=true --variant=drunet]

The step of the last stage (augmentation, both passes, optimiser) is compiled as training compiles it, not run. Printed:
temporary memory, which the compiler assigns for the peak, and arguments; the ratio of their sums; and, on a small
volume, the largest difference between a gradient with and one without, relative to the norm of all.

Measured in November 2026 for a CPU (jax 0.10.2, float32), temporary MB without and with, and the ratio of the sums with
the arguments (12 MB; 33 and 39 MB with 16 filters):

    8 filters                        778    348   0.46
    8 filters, --keep_z=false        582    314   0.55
    16 filters                      1456    687   0.48
    16 filters, --batch=2           2891   1369   0.48

Gradients differ by 4e-8 to 6e-8 of their norm. Before 3D convolutions went slab by slab (`ops/cpu/conv_depth.py`)
and recomputation waited for its turn (`ops/cpu/remat.py`), the first row read 1721 and 1626, the second 1334 and 1408.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from absl import flags

from cardiac_jax import systems
from cardiac_jax.commands import cli
from cardiac_jax.core.step import init_state, params_of
from cardiac_jax.core.types import Array, System
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.train.devices import AXIS, compile_train
from experiments import drunet

SIZE = flags.DEFINE_list("size", ["16", "256", "256"], "Z, H, W of the volume; of the box where there is one")
FILTERS = flags.DEFINE_integer("filters", 8, "of the first block")
BATCH = flags.DEFINE_integer("batch", 1, "volumes in a step, on each device")
KEEP_Z = flags.DEFINE_boolean("keep_z", True, "pool in plane only")
VARIANT = flags.DEFINE_enum("variant", "drunet", ["drunet", "multistage", "endtoend"], "of the experiment")
SMALL = (8, 32, 32)
CLASSES = ("background", "RV", "Myo", "LV")


def build(size: tuple[int, ...], remat: bool) -> System:
    """The system of the paper's preset on volumes of `size`."""
    kept = "true" if KEEP_Z.value else "false"
    config = drunet.get_config(f"variant={VARIANT.value},keep_z={kept},preset=paper")
    with config.unlocked():
        config.model.update({"filters": FILTERS.value, "remat": remat})
        config.data.size = config.localiser.box = size
    described = DataSpec("acdc", CLASSES, (0, 1, 2, 3), ("cine",), "base_first", (0.0, 1.25, 1.25), size, (9, 1, 1, 1))
    return systems.build_system(config, described)


def batch(size: tuple[int, ...], count: int) -> dict[str, Array]:
    """`count` volumes of noise, with labels that follow it."""
    image = jax.random.normal(jax.random.key(0), (count, *size, 1))
    label = jnp.clip(2 + image[..., 0], 0, 3).astype(jnp.uint8)
    ones = jnp.ones(count)
    return {"image": image, "label": label, "index": jnp.arange(count), "mask": ones, "fully_annotated": ones}


def megabytes(size: tuple[int, ...], remat: bool) -> tuple[float, float]:
    """Temporary memory and arguments of the compiled step of the last stage, on one device."""
    system = build(size, remat)
    state = jax.eval_shape(lambda: init_state(system, 0))
    devices = jax.local_device_count()
    given = {
        name: jax.ShapeDtypeStruct((devices, *x.shape), x.dtype)
        for name, x in jax.eval_shape(partial(batch, size, BATCH.value)).items()
    }
    held = compile_train(system.stages[-1]).lower(state, given).compile().memory_analysis()
    return held.temp_size_in_bytes / 1e6, held.argument_size_in_bytes / 1e6


def gradient(remat: bool) -> dict:
    """Gradient of the single network's loss on two small volumes."""
    system = build(SMALL, remat)
    stage = system.stages[-1]
    (phase,) = stage.phases
    variables, values = init_state(system, 0).variables, batch(SMALL, 2)

    def loss(params: dict) -> Array:
        held = {net: {**variables[net], "params": params[net]} for net in phase.trains}
        written, _ = phase.objective.forward(held, values, key=jax.random.key(0), train=frozenset(phase.trains))
        return phase.objective.loss.apply(phase.objective.loss.init(), written)[0].mean()

    under = jax.vmap(lambda params, _: jax.grad(loss)(params), (None, 0), axis_name=AXIS)
    found = jax.jit(lambda params: under(params, jnp.zeros(1)))(params_of(variables, phase))
    return jax.tree.map(lambda x: x[0], found)


def main() -> None:
    if not all(part.isdecimal() for part in SIZE.value) or len(SIZE.value) != 3:
        raise InputError("--size", f"{','.join(SIZE.value)} is not Z,H,W")
    size = tuple(int(part) for part in SIZE.value)
    jax.config.update("jax_enable_compilation_cache", False)  # a program from disk may not tell its memory
    sums = []
    for remat in (False, True):
        temporary, arguments = megabytes(size, remat)
        sums.append(temporary + arguments)
        print(f"remat {remat!s:5}  temporary {temporary:7.0f} MB, arguments {arguments:5.0f} MB", flush=True)
    print(f"ratio {sums[1] / sums[0]:.2f}")
    if VARIANT.value == "drunet":
        plain, again = gradient(False), gradient(True)
        largest = max(float(jnp.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (plain, again)), strict=True))
        print(f"gradients differ by at most {largest / float(optax.tree.norm(plain)):.1e} of their norm")


if __name__ == "__main__":
    cli.run(main, __name__)
