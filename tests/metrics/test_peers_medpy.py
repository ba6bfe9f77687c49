"""The same measures by MedPy, on which ACDC's script rests, and where its definitions differ from ours."""

import math
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

from cardiac_jax.metrics import surface
from cardiac_jax.metrics.lesions import lesions
from tests.mask_pairs import PAIRS, Pair, ours

BOTH = [pair for pair in PAIRS if pair.pred.any() and pair.truth.any()]


@pytest.fixture(scope="module")
def binary() -> ModuleType:
    return pytest.importorskip("medpy.metric.binary", reason="MedPy is not installed (extra: peers)")


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("dice", "dc"),
        ("jaccard", "jc"),
        ("sensitivity", "sensitivity"),
        ("precision", "precision"),
        ("specificity", "specificity"),
        ("relative_volume_difference", "ravd"),
    ],
)
def test_overlap(binary: ModuleType, name: str, theirs: str):
    for pair in BOTH:
        assert ours(pair)[name] == pytest.approx(getattr(binary, theirs)(pair.pred, pair.truth), abs=1e-12)


def test_assd_of_medpy_pools_both_directions_as_our_asd(binary: ModuleType):
    for pair in BOTH:
        given = {"voxelspacing": pair.spacing_mm, "connectivity": 1}
        assert ours(pair)["asd_mm"] == pytest.approx(binary.assd(pair.pred, pair.truth, **given))


def test_distances(binary: ModuleType):
    for pair in BOTH:
        given = {"voxelspacing": pair.spacing_mm, "connectivity": 1}
        assert ours(pair)["hd_mm"] == pytest.approx(binary.hd(pair.pred, pair.truth, **given))
        directed = binary.asd(pair.pred, pair.truth, **given), binary.asd(pair.truth, pair.pred, **given)
        assert ours(pair)["assd_mm"] == pytest.approx(np.mean(directed))


def test_hd95_of_medpy_pools_both_directions(binary: ModuleType):
    for pair in BOTH:
        theirs = binary.hd95(pair.pred, pair.truth, voxelspacing=pair.spacing_mm, connectivity=1)
        pooled = np.concatenate(surface.surface_distances(*pair))
        assert theirs == pytest.approx(np.percentile(pooled, 95))


def test_medpy_gives_one_predicted_lesion_to_one_of_the_truth(binary: ModuleType):
    """`obj_tpr` pairs objects one to one; ours counts every lesion that is touched, so it is never smaller."""
    for pair in (_spots(i) for i in range(20)):
        found = lesions(pair.pred, pair.truth)
        theirs = binary.obj_tpr(pair.truth, pair.pred, connectivity=pair.pred.ndim)  # a share of the first's objects
        assert found.sensitivity >= theirs - 1e-12
        if found.detected == found.right == 1:
            assert found.sensitivity == pytest.approx(theirs)


def test_empty_masks_in_medpy(binary: ModuleType):
    empty, some = np.zeros((4, 4), bool), np.eye(4, dtype=bool)
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert math.isnan(binary.dc(empty, empty))  # of NumPy's division; older versions say 0 or 1
    assert math.isnan(ours(Pair(*_deep(empty, empty), (1, 1, 1)))["dice"])
    with pytest.raises(RuntimeError, match="does not contain any binary object"):
        binary.hd(empty, some)
    assert math.isinf(ours(Pair(*_deep(empty, some), (1, 1, 1)))["hd_mm"])


def _deep(*masks: np.ndarray) -> list[np.ndarray]:
    return [mask[..., None] for mask in masks]


def _spots(seed: int) -> Pair:
    fields = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(2, 16, 16, 4)), (0, 1, 1, 0.5))
    return Pair(fields[0] > np.quantile(fields[0], 0.95), fields[1] > np.quantile(fields[1], 0.95), (1.0, 1.0, 5.0))
