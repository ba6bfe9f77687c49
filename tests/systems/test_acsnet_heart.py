"""ACSNet for the whole heart: every stage trains, an RV is drawn, and what does not fit is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiac_jax import systems
from cardiac_jax.anatomy.heart import HEART
from cardiac_jax.core.step import predict_step, train_step
from cardiac_jax.data.pipeline import Examples, batch_of
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.train.devices import AXIS
from experiments.acsnet import get_config
from tests import hearts, steps

pytestmark = pytest.mark.usefixtures("small_nets")
SCARRED = (*hearts.CLASSES, "oedema", "scar")
SIZE = (2, 32, 32)
TINY = {
    "model.filters": 1,
    "model.box": (2, 16, 16),
    "localiser.filters": 1,
    "data.size": SIZE,
    "prior.size": (16, 16),
    "prior.features": (2, 2, 2),
    "prior.code": 3,
    "prior.bank": 5,
    "prior.components": 2,  # there are four masks
}


def build(which: str, classes: tuple[str, ...]):
    config = get_config(f"data=myops,preset=smoke,anatomy={which}")
    with config.unlocked():
        config.update_from_flattened_dict(TINY)
    raw = tuple(range(len(classes)))
    grid = {"spacing_mm": (0.0, 2.0, 2.0), "size": SIZE, "append_clahe": True}
    return systems.build_system(
        config, DataSpec("myops", classes, raw, ("LGE",), "affine", frequency=(9,) * len(raw), **grid)
    )


def volumes(classes: tuple[str, ...]) -> Examples:
    rng = np.random.default_rng(0)
    codes = np.array([[-2.0, -1, -1, -1], [-2, 0, -2, -1], [-1, -1, -3, -1], [-2, -1, -6, -1]])
    label = hearts.heart(codes, SIZE[1:], (16, 18)).reshape(2, *SIZE)
    label[:, :, :16][label[:, :, :16] == 2] = classes.index("scar")
    image = (label[..., None] + rng.normal(0, 0.1, (*label.shape, 2))).astype(np.float32)
    return Examples(
        {"image": image, "label": label, "fully_annotated": np.ones(2, np.float32), "real_case": np.ones(2)}
    )


def test_every_stage_trains_and_the_prediction_draws_an_rv():
    """That of the wall: `test_acsnet.py`."""
    system, held = build("heart", SCARRED), volumes(SCARRED)
    state = steps.initial(system)
    for stage, name in zip(system.stages, ("localiser", "autoencoder", "segmenter"), strict=True):
        own = Examples(stage.stream.of(held.arrays)) if stage.stream.of else held
        flags = {"mask": np.ones(2, np.float32), "index": np.arange(2)}
        batch = jax.tree.map(jnp.asarray, {**batch_of(own, "", 0, 0, 2), **flags})
        after, metrics = steps.under(functools.partial(train_step, stage, axis_name=AXIS), state, batch)
        assert all(np.isfinite(float(value)) for value in metrics.values())
        assert name in steps.moved(state, after)
        state = after
    assert state.variables["autoencoder"]["bank"]["masks"].shape == (5, 16, 4)
    found = steps.under(functools.partial(predict_step, system), state.variables, jnp.asarray(held.arrays["image"]))
    shares = np.asarray(found["probabilities"])
    assert shares.shape == (2, *SIZE, len(SCARRED))
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
    for name in ("RV", "Myo", "LV"):
        assert (shares[..., SCARRED.index(name)] > 0).any()
    assert not shares[..., SCARRED.index("oedema")].any()


def test_the_largest_of_the_structures_and_background_is_drawn():
    logits = jnp.asarray([[2.0, 1, -1], [-1, 2, 3], [-1, -2, -0.1], [0.1, -3, -3]])[None, None]
    shares = HEART.to_probabilities(logits, jnp.zeros((1, 1, 4)))
    names = np.array(list(shares))
    table = np.stack([np.asarray(share)[0, 0] for share in shares.values()])
    assert names[table.argmax(0)].tolist() == ["Myo", "RV", "background", "Myo"]
    np.testing.assert_allclose(table.sum(0), 1, rtol=1e-6)


def test_a_heart_needs_an_rv():
    with pytest.raises(InputError, match="no class RV"):
        build("heart", ("background", "Myo", "LV"))
