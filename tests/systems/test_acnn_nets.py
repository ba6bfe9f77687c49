"""ACNN's experiment with the shipped networks: each can be built, with the published numbers of parameters."""

import jax
import pytest

from cardiac_jax import systems
from cardiac_jax.core.step import init_state, parameter_counts
from cardiac_jax.core.types import System
from cardiac_jax.data.spec import DataSpec
from experiments import acnn


def build(words: str) -> System:
    config = acnn.get_config(words)
    held = {"target_scale": tuple(config.data.target_scale), "frequency": (8, 1, 1)}
    spacing_mm, size = tuple(config.data.spacing_mm), tuple(config.data.size)
    spec = DataSpec("twins", ("background", "Myo", "LV"), (0, 1, 2), ("cine",), "affine", spacing_mm, size, **held)
    return systems.build_system(config, spec)


@pytest.mark.parametrize(
    "words", ["task=seg,method=fcn2d", "task=seg,method=unet3d", "task=sr,method=srcnn", "task=us,method=seg3d"]
)
def test_every_network_fits_the_grids(words):
    """`build_net` runs the network in the abstract and checks the shape of its output."""
    system = build(f"{words},preset=smoke")
    assert system.nets[0].name == ("enhancer" if "task=sr" in words else "segmenter")


@pytest.mark.parametrize(
    ("words", "millions"),
    [
        ("task=seg,method=acnn", {"segmenter": 1.60, "autoencoder": 0.57}),
        ("task=seg,method=unet3d", {"segmenter": 1.64}),
    ],
)
def test_published_capacities(words, millions):
    """Table I, in millions of parameters; 0.57 are those of Table V. In the abstract."""
    system = build(f"{words},preset=paper")
    state = jax.eval_shape(lambda: init_state(system, 0))
    counts = parameter_counts(system, state.variables)
    assert {name: round(count / 1e6, 2) for name, count in counts.items()} == millions
