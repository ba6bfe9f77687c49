"""Types of the theory: named values, named networks, passes, losses, objectives, phases, stages, systems.

Networks write named values, losses read named values; a loss never calls a network. A *loss transform* adds a pass
that computes further values and a loss term that compares them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import optax
from flax import struct

IGNORE = 255
"""Label of a voxel that is not annotated."""

Array = jax.Array
Values = Mapping[str, Array]
"""Named arrays, batch-leading: `image [B, *S, C]`, `label [B, *S]`, `mask [B]` (1 real, 0 padding), `index [B]`."""
Variables = Mapping[str, Mapping[str, Any]]
"""Network name -> its Flax collections, `{"params": ..., "batch_stats": ...}`."""
LossState = Any
Config = Any
"""An `ml_collections.ConfigDict`, whose keys have no static types."""


class Pass(Protocol):
    """Reads values and adds further ones; networks named in `train` run in training mode and update statistics."""

    def __call__(
        self, variables: Variables, values: Values, *, key: Array, train: frozenset[str]
    ) -> tuple[Values, Variables]: ...


class Loss(NamedTuple):
    """A pure loss, like an optax transformation: `init() -> state`, `apply(state, values) -> ([B], state, logs)`.

    `logs` is `{name: [B]}`.
    """

    init: Callable[[], LossState]
    apply: Callable[[LossState, Values], tuple[Array, LossState, dict[str, Array]]]


class Objective(NamedTuple):
    """What one optimiser minimises: a forward pass, and the loss of the values that it wrote."""

    forward: Pass
    loss: Loss


LossTransform = Callable[[Objective], Objective]


class Net(NamedTuple):
    """A named network, and the shape of each input without the batch axis."""

    name: str
    module: nn.Module
    inputs: tuple[tuple[int, ...], ...]


class Phase(NamedTuple):
    """One optimiser's part of a step. Networks not in `trains` are frozen, but gradient flows through them."""

    name: str
    trains: tuple[str, ...]
    objective: Objective
    tx: optax.GradientTransformation


Fit = Callable[[Variables, Mapping[str, Any]], tuple[Variables, dict[str, Any]]]
"""A fit without gradients, e.g. a GMM: variables and the stream's examples (host arrays) -> variables, JSON figures.

A fit may write collections other than `params`. Its figures are stored in the checkpoint under the stage's name.
"""


class Stream(NamedTuple):
    """The batches of a stage.

    Attributes:
      of: makes the stage's examples from the training set (host arrays to host arrays); None: the training set.
      flag: name of a 0/1 array of the examples; it is 1 in `share` of every batch. "": no distinction.
      share: in (0, 1].
      batch_size: global; 0: `train.batch_size` of the configuration.
      prepare: pass that runs once per step before the phases, without gradient (e.g. augmentation, a crop by a frozen
        localiser).
    """

    of: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    flag: str = ""
    share: float = 1.0
    batch_size: int = 0
    prepare: Pass | None = None


class Stage(NamedTuple):
    """A part of the training: `steps` steps, each of which runs the phases in order.

    Later phases can read the values that earlier phases wrote, without gradient.

    Attributes:
      stream: the batches.
      fit: runs once, after the last step.
      validate: the output whose validation score selects the stage's best weights; "": none. An earlier stage ends with
        its best weights; for the last stage the best checkpoint is kept.
    """

    name: str
    steps: int
    phases: tuple[Phase, ...]
    stream: Stream = Stream()
    fit: Fit | None = None
    validate: str = ""


Stack = Any
"""`cardiac_jax.data.stack.Stack`, an array `[Z, H, W, ...]` with its geometry; `core` does not import `data`."""


class Decoded(NamedTuple):
    """An output as it is written to file.

    Attributes:
      value: the label map, image or vector.
      raw: the label map before post-processing; for other kinds, `value`.
      changes: what post-processing reports to its summary; None: nothing.
    """

    value: Stack
    raw: Stack
    changes: Any = None


class Summary(Protocol):
    """Accumulates over cases what a decoder changed; `about` returns JSON (may be empty), `line` one line of text."""

    def add(self, decoded: Decoded, truth: Stack | None) -> None: ...

    def about(self) -> dict[str, Any]: ...

    def line(self) -> str: ...


class Decoder(NamedTuple):
    """Turns a network's output on the file's grid into what is written; runs on the host.

    Attributes:
      decode: e.g. probabilities `[Z, H, W, K]` -> label map `[Z, H, W]`.
      summary: makes an empty summary of what `decode` changes.
    """

    decode: Callable[[Stack], Decoded]
    summary: Callable[[], Summary]


class Output(NamedTuple):
    """One output of a system.

    Attributes:
      name: name of the value that `System.predict` writes.
      kind: "labels" (probabilities `[B, *S, K]`), "image" (`[B, *S, C]`) or "vector" (`[B, D]`).
      scale: voxels of the output per voxel of the input along each axis of the grid; (): 1.
      fill: value outside the grid: probability of the background, or intensity.
      decoder: (variables, figures of the fits by stage) -> the decoder of this output.
      score: name of the validation figure that ranks checkpoints ("dice", "ssim", "psnr").
    """

    name: str
    kind: str
    decoder: Callable[[Variables, Mapping[str, Any]], Decoder]
    scale: tuple[int, ...] = ()
    fill: float = 1.0
    score: str = "dice"


class System(NamedTuple):
    """A system: networks, training stages, the prediction pass, and its outputs, the main output first."""

    nets: tuple[Net, ...]
    stages: tuple[Stage, ...]
    predict: Pass
    outputs: tuple[Output, ...]


class TrainState(struct.PyTreeNode):
    """Everything that training changes, arrays only; training resumed from a checkpoint gives the same bits."""

    step: Array
    seed: Array
    variables: Any
    ema: Any
    opt: Any
    loss: Any
    best: Any
