"""The anatomical prior of ACSNet: from gold standards to a bank of valid masks (Abramson et al. 2020, stage 3).

Masks of the myocardium, or maps of whatever structures are to be guaranteed (`structures/`; they are called masks all
the same), lie centred on grids of one size and spacing. The autoencoder is trained on them; `fit` then
models their codes by a Gaussian mixture, tunes the check on them, and draws a bank of codes that decode to valid masks.
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
from cardiac_jax.ops import roi
from cardiac_jax.train import devices

CHUNK = 256  # masks encoded at once


class Prior(NamedTuple):
    """What projects masks.

    Attributes:
      structures: which it guarantees.
      size, spacing_mm: of the masks' grid, square pixels.
      limits: of the check under which the bank was drawn.
      about: curves of the size of the mixture, accept rate and limits, as JSON can hold them.
      encode: masks `[N, *size]` -> codes `[N, d]`.
      restore: masks `[N, *size]` -> as the autoencoder restores them, valid or not.
      project: masks `[N, *size]` -> `Projection`; compiled once per N.
    """

    structures: AnatomySpec
    size: tuple[int, int]
    spacing_mm: float
    limits: Limits
    about: dict[str, Any]
    bank: projection.Bank
    encode: Callable[[Array], Array]
    restore: Callable[[Array], Array]
    project: Callable[[Array], projection.Projection]


def prior_of(system: System, variables: Variables, spacing_mm: float) -> Prior | None:
    """The prior that a trained system has learnt, None if it learns none."""
    nets = [net for net in system.nets if "bank" in variables[net.name]]
    return prior(nets[0], variables, spacing_mm) if nets else None


def prior(net: Net, variables: Variables, spacing_mm: float) -> Prior:
    """The prior of a trained network; its arrays lie on no accelerator (see `parallel.on_host`)."""
    held = devices.fetch(variables[net.name])
    bank = held["bank"]
    module: Any = net.module
    kind = anatomy_spec(module.structures)
    pairs = zip(kind.default_limits, np.asarray(bank["limits"]), strict=True)
    limits = type(kind.default_limits)(*(type(default)(value) for default, value in pairs))
    stored = projection.Bank(*(jnp.asarray(bank[name]) for name in ("codes", "masks")))
    encode, decode = _functions(net, held)

    def check(masks: Array) -> Array:
        return kind.check(masks, spacing_mm, limits)

    @jax.jit
    def projected(masks: Array, bank: projection.Bank) -> projection.Projection:
        return projection.project(masks, encode, decode, bank, check)

    size = (module.size[0], module.size[1])
    return Prior(
        kind,
        size,
        spacing_mm,
        limits,
        _about(bank, limits),
        stored,
        jax.jit(encode),
        jax.jit(lambda masks: decode(encode(masks))),
        lambda masks: projected(masks, stored),
    )


def centred(masks: Array, size: Sequence[int], core: Callable[[Array], Array] = WALL.centring_mask) -> Array:
    """Masks `[N, H, W]` -> `[N, *size]`, cut or padded about each core's centre of mass; an empty one stays empty."""
    wide = jnp.pad(masks, ((0, 0), *((s // 2, s // 2) for s in size)))  # room to be centred at the border too
    return roi.crop(wide, roi.box_about(core(wide), size).start, size)


def shapes(
    values: Sequence[Any], size: Sequence[int], held: AnatomySpec = WALL
) -> Callable[[Mapping[str, Any]], dict[str, np.ndarray]]:
    """The prior's own examples: what `shapes_of` finds; raises InputError if that is of fewer than two volumes."""

    def made(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        found = shapes_of(arrays["label"], values, size, held)
        if len(set(found["volume"])) < 2:
            raise InputError("training set", "myocardium in whole slices of fewer than two cases: no shapes to learn")
        return found

    return made


def shapes_of(
    labels: Sequence[np.ndarray] | np.ndarray, values: Sequence[Any], size: Sequence[int], held: AnatomySpec = WALL
) -> dict[str, np.ndarray]:
    """Of volumes `[N, Z, H, W]` the slices annotated in full that have any of `values`.

    `values` are those of the structures `held`, as its own `values` gives them: of the wall the numbers of its classes.
    `shape [M, *size]` uint8, centred, and `volume [M]`, which of the volumes each comes from.
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
    """What ends the autoencoder's stage: codes of all `shapes` -> limits, mixture, bank.

    Args:
      settings: `bank` codes wanted, `components` of the mixture (0: as many as cross-validation chooses), `restarts`.
    """
    module: Any = net.module
    kind = anatomy_spec(module.structures)

    def fitted(variables: Variables, examples: Mapping[str, np.ndarray]) -> tuple[Variables, dict[str, float]]:
        masks, volume = examples["shape"], examples["volume"]
        encode, decode = _functions(net, variables[net.name])
        codes = batched(jax.jit(encode), masks)
        restored = batched(jax.jit(decode), codes)
        gold, again = (kind.measure(jnp.asarray(some), spacing_mm) for some in (masks, restored))
        limits = kind.tune_limits(gold, again)
        deal, start, draw = jax.random.split(jax.random.key(seed), 3)
        sizes = range(1, module.components + 1)
        folds = min(module.folds, len(np.unique(volume)))
        curves = mixture_size.cross_validate(deal, jnp.asarray(codes), sizes, folds, volume, restarts=settings.restarts)
        count = settings.components or mixture_size.chosen(curves)
        model = mixture.fit(start, jnp.asarray(codes), count, restarts=settings.restarts).mixture

        def check(candidates: Array) -> Array:
            return kind.check(candidates, spacing_mm, limits)

        drawn = projection.resample(draw, model, decode, check, module.bank_size)
        rate = drawn.accepted / drawn.drawn
        rest = module.components - count
        bank = {
            "codes": drawn.bank.codes,
            "masks": drawn.bank.masks,
            "weights": jnp.pad(model.weights, (0, rest)),
            "means": jnp.pad(model.means, ((0, rest), (0, 0))),
            "cholesky": jnp.pad(model.cholesky, ((0, rest), (0, 0), (0, 0))),
            "limits": jnp.asarray([float(value) for value in limits]),
            "nll": _wide(curves.nll, module.folds),
            "aic": _wide(curves.aic, module.folds),
            "accept_rate": jnp.asarray(rate, jnp.float32),
        }
        held = {**variables[net.name], "bank": bank}
        figures = {
            "masks": float(len(masks)),
            "components": float(count),
            "components_by_cv": float(mixture_size.chosen(curves)),
            "accept_rate": rate,
            "valid_gold_standards": float(np.mean(np.asarray(kind.judge(gold, limits)))),
            "valid_restored": float(np.mean(np.asarray(kind.judge(again, limits)))),
            "dice_restored": float(dice_of_maps(masks, restored).mean()),
        }
        return {**variables, net.name: held}, figures

    return fitted


def dice_of_maps(masks: np.ndarray, restored: np.ndarray) -> np.ndarray:
    """Dice of every mask `[N, H, W]`, the mean over the structures that it or its restored self has: `[N]`."""
    found = np.full((max(int(masks.max(initial=0)), 1), len(masks)), np.nan)
    for label, row in enumerate(found, 1):
        one, other = masks == label, restored == label
        mass = one.sum((1, 2)) + other.sum((1, 2))
        np.divide(2 * (one & other).sum((1, 2)), mass, out=row, where=mass > 0)
    return np.nanmean(found, 0)


def _about(bank: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    nll, aic = (np.asarray(bank[name], np.float64) for name in ("nll", "aic"))
    used = np.isfinite(nll).all(0)
    curves = mixture_size.Curves(tuple(range(1, len(nll) + 1)), nll[:, used], aic[:, used])
    return {
        "sizes": list(curves.sizes),
        "nll": curves.nll.tolist(),
        "aic": curves.aic.tolist(),
        "chosen": mixture_size.chosen(curves),
        "used": int((np.asarray(bank["weights"]) > 0).sum()),
        "accept_rate": float(bank["accept_rate"]),
        "limits": limits._asdict(),
    }


def _functions(net: Net, held: Mapping[str, Any]) -> tuple[projection.Encode, projection.Decode]:
    module: Any = net.module
    held, kind = dict(held), anatomy_spec(module.structures)

    def encode(masks: Array) -> Array:
        return module.apply(held, kind.encode(masks), train=False, method="encode")

    def decode(codes: Array) -> Array:
        return kind.decode(module.apply(held, codes, train=False, method="decode"))

    return encode, decode


def batched(fn: Callable[[Array], Array], x: np.ndarray) -> np.ndarray:
    """`fn(x)` for any number of masks or codes, `CHUNK` at a time: compiled once."""
    filled = np.concatenate([x, np.zeros((-len(x) % CHUNK, *x.shape[1:]), x.dtype)])
    return np.concatenate([np.asarray(fn(jnp.asarray(part))) for part in np.split(filled, len(filled) // CHUNK)])[
        : len(x)
    ]


def _wide(curve: np.ndarray, folds: int) -> Array:
    """`[K, F]` -> `[K, folds]`, NaN where there was no fold."""
    return jnp.asarray(np.pad(curve, ((0, 0), (0, folds - curve.shape[1])), constant_values=np.nan), jnp.float32)
