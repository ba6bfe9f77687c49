"""Number of mixture components by cross-validated likelihood and Akaike's criterion (AIC; ACSNet, fig. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cardiac_jax.anatomy.mixture import Mixture, covariances, fit, log_prob


class Curves(NamedTuple):
    """Cross-validation of K sizes over F folds: `nll [K, F]` per held-out point, `aic [K, F]` of the fitted points."""

    sizes: tuple[int, ...]
    nll: np.ndarray
    aic: np.ndarray


def cross_validate(
    key: Array, x: Array, sizes: Sequence[int], folds: int = 10, groups: np.ndarray | None = None, **options: float
) -> Curves:
    """Return the cross-validation curves of mixtures with each of `sizes` components, fitted to `x [n, d]`.

    Args:
      groups: `[n]`; points of one group (slices of one patient) are held out together. None: each point is a group.
      options: options of `fit`.

    Raises:
      ValueError: there are fewer groups than folds.
    """
    _, group = np.unique(np.arange(len(x)) if groups is None else groups, return_inverse=True)
    if group.max() + 1 < folds:
        raise ValueError(f"{group.max() + 1} groups are fewer than {folds} folds")
    deal_key, fit_key = jax.random.split(key)
    fold = (np.asarray(jax.random.permutation(deal_key, int(group.max()) + 1)) % folds)[group]
    held_out = jnp.asarray(fold[None] == np.arange(folds)[:, None], jnp.float32)
    keys, most = jax.random.split(fit_key, folds), max(sizes)
    curves = [_validate(keys, jnp.asarray(x), held_out, jnp.int32(k), most=most, **options) for k in sizes]
    nll, aic = (np.stack([np.asarray(curve[i]) for curve in curves]) for i in (0, 1))
    return Curves(tuple(sizes), nll, aic)


def chosen(curves: Curves) -> int:
    """Return the smallest size at which both curves are within one standard error of their lowest mean.

    This is where "NLL plateaus, adjusted AIC is low" (fig. 5). If there is no such size, the size with the lowest NLL
    is returned: AIC uses the fitted points, and keeps falling if few points make the covariances nearly singular.
    """
    low = np.ones(len(curves.sizes), bool)
    for curve in (curves.nll, curves.aic):
        mean, lowest = curve.mean(1), curve[np.argmin(curve.mean(1))]
        low &= mean <= lowest.mean() + lowest.std(ddof=1) / np.sqrt(lowest.size)
    suitable = [size for size, enough in zip(curves.sizes, low, strict=True) if enough]
    return min(suitable) if suitable else curves.sizes[int(np.argmin(curves.nll.mean(1)))]


def effective_parameters(mixture: Mixture, used: Array | None = None) -> Array:
    """Return the number of free parameters, a scalar, of the first `used` components (None: of all).

    The parameters of a component with covariance S are scaled by Tr(S) / (d sigma_max(S)). The paper scales by the
    effective rank Tr(S) / sigma_max(S), between 1 and d, so that directions of very small variance are not penalised.
    Here it is divided by d, so that a spherical mixture counts in full, as in Akaike's criterion.
    """
    k, d = mixture.means.shape
    spectrum = jnp.linalg.eigvalsh(covariances(mixture))
    share = spectrum.sum(1) / (d * spectrum[:, -1])
    if used is not None:
        k, share = used, jnp.where(jnp.arange(k) < used, share, 0.0)
    return share.sum() * (d + d * (d + 1) / 2) + k - 1


def adjusted_aic(mixture: Mixture, x: Array, weight: Array | None = None, used: Array | None = None) -> Array:
    """Return Akaike's criterion of `x [n, d]` with `effective_parameters`, a scalar.

    `weight` is `[n]` or None; `used` is as in `fit`.
    """
    values = log_prob(mixture, x)
    total = values.sum() if weight is None else (values * weight).sum()
    return 2 * effective_parameters(mixture, used) - 2 * total


@partial(jax.jit, static_argnames=("most", "restarts"))
def _validate(keys: Array, x: Array, held_out: Array, k: Array, *, most: int, **options: float) -> tuple[Array, Array]:
    """NLL `[F]` of the held-out points and AIC `[F]` of the others, from `keys [F]` and `held_out [F, n]`.

    `k`, at most `most`, is traced, because compiling a program for every size takes far longer than running them.
    """

    def one(fold: tuple[Array, Array]) -> tuple[Array, Array]:
        key, out = fold
        mixture = fit(key, x, most, weight=1 - out, used=k, **options).mixture
        nll = -(log_prob(mixture, x) * out).sum() / out.sum()
        return nll, adjusted_aic(mixture, x, 1 - out, k)

    return lax.map(one, (keys, held_out))
