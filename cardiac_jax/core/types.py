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


Fit = Callable[[Variables, Mapping[str, Any]], tuple[Variables, dict[str, Any]]]
"""A fit without gradients, e.g. a GMM: variables and the stream's examples (host arrays) -> variables, JSON figures.

It may write collections other than `params`. Its figures are stored beside the weights under the stage's name.
"""


class Stream(NamedTuple):
    """The batches of a stage.

    Attributes:
      of: makes the stage's own examples from the training set (host arrays to host arrays); None: the training set.
      flag: a 0/1 array of the examples; `share` of every batch has it set, the rest has not. "": all alike.
      share: in (0, 1].
      batch_size: global; 0: `train.batch_size` of the configuration.
      prepare: runs once per step before the phases, without gradient (augmentation, a frozen localiser's crop).
    """

    of: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    flag: str = ""
    share: float = 1.0
    batch_size: int = 0
    prepare: Pass | None = None


class Stage(NamedTuple):
    """A part of the curriculum: `steps` steps, each of which runs the phases in order.

    Values written by one phase are visible, without gradient, to the phases after it.

    Attributes:
      stream: the batches.
      fit: runs once, after the last step.
      validate: the output whose score is measured during the stage and keeps its best weights; "": none. An earlier
        stage ends with its best weights; of the last stage the best checkpoint is kept.
    """

    name: str
    steps: int
    phases: tuple[Phase, ...]
    stream: Stream = Stream()
    fit: Fit | None = None
    validate: str = ""


Stack = Any
"""`cardiac_jax.data.stack.Stack`, an array `[Z, H, W, ...]` that knows its geometry; `core` knows no files."""


class Decoded(NamedTuple):
    """An output as it is written.

    Attributes:
      value: the label map, image or vector.
      raw: a label map before post-processing, else `value`.
      changes: what post-processing reports to its summary; None: nothing.
    """

    value: Stack
    raw: Stack
    changes: Any = None


class Summary(Protocol):
    """Adds up what a decoder changed over cases; `about` is JSON (empty: nothing to say), `line` one line of text."""

    def add(self, decoded: Decoded, truth: Stack | None) -> None: ...

    def about(self) -> dict[str, Any]: ...

    def line(self) -> str: ...


class Decoder(NamedTuple):
    """From a network's output on the file's own grid to what is written; runs on the host.

    Attributes:
      decode: e.g. probabilities `[Z, H, W, K]` -> label map `[Z, H, W]`.
      summary: an empty summary of what `decode` changes.
    """

    decode: Callable[[Stack], Decoded]
    summary: Callable[[], Summary]


class Output(NamedTuple):
    """One thing that a system predicts.

    Attributes:
      name: the value that `System.predict` writes.
      kind: "labels" (probabilities `[B, *S, K]`), "image" (`[B, *S, C]`) or "vector" (`[B, D]`).
      scale: voxels of the output per voxel of the input along each axis of the grid; (): 1.
      fill: outside the grid: probability of the background, or intensity.
      decoder: (variables, figures of the fits by stage) -> its decoder.
      score: the figure that ranks checkpoints ("dice", "ssim").
    """

    name: str
    kind: str
    decoder: Callable[[Variables, Mapping[str, Any]], Decoder]
    scale: tuple[int, ...] = ()
    fill: float = 1.0
    score: str = "dice"


class System(NamedTuple):
    """A published system: networks, curriculum, the pass that predicts, and its outputs, the main one first."""

    nets: tuple[Net, ...]
    stages: tuple[Stage, ...]
    predict: Pass
    outputs: tuple[Output, ...]


class TrainState(struct.PyTreeNode):
    """Everything that training changes, arrays only, so that a checkpoint of it resumes bit for bit."""

    step: Array
    seed: Array
    variables: Any
    ema: Any
    opt: Any
    loss: Any
    best: Any
