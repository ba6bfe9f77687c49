"""The same measures by MONAI and scikit-image, and where the definitions of other libraries differ from ours."""

import math
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk
from skimage.metrics import hausdorff_distance

from cardiac_jax.metrics import surface
from cardiac_jax.metrics.pair import TOLERANCE_MM
from tests.mask_pairs import PAIRS, Pair, itk_contours, itk_image, ours, real_pairs


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
            "surface_dice": metrics.compute_surface_dice(pred, truth, [TOLERANCE_MM], **spacing),
            "sensitivity": metrics.compute_confusion_matrix_metric("sensitivity", confusion),
            "precision": metrics.compute_confusion_matrix_metric("precision", confusion),
            "specificity": metrics.compute_confusion_matrix_metric("specificity", confusion),
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
