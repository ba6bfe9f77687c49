"""Every registered measure against another library, or against a formula that shares nothing with ours.

`REFERENCES` has an entry for every name of the registry; the table test fails where one is missing. Masks are 200
random pairs, some at the image's edge, some empty, and real annotations where there are any.
"""

import math
import statistics
import warnings
from collections.abc import Callable
from functools import cache
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage, stats
from skimage.metrics import hausdorff_distance, peak_signal_noise_ratio, structural_similarity

from cardiac_jax.metrics import clinical, restoration, scar, surface, volumes
from cardiac_jax.metrics.evaluate import evaluate_case
from cardiac_jax.metrics.registry import METRICS, Metric

SHAPES = ((9, 10, 6), (12, 1, 8), (5, 4, 14), (13, 12, 9))
SPACINGS_MM = ((1.4, 1.4, 10.0), (10.0, 1.4, 1.4), (1.0, 1.0, 1.0), (0.7, 2.3, 5.1))
N_PAIRS = 200


class Pair(NamedTuple):
    """Two masks `[X, Y, Z]` of one grid."""

    pred: np.ndarray
    truth: np.ndarray
    spacing_mm: tuple[float, float, float]


@cache
def random_pair(i: int) -> Pair:
    """Ragged masks, most of them at the edge, some in pieces or one voxel; three pairs in 20 hold an empty one."""
    rng = np.random.default_rng(i)
    shape = SHAPES[i % len(SHAPES)]

    def mask(empty: bool) -> np.ndarray:
        smooth = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0, 2))
        drawn = smooth > np.quantile(smooth, rng.uniform(0.4, 0.98))
        drawn[tuple(rng.integers(0, n) for n in shape)] = True
        return drawn & (not empty)

    return Pair(mask(i % 20 in (1, 3)), mask(i % 20 in (2, 3)), SPACINGS_MM[(i // len(SHAPES)) % len(SPACINGS_MM)])


PAIRS = [random_pair(i) for i in range(N_PAIRS)]


def test_the_random_masks_are_what_they_are_said_to_be():
    empty = [(not p.pred.any(), not p.truth.any()) for p in PAIRS]
    assert [empty.count(which) for which in ((True, True), (True, False), (False, True))] == [10, 10, 10]
    at_edge = [any(p.truth.take((0, -1), axis).any() for axis in range(3)) for p in PAIRS]
    assert 100 < sum(at_edge) <= N_PAIRS
    assert {(p.truth.shape, p.spacing_mm) for p in PAIRS} == {(a, b) for a in SHAPES for b in SPACINGS_MM}


# --- of two label maps ---------------------------------------------------------------------------------------------


def ours(pair: Pair) -> dict[str, float]:
    maps = (mask.astype(np.uint8) for mask in (pair.pred, pair.truth))
    (row,) = evaluate_case(*maps, pair.spacing_mm, ("background", "it"))
    return {name: float(value) for name, value in row.items() if isinstance(value, float)}


def itk_image(mask: np.ndarray, spacing_mm: tuple[float, ...], frame: int = 0) -> sitk.Image:
    image = sitk.GetImageFromArray(np.pad(mask, frame).astype(np.uint8))
    image.SetSpacing(spacing_mm[::-1])
    return image


def itk_overlap(pair: Pair) -> sitk.LabelOverlapMeasuresImageFilter:
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(itk_image(pair.pred, pair.spacing_mm), itk_image(pair.truth, pair.spacing_mm))
    return measure


def itk_contours(pair: Pair) -> list[sitk.Image]:
    images = (itk_image(mask, pair.spacing_mm, frame=1) for mask in (pair.pred, pair.truth))
    return [sitk.LabelContour(image, fullyConnected=False) for image in images]


def itk_distances(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Both directed sets from exact distance maps of ITK's contours."""
    contours = itk_contours(pair)
    edges = [sitk.GetArrayFromImage(contour) > 0 for contour in contours]
    maps = [
        np.abs(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(c, squaredDistance=False, useImageSpacing=True)))
        for c in contours
    ]
    maps = [np.where(edge, 0.0, far) for edge, far in zip(edges, maps, strict=True)]
    return maps[1][edges[0]], maps[0][edges[1]]


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


@cache
def real_pairs(root: Path) -> list[Pair]:
    """Three structures of six patients, ED: against ES, and against themselves moved by some voxels."""
    patients = sorted((root / "acdc").iterdir())[::7]
    assert len(patients) == 6
    found = []
    for patient in patients:
        images = [nibabel.load(file) for file in sorted(patient.glob("*_gt.nii.gz"))]
        truth, es = (np.asarray(image.dataobj).astype(np.uint8) for image in images)
        spacing_mm = tuple(float(s) for s in images[0].header.get_zooms()[:3])
        preds = (es, np.roll(truth, (2, -1, 1), (0, 1, 2)))
        found += [Pair(pred == label, truth == label, spacing_mm) for pred in preds for label in (1, 2, 3)]
    return found


# --- of two label maps, by MONAI and scikit-image ------------------------------------------------------------------


@pytest.fixture(scope="module")
def monai() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("monai.metrics", reason="MONAI is not installed (extra: peers)")


def with_monai(metrics: ModuleType, pairs: list[Pair]) -> dict[str, np.ndarray]:
    """What its functions say of each pair, `[n]` each."""
    import torch

    def one_hot(mask: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32))

    found: dict[str, list[float]] = {}
    for pair in pairs:
        pred, truth, spacing = one_hot(pair.pred), one_hot(pair.truth), {"spacing": pair.spacing_mm}
        confusion = metrics.get_confusion_matrix(pred, truth, include_background=False)
        values = {
            "dice": metrics.compute_dice(pred, truth, include_background=False),
            "jaccard": metrics.compute_iou(pred, truth, include_background=False),
            "balanced_accuracy": metrics.compute_confusion_matrix_metric("balanced accuracy", confusion),
            "hd_mm": metrics.compute_hausdorff_distance(pred, truth, **spacing),
            "hd95_mm": metrics.compute_hausdorff_distance(pred, truth, percentile=95, **spacing),
            "asd_mm": metrics.compute_average_surface_distance(pred, truth, symmetric=True, **spacing),
        }
        for name, value in values.items():
            found.setdefault(name, []).append(float(value))
    return {name: np.array(values) for name, values in found.items()}


def assert_as_monai(metrics: ModuleType, pairs: list[Pair]) -> None:
    """Equal to 1e-6, but for Dice and Jaccard of an empty truth, which MONAI excludes and we score 0, and for HD95.

    MONAI's HD95 is `torch_hd95` of our distances: not a number where we say infinite, its rank rounded to float32.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one for each empty mask, and of its own functions
        theirs = with_monai(metrics, pairs)
    rows = [ours(pair) for pair in pairs]
    spurious = np.array([pair.pred.any() and not pair.truth.any() for pair in pairs])
    for name, want in theirs.items():
        got = np.array([row[name] for row in rows])
        if name in ("dice", "jaccard"):
            assert np.isnan(want[spurious]).all() and (got[spurious] == 0).all()
            got, want = got[~spurious], want[~spurious]
        if name == "hd95_mm":
            both = np.isfinite(want)
            np.testing.assert_allclose(got[both], want[both], rtol=2e-5)
            assert not np.isfinite(got[~both]).any()
            got = np.array([torch_hd95(pair) for pair in pairs])
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6, err_msg=name)


def torch_hd95(pair: Pair) -> float:
    """HD95 by torch's quantile of our distances in float32, which of infinite ones is not a number."""
    import torch

    found = surface.surface_distances(*pair)
    if not all(directed.size for directed in found):
        return math.nan
    return max(float(torch.quantile(torch.from_numpy(d.astype(np.float32)), 0.95)) for d in found)


def test_random_masks_by_monai(monai: ModuleType):
    assert_as_monai(monai, PAIRS)


def test_real_masks_by_monai(monai: ModuleType, real_data: Path):
    assert_as_monai(monai, real_pairs(real_data))


def test_average_of_simpleitk_is_the_mean_of_both_directions():
    for pair in (p for p in PAIRS if p.pred.any() and p.truth.any()):
        measure = sitk.HausdorffDistanceImageFilter()
        measure.Execute(*itk_contours(pair))
        found = surface.surface_distances(*pair)
        mean = (found.pred_to_truth.mean() + found.truth_to_pred.mean()) / 2
        assert mean == pytest.approx(measure.GetAverageHausdorffDistance(), rel=1e-6, abs=1e-6)


def test_simpleitk_measures_whole_masks_from_inside_too():
    y, x = np.indices((21, 21)) - 10
    out = np.maximum(np.abs(y), np.abs(x))
    block, ring = out <= 3, out == 9
    measure = sitk.HausdorffDistanceImageFilter()
    measure.Execute(*(itk_image(mask, (1.0, 1.0)) for mask in (block, ring)))
    assert measure.GetHausdorffDistance() == pytest.approx(9.0)  # from the centre, which is no boundary
    found = surface.surface_distances(block, ring, (1.0, 1.0))
    assert surface.hausdorff_mm(found) == pytest.approx(6 * math.sqrt(2))  # from a corner of the ring


def test_hausdorff_by_scikit_image():
    for pair in (p for p in PAIRS if p.pred.any() and p.truth.any()):
        found = surface.surface_distances(pair.pred, pair.truth, (1.0, 1.0, 1.0))
        want = hausdorff_distance(surface.boundary(pair.pred), surface.boundary(pair.truth))
        assert surface.hausdorff_mm(found) == pytest.approx(want, abs=1e-9)


# --- of two measurements over cases --------------------------------------------------------------------------------


def lin(pred: np.ndarray, truth: np.ndarray) -> float:
    """1 less the mean squared difference of the pairs over that of all pairings, which independence would give."""
    return 1 - np.square(pred - truth).mean() / np.square(np.subtract.outer(pred, truth)).mean()


OF_CASES: dict[str, tuple[Callable, Callable]] = {
    "normalised_mae": (
        lambda pred, truth: volumes.agreement(pred, truth, "ml").normalised_mae,
        lambda pred, truth: statistics.fmean(abs(p / t - 1) for p, t in zip(pred, truth, strict=True)),
    ),
    "pearson_r": (volumes.pearson, lambda pred, truth: interval(stats.pearsonr(pred, truth))),
    "concordance": (lambda pred, truth: volumes.concordance(pred, truth).value, lin),
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


def our_heart(h: Heart) -> dict[str, float]:
    ed, es = (np.where(mask, 3, 0).astype(np.uint8) for mask in (h.ed, h.es))
    function = clinical.function(ed, es, h.spacing_mm)["LV"]
    amounts = scar.quantify(h.core, h.enhanced, h.wall, h.spacing_mm)
    return {**function._asdict(), **amounts._asdict(), "mass_g": clinical.mass_g(h.wall, h.spacing_mm)}


def ml(of: str) -> Callable[[Heart], float]:
    return lambda h: itk_ml(getattr(h, of), h.spacing_mm)


def percent(part: np.ndarray, whole: np.ndarray) -> float:
    return 100 * float(np.average(part, weights=whole)) if whole.any() else math.nan


OF_HEARTS: dict[str, Callable[[Heart], float]] = {
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
    hearts = [heart(i) for i in range(N_PAIRS - len(SHAPES) * len(SPACINGS_MM))]
    want = [OF_HEARTS[name](h) for h in hearts]
    np.testing.assert_allclose([our_heart(h)[name] for h in hearts], want, rtol=1e-9, atol=1e-12)


# --- of two images -------------------------------------------------------------------------------------------------


def wang(image: np.ndarray, truth: np.ndarray) -> float:
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return structural_similarity(image, truth, data_range=1.0, **settings)


OF_IMAGES: dict[str, tuple[Callable, Callable]] = {
    "ssim": (restoration.ssim, wang),
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


def without_reference() -> set[str]:
    return set(METRICS) - set(chain(OF_MASKS, OF_CASES, OF_HEARTS, OF_IMAGES))


def test_every_registered_measure_has_a_reference(monkeypatch: pytest.MonkeyPatch):
    assert without_reference() == set()
    assert set(chain(OF_MASKS, OF_CASES, OF_HEARTS, OF_IMAGES)) <= set(METRICS)
    monkeypatch.setitem(METRICS, "of_nobody", Metric("of nobody", "", None, 0))
    assert without_reference() == {"of_nobody"}
