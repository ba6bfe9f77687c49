"""Linear and cubic B-spline interpolation as methods of super-resolution (Oktay et al. 2018, Table III, first rows).

There is nothing to train: one step without networks writes a checkpoint, which is evaluated, predicts and is reported
as any other run. `config.method` is `linear` or `bspline`.
"""

import functools

import jax

from cardiac_jax.core.passes import pure
from cardiac_jax.core.types import Config, Output, Stage, System
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.inference.postprocess import unchanged
from cardiac_jax.ops.interpolate import ORDERS, upsample


def build(config: Config, data: DataSpec) -> System:
    """Returns the system of `config.method` on volumes; its output `enhanced` is `data.target_scale` times finer.

    Raises:
      InputError: the method is unknown, or the data are slices.
    """
    if config.method not in ORDERS:
        raise InputError("method", f"{config.method!r} is not one of {', '.join(ORDERS)}")
    if not data.is_volumetric:
        raise InputError("data.size", f"{data.size} is not a volume (Z, H, W)")
    enlarge = functools.partial(upsample, scale=data.target_scale, order=ORDERS[config.method])
    output = Output("enhanced", "image", unchanged, data.target_scale, fill=0.0, score="ssim")
    return System((), (Stage("interpolation", 1, ()),), pure(jax.vmap(enlarge), ["image"], "enhanced"), (output,))
