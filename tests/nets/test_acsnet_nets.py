"""The networks of ACSNet: residual blocks, four poolings, an autoencoder that knows nothing of its batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiac_jax.anatomy.autoencoder import AnatomicalAutoencoder
from cardiac_jax.nets.resunet import ResidualBlock, resunet
from tests import toys


def test_a_residual_block_adds_its_input():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 3)), jnp.float32)
    same, wider = ResidualBlock(3, norm=None), ResidualBlock(5, norm=None)
    params = same.init(jax.random.key(0), x, train=False)
    np.testing.assert_array_equal(same.apply(jax.tree.map(jnp.zeros_like, params), x, train=False), x)
    params = wider.init(jax.random.key(0), x, train=False)["params"]
    zero = {name: jax.tree.map(jnp.zeros_like, held) for name, held in params.items() if name != "shortcut"}
    out = wider.apply({"params": {**zero, "shortcut": params["shortcut"]}}, x, train=False)
    kernel, bias = params["shortcut"]["kernel"].reshape(3, 5), params["shortcut"].get("bias", jnp.zeros(5))
    np.testing.assert_allclose(out, x @ kernel + bias.reshape(1, 1, 1, 5), rtol=1e-5, atol=1e-6)


def test_the_segmentation_networks_pool_four_times():
    module = resunet(3, 2, 0.2)
    image = jax.ShapeDtypeStruct((1, 32, 48, 1), jnp.float32)
    (logits, bottleneck), _ = jax.eval_shape(
        lambda x: module.init_with_output(jax.random.key(0), x, train=False), image
    )
    assert logits.shape == (1, 32, 48, 2) and bottleneck.shape == (1, 2, 3, 48)


def test_a_code_decodes_to_the_same_mask_whatever_else_is_in_the_batch():
    module = AnatomicalAutoencoder((16, 24), 4, (2, 3, 4), bank_size=7, components=3)
    masks = jnp.asarray(np.random.default_rng(0).random((5, 16, 24, 1)) < 0.5, jnp.float32)

    @functools.partial(jax.jit, compiler_options=toys.QUICK)
    def outputs(key):
        variables = module.init(key, masks, train=False)
        logits, codes = module.apply(variables, masks, train=True)
        alone = module.apply(variables, masks[3:4], train=False, method="encode")
        again = module.apply(variables, codes[3:4], train=False, method="decode")
        return variables, logits, codes, alone[0], again[0]

    variables, logits, codes, alone, again = outputs(jax.random.key(0))
    assert {name: held.shape for name, held in variables["bank"].items()} == {
        "codes": (7, 4),
        "masks": (7, 16, 3),
        "weights": (3,),
        "means": (3, 4),
        "cholesky": (3, 4, 4),
    }
    assert logits.shape == (5, 16, 24, 1) and codes.shape == (5, 4) and len(np.unique(codes)) == 20
    np.testing.assert_allclose(alone, codes[3], atol=1e-6)
    np.testing.assert_allclose(again, logits[3], atol=1e-6)
    with pytest.raises(ValueError, match="not divisible by 8"):
        jax.eval_shape(
            lambda: AnatomicalAutoencoder((16, 20), 4, (2, 3, 4)).init(jax.random.key(0), masks, train=False)
        )
