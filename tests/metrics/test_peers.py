"""Every registered measure against another library, or against a formula that shares nothing with ours.

`REFERENCES` has an entry for every name of the registry; the table test fails where one is missing. Masks are 200
random pairs, some at the image's edge, some empty, and real annotations where there are any.
"""

import math
import statistics
from collections.abc import Callable
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import integrate, ndimage, stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.metrics import precision_score, recall_score

from cardiac_jax.metrics import agreement, clinical, icc, motion, restoration, scar
from cardiac_jax.metrics.registry import METRICS, Metric
from tests.mask_pairs import (
    N_PAIRS,
    PAIRS,
    SHAPES,
    SPACINGS_MM,
    Pair,
    itk_contours,
    itk_distances,
    itk_image,
    ours,
    random_pair,
    real_pairs,
)


def test_the_random_masks_are_what_they_are_said_to_be():
    empty = [(not p.pred.any(), not p.truth.any()) for p in PAIRS]
    assert [empty.count(which) for which in ((True, True), (True, False), (False, True))] == [10, 10, 10]
    at_edge = [any(p.truth.take((0, -1), axis).any() for axis in range(3)) for p in PAIRS]
    assert 100 < sum(at_edge) <= N_PAIRS
    assert {(p.truth.shape, p.spacing_mm) for p in PAIRS} == {(a, b) for a in SHAPES for b in SPACINGS_MM}


# --- of two label maps ---------------------------------------------------------------------------------------------


def itk_overlap(pair: Pair) -> sitk.LabelOverlapMeasuresImageFilter:
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(itk_image(pair.pred, pair.spacing_mm), itk_image(pair.truth, pair.spacing_mm))
    return measure


def itk_ml(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> float:
    measure = sitk.LabelShapeStatisticsImageFilter()
    measure.Execute(itk_image(mask, spacing_mm))
    return measure.GetPhysicalSize(1) / 1000 if measure.GetNumberOfLabels() else 0.0


def by_itk(measure: str) -> Callable[[Pair], float]:
    """An overlap measure; of two empty masks there is none, where ITK says 0."""

    def value(pair: Pair) -> float:
        if not pair.pred.any() and not pair.truth.any():
            return math.nan
        return getattr(itk_overlap(pair), measure)(1)

    return value


def itk_balanced_accuracy(pair: Pair) -> float:
    """From ITK's two error rates; against an empty prediction, whose rate ITK does not give, by definition."""
    if not pair.truth.any():
        return math.nan
    if not pair.pred.any():
        return (0 + 1) / 2
    measure = itk_overlap(pair)
    return 1 - (measure.GetFalseNegativeError(1) + measure.GetFalsePositiveError(1)) / 2


def by_sklearn(measure: Callable[..., float], label: int = 1) -> Callable[[Pair], float]:
    """A share of the confusion matrix; NaN where its denominator is 0."""

    def value(pair: Pair) -> float:
        given = (pair.truth.ravel().astype(int), pair.pred.ravel().astype(int))
        return measure(*given, pos_label=label, average="binary", zero_division=np.nan)

    return value


def itk_volumes(pair: Pair) -> tuple[float, float]:
    return itk_ml(pair.pred, pair.spacing_mm), itk_ml(pair.truth, pair.spacing_mm)


def itk_similarity(pair: Pair) -> float:
    """From ITK's volume similarity, 2 (S - T) / (S + T)."""
    return 1 - abs(by_itk("GetVolumeSimilarity")(pair)) / 2


def relative_difference(pair: Pair) -> float:
    pred, truth = itk_volumes(pair)
    return pred / truth - 1 if truth else math.nan


def itk_assd(pair: Pair) -> float:
    measure = sitk.HausdorffDistanceImageFilter()
    measure.Execute(*itk_contours(pair))
    return measure.GetAverageHausdorffDistance()


def itk_surface_dice(pair: Pair) -> float:
    """Boundary voxels of one map inside the other boundary widened by 2 mm, as in Nikolov's definition."""
    near = [np.count_nonzero(directed <= 2.0) for directed in itk_distances(pair)]
    return sum(near) / sum(map(len, itk_distances(pair)))


def distance(of: Callable[[Pair], float]) -> Callable[[Pair], float]:
    """A boundary distance: infinite against an empty mask, not a number of two."""

    def value(pair: Pair) -> float:
        empty = (not pair.pred.any()) + (not pair.truth.any())
        return (math.inf, math.nan)[empty - 1] if empty else of(pair)

    return value


def itk_hausdorff(pair: Pair) -> float:
    measure = sitk.HausdorffDistanceImageFilter()
    measure.Execute(*itk_contours(pair))
    return measure.GetHausdorffDistance()


OF_MASKS: dict[str, Callable[[Pair], float]] = {
    "dice": by_itk("GetDiceCoefficient"),
    "jaccard": by_itk("GetJaccardCoefficient"),
    "balanced_accuracy": itk_balanced_accuracy,
    "hd_mm": distance(itk_hausdorff),
    "hd95_mm": distance(lambda pair: max(np.percentile(directed, 95) for directed in itk_distances(pair))),
    "asd_mm": distance(lambda pair: float(np.concatenate(itk_distances(pair)).mean())),
    "sensitivity": by_sklearn(recall_score),
    "precision": by_sklearn(precision_score),
    "specificity": by_sklearn(recall_score, label=0),
    "assd_mm": distance(itk_assd),
    "surface_dice": lambda pair: distance(itk_surface_dice)(pair) if pair.pred.any() == pair.truth.any() else 0.0,
    "volumetric_similarity": itk_similarity,
    "relative_volume_difference": relative_difference,
    "volume_abs_error_ml": lambda pair: abs(np.subtract(*itk_volumes(pair))),
    "volume_pred_ml": lambda pair: itk_ml(pair.pred, pair.spacing_mm),
    "volume_truth_ml": lambda pair: itk_ml(pair.truth, pair.spacing_mm),
    "volume_error_ml": lambda pair: itk_ml(pair.pred, pair.spacing_mm) - itk_ml(pair.truth, pair.spacing_mm),
}


def agrees(name: str, pairs: list[Pair]) -> None:
    """ITK computes distances in float32: to 1e-6 of the value, where that is above 1."""
    want = [OF_MASKS[name](pair) for pair in pairs]
    np.testing.assert_allclose([ours(pair)[name] for pair in pairs], want, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", OF_MASKS)
def test_random_masks(name: str):
    agrees(name, PAIRS)


@pytest.mark.parametrize("name", OF_MASKS)
def test_real_masks(name: str, real_data: Path):
    agrees(name, real_pairs(real_data))


# --- of two measurements over cases --------------------------------------------------------------------------------


def lin(pred: np.ndarray, truth: np.ndarray) -> float:
    """1 less the mean squared difference of the pairs over that of all pairings, which independence would give."""
    return 1 - np.square(pred - truth).mean() / np.square(np.subtract.outer(pred, truth)).mean()


def shrout_fleiss(pred: np.ndarray, truth: np.ndarray) -> float:
    """ICC(2,1) of two raters, from variances: what the two share over it, the rest, and the shift between them."""
    n, difference = len(pred), pred - truth
    noise = np.var(difference, ddof=1) / 2
    shared = np.var((pred + truth) / 2, ddof=1) - noise / 2
    return shared / (shared + noise + difference.mean() ** 2 / 2 - noise / n)


OF_CASES: dict[str, tuple[Callable, Callable]] = {
    "normalised_mae": (
        lambda pred, truth: agreement.agreement(pred, truth, "ml").normalised_mae,
        lambda pred, truth: statistics.fmean(abs(p / t - 1) for p, t in zip(pred, truth, strict=True)),
    ),
    "pearson_r": (agreement.pearson, lambda pred, truth: interval(stats.pearsonr(pred, truth))),
    "concordance": (lambda pred, truth: agreement.concordance(pred, truth).value, lin),
    "icc": (lambda pred, truth: icc.icc(pred, truth).value, shrout_fleiss),
}


def interval(result) -> tuple[float, float, float]:
    return (result.statistic, *result.confidence_interval(0.95))


@pytest.mark.parametrize("name", OF_CASES)
def test_statistics_of_volumes(name: str):
    rows = [ours(pair) for pair in PAIRS]
    pred, truth = (np.array([row[f"volume_{which}_ml"] for row in rows]) for which in ("pred", "truth"))
    pred, truth = pred[truth > 0], truth[truth > 0]
    our, reference = OF_CASES[name]
    for part in (slice(None), slice(0, 5), slice(20, 40)):
        np.testing.assert_allclose(our(pred[part], truth[part]), reference(pred[part], truth[part]), atol=1e-9)


# --- of the ventricles and their wall ------------------------------------------------------------------------------


class Heart(NamedTuple):
    """Blood pool at both phases, wall, enhancement and its core: four random masks, each within the one before."""

    ed: np.ndarray
    es: np.ndarray
    wall: np.ndarray
    enhanced: np.ndarray
    core: np.ndarray
    spacing_mm: tuple[float, float, float]


def heart(i: int) -> Heart:
    pair, other = random_pair(i), random_pair(i + len(SHAPES) * len(SPACINGS_MM))
    wall = pair.truth | other.truth
    return Heart(pair.pred, other.pred, wall, wall & other.truth, wall & other.truth & pair.truth, pair.spacing_mm)


BSA = clinical.bsa_m2(176.0, 71.0)


def our_heart(h: Heart) -> dict[str, float]:
    ed, es = (np.where(mask, 3, 0).astype(np.uint8) for mask in (h.ed, h.es))
    patient = {
        "bsa_m2": BSA,
        "index": clinical.index(clinical.mass_g(h.wall, h.spacing_mm), BSA),
        "interpolated_volume_ml": clinical.interpolated_volume_ml(h.wall, h.spacing_mm),
        "wall_thickening": float(motion.wall_thickening(h.ed.sum(), h.es.sum())),
        "wall_motion_mm": float(motion.wall_motion_mm(h.ed.sum(), h.es.sum())),
    }
    function = clinical.function(ed, es, h.spacing_mm)["LV"]
    amounts = scar.quantify(h.core, h.enhanced, h.wall, h.spacing_mm)
    return {**patient, **function._asdict(), **amounts._asdict(), "mass_g": clinical.mass_g(h.wall, h.spacing_mm)}


@cache
def measured_hearts() -> list[tuple[Heart, dict[str, float]]]:
    hearts = [heart(i) for i in range(N_PAIRS - len(SHAPES) * len(SPACINGS_MM))]
    return [(h, our_heart(h)) for h in hearts]


def ml(of: str) -> Callable[[Heart], float]:
    return lambda h: itk_ml(getattr(h, of), h.spacing_mm)


def percent(part: np.ndarray, whole: np.ndarray) -> float:
    return 100 * float(np.average(part, weights=whole)) if whole.any() else math.nan


def between_slices_ml(h: Heart) -> float:
    """Area of the slices, integrated by the trapezoidal rule: half of each interval belongs to either end."""
    area_mm2 = h.wall.sum(axis=(0, 1)) * math.prod(h.spacing_mm[:2])
    return float(integrate.trapezoid(area_mm2, dx=h.spacing_mm[2])) / 1000


OF_HEARTS: dict[str, Callable[[Heart], float]] = {
    "bsa_m2": lambda h: math.exp((math.log(176.0) + math.log(71.0)) / 2) / 60,
    "index": lambda h: 1.05 * ml("wall")(h) / (math.sqrt(176.0 * 71.0) / 60),
    "interpolated_volume_ml": between_slices_ml,
    "wall_thickening": lambda h: h.es.sum() / h.ed.sum() - 1 if h.ed.any() else math.nan,
    "wall_motion_mm": lambda h: float(h.ed.sum()) - float(h.es.sum()),
    "edv_ml": ml("ed"),
    "esv_ml": ml("es"),
    "sv_ml": lambda h: ml("ed")(h) - ml("es")(h),
    "ef": lambda h: 1 - h.es.sum() / h.ed.sum() if h.ed.any() else math.nan,
    "mass_g": lambda h: 1.05 * ml("wall")(h),
    "scar_ml": ml("enhanced"),
    "core_ml": ml("core"),
    "grey_ml": lambda h: itk_ml(h.enhanced ^ h.core, h.spacing_mm),
    "myocardium_ml": ml("wall"),
    "scar_percent": lambda h: percent(h.enhanced, h.wall),
    "core_percent": lambda h: percent(h.core, h.wall),
}


@pytest.mark.parametrize("name", OF_HEARTS)
def test_hearts(name: str):
    want = [OF_HEARTS[name](h) for h, _ in measured_hearts()]
    np.testing.assert_allclose([measured[name] for _, measured in measured_hearts()], want, rtol=1e-9, atol=1e-12)


# --- of two images -------------------------------------------------------------------------------------------------


def wang(image: np.ndarray, truth: np.ndarray) -> float:
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return structural_similarity(image, truth, data_range=1.0, **settings)


OF_IMAGES: dict[str, tuple[Callable, Callable]] = {
    "ssim": (jax.jit(restoration.ssim), wang),
    "plane_ssim": (lambda *pair: jax.jit(restoration.plane_ssim)(*(a[:, None] for a in pair[:2]), pair[2]), wang),
    "psnr_db": (restoration.psnr, lambda image, truth: peak_signal_noise_ratio(truth, image, data_range=1.0)),
}


@pytest.mark.parametrize("name", OF_IMAGES)
def test_images(name: str):
    rng = np.random.default_rng(0)
    truth = np.stack([ndimage.gaussian_filter(rng.random((40, 33)), i) for i in range(1, 11)])
    truth = (truth - truth.min()) / np.ptp(truth)
    image = truth + rng.normal(size=truth.shape) * np.linspace(0.01, 0.2, 10)[:, None, None]
    our, reference = OF_IMAGES[name]
    got = our(image.astype(np.float32), truth.astype(np.float32), 1.0)
    np.testing.assert_allclose(got, [reference(i, t) for i, t in zip(image, truth, strict=True)], rtol=1e-6, atol=1e-6)


# --- none is forgotten ---------------------------------------------------------------------------------------------


OF_LESIONS = {f"lesion_{name}" for name in ("sensitivity", "precision", "f1")}
"""Against SimpleITK's components in test_lesions.py."""
OF_READERS = {"opinion"}
"""Scores that people give; their means: tests/report/test_reading.py."""
REFERENCES = set(chain(OF_MASKS, OF_CASES, OF_HEARTS, OF_IMAGES, OF_LESIONS, OF_READERS))


def test_every_registered_measure_has_a_reference(monkeypatch: pytest.MonkeyPatch):
    assert set(METRICS) == REFERENCES
    monkeypatch.setitem(METRICS, "of_nobody", Metric("of nobody", "", None, 0))
    assert set(METRICS) - REFERENCES == {"of_nobody"}
