"""A loss transform of your own: the total variation of the probabilities, for any system.

--config.terms=tests.examples.total_variation:total_variation=1e-3
"""

import jax.numpy as jnp

from cardiac_jax import Term, TermRequest
from cardiac_jax.core.loss import Weight, term, weighted
from cardiac_jax.core.passes import chain
from cardiac_jax.transforms.terms import add


def roughness(probabilities):
    """Mean absolute difference of neighbours of one example `[*S, K]`, along every spatial axis."""
    axes = range(probabilities.ndim - 1)
    return sum(jnp.abs(jnp.diff(probabilities, axis=axis)).mean() for axis in axes)


def total_variation(weight: Weight, request: TermRequest) -> Term:
    """The term: no pass of its own, one weighted loss."""
    loss = weighted(term(roughness, probabilities="probabilities"), weight)
    return Term(lambda objective: add(objective, chain(), loss, "total_variation"))
