"""SSIM and PSNR: against scikit-image in both precisions, 2D and 3D, and where they are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cardiac_jax.metrics import restoration

# One program each, not one for every operation in them.
ssim, psnr, plane_ssim = (jax.jit(f) for f in (restoration.ssim, restoration.psnr, restoration.plane_ssim))


def _pairs(shape: tuple[int, ...], level: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Three pairs in [level, level + 1]: nearly equal, noisy, unrelated."""
    rng = np.random.default_rng(len(shape))
    truth = rng.random((3, *shape))
    share = np.array([0.02, 0.4, 1.0]).reshape(3, *[1] * len(shape))
    return level + (1 - share) * truth + share * rng.random(truth.shape), level + truth


def _by_skimage(image: np.ndarray, truth: np.ndarray, data_range: float) -> list[float]:
    options = {"gaussian_weights": True, "use_sample_covariance": False, "sigma": 1.5}
    return [
        np.asarray(structural_similarity(i, t, data_range=data_range, **options)).item()
        for i, t in zip(image, truth, strict=True)
    ]


@pytest.mark.parametrize("shape", [(24, 31), (11, 11), (14, 20, 17)])
@pytest.mark.parametrize("dtype, atol", [(np.float64, 1e-9), (np.float32, 1e-5)])
def test_agrees_with_scikit_image(shape: tuple[int, ...], dtype: type, atol: float):
    for data_range, level in ((1.0, 0.0), (1.3, 2.0)):
        image, truth = _pairs(shape, level)
        with jax.enable_x64(dtype is np.float64):
            got = ssim(image.astype(dtype), truth.astype(dtype), data_range)
            noise = psnr(image.astype(dtype), truth.astype(dtype), data_range)
            assert got.dtype == dtype and got.shape == (3,)
            np.testing.assert_allclose(got, _by_skimage(image, truth, data_range), atol=atol)
            want = [peak_signal_noise_ratio(t, i, data_range=data_range) for i, t in zip(image, truth, strict=True)]
            np.testing.assert_allclose(noise, want, rtol=10 * atol)


def test_single_precision_holds_far_from_zero():
    image, truth = _pairs((20, 20), level=100.0)
    want = _by_skimage(image.astype(np.float32).astype(np.float64), truth.astype(np.float32).astype(np.float64), 1.0)
    got = ssim(jnp.asarray(image, jnp.float32), jnp.asarray(truth, jnp.float32), 1.0)
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_a_range_for_each_example():
    image, truth = (jnp.asarray(a, jnp.float32) for a in _pairs((16, 16)))
    together = ssim(image, truth, jnp.array([1.0, 2.0, 4.0]))
    each = [ssim(image[i : i + 1], truth[i : i + 1], 2.0**i)[0] for i in range(3)]
    np.testing.assert_allclose(together, each, atol=1e-6)


def test_equal_images():
    image = jnp.asarray(_pairs((16, 16))[0], jnp.float32)
    np.testing.assert_allclose(ssim(image, image, 1.0), 1.0, atol=1e-6)
    assert np.isposinf(psnr(image, image, 1.0)).all()


def test_flat_images_differ_in_luminance_only():
    low, high = jnp.full((1, 12, 12), 0.25), jnp.full((1, 12, 12), 0.75)
    want = (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)
    np.testing.assert_allclose(ssim(low, high, 1.0), want, atol=1e-6)
    np.testing.assert_allclose(psnr(low, high, 1.0), 10 * np.log10(1 / 0.25), rtol=1e-6)
    assert np.isnan(ssim(low * 0, high * 0, 0.0)).all()


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        restoration.ssim(jnp.zeros((1, 12, 12)), jnp.zeros((1, 12, 13)), 1.0)
    with pytest.raises(ValueError, match="differ in shape"):
        restoration.psnr(jnp.zeros((1, 12, 12)), jnp.zeros((1, 12, 13)), 1.0)
    with pytest.raises(ValueError, match="11 voxels"):
        restoration.ssim(jnp.zeros((1, 12, 10)), jnp.zeros((1, 12, 10)), 1.0)
    with pytest.raises(ValueError, match="11 voxels"):
        restoration.ssim(jnp.zeros((12, 12)), jnp.zeros((12, 12)), 1.0)


def test_a_region_averages_the_map_of_scikit_image():
    image, truth = _pairs((14, 20, 17))
    region = np.zeros(image.shape, bool)
    region[0, 3:8, 4:12, 6:15] = region[1] = True  # the third has none
    options = {"gaussian_weights": True, "use_sample_covariance": False, "sigma": 1.5, "full": True}
    with jax.enable_x64(True):
        got, noise = ssim(image, truth, 1.0, region), psnr(image, truth, 1.0, region)
    inside = (slice(5, -5),) * 3
    maps = [structural_similarity(i, t, data_range=1.0, **options)[1] for i, t in zip(image, truth, strict=True)]
    want = [held[inside][part[inside]].mean() for held, part in zip(maps[:2], region[:2], strict=True)]
    np.testing.assert_allclose(got[:2], want, atol=1e-9)
    errors = [np.square(i - t)[part].mean() for i, t, part in zip(image[:2], truth[:2], region[:2], strict=True)]
    np.testing.assert_allclose(noise[:2], -10 * np.log10(errors), rtol=1e-9)
    assert np.isnan(got[2]) and np.isnan(noise[2])


def test_slices_are_those_of_scikit_image():
    image, truth = _pairs((4, 16, 19))
    region = np.zeros(image.shape, bool)
    region[:, 1] = region[:, 2, :, 6:9] = True
    options = {"gaussian_weights": True, "use_sample_covariance": False, "sigma": 1.5, "full": True, "data_range": 1.5}
    pairs = list(zip(image, truth, strict=True))
    maps = [np.stack([structural_similarity(a, b, **options)[1] for a, b in zip(*pair, strict=True)]) for pair in pairs]
    with jax.enable_x64(True):
        everywhere, got = plane_ssim(image, truth, 1.5), plane_ssim(image, truth, 1.5, region)
    inside = (slice(None), slice(5, -5), slice(5, -5))
    np.testing.assert_allclose(everywhere, [held[inside].mean() for held in maps], atol=1e-9)
    want = [held[inside][part[inside]].mean() for held, part in zip(maps, region, strict=True)]
    np.testing.assert_allclose(got, want, atol=1e-9)
