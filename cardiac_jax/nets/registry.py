"""Segmentation networks by the name that `config.model.net` gives, and the contract that each must keep.

A builder is called with the keys of `config.model` and a `NetRequest`. The module that it returns is called as

    module(image [B, *S, C], train=bool, mask=[B] or None, index=[B] or None)
        -> (logits [B, *S, K], features [B, *s, F])

with `K = request.outputs`. `mask` is 0 for padding, `index` is the position in the global batch. `features` are those
that a position head or a localiser's Grad-CAM reads. Logits are float32 or wider, whatever the compute type.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from cardiac_jax.core.registry import lookup
from cardiac_jax.core.types import Config, Net
from cardiac_jax.errors import InputError
from cardiac_jax.nets.drunet import DRUNet
from cardiac_jax.nets.resunet import resunet
from cardiac_jax.nets.unet import UNet
from cardiac_jax.nets.vnet import VNet

KEY = "model.net"


class NetRequest(NamedTuple):
    """What a system asks of a segmentation network.

    Attributes:
      size: `S`, the spatial size of its input.
      channels: `C`.
      outputs: `K`.
      dtype: of its computations.
      axis_name: the device axis, over which BatchNorm sums its statistics.
    """

    size: tuple[int, ...]
    channels: int
    outputs: int
    dtype: jnp.dtype
    axis_name: str | None


Build = Callable[[Config, NetRequest], nn.Module]


def _window(config: Config, request: NetRequest) -> tuple[int, ...]:
    """Pooling: in plane only for volumes whose depth is kept."""
    flat = len(request.size) == 3 and config.get("keep_z", False)
    return (1, 2, 2) if flat else (2,) * len(request.size)


def _features(config: Config, levels: int) -> tuple[int, ...]:
    """Channels per level: `features` as listed, else `filters` doubled from level to level."""
    return tuple(config.get("features", ())) or tuple(config.filters * 2**level for level in range(levels))


def _unet(config: Config, request: NetRequest) -> nn.Module:
    window, features = _window(config, request), _features(config, 4)
    dropout = config.get("dropout", 0.0)
    return UNet(features, request.outputs, window, dropout=dropout, dtype=request.dtype, axis_name=request.axis_name)


def _vnet(config: Config, request: NetRequest) -> nn.Module:
    window, features = _window(config, request), _features(config, 4)
    convolutions = tuple(min(level + 1, 3) for level in range(len(features)))
    shared = {"window": window, "kernel": 3, "dtype": request.dtype, "axis_name": request.axis_name}
    return VNet(features, convolutions, request.outputs, **shared)


def _drunet(config: Config, request: NetRequest) -> nn.Module:
    if len(request.size) != 3:
        raise InputError(KEY, f"'drunet' is a network of volumes, data.size is {request.size}")
    filters, keep_z, remat = _features(config, 1)[0], config.get("keep_z", True), config.get("remat", False)
    return DRUNet(filters, request.outputs, keep_z, remat, dtype=request.dtype, axis_name=request.axis_name)


def _resunet(config: Config, request: NetRequest) -> nn.Module:
    settings = {"dropout": config.get("dropout", 0.0), "momentum": config.get("momentum", 0.99)}
    filters = _features(config, 1)[0]
    return resunet(filters, request.outputs, **settings, dtype=request.dtype, axis_name=request.axis_name)


NETS: dict[str, Build] = {"unet": _unet, "vnet": _vnet, "drunet": _drunet, "resunet": _resunet}


def register_net(name: str, build: Build) -> None:
    """Makes `config.model.net=NAME` build a network of your own, in this process."""
    NETS[name] = build


def build_net(config: Config, request: NetRequest, name: str = "segmenter", key: str = KEY) -> Net:
    """The network that `config.net` names.

    Args:
      config: the keys of `config.model`; `net` is a shipped name, an entry point or `module:attribute`.
      name: of the network within the system.

    Raises:
      InputError: an unknown name, a size that does not suit it, or a network that breaks the contract.
    """
    module = lookup("nets", key, config.net, NETS)(config, request)
    net = Net(name, module, ((*request.size, request.channels),))
    _check(net, request, config.net, key)
    return net


def bottleneck_shape(net: Net) -> tuple[int, ...]:
    """Shape of one example of a network's features, `(*s, F)`."""
    return _outputs(net)[1].shape[1:]


def _outputs(net: Net) -> Any:
    def run(key: Any) -> Any:
        image = jnp.zeros((1, *net.inputs[0]))
        return net.module.init_with_output(key, image, train=False, mask=None, index=None)[0]

    return jax.eval_shape(run, jax.random.key(0))


def _check(net: Net, request: NetRequest, name: str, key: str) -> None:
    wanted = f"(logits {(1, *request.size, request.outputs)}, features)"
    try:
        outputs = _outputs(net)
    except InputError:
        raise
    except Exception as error:  # whatever a user's network raises: shapes, unexpected arguments, its own checks
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
        where = "data.size" if "divisible" in problem else key
        raise InputError(where, f"{name!r} cannot be run on an input of size {request.size}: {problem}") from error
    found = [tuple(leaf.shape) for leaf in jax.tree.leaves(outputs)]
    if not isinstance(outputs, tuple) or len(found) != 2 or found[0] != (1, *request.size, request.outputs):
        raise InputError(key, f"{name!r} returns arrays of shapes {found}, wanted {wanted}")
