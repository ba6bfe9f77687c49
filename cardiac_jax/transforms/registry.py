"""Registry of loss transforms by their name in `config.transforms`; any system can use any of them.

A *term* consists of the loss transform, the networks it needs, the names of those that the segmentation phase trains,
stages that must run before (e.g. an autoencoder of label maps), and further phases of the segmentation stage (e.g. a
discriminator's). A builder takes the weight and a `TermRequest`:

    def total_variation(weight: Weight, request: TermRequest) -> Term: ...
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import optax

from cardiac_jax.core.config import words
from cardiac_jax.core.loss import Weight
from cardiac_jax.core.passes import call
from cardiac_jax.core.registry import lookup
from cardiac_jax.core.types import Config, LossTransform, Net, Objective, Phase, Stage, Stream
from cardiac_jax.errors import InputError
from cardiac_jax.nets.autoencoder import Autoencoder
from cardiac_jax.nets.discriminator import Discriminator
from cardiac_jax.nets.heads import PositionHead
from cardiac_jax.nets.layers import precision
from cardiac_jax.train.devices import AXIS
from cardiac_jax.train.optim import phase
from cardiac_jax.transforms import terms
from cardiac_jax.transforms.shape_model import ShapeModel

KEY = "transforms"


class Term(NamedTuple):
    """The parts that one name in `config.transforms` adds to a system.

    Attributes:
      transform: adds a pass and a weighted loss to the segmentation objective.
      nets: additional networks.
      trains: names of the additional networks that the segmentation phase trains.
      before: stages that run before the segmentation stage.
      phases: further phases of the segmentation stage.
    """

    transform: LossTransform
    nets: tuple[Net, ...] = ()
    trains: tuple[str, ...] = ()
    before: tuple[Stage, ...] = ()
    phases: tuple[Phase, ...] = ()


class TermRequest(NamedTuple):
    """The information about a system that a term is built from.

    Attributes:
      config: the experiment's configuration.
      segmenter: the segmentation network.
      size: `S` of `probabilities` and `label`.
      classes: K of `probabilities [B, *S, K]`.
      bottleneck: shape of one example of the value `bottleneck`.
      stream: the batches of the segmentation stage.
      call: runs a term's networks, on the example or, for a 2D network in a system of volumes, on every slice.
      settings: key in `config` of the autoencoder's settings.
      has_position: whether examples have a `position`, i.e. are slices.
      shape_model: the system's own autoencoder of label maps and predictor of its codes; None: terms bring their own
        autoencoder.
    """

    config: Config
    segmenter: Net
    size: tuple[int, ...]
    classes: int
    bottleneck: tuple[int, ...]
    stream: Stream
    call: terms.CallNet = call
    settings: str = "prior"
    has_position: bool = False
    shape_model: ShapeModel | None = None

    @property
    def dtype(self):
        """The floating-point type in which networks compute."""
        return precision(self.config.model.dtype)


BuildTerm = Callable[[Weight, TermRequest], Term]


class Extended(NamedTuple):
    """An objective with every chosen term, and the terms' networks, trained networks, earlier stages and phases."""

    objective: Objective
    nets: tuple[Net, ...]
    trains: tuple[str, ...]
    before: tuple[Stage, ...]
    phases: tuple[Phase, ...]


def autoencoder_stage(request: TermRequest) -> tuple[Net, Stage]:
    """Returns the denoising autoencoder of label maps, and the stage that trains it on fully annotated examples."""
    settings = request.config[request.settings]
    net = Net(
        "autoencoder" if request.settings == "prior" else "shape_autoencoder",
        Autoencoder(
            size=request.size,
            classes=request.classes,
            code=settings.code,
            features=tuple(settings.get("features", Autoencoder.features)),
            stride=settings.stride,
            dtype=request.dtype,
            axis_name=AXIS,
        ),
        ((*request.size, request.classes),),
    )
    objective = terms.autoencoding(net, request.classes, settings.swap, request.call)
    learn = phase("autoencode", (net.name,), objective, settings, settings.steps)
    stream = request.stream._replace(flag="fully_annotated", share=1.0)
    return net, Stage(request.settings, settings.steps, (learn,), stream)


def _autoencoder(request: TermRequest) -> ShapeModel:
    """The system's own shape model, or the denoising autoencoder and its stage."""
    if request.shape_model is not None:
        return request.shape_model
    net, stage = autoencoder_stage(request)
    return ShapeModel(net, None, (stage,))


def _shape_prior(weight: Weight, request: TermRequest) -> Term:
    model = _autoencoder(request)
    transform = terms.shape_prior(model.autoencoder, request.classes, weight, request.call)
    return Term(transform, model.nets, before=model.stages)


def _code_prior(weight: Weight, request: TermRequest) -> Term:
    model = _autoencoder(request)
    transform = terms.code_prior(model.autoencoder, request.classes, weight, request.call)
    return Term(transform, model.nets, before=model.stages)


def _predictor_prior(weight: Weight, request: TermRequest) -> Term:
    model = request.shape_model
    if model is None or model.predictor is None:
        raise InputError(f"{KEY}.predictor_prior", "compares restored images: this system learns no codes of images")
    return Term(terms.predictor_prior(model.predictor, weight), model.nets, before=model.stages)


def _position(weight: Weight, request: TermRequest) -> Term:
    if not request.has_position:
        raise InputError(f"{KEY}.position", "regresses the position of a slice: it needs data.size=(H, W)")
    net = Net("position", PositionHead(dtype=request.dtype), (request.bottleneck,))
    return Term(terms.position(net, weight), (net,), trains=("position",))


def _adversarial(weight: Weight, request: TermRequest) -> Term:
    config = request.config
    net = Net("discriminator", Discriminator(dtype=request.dtype), ((*request.size, request.classes),))
    judge = terms.discrimination(net, request.classes, request.call)
    learn = phase("discriminate", ("discriminator",), judge, config.adversarial, config.train.steps)
    return Term(terms.adversarial(net, weight, request.call), (net,), phases=(learn,))


def _weight_decay(weight: Weight, request: TermRequest) -> Term:
    return Term(terms.weight_decay(request.segmenter, weight))


TERMS: dict[str, BuildTerm] = {
    "shape_prior": _shape_prior,
    "code_prior": _code_prior,
    "position": _position,
    "adversarial": _adversarial,
    "weight_decay": _weight_decay,
    "predictor_prior": _predictor_prior,
}


OWN: dict[str, BuildTerm] = {}
"""Terms registered by `register_term`; `config.transforms` has keys for the shipped terms only."""


def register_term(name: str, build: BuildTerm) -> None:
    """Registers a user's term for `config.terms=("NAME=WEIGHT",)`, in this process."""
    OWN[name] = build


def chosen_terms(config: Config) -> dict[str, float]:
    """Returns name -> weight of every term that is switched on.

    `config.transforms.NAME` is the weight of a shipped term; 0 switches it off. `config.terms` lists further terms as
    `NAME=WEIGHT`, where NAME is registered, an entry point or `module:attribute`.

    Raises:
      InputError: a name is unknown, or a weight is not a number.
    """
    for name in config.transforms:
        if name not in TERMS:
            raise InputError(KEY, f"{name!r} is not one of {', '.join(TERMS)}")
    found = {name: float(config.transforms[name]) for name in TERMS if config.transforms.get(name)}
    for word in words(config.get("terms", ())):
        name, _, weight = word.partition("=")
        try:
            found[name] = float(weight)
        except ValueError:
            raise InputError("terms", f"{word!r} is not written name=weight") from None
    return found


def extend(objective: Objective, request: TermRequest) -> Extended:
    """Returns `objective` with every term that is switched on, in the order of `TERMS`, then of `config.terms`.

    Raises:
      InputError: a term is unknown or does not fit the system, or `config.ramp` is invalid.
    """
    config = request.config
    start, end = (round(part * config.train.steps) for part in config.get("ramp", (0.0, 0.0)))
    if not 0 <= start <= end:
        raise InputError("ramp", f"{tuple(config.ramp)} is not a rising pair of parts of the training")

    def rising(weight: float) -> Weight:
        return optax.linear_schedule(0.0, weight, end - start, start) if end > start else weight

    built = {
        name: lookup("terms", "terms", name, {**TERMS, **OWN})(rising(weight), request)
        for name, weight in chosen_terms(config).items()
    }
    for name, term in built.items():
        if not isinstance(term, Term):
            raise InputError("terms", f"{name!r} returns {type(term).__name__}, a Term is expected")
    nets, before = _merged(built)
    return Extended(
        terms.compose(*(term.transform for term in built.values()))(objective),
        nets,
        tuple(net for term in built.values() for net in term.trains),
        before,
        tuple(held for term in built.values() for held in term.phases),
    )


def _merged(built: Mapping[str, Term]) -> tuple[tuple[Net, ...], tuple[Stage, ...]]:
    """Networks and stages of all terms, without duplicate names (two priors share one autoencoder)."""
    nets: dict[str, Net] = {}
    stages: dict[str, Stage] = {}
    for term in built.values():
        nets |= {net.name: net for net in term.nets if net.name not in nets}
        stages |= {stage.name: stage for stage in term.before if stage.name not in stages}
    return tuple(nets.values()), tuple(stages.values())
