"""Segmentation networks by the name that `config.model.net` gives, and the contract that each must keep.

A builder is called with the keys of `config.model` and a `NetRequest`. The module that it returns is called as

    module(image [B, *S, C], train=bool, mask=[B] or None, index=[B] or None)
        -> (logits [B, *(S * scale), K], features [B, *s, F])

with `K = request.outputs` and `scale = request.scale`, 1 along each axis if not given. `mask` is 0 for padding, `index`
is the position in the global batch. `features` are those that a position head or a localiser's Grad-CAM reads. Logits
are float32 or wider, whatever the compute type.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from cardiac_jax.core.registry import lookup
from cardiac_jax.core.types import Config, Net
from cardiac_jax.errors import InputError
from cardiac_jax.nets.drunet import DRUNet
from cardiac_jax.nets.fcn import FCN, BySlice
from cardiac_jax.nets.multiview import MultiView
from cardiac_jax.nets.resunet import resunet
from cardiac_jax.nets.subpixel import SubPixel
from cardiac_jax.nets.unet import UNet
from cardiac_jax.nets.upsampled import SRCNN, Upsampled
from cardiac_jax.nets.vnet import VNet
from cardiac_jax.ops.conv import per_axis

KEY = "model.net"


class NetRequest(NamedTuple):
    """What a system asks of a segmentation network.

    Attributes:
      size: `S`, the spatial size of its input.
      channels: `C`.
      outputs: `K`.
      dtype: of its computations.
      axis_name: the device axis, over which BatchNorm sums its statistics.
      scale: voxels of the output per voxel of the input along each axis; (): 1.
    """

    size: tuple[int, ...]
    channels: int
    outputs: int
    dtype: jnp.dtype
    axis_name: str | None
    scale: tuple[int, ...] = ()

    @property
    def factor(self) -> tuple[int, ...]:
        """`scale` with one entry per axis."""
        return per_axis(self.scale or 1, len(self.size))

    @property
    def output_size(self) -> tuple[int, ...]:
        """Spatial size of the logits."""
        return tuple(s * f for s, f in zip(self.size, self.factor, strict=True))


Build = Callable[[Config, NetRequest], nn.Module]


def _window(config: Config, request: NetRequest) -> tuple[int, ...]:
    """Pooling: in plane only for volumes whose depth is kept."""
    flat = len(request.size) == 3 and config.get("keep_z", False)
    return (1, 2, 2) if flat else (2,) * len(request.size)


def _features(config: Config, levels: int, published: Sequence[int] = ()) -> tuple[int, ...]:
    """Channels per level: `features` as listed, else `filters` doubled from level to level, else `published`."""
    if config.get("features", ()):
        return tuple(config.features)
    if published and not config.get("filters", 0):
        return tuple(published)
    return tuple(config.filters * 2**level for level in range(levels))


def _refuse_slices(request: NetRequest, name: str) -> None:
    if len(request.size) != 3:
        raise InputError(KEY, f"{name!r} is a network of volumes, data.size is {request.size}")


def _on_fine_grid(build: Build) -> Build:
    """Builder of a network that is run on the image enlarged linearly to the grid of its output."""

    def upsampled(config: Config, request: NetRequest) -> nn.Module:
        net = build(config, request._replace(size=request.output_size, scale=()))
        return net if max(request.factor) == 1 else Upsampled(net, request.factor)

    return upsampled


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
    _refuse_slices(request, "drunet")
    filters, keep_z, remat = _features(config, 1)[0], config.get("keep_z", True), config.get("remat", False)
    return DRUNet(filters, request.outputs, keep_z, remat, dtype=request.dtype, axis_name=request.axis_name)


def _resunet(config: Config, request: NetRequest) -> nn.Module:
    settings = {"dropout": config.get("dropout", 0.0), "momentum": config.get("momentum", 0.99)}
    filters = _features(config, 1)[0]
    return resunet(filters, request.outputs, **settings, dtype=request.dtype, axis_name=request.axis_name)


def _subpixel(config: Config, request: NetRequest) -> nn.Module:
    _refuse_slices(request, "subpixel")
    features, window = _features(config, 4, SubPixel.features), (1, 2, 2) if config.get("keep_z", True) else (2, 2, 2)
    shared = {"dtype": request.dtype, "axis_name": request.axis_name}
    return SubPixel(features, request.outputs, request.factor, window, **shared)


def _fcn(config: Config) -> Callable[..., nn.Module]:
    features, dropout = _features(config, 4, FCN.features), config.get("dropout", FCN.dropout)
    return partial(FCN, features, convs=FCN.convs[: len(features)], dropout=dropout)


def _fcn2d(config: Config, request: NetRequest) -> nn.Module:
    net = _fcn(config)(classes=request.outputs, dtype=request.dtype, axis_name=request.axis_name)
    return BySlice(net, request.factor) if len(request.size) == 3 else net


def _multiview(config: Config, request: NetRequest) -> nn.Module:
    _refuse_slices(request, "multiview")
    if request.outputs < 2:
        raise InputError(KEY, "'multiview' averages the probabilities of at least two classes")
    iterations = config.get("iterations", MultiView.iterations)
    if iterations < 0:
        raise InputError("model.iterations", f"{iterations} is negative")
    return MultiView(_fcn(config), request.outputs, iterations, request.dtype, request.axis_name)


def _srcnn(config: Config, request: NetRequest) -> nn.Module:
    if request.outputs != request.channels:
        problem = f"'srcnn' makes an image of the {request.channels} channels it is given, not of {request.outputs}"
        raise InputError(KEY, problem)
    filters = config.get("filters", 0) or SRCNN.features[0]
    features = tuple(config.get("features", ())) or (filters,) * len(SRCNN.features)
    remat, shared = config.get("remat", False), {"dtype": request.dtype, "axis_name": request.axis_name}
    return SRCNN(features, request.outputs, request.factor, remat, **shared)


NETS: dict[str, Build] = {
    "unet": _on_fine_grid(_unet),
    "vnet": _on_fine_grid(_vnet),
    "drunet": _on_fine_grid(_drunet),
    "resunet": _on_fine_grid(_resunet),
    "subpixel": _subpixel,
    "fcn2d": _fcn2d,
    "multiview": _on_fine_grid(_multiview),
    "srcnn": _srcnn,
}


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
    logits = (1, *request.output_size, request.outputs)
    wanted = f"(logits {logits}, features)"
    try:
        outputs = _outputs(net)
    except InputError:
        raise
    except Exception as error:  # whatever a user's network raises: shapes, unexpected arguments, its own checks
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
        where = "data.size" if "divisible" in problem else key
        raise InputError(where, f"{name!r} cannot be run on an input of size {request.size}: {problem}") from error
    found = [tuple(leaf.shape) for leaf in jax.tree.leaves(outputs)]
    if not isinstance(outputs, tuple) or len(found) != 2 or found[0] != logits:
        raise InputError(key, f"{name!r} returns arrays of shapes {found}, wanted {wanted}")
