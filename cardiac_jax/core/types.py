"""The words of the theory: named values, named networks, passes, losses, objectives, phases, stages, systems.

Networks write names, losses read names; a loss never calls a network. A *loss transform* adds both: the pass
that computes something more, and the term that compares it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import optax
from flax import struct

IGNORE = 255
"""Label of a voxel that nobody annotated."""

Array = jax.Array
Values = Mapping[str, Array]
"""Named arrays, batch-leading: `image [B, *S, C]`, `label [B, *S]`, `mask [B]` (1 real, 0 padding), `index [B]`."""
Variables = Mapping[str, Mapping[str, Any]]
"""Network name -> its Flax collections, `{"params": ..., "batch_stats": ...}`."""
LossState = Any
Config = Any
"""An `ml_collections.ConfigDict`, whose keys have no static types."""


class Pass(Protocol):
    """Reads values and writes more of them; networks named in `train` run in training mode and update statistics."""

    def __call__(
        self, variables: Variables, values: Values, *, key: Array, train: frozenset[str]
    ) -> tuple[Values, Variables]: ...


class Loss(NamedTuple):
    """A pure loss in the manner of optax: `init() -> state`, `apply(state, values) -> ([B], state, {name: [B]})`."""

    init: Callable[[], LossState]
    apply: Callable[[LossState, Values], tuple[Array, LossState, dict[str, Array]]]


class Objective(NamedTuple):
    """What one optimiser minimises: the forward pass and the loss of what it wrote."""

    forward: Pass
    loss: Loss


LossTransform = Callable[[Objective], Objective]


class Net(NamedTuple):
    """A named network and the shapes of one example of each of its inputs (without the batch axis)."""

    name: str
    module: nn.Module
    inputs: tuple[tuple[int, ...], ...]


class Phase(NamedTuple):
    """One optimiser's share of a step. Networks outside `trains` are frozen, yet gradient flows through them."""

    name: str
    trains: tuple[str, ...]
    objective: Objective
    tx: optax.GradientTransformation


Fit = Callable[[Variables, Mapping[str, Any]], tuple[Variables, dict[str, float]]]
"""Variables and a stage's examples (host arrays) -> variables, and figures to print: what no gradient can learn."""


class Stage(NamedTuple):
    """A part of the curriculum: `steps` steps, each `prepare` (augmentation) once and then the phases in order.

    `draws` names a per-example flag of the training set: `share` of every batch is drawn from the examples where it
    is 1, the rest from the others ("" draws all alike).
    Values written by one phase are visible, without gradient, to the phases after it.
    `examples`, if there is one, makes the stage's own examples of the training set (host arrays to host arrays), of
    which `batch_size` make a batch (0: as many as in every other stage).
    After the last step `fit`, if there is one, writes collections other than `params` (a mixture of codes).
    """

    name: str
    steps: int
    phases: tuple[Phase, ...]
    prepare: Pass | None = None
    draws: str = ""
    share: float = 1.0
    examples: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    batch_size: int = 0
    fit: Fit | None = None


class System(NamedTuple):
    """A published system: networks, their curriculum, and the pass from `image` to `probabilities [B, *S, K]`."""

    nets: tuple[Net, ...]
    stages: tuple[Stage, ...]
    predict: Pass


class TrainState(struct.PyTreeNode):
    """Everything that training changes, arrays only, so that a checkpoint of it resumes bit for bit."""

    step: Array
    seed: Array
    variables: Any
    ema: Any
    opt: Any
    loss: Any
