"""Toy systems, their training steps compiled quickly, and comparisons of whole states."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cardiac_jax.core.loss import term
from cardiac_jax.core.passes import random
from cardiac_jax.core.step import init_state, train_step
from cardiac_jax.core.types import Loss, Output, Phase, Stage, Stream, System, TrainState, Values
from cardiac_jax.inference.postprocess import unchanged
from cardiac_jax.losses.pixelwise import cross_entropy, exponential_logarithmic
from cardiac_jax.transforms import terms
from tests import toys

K, AXIS = toys.CLASSES, "devices"
UNEVEN = [1, 1, 1, 0, 1, 1, 0, 0]
OUTPUTS = (Output("probabilities", "labels", unchanged),)
CROSS_ENTROPY = term(cross_entropy, logits="logits", label="label")


def system(axis_name: str | None = None, dropout: float = 0.0) -> System:
    """A prior, then a segmenter with every loss transform against a discriminator: all there is, in small."""
    nets = segmenter, autoencoder, head, discriminator = (
        toys.segmenter(axis_name=axis_name, dropout=dropout),
        toys.autoencoder(axis_name=axis_name),
        toys.head(axis_name=axis_name, norm=True),
        toys.discriminator(axis_name=axis_name, norm=True),
    )
    transforms = terms.compose(
        terms.shape_prior(autoencoder, K, 0.1),
        terms.code_prior(autoencoder, K, lambda step: 0.1 * (1.0 + step)),
        terms.position(head, 0.1),
        terms.adversarial(discriminator, 0.1),
        terms.weight_decay(segmenter, 0.1),
    )
    loss = exponential_logarithmic((1.0, 2.0, 3.0), axis_name=axis_name)
    segment = transforms(terms.segmentation(segmenter, loss))
    jitter = random(
        lambda keys, image: (image + jax.vmap(lambda key: 0.1 * jax.random.normal(key))(keys)[:, None, None, None],),
        ["image"],
        ["image"],
    )
    prior = Phase("autoencode", ("autoencoder",), terms.autoencoding(autoencoder, K), optax.sgd(0.1))
    phases = (
        Phase("segment", ("segmenter", "head"), segment, optax.sgd(0.1, momentum=0.9)),
        Phase("discriminate", ("discriminator",), terms.discrimination(discriminator, K), optax.sgd(0.1)),
    )
    stages = (Stage("prior", 2, (prior,)), Stage("segmentation", 2, phases, Stream(prepare=jitter)))
    return System(nets, stages, terms.segment(segmenter), OUTPUTS)


def plain(
    loss: Loss = CROSS_ENTROPY, tx: optax.GradientTransformation | None = None, **options: Any
) -> tuple[System, Stage]:
    """A segmenter alone, in one stage of one phase."""
    net = toys.segmenter(**options)
    phase = Phase("segment", ("segmenter",), terms.segmentation(net, loss), tx or optax.sgd(0.5))
    stage = Stage("segmentation", 4, (phase,))
    return System((net,), (stage,), terms.segment(net), OUTPUTS), stage


def step(stage: Stage, **options: Any) -> Callable[[TrainState, Values], tuple[TrainState, dict[str, Any]]]:
    return jax.jit(functools.partial(train_step, stage, **options), compiler_options=toys.QUICK)


def on_devices(stage: Stage, n: int, pmap: bool = False, **options: Any):
    """The same step over `n` devices, or `n` parts of a vmap; what comes back has the axis of devices."""
    run = functools.partial(train_step, stage, axis_name=AXIS, **options)
    if pmap:
        spread = jax.pmap(run, axis_name=AXIS, in_axes=(None, 0), devices=jax.devices()[:n])
    else:
        spread = jax.jit(jax.vmap(run, axis_name=AXIS, in_axes=(None, 0), out_axes=0), compiler_options=toys.QUICK)

    def go(state, batch):
        parts = jax.tree.map(lambda x: x.reshape(n, x.shape[0] // n, *x.shape[1:]), dict(batch))
        return spread(state, parts)

    return go


def flat(tree: Any) -> dict[str, np.ndarray]:
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def same(a: Any, b: Any, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Fails, by name of the leaf, unless two trees agree; with no tolerance, to the bit."""
    a, b = flat(a), flat(b)
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=atol, err_msg=name)


def differ(a: Any, b: Any) -> None:
    """Fails unless every leaf moved."""
    for name, leaf in flat(a).items():
        assert (leaf != flat(b)[name]).any(), name


SYSTEM = system(dropout=0.25)
PRIOR, SEGMENTATION = (step(stage, ema_decay=0.99) for stage in SYSTEM.stages)


@functools.cache
def trained() -> tuple[System, list[TrainState], list[dict[str, Any]]]:
    """The states before, between and after two steps of either stage of `SYSTEM`, and their metrics."""
    states, metrics = [init_state(SYSTEM, seed=1, ema=True)], []
    for seed, run in enumerate((PRIOR, PRIOR, SEGMENTATION, SEGMENTATION)):
        state, logs = run(states[-1], toys.batch(8, seed=seed, mask=UNEVEN))
        states.append(state)
        metrics.append(logs)
    return SYSTEM, states, metrics


@functools.partial(jax.jit, static_argnums=0, compiler_options=toys.QUICK)
@functools.partial(jax.value_and_grad, argnums=1)
def mean_cross_entropy(net, params, batch):
    """Mean over the real examples and its gradient, of a segmenter without statistics; every pixel annotated."""
    logits, _ = net.module.apply({"params": params}, batch["image"], train=False)
    picked = jnp.sum(jax.nn.log_softmax(logits) * jax.nn.one_hot(batch["label"], K), axis=-1)
    return -jnp.sum(batch["mask"] * jnp.mean(picked, axis=(1, 2))) / jnp.sum(batch["mask"])
