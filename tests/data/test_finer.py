"""Labels and images on a grid finer than the network's: where they lie, how they are stored, what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data import intensity, pipeline
from cardiac_jax.data.axes import placements
from cardiac_jax.data.case import Case, Fine
from cardiac_jax.data.io.volume import Volume
from cardiac_jax.data.preprocess import Grid, covered, lost_share, network_stack, prepare, to_native_grid
from cardiac_jax.data.regrid import aligned
from cardiac_jax.data.stack import Stack, from_volume
from cardiac_jax.errors import InputError
from tests import images
from tests.data.test_grid import itk, ras
from tests.data.test_preprocess import AS_IT_IS

SHAPE, SPACING = (16, 18, 6), (1.25, 1.25, 10.0)
FINER = (32, 18, 30)  # along the same axes, over the same box
CODES = images.AXIS_CODES[::9]


def places(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """RAS millimetres of every voxel, `[X, Y, Z, 3]`."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def box(tilt: float = 0.3, codes=("P", "S", "R"), shape=SHAPE, spacing=SPACING) -> np.ndarray:
    """The affine of a grid whose middle lies at a fixed place."""
    affine = images.affine(codes, spacing, tilt=tilt)
    affine[:3, 3] = np.array([10.0, -20, 30]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def stored(stack: Stack, codes: tuple[str, ...], path: str = "hr.nii.gz") -> Volume:
    """The stack as a file with its axes in the order and the directions of `codes`, which belong to no tilt."""
    order = [("LR", "PA", "IS").index(next(p for p in ("LR", "PA", "IS") if c in p)) for c in codes]
    flips = [c in "LPI" for c in codes]
    data, affine = stack.to_file(), stack.affine
    back = np.zeros((4, 4))
    back[3, 3] = 1
    for k, (axis, flip) in enumerate(zip(order, flips, strict=True)):
        back[axis, k], back[axis, 3] = (-1, data.shape[axis] - 1) if flip else (1, 0)
    data = np.flip(data.transpose(order), tuple(k for k in range(3) if flips[k]))
    return Volume(data, affine @ back, None)


def in_patient(affine: np.ndarray, shape: tuple[int, ...]) -> list[Stack]:
    """Stacks of the places' x, y and z."""
    along = np.moveaxis(places(affine, shape), -1, 0).astype(np.float32)
    return [from_volume(place, affine, "affine") for place in along]


def case_in_patient(finer_codes=("R", "A", "S"), finer=FINER, finer_mm=(0.625, 1.25, 2.0)) -> Case:
    """A case of which images, and finer images in other storage, hold the places of their voxels along x, y and z."""
    coarse = in_patient(box(), SHAPE)
    case = Case("a", "p", {n: s.data for n, s in zip("xyz", coarse, strict=True)}, None, coarse[0].frame, box(), *NONE)
    fine = {
        name: aligned(Path("hr"), stored(stack, finer_codes), case.grid, "the image")
        for name, stack in zip("xyz", in_patient(box(shape=finer, spacing=finer_mm), finer), strict=True)
    }
    label = fine["x"].with_data((fine["z"].data > 30).astype(np.uint8))
    return replace(case, fine=Fine(fine, label))


NONE = (None, None, None, Path("lr.nii.gz"))


GRIDS = [
    (AS_IT_IS, (6, 18, 16), (5, 1, 2)),
    ((5.0, 1.5, 1.0), (10, 14, 20), (3, 2, 1)),
    (AS_IT_IS, (4, 10, 30), (5, 1, 1)),
]


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize(("grid", "size", "scale"), GRIDS)
def test_a_finer_image_in_any_storage_lies_where_itk_says(codes, grid, size, scale):
    """Every voxel of the finer network grid holds its own place in the patient, as ITK reads it from the affine."""
    case = case_in_patient(codes)
    ready = prepare(case, Grid(grid, size, (), target_scale=scale), tuple("xyz"))
    assert ready.fine is not None and ready.label is not None
    assert ready.fine.shape[:3] == ready.label.shape == tuple(np.multiply(size, scale))
    finer = network_stack(ready.fine, case, ready.geometry, scale)
    values, label = finer.to_file(), finer.with_data(ready.label).to_file()
    middle = np.array(values.shape[:3]) // 2
    reach = np.minimum(middle - 1, (np.array([5.0, 5.0, 14.0])[list(np.argsort(case.frame.axes))] // 1).astype(int))
    index = middle + np.random.default_rng(0).integers(-reach // 2, reach // 2 + 1, (40, 3))
    image = itk(values[..., 0], finer.affine)
    points = np.array([ras(image.TransformIndexToPhysicalPoint(where.tolist())) for where in index])
    np.testing.assert_allclose(values[tuple(index.T)], points, atol=0.02)
    clear = np.abs(points[:, 2] - 30) > 1.5  # voxels away from the label's border
    assert clear.sum() > 5
    np.testing.assert_array_equal(label[tuple(index.T)][clear], points[clear, 2] > 30)


@pytest.mark.parametrize("codes", CODES)
def test_a_label_on_the_finer_grid_itself_is_copied(codes):
    """The finer network grid is the label's own: voxel centres agree, whatever the storage."""
    rng = np.random.default_rng(0)
    drawn = from_volume(
        rng.choice([0, 1, 2, 3], FINER).astype(np.uint8), box(shape=FINER, spacing=(0.625, 1.25, 2.0)), "affine"
    )
    case = case_in_patient()
    label = aligned(Path("l"), stored(drawn, codes), case.grid, "the image")
    assert label.frame.apex_known == case.frame.apex_known
    order = tuple(SHAPE[i] for i in case.frame.axes)
    scale = tuple(FINER[i] // SHAPE[i] for i in case.frame.axes)
    ready = prepare(replace(case, fine=Fine({}, label)), Grid(AS_IT_IS, order, (), target_scale=scale), ("x",))
    np.testing.assert_array_equal(ready.label, label.data)
    np.testing.assert_array_equal(ready.label, drawn.data)
    plain = prepare(replace(case, fine=None), Grid(AS_IT_IS, order, ()), ("x",))
    np.testing.assert_array_equal(ready.image, plain.image)
    assert ready.fine is None and plain.label is None


@pytest.mark.parametrize("scale", [(5, 1, 2), (1, 1, 1)])
def test_probabilities_return_to_the_labels_own_grid(scale):
    """A function linear in mm is linear on every grid; both directions of the resampling agree about every place."""
    case = case_in_patient(("A", "L", "I"))
    assert case.fine is not None and case.truth is not None
    grid = Grid((11.0, 1.5, 1.4), (5, 15, 22), (), target_scale=scale)
    ready = prepare(case, grid, tuple("xyz"))
    finer = network_stack(np.empty(np.multiply(grid.size, scale)), case, ready.geometry, scale)
    mm = from_volume(places(finer.affine, finer.to_file().shape), finer.affine, "affine")
    values = aligned(Path("n"), Volume(mm.to_file()[..., 0], finer.affine, None), case.grid, "x").data[..., None]
    placed = placements(case.grid, case.truth)
    back = to_native_grid(values, ready.geometry, 0.0, scale, placed)
    inner = (slice(6, -6),) * 3
    assert back.shape == (*case.truth.data.shape, 1)
    np.testing.assert_allclose(back[inner][..., 0], case.fine.images["x"].data[inner], atol=0.02)
    small = prepare(case, Grid(AS_IT_IS, (1, 6, 3)), "x").geometry
    outside = to_native_grid(np.ones((*np.multiply((1, 6, 3), scale), 2)), small, 1.0, scale, placed)
    assert {tuple(row) for row in np.unique(outside.reshape(-1, 2), axis=0)} <= {(1.0, 1.0), (1.0, 0.0)}
    assert outside[..., 1].sum() == 5 * 6 * 6
    assert (outside[covered(small, placed)][..., 1] == 1).all()


def test_an_ordinary_label_is_brought_to_the_finer_grid():
    """A plane in mm is drawn on thick slices, and is found within half of one of them; scribbles stay so."""
    affine, shape = box(tilt=0.0), SHAPE
    high = places(affine, shape)[..., 1]
    drawn = from_volume((high > -20.0).astype(np.uint8), affine, "affine")
    noise = np.random.default_rng(0).normal(size=drawn.data.shape).astype(np.float32)
    case = Case("a", "p", {"LGE": noise}, drawn.data, drawn.frame, affine, *NONE)
    grid = Grid(AS_IT_IS, (6, *drawn.data.shape[1:]), (), target_scale=(5, 2, 2))
    ready = prepare(case, grid, ("LGE",))
    assert ready.label is not None and ready.fine is None
    finer = network_stack(ready.label, case, ready.geometry, grid.target_scale)
    above = places(finer.affine, finer.to_file().shape)[..., 1] + 20.0
    far = np.abs(above) > 0.7  # half of a pixel of 1.25 mm
    np.testing.assert_array_equal(finer.to_file()[far], (above > 0)[far])
    same = prepare(case, grid._replace(target_scale=(1, 1, 1)), ("LGE",))
    np.testing.assert_array_equal(same.label, drawn.data)
    np.testing.assert_array_equal(same.image, ready.image)
    scribbled = replace(case, label=np.where(np.arange(6)[:, None, None] == 2, IGNORE, drawn.data).astype(np.uint8))
    partly = prepare(scribbled, grid, ("LGE",)).label
    assert partly is not None
    assert (partly[11:14] == IGNORE).all() and not (partly[:9] == IGNORE).any() and not (partly[16:] == IGNORE).any()
    assert lost_share(drawn.data, ready.geometry) == 0


def test_what_a_finer_label_does_not_cover_is_not_annotated():
    case = case_in_patient(finer=(32, 18, 20))  # 40 of 60 mm
    ready = prepare(case, Grid(AS_IT_IS, (8, 18, 16), (), target_scale=(5, 1, 1)), ("x",))
    assert ready.label is not None and case.truth is not None
    missing = (ready.label == IGNORE).all(axis=(1, 2))
    np.testing.assert_array_equal(np.flatnonzero(missing), [*range(5, 10), *range(30, 35)])
    assert not (ready.label[~missing] == IGNORE).any()
    assert lost_share(case.truth.data, ready.geometry, placements(case.grid, case.truth)) == 0
    cut = prepare(case, Grid(AS_IT_IS, (2, 18, 16), (), target_scale=(5, 1, 1)), ("x",))
    kept = (case.truth.data == 1)[5:-5].sum() / (case.truth.data == 1).sum()
    assert lost_share(case.truth.data, cut.geometry, placements(case.grid, case.truth)) == pytest.approx(1 - kept)


def test_turned_and_distant_volumes_are_refused():
    case = case_in_patient()
    volume = stored(in_patient(box(shape=FINER, spacing=(0.625, 1.25, 2.0)), FINER)[0], ("R", "A", "S"))
    turned = volume._replace(affine=box(0.35, shape=FINER, spacing=(0.625, 1.25, 2.0)))
    with pytest.raises(InputError, match=r"^hr: is turned by 2.6 degrees against the image lr"):
        aligned(Path("hr"), turned, case.grid, "the image lr")
    moved = volume.affine.copy()
    moved[:3, 3] += 40 * volume.affine[:3, 2] / 2.0
    with pytest.raises(InputError, match=r"^hr: shows other anatomy than the image lr: they share 33% of their extent"):
        aligned(Path("hr"), volume._replace(affine=moved), case.grid, "the image lr")
    with pytest.raises(InputError, match="unknown grid"):
        aligned(Path("hr"), volume._replace(placed=False), case.grid, "the image lr")


def test_gain_and_offset_undo_the_intensity_operations():
    case = case_in_patient()
    raw = next(iter(case.images.values()))
    for names in ((), ("z_score",), ("z_score", "z_score")):
        gain, offset = intensity.gain_offset(names, raw)
        np.testing.assert_allclose(gain * raw + offset, intensity.chain(names)(raw), atol=1e-5)
    assert np.isnan(intensity.gain_offset(("percentile", "z_score"), raw)).all()
    grid = Grid(AS_IT_IS, (6, 18, 16), target_scale=(5, 1, 1))
    scored, plain = (prepare(case, grid._replace(intensity=names), tuple("xy")) for names in (("z_score",), ()))
    assert scored.fine is not None and plain.fine is not None and scored.gain_offset is not None
    gain, offset = scored.gain_offset.T
    np.testing.assert_allclose(scored.fine, gain * plain.fine + offset, atol=1e-4)
    clipped = prepare(case, grid._replace(intensity=("percentile",)), ("x",))
    assert clipped.fine is None and clipped.gain_offset is not None and np.isnan(clipped.gain_offset).all()
    both = prepare(case, grid._replace(append_clahe=True), ("x",)).gain_offset
    assert both is not None and both.shape == (2, 2) and np.isnan(both).any(1).tolist() == [False, True]


def test_examples_hold_finer_images_only_if_every_case_has_one():
    case = case_in_patient()
    grid = Grid(AS_IT_IS, (6, 18, 16), target_scale=(5, 1, 1))
    with_image, without = (prepare(held, grid, ("x",)) for held in (case, replace(case, fine=Fine({}, case.truth))))
    arrays = pipeline.volumes([with_image, with_image]).arrays
    assert arrays["image"].shape == (2, 6, 18, 16, 1) and arrays["label"].shape == (2, 30, 18, 16)
    assert arrays["fine"].shape == (2, 30, 18, 16, 1)
    assert "fine" not in pipeline.volumes([with_image, without]).arrays
