"""Networks by name: each keeps the contract, and one that does not is refused in one line that names its key."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from cardiac_jax.errors import InputError
from cardiac_jax.nets import registry
from cardiac_jax.nets.registry import NETS, NetRequest, bottleneck_shape, build_net

SETTINGS = ConfigDict({"net": "unet", "features": (2, 3), "keep_z": True})
SLICES = NetRequest((16, 32), 2, 3, jnp.float32, None)
VOLUMES = NetRequest((4, 16, 32), 2, 3, jnp.float32, None)
CUBES = VOLUMES._replace(size=(8, 16, 32))
FINER = VOLUMES._replace(scale=(5, 1, 1))
IMAGES = FINER._replace(outputs=2)
FOUR = {"features": (2, 3, 4, 5)}


class Fake(nn.Module):
    """Keeps the contract, or breaks it as `how` says."""

    how: str = ""

    @nn.compact
    def __call__(self, x, *, train, mask=None, index=None):
        logits, features = nn.Dense(3)(x), x[:, ::2, ::2]
        broken = {
            "one array": logits,
            "a list": [logits, features],
            "three arrays": (logits, features, features),
            "other spatial size": (logits[:, ::2], features),
            "other channels": (logits[..., :2], features),
            "features first": (features, logits),
        }
        return broken.get(self.how, (logits, features))


class NoMask(nn.Module):
    """Knows nothing of padding."""

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(3)(x), x


class Raises(nn.Module):
    """Refuses its input in two lines."""

    @nn.compact
    def __call__(self, x, *, train, mask=None, index=None):
        raise ValueError("only squares\nare taken here")


def made(monkeypatch: pytest.MonkeyPatch, module: nn.Module, request: NetRequest = SLICES):
    """A network of a builder that is registered as `mine`."""
    monkeypatch.setitem(NETS, "mine", lambda config, request: module)
    return build_net(ConfigDict({"net": "mine"}), request)


def refused(monkeypatch: pytest.MonkeyPatch, module: nn.Module) -> InputError:
    with pytest.raises(InputError) as caught:
        made(monkeypatch, module)
    assert caught.value.where == "model.net" and "\n" not in str(caught.value)
    assert caught.value.problem.startswith("'mine' ")
    return caught.value


@pytest.mark.parametrize(
    ("name", "request_", "settings", "features"),
    [
        ("unet", SLICES, {}, (8, 16, 3)),
        ("vnet", SLICES, {}, (16, 32, 4)),
        ("resunet", SLICES, {}, (1, 2, 32)),
        ("fcn2d", SLICES, FOUR, (2, 4, 5)),
        ("unet", VOLUMES, {}, (4, 8, 16, 3)),
        ("vnet", VOLUMES, {}, (4, 16, 32, 4)),
        ("drunet", VOLUMES, {}, (4, 16, 32, 2)),
        ("subpixel", VOLUMES, {}, (4, 8, 16, 3)),
        ("multiview", CUBES, {"iterations": 0}, (8, 8, 16, 3)),
        ("unet", FINER, {}, (20, 8, 16, 3)),
        ("subpixel", FINER, FOUR, (4, 2, 4, 5)),
        ("fcn2d", FINER, {}, (4, 8, 16, 3)),
        ("srcnn", IMAGES, {}, (20, 16, 32, 3)),
    ],
)
def test_every_network_keeps_the_contract(name, request_, settings, features):
    config = ConfigDict({**SETTINGS.to_dict(), **settings, "net": name})
    net = build_net(config, request_, "localiser")
    assert (net.name, net.inputs) == ("localiser", ((*request_.size, 2),))
    assert bottleneck_shape(net) == features


def test_every_shipped_network_is_in_that_list():
    marks = test_every_network_keeps_the_contract.pytestmark
    assert {row[0] for row in marks[0].args[1]} == set(NETS)


def test_an_own_network_that_keeps_the_contract_is_taken(monkeypatch):
    net = made(monkeypatch, Fake())
    assert bottleneck_shape(net) == (8, 16, 2)
    assert made(monkeypatch, Fake(), VOLUMES).inputs == ((4, 16, 32, 2),)


def test_logits_are_on_the_grid_of_the_output(monkeypatch):
    assert (FINER.factor, FINER.output_size, SLICES.factor) == ((5, 1, 1), (20, 16, 32), (1, 1))
    with pytest.raises(InputError, match=r"wanted \(logits \(1, 20, 16, 32, 3\), features\)"):
        made(monkeypatch, Fake(), FINER)


@pytest.mark.parametrize(
    ("name", "request_", "problem"),
    [
        ("subpixel", SLICES, r"^model\.net: 'subpixel' is a network of volumes"),
        ("multiview", SLICES, r"^model\.net: 'multiview' is a network of volumes"),
        (
            "multiview",
            CUBES._replace(outputs=1),
            r"^model\.net: 'multiview' averages the probabilities of at least two",
        ),
        ("srcnn", FINER, r"^model\.net: 'srcnn' makes an image of the 2 channels it is given, not of 3"),
        (
            "subpixel",
            VOLUMES._replace(size=(4, 15, 32)),
            r"^data\.size: .*\(4, 15, 32\) is not divisible by \(1, 2, 2\)",
        ),
    ],
)
def test_what_does_not_suit_a_network_is_refused(name, request_, problem):
    with pytest.raises(InputError, match=problem):
        build_net(ConfigDict({**SETTINGS.to_dict(), "net": name}), request_)


def test_without_widths_a_network_has_those_published():
    assert registry.NETS["subpixel"](ConfigDict(), FINER).features == (32, 48, 96, 160)
    assert registry.NETS["subpixel"](ConfigDict({"filters": 4}), FINER).features == (4, 8, 16, 32)
    assert registry.NETS["srcnn"](ConfigDict({"filters": 4}), IMAGES).features == (4,) * 15


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ("one array", "[(1, 16, 32, 3)]"),
        ("a list", "[(1, 16, 32, 3), (1, 8, 16, 2)]"),
        ("three arrays", "[(1, 16, 32, 3), (1, 8, 16, 2), (1, 8, 16, 2)]"),
        ("other spatial size", "[(1, 8, 32, 3), (1, 8, 16, 2)]"),
        ("other channels", "[(1, 16, 32, 2), (1, 8, 16, 2)]"),
        ("features first", "[(1, 8, 16, 2), (1, 16, 32, 3)]"),
    ],
)
def test_what_breaks_the_contract_is_named_with_what_is_wanted(monkeypatch, how, found):
    problem = refused(monkeypatch, Fake(how)).problem
    assert problem == f"'mine' returns arrays of shapes {found}, wanted (logits (1, 16, 32, 3), features)"


def test_a_network_without_the_argument_for_padding_is_refused(monkeypatch):
    assert "mask" in refused(monkeypatch, NoMask()).problem


def test_what_a_network_raises_is_told_in_one_line(monkeypatch):
    problem = refused(monkeypatch, Raises()).problem
    assert problem == "'mine' cannot be run on an input of size (16, 32): only squares"


def test_an_unknown_network_is_refused_with_those_there_are():
    shipped = "unet, vnet, drunet, resunet, subpixel, fcn2d, multiview, srcnn"
    with pytest.raises(InputError, match=rf"^model\.net: 'segnet' is not one of {shipped}, nor"):
        build_net(ConfigDict({"net": "segnet"}), SLICES)
    with pytest.raises(InputError, match=r"^model\.net: 'drunet' is a network of volumes, data\.size is \(16, 32\)"):
        build_net(ConfigDict({**SETTINGS.to_dict(), "net": "drunet"}), SLICES)


def test_the_check_compiles_nothing(monkeypatch):
    monkeypatch.setattr(jax, "jit", None)
    assert registry.bottleneck_shape(made(monkeypatch, Fake())) == (8, 16, 2)
