"""The anatomical prior of ACSNet: from gold standards to a bank of valid masks (Abramson et al. 2020, stage 3).

The autoencoder is trained on masks of the myocardium, or on label maps of several structures (`spec.py`; also called
masks), centred on grids of one size and spacing. `fit` then fits a Gaussian mixture to their codes, tunes the limits of
the check, and samples a bank of codes that decode to valid masks.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiac_jax.anatomy import mixture, mixture_size, projection
from cardiac_jax.anatomy.registry import anatomy_spec
from cardiac_jax.anatomy.spec import AnatomySpec, Limits
from cardiac_jax.anatomy.wall import WALL
from cardiac_jax.core.types import IGNORE, Array, Config, Fit, Net, System, Variables
from cardiac_jax.errors import InputError
from cardiac_jax.metrics.overlap import counts, dice_of
from cardiac_jax.ops import roi
from cardiac_jax.train import devices

STAGE = "prior"
"""Name of the stage that trains the prior, and of its fit's figures."""
CHUNK = 256  # masks or codes per call
FOLDS = 10  # largest number of folds in the cross-validation of the mixture


class Prior(NamedTuple):
    """A trained prior, which projects masks.

    Attributes:
      spec: the structures that it guarantees.
      size, spacing_mm: size (px) and spacing of the masks' grid, with square pixels.
      limits: limits of the check with which the bank was sampled.
      defaulted: names of the limits that the checkpoint lacks, because it is older; their values are the defaults.
      bank: codes and their valid masks.
      encode: masks `[N, *size]` -> codes `[N, d]`.
      restore: masks `[N, *size]` -> the autoencoder's reconstructions, valid or not.
      project: masks `[N, *size]` -> `Projection`; compiled once per N.
    """

    spec: AnatomySpec
    size: tuple[int, int]
    spacing_mm: float
    limits: Limits
    bank: projection.Bank
    encode: Callable[[Array], Array]
    restore: Callable[[Array], Array]
    project: Callable[[Array], projection.Projection]
    defaulted: tuple[str, ...] = ()


def prior_of(system: System, variables: Variables, fits: Mapping[str, Any], spacing_mm: float) -> Prior | None:
    """Returns the prior of a trained system; None if it has none."""
    nets = [net for net in system.nets if "bank" in variables[net.name]]
    return prior(nets[0], variables, fits, spacing_mm) if nets else None


def prior(net: Net, variables: Variables, fits: Mapping[str, Any], spacing_mm: float) -> Prior:
    """Returns the prior of a trained network; within `devices.on_host` its arrays are on the CPU.

    Masks are projected onto closed walls only. A bank sampled under fewer limits, by an older version, loses the codes
    whose masks fail the limits of today.

    Args:
      fits: figures of the fits by stage, see `fit`.

    Raises:
      InputError: no code of the bank is left.
    """
    held = devices.fetch(variables[net.name])
    bank = held["bank"]
    module: Any = net.module
    kind = anatomy_spec(module.structures)
    named = fits[STAGE]["limits"]
    limits, defaulted = limits_of(kind, named), tuple(k for k in kind.default_limits._fields if k not in named)
    stored = projection.Bank(*(jnp.asarray(bank[name]) for name in ("codes", "masks")))
    encode, decode = _functions(net, held)

    def check(masks: Array) -> Array:
        return kind.check(masks, spacing_mm, closed(limits))

    if defaulted:
        masks = np.asarray(projection.unpack(stored.masks, module.size[1]))
        stored = _of(stored, kind.is_valid(masks, spacing_mm, closed(limits)))

    @jax.jit
    def projected(masks: Array, bank: projection.Bank) -> projection.Projection:
        return projection.project(masks, encode, decode, bank, check)

    return Prior(
        kind,
        (module.size[0], module.size[1]),
        spacing_mm,
        limits,
        stored,
        jax.jit(encode),
        jax.jit(lambda masks: decode(encode(masks))),
        lambda masks: projected(masks, stored),
        defaulted,
    )


def _of(bank: projection.Bank, passed: np.ndarray) -> projection.Bank:
    if not passed.any():
        raise InputError("prior", "no mask of its bank passes the limits that it lacks; train the prior again")
    return projection.Bank(*(jnp.asarray(np.asarray(part)[passed]) for part in bank))


def limits_of(kind: AnatomySpec, named: Mapping[str, Any]) -> Limits:
    """Returns the limits of a check from JSON; limits that an older version did not store have their defaults."""
    default = kind.default_limits
    return type(default)(*(type(value)(named.get(name, value)) for name, value in default._asdict().items()))


def closed(limits: Limits) -> Limits:
    """Returns the limits under which a C-shaped wall fails."""
    return limits._replace(c_shaped=False)


def centred(masks: Array, size: Sequence[int], core: Callable[[Array], Array] = WALL.centring_mask) -> Array:
    """Crops or pads masks `[N, H, W]` to `[N, *size]` about the centre of mass of `core`; empty masks stay empty."""
    wide = jnp.pad(masks, ((0, 0), *((s // 2, s // 2) for s in size)))  # also centres masks at the border
    return roi.crop(wide, roi.box_about(core(wide), size).start, size)


def shapes(
    values: Sequence[Any], size: Sequence[int], held: AnatomySpec = WALL, least: int = 1
) -> Callable[[Mapping[str, Any]], dict[str, np.ndarray]]:
    """Returns a function that makes the prior's examples from the training set, see `shapes_of`.

    Raises (when the function is called):
      InputError: there are masks of fewer than two volumes, or fewer than `least` masks.
    """

    def made(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        found = shapes_of(arrays["label"], values, size, held)
        if len(set(found["volume"])) < 2:
            raise InputError("training set", "myocardium in whole slices of fewer than two cases: no shapes to learn")
        if len(found["volume"]) < least:
            raise InputError("prior.components", f"{least} components for {len(found['volume'])} masks")
        return found

    return made


def shapes_of(
    labels: Sequence[np.ndarray] | np.ndarray, values: Sequence[Any], size: Sequence[int], held: AnatomySpec = WALL
) -> dict[str, np.ndarray]:
    """Returns the masks of all fully annotated slices of volumes `[N, Z, H, W]` that contain any of the structures.

    Args:
      values: label values of the structures, from `held.label_values`.
      held: the structures.

    Returns:
      `shape [M, *size]` uint8, centred masks, and `volume [M]`, index of the volume of each mask.
    """
    cut = jax.jit(lambda masks: centred(masks, size, held.centring_mask))
    found, volumes = [np.zeros((0, *size), np.uint8)], []
    for i, label in enumerate(labels):
        masks = held.to_maps(label, values)
        whole = (label != IGNORE).all((1, 2)) & masks.any((1, 2))
        found.append(np.asarray(cut(jnp.asarray(masks, jnp.uint8)))[whole])
        volumes += [i] * int(whole.sum())
    return {"shape": np.concatenate(found), "volume": np.array(volumes)}


def fit(net: Net, spacing_mm: float, settings: Config, seed: int) -> Fit:
    """Returns the fit at the end of the autoencoder's stage: limits of the check, mixture of codes, bank of masks.

    Its figures are the numbers of `masks`, of `components` used and `components_by_cv`; the `accept_rate` of samples;
    the shares `valid_gold_standards` and `valid_restored`; `dice_restored`; `limits` by name; and from the
    cross-validation `sizes`, `nll` and `aic` `[sizes, folds]`.

    Args:
      spacing_mm: pixel size of the masks.
      settings: `components` of the mixture (0: the number chosen by cross-validation), `restarts`.
    """
    module: Any = net.module
    kind = anatomy_spec(module.structures)

    def fitted(variables: Variables, examples: Mapping[str, np.ndarray]) -> tuple[Variables, dict[str, Any]]:
        masks, volume = examples["shape"], examples["volume"]
        encode, decode = _functions(net, variables[net.name])
        codes = batched(jax.jit(encode), masks)
        restored = batched(jax.jit(decode), codes)
        gold, remade = (kind.measure(jnp.asarray(some, jnp.uint8), spacing_mm) for some in (masks, restored))
        limits, judge = kind.tune_limits(gold, remade), jax.jit(kind.judge)
        deal, start, draw = jax.random.split(jax.random.key(seed), 3)
        sizes = range(1, module.components + 1)
        folds = min(FOLDS, len(np.unique(volume)))
        curves = mixture_size.cross_validate(deal, jnp.asarray(codes), sizes, folds, volume, restarts=settings.restarts)
        count = settings.components or mixture_size.chosen(curves)
        model = mixture.fit(start, jnp.asarray(codes), count, restarts=settings.restarts).mixture

        def check(candidates: Array) -> Array:
            return kind.check(candidates, spacing_mm, closed(limits))

        drawn = projection.resample(draw, model, decode, check, module.bank_size)
        rest = module.components - count
        bank = {
            "codes": drawn.bank.codes,
            "masks": drawn.bank.masks,
            "weights": jnp.pad(model.weights, (0, rest)),
            "means": jnp.pad(model.means, ((0, rest), (0, 0))),
            "cholesky": jnp.pad(model.cholesky, ((0, rest), (0, 0), (0, 0))),
        }
        figures = {
            "masks": len(masks),
            "components": int(count),
            "components_by_cv": int(mixture_size.chosen(curves)),
            "accept_rate": drawn.accepted / drawn.drawn,
            "valid_gold_standards": float(np.mean(np.asarray(judge(gold, limits)))),
            "valid_restored": float(np.mean(np.asarray(judge(remade, limits)))),
            "dice_restored": float(dice_of_maps(masks, restored).mean()),
            "limits": {name: _plain(value) for name, value in limits._asdict().items()},
            "sizes": list(curves.sizes),
            "nll": np.asarray(curves.nll, np.float64).tolist(),
            "aic": np.asarray(curves.aic, np.float64).tolist(),
        }
        return {**variables, net.name: {**variables[net.name], "bank": bank}}, figures

    return fitted


def _plain(value: Any) -> float | bool | int:
    """A limit for JSON; lengths are rounded to float32, the precision of the check."""
    return value if isinstance(value, bool | int) else float(np.float32(value))


def dice_of_maps(masks: np.ndarray, restored: np.ndarray) -> np.ndarray:
    """Returns Dice `[N]` of masks `[N, H, W]` and their reconstructions, the mean over structures in either of them."""
    labels = range(1, max(int(masks.max(initial=0)), 1) + 1)
    pairs = zip(masks.astype(np.uint8), restored.astype(np.uint8), strict=True)
    return np.array([np.nanmean(dice_of(counts(mask, other, labels))) for mask, other in pairs])


def _functions(net: Net, held: Mapping[str, Any]) -> tuple[projection.Encode, projection.Decode]:
    module: Any = net.module
    held, kind = dict(held), anatomy_spec(module.structures)

    def encode(masks: Array) -> Array:
        return module.apply(held, kind.encode(masks), train=False, method="encode")

    def decode(codes: Array) -> Array:
        return kind.decode(module.apply(held, codes, train=False, method="decode"))

    return encode, decode


def batched(fn: Callable[[Array], Array], x: np.ndarray) -> np.ndarray:
    """Returns `fn(x)` for any number of masks or codes, in chunks of `CHUNK`, so that `fn` compiles once."""
    filled = np.concatenate([x, np.zeros((-len(x) % CHUNK, *x.shape[1:]), x.dtype)])
    return np.concatenate([np.asarray(fn(jnp.asarray(part))) for part in np.split(filled, len(filled) // CHUNK)])[
        : len(x)
    ]
