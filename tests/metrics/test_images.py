"""Measures of a restored image by part: which voxels and windows count, against scikit-image."""

import math
from typing import Any

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cardiac_jax.metrics import images
from cardiac_jax.metrics.images import heart_box

SPACING = (2.0, 4.0, 5.0)
SHAPE = (15, 18, 20)
rng = np.random.default_rng(0)
TRUTH = rng.uniform(100, 900, SHAPE).astype(np.float32)
IMAGE = TRUTH + rng.normal(0, 50, SHAPE).astype(np.float32)


def image_rows(*args: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in images.image_rows(*args)]


def skimage(image: np.ndarray, truth: np.ndarray, data_range: float) -> np.ndarray:
    options = {"gaussian_weights": True, "use_sample_covariance": False, "sigma": 1.5, "full": True}
    return np.asarray(structural_similarity(image, truth, data_range=data_range, **options)[1])


def test_whole_image_and_heart():
    label = np.zeros(SHAPE, np.uint8)
    label[7, 8:10, 9] = 2
    label[0] = 255
    whole, heart = image_rows(IMAGE, TRUTH, label, SPACING)
    box = heart_box(label, SPACING)
    assert box == (slice(2, 13), slice(5, 13), slice(7, 12))  # 10 mm are 5, 3 and 2 voxels
    size = float(TRUTH.max() - TRUTH.min())
    held, inside, part = skimage(IMAGE, TRUTH, size), np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    inside[5:-5, 5:-5, 5:-5], part[box] = True, True
    np.testing.assert_allclose([whole["ssim"], heart["ssim"]], [held[inside].mean(), held[inside & part].mean()], 1e-5)
    want = [peak_signal_noise_ratio(TRUTH[where], IMAGE[where], data_range=size) for where in (np.s_[:], box)]
    np.testing.assert_allclose([whole["psnr_db"], heart["psnr_db"]], want, rtol=1e-5)
    assert (whole["structure"], heart["structure"]) == ("image", "heart")
    assert (whole["voxels"], heart["voxels"], whole["data_range"]) == (TRUTH.size, 11 * 8 * 5, size)


def test_what_is_not_covered_counts_nowhere():
    """Values outside both images change nothing; windows that reach there are left out."""
    image, truth = IMAGE.copy(), TRUTH.copy()
    image[:2], truth[..., 18:] = np.nan, np.nan
    truth[0, 0, 0] = 1e6  # the image has no value there
    (row,) = image_rows(image, truth, None, SPACING)
    (want,) = image_rows(IMAGE[2:, :, :18], TRUTH[2:, :, :18], None, SPACING)
    assert row["voxels"] == want["voxels"] == 13 * 18 * 18 and row["data_range"] == want["data_range"]
    for name in ("ssim", "plane_ssim", "psnr_db"):
        np.testing.assert_allclose(row[name], want[name], rtol=2e-5)


def test_a_thin_volume_has_no_window_in_3d():
    (row,) = image_rows(IMAGE[:10], TRUTH[:10], None, SPACING)
    assert math.isnan(row["ssim"]) and 0 < row["plane_ssim"] < 1
    nothing = np.full(SHAPE, np.nan)
    (row,) = image_rows(nothing, TRUTH, np.zeros(SHAPE, np.uint8), SPACING)
    assert row["voxels"] == 0 and all(math.isnan(row[name]) for name in ("ssim", "plane_ssim", "psnr_db"))
