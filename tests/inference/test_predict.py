"""Prediction of whole cases: in slices, as a volume, in tiles, mirrored."""

from pathlib import Path

import numpy as np
import pytest

from cardiac_jax.core.types import Output
from cardiac_jax.data.case import Case
from cardiac_jax.data.preprocess import Grid, prepare, to_native_grid
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.data.stack import from_volume
from cardiac_jax.errors import InputError
from cardiac_jax.inference.postprocess import unchanged
from cardiac_jax.inference.predict import predict_grid, validator
from tests import images


def pointwise(image: np.ndarray) -> np.ndarray:
    """A network without a field of view: `[B, *S, 1] -> [B, *S, 2]`."""
    share = 1 / (1 + np.exp(-image))
    return np.concatenate([1 - share, share], -1).astype(np.float32)


def lopsided(image: np.ndarray) -> np.ndarray:
    """One that favours the end of the last axis."""
    ramp = np.linspace(0, 1, image.shape[-2], dtype=np.float32)[:, None] * np.ones_like(image)
    return np.concatenate([1 - ramp, ramp], -1)


IMAGE = np.random.default_rng(0).normal(size=(5, 20, 18, 1)).astype(np.float32)


@pytest.mark.parametrize("size", [(20, 18), (5, 20, 18), (8, 12), (4, 8, 12), (3, 20, 18)])
@pytest.mark.parametrize("flips", [False, True])
def test_slices_volumes_and_tiles_of_a_pointwise_network_agree(size, flips):
    found = predict_grid(pointwise, IMAGE, size, flips)
    np.testing.assert_allclose(found, pointwise(IMAGE), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(20, 18), (5, 20, 18)])
def test_mirrored_copies_are_mirrored_back_in_plane(size):
    found = predict_grid(lopsided, IMAGE, size, flips=True)
    np.testing.assert_allclose(found, 0.5, atol=1e-6)


def case() -> Case:
    """Four slices of 12 x 10 pixels, the first axis of whose file runs along columns."""
    data = np.random.default_rng(1).normal(100, 30, (12, 10, 4)).astype(np.float32)
    label = np.random.default_rng(2).integers(0, 2, data.shape).astype(np.uint8)
    image, drawn = (from_volume(array, images.affine(), "apex_first") for array in (data, label))
    return Case("a", "p", {"LGE": image.data}, drawn.data, image.frame, image.affine, None, None, None, Path("a.nii"))


def test_a_whole_case_is_predicted_beyond_the_crop():
    grid = Grid((0, 0, 0), (2, 6, 6), no_crop=True)
    ready = prepare(case(), grid, ("LGE",))
    assert ready.image.shape[:-1] == case().shape == (4, 10, 12)
    back = to_native_grid(predict_grid(pointwise, ready.image, grid.size), ready.geometry)
    image = case().images["LGE"]
    np.testing.assert_allclose(back, pointwise(((image - image.mean()) / image.std())[..., None]), atol=1e-5)
    cropped = prepare(case(), grid._replace(no_crop=False), ("LGE",))
    outside = to_native_grid(predict_grid(pointwise, cropped.image, grid.size), cropped.geometry)
    assert (outside[..., 0] == 1).sum() == image.size - 2 * 6 * 6


# --- scores of validation


def spec(size: tuple[int, ...], overlap: float) -> DataSpec:
    spacing = (0.0, 0.0, 0.0)
    return DataSpec("mscmr", ("background", "LV"), (0, 500), ("LGE",), "affine", spacing, size, tile_overlap=overlap)


def shifted(variables: float, image: np.ndarray) -> dict[str, np.ndarray]:
    """A network that favours the end of the last axis, so that tiles and whole slices differ."""
    share = np.clip(lopsided(image)[..., 1:] + variables * image, 0, 1)
    return {"probabilities": np.concatenate([1 - share, share], -1)}


@pytest.mark.parametrize("size", [(6, 6), (2, 6, 6)])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_validation_sees_what_evaluation_sees(size, overlap):
    """On spacing that is kept, both grids have the same voxels: Dice on the case's own grid, tiled or cropped."""
    asked = spec(size, overlap)
    ready = prepare(case(), asked.grid(), asked.sequences)
    outputs = (Output("probabilities", "labels", unchanged),)
    found = validator(shifted, outputs, [ready], asked)(0.3, "probabilities")
    on_grid = predict_grid(lambda image: shifted(0.3, image)["probabilities"], ready.image, size, overlap=overlap)
    labels, truth = to_native_grid(on_grid, ready.geometry).argmax(-1), case().label
    assert truth is not None
    if not overlap:  # what lies beyond the crop is not scored
        inside = to_native_grid(np.ones_like(on_grid), ready.geometry)[..., 1] > 0
        labels, truth = labels * inside, truth * inside
    dice = 2 * (labels & truth).sum() / (labels.sum() + truth.sum())
    assert found == pytest.approx({"dice/LV": dice, "dice": dice}) and 0.1 < dice < 0.9
    other = spec(size, 0.5 - overlap)
    again = prepare(case(), other.grid(), other.sequences)
    assert validator(shifted, outputs, [again], other)(0.3, "probabilities") != found


def test_scores_are_means_over_cases_and_nothing_to_score_is_no_number():
    asked = spec((10, 12), 0.0)
    outputs = (Output("probabilities", "labels", unchanged),)
    one = prepare(case(), asked.grid(), asked.sequences)
    two = one._replace(image=-one.image)
    scores = [validator(shifted, outputs, cases, asked)(0.3, "probabilities") for cases in ([one], [two], [one, two])]
    assert scores[2]["dice"] == pytest.approx((scores[0]["dice"] + scores[1]["dice"]) / 2)
    assert scores[0]["dice"] != scores[1]["dice"]
    assert np.isnan(validator(shifted, outputs, [], asked)(0.3, "probabilities")["dice"])


def test_a_finer_output_is_not_tiled():
    with pytest.raises(InputError, match=r"^data\.tile_overlap: an output finer than the image"):
        predict_grid(pointwise, IMAGE, (8, 12), scale=(1, 2, 2))
