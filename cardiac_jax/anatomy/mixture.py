"""Gaussian mixtures with full covariances in float32: expectation-maximisation (EM) and sampling.

They model the autoencoder's codes in ACSNet (Abramson, Popescu et al. 2020, stage 3). An EM step is one pass over the
data in chunks. The moments of every component are computed about its mean of the previous step. This mean is close to
the new one, so the difference loses no digits.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

CHUNK = 2048  # rows of data processed at once
_LEAST = 1e-6  # a component with a smaller sum of responsibilities keeps its mean and covariance
_EXACT = lax.Precision.HIGHEST


class Mixture(NamedTuple):
    """Weights `[k]`, means `[k, d]`, and lower Cholesky factors of the covariances `[k, d, d]`."""

    weights: Array
    means: Array
    cholesky: Array


class Fit(NamedTuple):
    """Result of `fit`.

    Attributes:
      mixture: the restart with the highest likelihood.
      log_likelihood: `[]`, its mean log-likelihood over the data.
      steps: `[]`, its number of EM steps.
      restarts: `[R]`, mean log-likelihood of each restart.
    """

    mixture: Mixture
    log_likelihood: Array
    steps: Array
    restarts: Array


def covariances(mixture: Mixture) -> Array:
    """Return the covariances `[k, d, d]`."""
    return jnp.matmul(mixture.cholesky, mixture.cholesky.swapaxes(-1, -2), precision=_EXACT)


@jax.jit
def log_prob(mixture: Mixture, x: Array) -> Array:
    """Return the log-density `[n]` of points `[n, d]`."""

    def chunk(rows: Array) -> Array:
        return jax.nn.logsumexp(_joint(mixture, _whitener(mixture), rows)[0], axis=0)

    if len(x) <= CHUNK:
        return chunk(x)
    full = len(x) // CHUNK * CHUNK
    parts = lax.map(chunk, x[:full].reshape(-1, CHUNK, x.shape[1]))
    return jnp.concatenate([parts.reshape(-1), chunk(x[full:])])


@partial(jax.jit, static_argnames="n")
def sample(key: Array, mixture: Mixture, n: int) -> Array:
    """Return `n` random samples `[n, d]`."""
    which, normal = jax.random.split(key)
    component = jax.random.categorical(which, jnp.log(mixture.weights), shape=(n,))
    noise = jax.random.normal(normal, (n, mixture.means.shape[1]), mixture.means.dtype)
    return mixture.means[component] + jnp.einsum("nij,nj->ni", mixture.cholesky[component], noise, precision=_EXACT)


@partial(jax.jit, static_argnames=("k", "restarts"))
def fit(
    key: Array,
    x: Array,
    k: int,
    *,
    restarts: int = 8,
    steps: int | Array = 200,
    tol: float | Array = 1e-5,
    ridge: float | Array = 1e-6,
    weight: Array | None = None,
    used: Array | None = None,
) -> Fit:
    """Fit `k` components to `x [n, d]` by EM from several k-means++ starts and return the best fit.

    Args:
      restarts: number of starts, computed in parallel.
      steps: largest number of EM steps per restart.
      tol: a restart ends when a step raises the mean log-likelihood by less.
      ridge: added to the diagonal of every covariance, in units of the mean variance of `x`.
      weight: `[n]` weights of the points, 0 excludes a point; None: all 1.
      used: scalar; fits only the first `used` of the k components, like a fit with k = `used`; the others get weight 0.
        One compiled program then serves all numbers up to k.
    """
    x = x.astype(jnp.float32)
    weight = jnp.ones(len(x), x.dtype) if weight is None else weight.astype(x.dtype)
    starts = jax.vmap(lambda key: start(key, x, weight, k, ridge, used))(jax.random.split(key, restarts))
    mixtures, values, taken = jax.vmap(lambda begin: em(begin, x, weight, steps, tol, ridge))(starts)
    best = jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values))
    return Fit(jax.tree.map(lambda leaf: leaf[best], mixtures), values[best], taken[best], values)


@partial(jax.jit, static_argnames="k")
def start(key: Array, x: Array, weight: Array, k: int, ridge: float | Array, used: Array | None = None) -> Mixture:
    """Return the initial mixture by k-means++ (Arthur and Vassilvitskii 2007), with one pooled covariance.

    Arguments are as in `fit`; `weight` is `[n]`.
    """
    keys = jax.random.split(key, k)

    def square(centre: Array) -> Array:
        return jnp.square(x - centre[None]).sum(1)

    def choose(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        centres, nearest = state
        centre = x[jax.random.categorical(keys[i], jnp.log(weight * nearest))]
        return centres.at[i].set(centre), jnp.minimum(nearest, square(centre))

    first = x[jax.random.categorical(keys[0], jnp.log(weight))]
    centres = jnp.zeros((k, x.shape[1]), x.dtype).at[0].set(first)
    centres, _ = lax.fori_loop(1, k, choose, (centres, square(first)))
    squares = lax.map(square, centres)
    if used is not None:
        squares = jnp.where(jnp.arange(k)[:, None] < used, squares, jnp.inf)
    cluster = jnp.argmin(squares, axis=0)
    sizes = jnp.zeros(k, x.dtype).at[cluster].add(weight)
    sums = jnp.zeros_like(centres).at[cluster].add(weight[:, None] * x)
    means = jnp.where(sizes[:, None] > 0, sums / jnp.maximum(sizes, _LEAST)[:, None], centres)
    centred = (x - means[cluster]) * jnp.sqrt(weight)[:, None]
    pooled = jnp.matmul(centred.T, centred, precision=_EXACT) / weight.sum() + _ridge(x, weight, ridge)
    cholesky = jnp.broadcast_to(jnp.linalg.cholesky(pooled), (k, *pooled.shape))
    return Mixture(sizes / weight.sum(), means, cholesky)


@jax.jit
def em(
    begin: Mixture, x: Array, weight: Array, steps: int | Array, tol: float | Array, ridge: float | Array
) -> tuple[Mixture, Array, Array]:
    """Return the mixture after EM from `begin`, its mean log-likelihood and the number of steps.

    Arguments are as in `fit`; `x` is `[n, d]`, `weight` is `[n]`.
    """
    total, added = weight.sum(), _ridge(x, weight, ridge)
    chunk = min(CHUNK, len(x))
    rows = jnp.pad(x, ((0, -len(x) % chunk), (0, 0))).reshape(-1, chunk, x.shape[1])
    weights = jnp.pad(weight, (0, -len(x) % chunk)).reshape(-1, chunk)

    def moments(mixture: Mixture) -> tuple[Array, Array, Array, Array]:
        """Log-likelihood, and the mass and moments about the mean of each component, over all chunks."""
        whitener = _whitener(mixture)

        def add(sums: tuple[Array, ...], data: tuple[Array, Array]) -> tuple[tuple[Array, ...], None]:
            joint, centred = _joint(mixture, whitener, data[0])
            value = jax.nn.logsumexp(joint, axis=0)
            share = jnp.exp(joint - value[None]) * data[1][None]
            first = jnp.einsum("kn,knd->kd", share, centred, precision=_EXACT)
            second = jnp.einsum("knd,kne->kde", share[..., None] * centred, centred, precision=_EXACT)
            new = ((value * data[1]).sum(), share.sum(1), first, second)
            return tuple(a + b for a, b in zip(sums, new, strict=True)), None

        k, d = mixture.means.shape
        none = tuple(jnp.zeros(shape, x.dtype) for shape in ((), (k,), (k, d), (k, d, d)))
        value, mass, first, second = lax.scan(add, none, (rows, weights))[0]
        return value, mass, first, second

    def improved(mixture: Mixture, mass: Array, first: Array, second: Array) -> Mixture:
        mass_or_one = jnp.where(mass > _LEAST, mass, 1.0)
        move = first / mass_or_one[:, None]
        covariance = second / mass_or_one[:, None, None] - move[:, :, None] * move[:, None, :] + added[None]
        cholesky = jnp.linalg.cholesky(covariance)
        updatable = (mass > _LEAST) & jnp.isfinite(cholesky).all((1, 2))
        means = jnp.where(updatable[:, None], mixture.means + move, mixture.means)
        return Mixture(mass / total, means, jnp.where(updatable[:, None, None], cholesky, mixture.cholesky))

    def step(state: tuple[Mixture, Array, Array, Array]) -> tuple[Mixture, Array, Array, Array]:
        value, *sums = moments(state[0])
        return improved(state[0], *sums), value / total, state[1], state[3] + 1

    def going(state: tuple[Mixture, Array, Array, Array]) -> Array:
        _, value, before, taken = state
        return (taken < steps) & ~(value - before < tol)

    nothing = jnp.asarray(-jnp.inf, x.dtype)
    mixture, _, _, taken = lax.while_loop(going, step, (begin, nothing, nothing, jnp.int32(0)))
    return mixture, moments(mixture)[0] / total, taken


def _whitener(mixture: Mixture) -> Array:
    """Inverse Cholesky factors `[k, d, d]`."""
    unit = jnp.broadcast_to(jnp.eye(mixture.means.shape[1], dtype=mixture.means.dtype), mixture.cholesky.shape)
    return lax.linalg.triangular_solve(mixture.cholesky, unit, left_side=True, lower=True)


def _joint(mixture: Mixture, whitener: Array, x: Array) -> tuple[Array, Array]:
    """Log of (weight x density) `[k, n]` of rows `[n, d]`, and the rows minus each mean `[k, n, d]`."""
    centred = x[None] - mixture.means[:, None]
    white = jnp.einsum("knd,ked->kne", centred, whitener, precision=_EXACT)
    scale = jnp.log(jnp.diagonal(whitener, axis1=1, axis2=2)).sum(1) - x.shape[1] / 2 * jnp.log(2 * jnp.pi)
    return (jnp.log(mixture.weights) + scale)[:, None] - 0.5 * jnp.square(white).sum(-1), centred


def _ridge(x: Array, weight: Array, ridge: float | Array) -> Array:
    """Diagonal matrix `[d, d]` of `ridge` times the mean variance."""
    share = weight[:, None] / weight.sum()
    mean = (share * x).sum(0)
    variance = (share * jnp.square(x - mean[None])).sum(0).mean()
    return ridge * variance * jnp.eye(x.shape[1], dtype=x.dtype)
