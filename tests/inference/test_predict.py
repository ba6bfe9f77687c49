"""Prediction of whole cases: in slices, as a volume, in tiles, in a box; scores of validation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from skimage.metrics import structural_similarity

from cardiac_jax.core.types import Output
from cardiac_jax.data.case import Case
from cardiac_jax.data.preprocess import Grid, Prepared, part, prepare, to_native_grid
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.data.stack import from_volume
from cardiac_jax.errors import InputError
from cardiac_jax.inference.postprocess import unchanged
from cardiac_jax.inference.predict import Predict, predict_region, predict_slices, region_of, validator
from cardiac_jax.inference.region import at_border
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


def whole(predict: Predict, image: np.ndarray, size: tuple[int, ...], overlap: float = 0.5) -> np.ndarray:
    """The whole image, in tiles where it is larger than the input."""
    return predict_region(predict, image, region_of(None, image, size, "tiles", overlap), size, overlap)


@pytest.mark.parametrize("size", [(20, 18), (5, 20, 18), (8, 12), (4, 8, 12), (3, 20, 18)])
def test_slices_volumes_and_tiles_of_a_pointwise_network_agree(size):
    np.testing.assert_allclose(whole(pointwise, IMAGE, size), pointwise(IMAGE), rtol=1e-5, atol=1e-6)


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
    back = to_native_grid(whole(pointwise, ready.image, grid.size), ready.geometry)
    image = case().images["LGE"]
    np.testing.assert_allclose(back, pointwise(((image - image.mean()) / image.std())[..., None]), atol=1e-5)
    cropped = prepare(case(), grid._replace(no_crop=False), ("LGE",))
    outside = to_native_grid(whole(pointwise, cropped.image, grid.size), cropped.geometry)
    assert (outside[..., 0] == 1).sum() == image.size - 2 * 6 * 6


# --- scores of validation


def spec(size: tuple[int, ...], overlap: float) -> DataSpec:
    spacing = (0.0, 0.0, 0.0)
    return DataSpec("mscmr", ("background", "LV"), (0, 500), ("LGE",), "affine", spacing, size, tile_overlap=overlap)


WEIGHT: Any = 0.3


def shifted(variables: float, image: np.ndarray) -> dict[str, np.ndarray]:
    """A network that favours the end of the last axis, so that tiles and whole slices differ."""
    share = np.clip(lopsided(image)[..., 1:] + variables * image, 0, 1)
    return {"probabilities": np.concatenate([1 - share, share], -1)}


@pytest.mark.parametrize("size", [(6, 6), (2, 6, 6)])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_validation_sees_what_evaluation_sees(size, overlap):
    """On spacing that is kept, both grids have the same voxels: Dice on the case's own grid, tiled or cropped."""
    asked = spec(size, overlap)
    ready = prepare(case(), asked.grid(whole=overlap > 0), asked.sequences)
    outputs = (Output("probabilities", "labels", unchanged),)
    found = validator(shifted, outputs, [ready], asked)(WEIGHT, "probabilities")
    on_grid = whole(lambda image: shifted(0.3, image)["probabilities"], ready.image, size)
    labels, truth = to_native_grid(on_grid, ready.geometry).argmax(-1), case().label
    assert truth is not None
    if not overlap:  # what lies beyond the crop is not scored
        inside = to_native_grid(np.ones_like(on_grid), ready.geometry)[..., 1] > 0
        labels, truth = labels * inside, truth * inside
    dice = 2 * (labels & truth).sum() / (labels.sum() + truth.sum())
    assert found == pytest.approx({"dice/LV": dice, "dice": dice}) and 0.1 < dice < 0.9
    other = spec(size, 0.5 - overlap)
    again = prepare(case(), other.grid(whole=not overlap), other.sequences)
    assert validator(shifted, outputs, [again], other)(WEIGHT, "probabilities") != found


def test_scores_are_means_over_cases_and_nothing_to_score_is_no_number():
    asked = spec((10, 12), 0.0)
    outputs = (Output("probabilities", "labels", unchanged),)
    one = prepare(case(), asked.grid(), asked.sequences)
    two = one._replace(image=-one.image)
    scores = [
        validator(shifted, outputs, cases, asked)(WEIGHT, "probabilities") for cases in ([one], [two], [one, two])
    ]
    assert scores[2]["dice"] == pytest.approx((scores[0]["dice"] + scores[1]["dice"]) / 2)
    assert scores[0]["dice"] != scores[1]["dice"]
    assert np.isnan(validator(shifted, outputs, [], asked)(WEIGHT, "probabilities")["dice"])


def test_a_finer_output_is_not_tiled():
    region = region_of(None, IMAGE, (8, 12), "tiles", 0.5)
    with pytest.raises(InputError, match=r"^--crop: an output finer than the image"):
        predict_region(pointwise, IMAGE, region, (8, 12), 0.5, scale=(1, 2, 2))


# --- a heart away from the middle

HEART = (6, 8)  # pixels, in an image without noise elsewhere


def shown_at(row: int, column: int, shape: tuple[int, int, int] = (6, 48, 40)) -> Case:
    """A bright block at (row, column) of every slice, which is also the label, `LV`."""
    label = np.zeros(shape, np.uint8)
    label[:, row : row + HEART[0], column : column + HEART[1]] = 1
    stack = from_volume(label.transpose(2, 1, 0), images.affine(), "apex_first")
    image = {"LGE": stack.data * 4.0 - 2.0}
    return Case("a", "p", image, stack.data, stack.frame, stack.affine, None, None, None, Path("a.nii"))


def edge_blind(image: np.ndarray) -> np.ndarray:
    """A network that sees bright pixels, but none of the outermost pixel of its input."""
    seen = np.zeros(image.shape, np.float32)
    inside = (slice(None), *[slice(1, -1)] * 2) if image.ndim == 4 else (slice(None), slice(None), *[slice(1, -1)] * 2)
    seen[inside] = image[inside] > 0
    return np.concatenate([1 - seen, seen], -1)


@pytest.mark.parametrize("size", [(16, 16), (6, 16, 16)])
@pytest.mark.parametrize("at", [(21, 16), (1, 1), (41, 31), (5, 25), (30, 2)])
def test_the_heart_is_found_wherever_it_lies(size, at):
    case = shown_at(*at)
    assert case.label is not None
    grid = Grid((0, 0, 0), size, (), no_crop=True)
    ready = prepare(case, grid, ("LGE",))
    region = region_of(edge_blind, ready.image, size, "heart", 0.0)
    on_grid = predict_region(edge_blind, ready.image, region, size, 0.0)
    back = to_native_grid(on_grid, part(ready.geometry, region.start, region.size))
    np.testing.assert_array_equal(back.argmax(-1), case.label)
    assert not region.notes


def test_a_heart_of_more_slices_than_the_network_takes_is_said():
    ready = prepare(shown_at(5, 25), Grid((0, 0, 0), (4, 16, 16), (), no_crop=True), ("LGE",))
    (note,) = region_of(edge_blind, ready.image, (4, 16, 16), "heart", 0.0).notes
    assert note.startswith("33% of the foreground") and "4 x 16 x 16" in note


def test_the_box_of_training_is_kept_where_it_holds_the_heart():
    """To the bit: the same voxels go in, and the same values come out on the case's own grid."""
    case, size = shown_at(22, 17), (16, 16)
    asked = spec(size, 0.0)
    cropped, ready = (prepare(case, asked.grid(whole=whole), asked.sequences) for whole in (False, True))
    region = region_of(edge_blind, ready.image, size, "", 0.0)
    assert part(ready.geometry, region.start, region.size) == cropped.geometry
    np.testing.assert_array_equal(ready.image[:, 16:32, 12:28], cropped.image)
    found = predict_region(lambda image: shifted(0.3, image)["probabilities"], ready.image, region, size, 0.0)
    np.testing.assert_array_equal(found, predict_slices(lambda x: shifted(0.3, x)["probabilities"], cropped.image))


@pytest.mark.parametrize(("at", "said"), [((29, 16), "touches the border"), ((1, 1), "no foreground was found")])
def test_a_heart_beyond_the_central_box_is_said(at, said):
    ready = prepare(shown_at(*at), Grid((0, 0, 0), (16, 16), (), no_crop=True), ("LGE",))
    region = region_of(pointwise, ready.image, (16, 16), "centre", 0.0)
    labels = predict_region(pointwise, ready.image, region, (16, 16), 0.0).argmax(-1)
    (note,) = at_border(labels, region, ready.image.shape[:-1])
    assert said in note


def test_validation_of_a_whole_image_finds_the_heart_as_evaluation_does():
    asked = spec((16, 16), 0.0)
    outputs = (Output("probabilities", "labels", unchanged),)

    def run(variables, image):
        return {"probabilities": edge_blind(image)}

    scores = []
    for whole in (False, True):
        ready = prepare(shown_at(29, 16), asked.grid(whole=whole), asked.sequences)
        scores.append(validator(run, outputs, [ready], asked)(WEIGHT, "probabilities")["dice"])
    assert scores[0] < 0.9 and scores[1] == 1


# --- labels and images finer than the input


def finer_case(scale: tuple[int, ...]) -> Prepared:
    """A case of 4 x 10 x 12 voxels; label and finer image are noise on the finer grid."""
    rng = np.random.default_rng(3)
    shape = tuple(np.multiply((4, 10, 12), scale))
    ready = prepare(case(), spec((4, 10, 12), 0.0).grid(), ("LGE",))
    fine = rng.normal(size=(*shape, 1)).astype(np.float32)
    return ready._replace(label=(rng.random(shape) > 0.5).astype(np.uint8), fine=fine)


def test_finer_labels_score_outputs_of_any_grid():
    """A finer output is compared as it is, one on the image's grid after linear interpolation."""
    scale = (5, 1, 2)
    ready = finer_case(scale)
    share = np.random.default_rng(4).random((1, 20, 10, 24, 1)).astype(np.float32)
    finer = np.concatenate([1 - share, share], -1)
    coarse = finer.reshape(1, 4, 5, 10, 12, 2, 2).mean(axis=(2, 5))
    kept = (Output("fine", "labels", unchanged, scale=scale), Output("coarse", "labels", unchanged))
    score = validator(lambda variables, image: {"fine": finer, "coarse": coarse}, kept, [ready], spec((4, 10, 12), 0.0))
    at = [(np.arange(n * k) + 0.5) / k - 0.5 for n, k in zip((4, 10, 12), scale, strict=True)]
    places = np.stack(np.meshgrid(*at, indexing="ij"))
    upsampled = map_coordinates(coarse[0, ..., 1].astype(np.float64), places, order=1, mode="nearest")
    for name, drawn in (("fine", share[0, ..., 0] > 0.5), ("coarse", upsampled > 0.5)):
        assert ready.label is not None
        dice = 2 * (drawn & (ready.label == 1)).sum() / (drawn.sum() + ready.label.sum())
        assert score(WEIGHT, name) == pytest.approx({"dice/LV": dice, "dice": dice}, abs=2e-3)


def test_images_are_scored_against_the_finer_image():
    ready = finer_case((5, 2, 2))
    assert ready.fine is not None
    found = ready.fine + np.random.default_rng(5).normal(0, 0.5, ready.fine.shape).astype(np.float32)
    kept = (Output("enhanced", "image", unchanged, scale=(5, 2, 2), fill=0.0, score="ssim"),)

    def predicted(variables: Any, image: np.ndarray) -> dict[str, np.ndarray]:
        return {"enhanced": found[None]}

    scores = validator(predicted, kept, [ready], spec((4, 10, 12), 0.0))(WEIGHT, "enhanced")
    one, two = (x[..., 0].astype(np.float64) for x in (found, ready.fine))
    span = float(np.ptp(two))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": span}
    assert scores["ssim"] == pytest.approx(structural_similarity(two, one, **options), abs=1e-4)
    assert scores["psnr"] == pytest.approx(20 * np.log10(span) - 10 * np.log10(((one - two) ** 2).mean()), abs=1e-3)
    for wrong, said in (
        (ready._replace(fine=None), "no high-resolution image"),
        (finer_case((5, 1, 1)), "SSIM needs 11"),
    ):
        with pytest.raises(InputError, match=said):
            validator(predicted, kept, [wrong], spec((4, 10, 12), 0.0))
