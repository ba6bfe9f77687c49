"""CLAHE slice by slice, matching of histograms, and chains of operations by name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.exposure import equalize_adapthist

from cardiac_jax.data.intensity import chain, clahe, match, percentile, z_score
from cardiac_jax.data.load import load
from cardiac_jax.data.sets import dataset
from cardiac_jax.errors import InputError


def stack(shape=(3, 64, 48), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 100.0, shape).astype(np.float32)


def test_each_slice_is_equalised_by_itself_whichever_axis_it_lies_on():
    image = stack()
    out = clahe(image, slice_axis=0)
    assert out.dtype == np.float32 and out.shape == image.shape
    for plane, result in zip(image, out, strict=True):
        low, high = float(plane.min()), float(plane.max())
        unit = (plane.astype(np.float64) - low) / (high - low)
        np.testing.assert_allclose(result, equalize_adapthist(unit, (8, 6)), atol=1e-6)  # 64 / 8, 48 / 8
        np.testing.assert_array_equal(result, clahe(plane[None], slice_axis=0)[0])
    turned = clahe(image.transpose(2, 1, 0), slice_axis=2).transpose(2, 1, 0)
    np.testing.assert_allclose(turned, out, atol=1e-3)  # but for the rounding into bins


def test_faint_structure_in_the_dark_comes_out():
    """A disc 2% brighter than its dark surroundings, beside a bright half: the more, the higher the limit."""
    y, x = np.mgrid[:96, :96]
    image = np.where(x < 48, 0.10, 0.9) + 0.02 * (np.hypot(y - 40, x - 22) < 9)
    image += 0.004 * np.random.default_rng(0).standard_normal(image.shape)
    disc, around = np.hypot(y - 40, x - 22) < 8, (np.hypot(y - 40, x - 22) > 10) & (np.hypot(y - 40, x - 22) < 14)
    contrast = [(image[disc].mean() - image[around].mean()) / (image.max() - image.min())]
    for clip in (0.01, 0.03, 0.1):
        out = clahe(image[None], slice_axis=0, clip=clip)[0]
        contrast.append(out[disc].mean() - out[around].mean())
        assert contrast[-1] > 1.5 * contrast[-2]


@settings(max_examples=60, deadline=None)
@given(
    margins=st.tuples(*[st.integers(0, 9)] * 4),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    value=st.sampled_from([0.0, -5.0, 1e6]),
)
def test_padding_takes_no_part(margins, shape, value):
    image = stack(shape)
    above, below, before, after = margins
    padded = np.pad(image, ((0, 0), (above, below), (before, after)), constant_values=value)
    out = clahe(padded, slice_axis=0)
    assert out.min() >= 0 and out.max() <= 1
    if min(shape[1:]) > 1:  # a lone row or column cannot be told from padding
        inside = np.s_[:, above : above + shape[1], before : before + shape[2]]
        np.testing.assert_array_equal(out[inside], clahe(image, slice_axis=0))
        out[inside] = 0
        assert (out == 0).all()


@pytest.mark.parametrize("value", [0, 7, -3.5])
def test_constant_slices_survive(value):
    image = stack()
    image[1] = value
    out = clahe(image, slice_axis=0)
    assert (out[1] == 0).all() and np.isfinite(out).all() and out[0].max() == 1
    assert (clahe(np.full((2, 5, 5), value), slice_axis=0) == 0).all()


def test_wrong_arguments_are_refused():
    for call in (
        lambda: clahe(np.ones((4, 4)), slice_axis=0),
        lambda: clahe(stack(), slice_axis=0, clip=0.0),
        lambda: clahe(stack(), slice_axis=0, tiles=0),
        lambda: match(np.ones((4, 4)), np.ones((2, 4, 4))),
    ):
        with pytest.raises(ValueError, match=r"expected|positive"):
            call()


def test_a_matched_stack_has_the_others_distribution_and_its_own_order():
    image, reference = stack(seed=1), np.random.default_rng(2).normal(40, 7, (5, 50, 30))
    out = match(image, reference)
    assert out.dtype == np.float32 and out.shape == image.shape
    shares = np.linspace(0.01, 0.99, 25)
    np.testing.assert_allclose(np.quantile(out, shares), np.quantile(reference, shares), atol=0.1)
    order = np.argsort(image.ravel())
    assert (np.diff(out.ravel()[order]) >= 0).all()
    assert match(image + 0, image * 3 + 5) == pytest.approx(image * 3 + 5, rel=1e-3)  # some become equal


def test_slices_are_matched_together():
    """A slice that is darker than the others stays darker."""
    image = stack((2, 30, 30), seed=3)
    image[0] *= 0.1
    out = match(image, stack((4, 30, 30), seed=4))
    assert out[0].mean() < 0.6 * out[1].mean()


def test_operations_run_in_the_order_of_their_names():
    image = stack()
    out = chain(("clahe", "z_score"))(image)
    np.testing.assert_array_equal(out, z_score(clahe(image, slice_axis=0)))
    assert out.mean() == pytest.approx(0, abs=1e-4) and out.std() == pytest.approx(1, abs=1e-4)
    assert chain(("z_score", "clahe"))(image).max() == 1
    np.testing.assert_array_equal(chain(())(image), image)
    with pytest.raises(InputError, match=r"data\.intensity: 'log' is not one of z_score, clahe, percentile"):
        chain(("z_score", "log"))


def test_percentiles_of_each_slice_become_0_and_1_and_nothing_is_clipped():
    image = stack()
    image[1] = 7.0
    out = percentile(image, 5.0, 90.0)
    assert out.dtype == np.float32 and (out[1] == 0).all()
    for before, after in zip(image[::2], out[::2], strict=True):
        np.testing.assert_allclose(np.percentile(after, (5, 90)), (0, 1), atol=1e-5)
        assert after.min() < 0 and after.max() > 1
        np.testing.assert_allclose(np.corrcoef(before.ravel(), after.ravel())[0, 1], 1, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_stack_has_z_score_zero(value):
    assert (z_score(np.full((2, 5, 5), value, np.float32)) == 0).all()


def test_real_cine_is_evened_out(real_data):
    data = dataset("acdc")
    image = load(data.find(real_data / "acdc")[0], data).images["cine"]
    out = clahe(image, slice_axis=0)
    dark = image < np.median(image)
    before = image[dark].std() / (image.max() - image.min())
    assert out.min() == 0 and out.max() == 1 and out[dark].std() > 1.25 * before
