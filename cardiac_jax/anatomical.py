"""The anatomical prior of ACSNet: from gold standards to a bank of valid masks (Abramson et al. 2020, stage 3).

Masks of the myocardium lie centred on grids of one size and spacing. The autoencoder is trained on them; `fit` then
models their codes by a Gaussian mixture, tunes the check on them, and draws a bank of codes that decode to valid masks.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiac_jax.losses.overlap import IGNORE
from cardiac_jax.ops import anatomy, mixture, mixture_size, project, roi
from cardiac_jax.ops.anatomy import DEFAULT, Limits, Measured
from cardiac_jax.types import Array, Config, Fit, Net, System, Variables

TAIL = 1.0  # per cent of the gold standards that a tuned limit leaves outside
CHUNK = 256  # masks encoded at once


class Prior(NamedTuple):
    """What projects masks.

    Attributes:
      size, spacing_mm: of the masks' grid, square pixels.
      limits: of the check under which the bank was drawn.
      about: curves of the size of the mixture, accept rate and limits, as JSON can hold them.
      encode: masks `[N, *size]` -> codes `[N, d]`.
      project: masks `[N, *size]` -> `Projection`; compiled once per N.
    """

    size: tuple[int, int]
    spacing_mm: float
    limits: Limits
    about: dict[str, Any]
    bank: project.Bank
    encode: Callable[[Array], Array]
    project: Callable[[Array], project.Projection]


def prior_of(system: System, variables: Variables, spacing_mm: float) -> Prior | None:
    """The prior that a trained system has learnt, None if it learns none."""
    nets = [net for net in system.nets if "bank" in variables[net.name]]
    return prior(nets[0], variables, spacing_mm) if nets else None


def prior(net: Net, variables: Variables, spacing_mm: float) -> Prior:
    """The prior of a trained network."""
    held = variables[net.name]
    bank = held["bank"]
    module: Any = net.module
    kinds: Any = [type(default) for default in DEFAULT]
    limits = Limits(*(kind(value) for kind, value in zip(kinds, np.asarray(bank["limits"]), strict=True)))
    stored = project.Bank(*(jnp.asarray(bank[name]) for name in ("codes", "masks")))
    encode, decode = _functions(net, held)

    def check(masks: Array) -> Array:
        return anatomy.check(masks, spacing_mm, limits).valid

    @jax.jit
    def projected(masks: Array, bank: project.Bank) -> project.Projection:
        return project.project(masks, encode, decode, bank, check)

    size = (module.size[0], module.size[1])
    return Prior(
        size, spacing_mm, limits, _about(bank), stored, jax.jit(encode), lambda masks: projected(masks, stored)
    )


def centred(masks: Array, size: Sequence[int]) -> Array:
    """Masks `[N, H, W]` -> `[N, *size]`, cut or padded about each one's centre of mass; an empty one stays empty."""
    wide = jnp.pad(masks, ((0, 0), *((s // 2, s // 2) for s in size)))  # room to be centred at the border too
    return roi.crop(wide, roi.box_about(wide, size).start, size)


def shapes(classes: Sequence[int], size: Sequence[int]) -> Callable[[Mapping[str, Any]], dict[str, np.ndarray]]:
    """The prior's own examples of volumes `label [N, Z, H, W]`: slices annotated in full that have any of `classes`.

    `shape [M, *size]` uint8, centred, and `volume [M]`, which of the volumes each comes from.
    """
    cut = jax.jit(lambda masks: centred(masks, size))

    def made(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        found, volumes = [], []
        for i, label in enumerate(arrays["label"]):
            wall = np.isin(label, classes)
            whole = (label != IGNORE).all((1, 2)) & wall.any((1, 2))
            found.append(np.asarray(cut(jnp.asarray(wall, jnp.uint8)))[whole])
            volumes += [i] * int(whole.sum())
        return {"shape": np.concatenate(found), "volume": np.array(volumes)}

    return made


def tuned(gold: Measured, restored: Measured) -> Limits:
    """Limits that leave one per cent of the gold standards outside each; none is stricter than the default.

    But circularity: it is tuned upwards, to the first percentile of the gold standards or of their restored selves,
    whichever is lower, for the autoencoder must be able to draw what the check asks for. Pieces and holes are never
    allowed: they are faults wherever they are found.
    """

    def percentile(values: Array, q: float) -> float:
        held = np.asarray(values)
        held = held[np.isfinite(held)]
        return float(np.percentile(held, q)) if held.size else float("nan")

    def larger(least: float, value: float) -> float:
        return value if value > least else least

    round_ = min(percentile(measured.circularity, TAIL) for measured in (gold, restored))
    thickness = percentile(gold.thickness_mm, TAIL)
    return DEFAULT._replace(
        circularity=larger(float(DEFAULT.circularity), round_),
        endo_concavity_mm=larger(float(DEFAULT.endo_concavity_mm), percentile(gold.endo_concavity_mm, 100 - TAIL)),
        epi_concavity_mm=larger(float(DEFAULT.epi_concavity_mm), percentile(gold.epi_concavity_mm, 100 - TAIL)),
        thickness_mm=min(float(DEFAULT.thickness_mm), thickness) if np.isfinite(thickness) else DEFAULT.thickness_mm,
    )


def fit(net: Net, spacing_mm: float, settings: Config, seed: int) -> Fit:
    """What ends the autoencoder's stage: codes of all `shapes` -> limits, mixture, bank.

    Args:
      settings: `bank` codes wanted, `components` of the mixture (0: as many as cross-validation chooses), `restarts`.
    """
    module: Any = net.module

    def fitted(variables: Variables, examples: Mapping[str, np.ndarray]) -> tuple[Variables, dict[str, float]]:
        masks, volume = examples["shape"] > 0, examples["volume"]
        encode, decode = _functions(net, variables[net.name])
        codes = _batched(jax.jit(encode), masks.astype(np.float32))
        restored = _batched(jax.jit(lambda z: decode(z) > 0), codes)
        gold, again = (anatomy.measure(jnp.asarray(some), spacing_mm) for some in (masks, restored))
        limits = tuned(gold, again)
        deal, start, draw = jax.random.split(jax.random.key(seed), 3)
        sizes = range(1, module.components + 1)
        folds = min(module.folds, len(np.unique(volume)))
        curves = mixture_size.cross_validate(deal, jnp.asarray(codes), sizes, folds, volume, restarts=settings.restarts)
        count = settings.components or mixture_size.chosen(curves)
        model = mixture.fit(start, jnp.asarray(codes), count, restarts=settings.restarts).mixture

        def check(candidates: Array) -> Array:
            return anatomy.check(candidates, spacing_mm, limits).valid

        drawn = project.resample(draw, model, decode, check, module.bank_size)
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
        overlap = 2 * (masks & restored).sum((1, 2)) / (masks.sum((1, 2)) + restored.sum((1, 2)))
        figures = {
            "masks": float(len(masks)),
            "components": float(count),
            "components_by_cv": float(mixture_size.chosen(curves)),
            "accept_rate": rate,
            "valid_gold_standards": float(np.mean(np.asarray(anatomy.judge(gold, limits).valid))),
            "valid_restored": float(np.mean(np.asarray(anatomy.judge(again, limits).valid))),
            "dice_restored": float(overlap.mean()),
        }
        return {**variables, net.name: held}, figures

    return fitted


def _about(bank: Mapping[str, Any]) -> dict[str, Any]:
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
        "limits": dict(zip(Limits._fields, (float(v) for v in bank["limits"]), strict=True)),
    }


def _functions(net: Net, held: Mapping[str, Any]) -> tuple[project.Encode, project.Decode]:
    module: Any = net.module
    held = dict(held)

    def encode(masks: Array) -> Array:
        return module.apply(held, masks[..., None], train=False, method="encode")

    def decode(codes: Array) -> Array:
        return module.apply(held, codes, train=False, method="decode")[..., 0]

    return encode, decode


def _batched(fn: Any, x: np.ndarray) -> np.ndarray:
    filled = np.concatenate([x, np.zeros((-len(x) % CHUNK, *x.shape[1:]), x.dtype)])
    return np.concatenate([np.asarray(fn(jnp.asarray(part))) for part in np.split(filled, len(filled) // CHUNK)])[
        : len(x)
    ]


def _wide(curve: np.ndarray, folds: int) -> Array:
    """`[K, F]` -> `[K, folds]`, NaN where there was no fold."""
    return jnp.asarray(np.pad(curve, ((0, 0), (0, folds - curve.shape[1])), constant_values=np.nan), jnp.float32)
