"""The network's grid in the patient: where ITK says, what is cropped, and what a part leaves out."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.preprocess import Grid, lost_share, network_stack, part, prepare, to_native_grid
from cardiac_jax.data.stack import from_volume
from tests import images
from tests.data.test_preprocess import AS_IT_IS, case_of, one_hot, own


def itk(data: np.ndarray, affine: np.ndarray) -> sitk.Image:
    """`[X, Y, Z]` with its affine (RAS) as an image of ITK (LPS)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T.astype(np.float64)))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def ras(lps: tuple[float, ...]) -> np.ndarray:
    return np.array(lps) * (-1, -1, 1)


GRIDS = {
    "as it is": Grid(AS_IT_IS, (11, 9), ()),
    "padded": Grid(AS_IT_IS, (9, 30, 31), ()),
    "in plane": Grid((0.0, 1.1, 0.7), (10, 13), ()),
    "along z": Grid((2.5, 0.0, 0.0), (10, 9), ()),
    "all axes": Grid((3.0, 1.1, 0.9), (9, 12, 11), ()),
    "no crop": Grid((3.0, 1.1, 0.9), (9, 12, 60), (), no_crop=True),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("codes", images.AXIS_CODES[::7])
def test_a_stack_on_the_networks_grid_lies_where_itk_says(name, codes):
    """An image linear in the patient's x, y, z is linear on any grid: each voxel must hold its own place there.

    Interpolation keeps it linear away from the edges of the image and of the padding.
    """
    shape, spacing = (14, 17, 6), (0.8, 1.3, 6.0)
    affine = images.affine(codes, spacing, tilt=0.3)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    places = index @ affine[:3, :3].T + affine[:3, 3]
    case = case_of(np.zeros(shape, np.uint8), affine)
    along = np.moveaxis(places, -1, 0).astype(np.float32)
    arrays = {axis: from_volume(place, affine, "affine").data for axis, place in zip("xyz", along, strict=True)}
    case = replace(case, images=arrays)
    prepared = prepare(case, GRIDS[name], tuple("xyz"))
    order = np.argsort(case.frame.axes)  # Z, H, W -> X, Y, Z
    whole = network_stack(prepared.image, case, prepared.geometry)
    values = whole.to_file()
    coarse = itk(values[..., 0], whole.affine)
    index = np.stack(np.meshgrid(*map(np.arange, values.shape[:3]), indexing="ij"), -1).reshape(-1, 3)
    at = (index @ whole.affine[:3, :3].T + whole.affine[:3, 3] - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    margin = np.maximum(2, 2 * np.array(prepared.spacing_mm)[order] / spacing) - 1e-3
    inner = index[((at > margin) & (at < np.array(shape) - 1 - margin)).all(axis=1)]
    assert len(inner) > 10
    inner = np.random.default_rng(0).permutation(inner)[:40]
    points = np.array([ras(coarse.TransformIndexToPhysicalPoint(where.tolist())) for where in inner])
    np.testing.assert_allclose(values[tuple(inner.T)], points, atol=0.02)  # of 0.7 mm or more
    for scale in ((1, 1), (2, 2), (3, 1, 2)):
        factors = (*(1,) * (3 - len(scale)), *scale)
        fine = prepared.image
        for axis, factor in enumerate(factors):
            fine = np.repeat(fine, factor, axis)
        found = network_stack(fine, case, prepared.geometry, scale)
        assert found.spacing_mm == pytest.approx(np.divide(prepared.spacing_mm, factors))
        finer = itk(found.to_file()[..., 0], found.affine)
        centres = np.array(factors)[order] * (inner + 0.5) - 0.5  # of the same voxels, in the finer grid
        same = [ras(finer.TransformContinuousIndexToPhysicalPoint(centre.tolist())) for centre in centres]
        np.testing.assert_allclose(same, points, atol=1e-4)


def test_nothing_is_cropped_where_tiles_cover_all():
    label = np.random.default_rng(0).integers(0, 4, (12, 10, 4)).astype(np.uint8)
    case = case_of(label, images.affine(("L", "P", "S")))
    assert case.shape == (4, 10, 12)
    small, large = (prepare(case, Grid(AS_IT_IS, size, no_crop=True), ("LGE",)) for size in ((2, 6, 20), (8, 10, 5)))
    assert small.image.shape == (4, 10, 20, 1) and large.image.shape == (8, 10, 12, 1)
    for ready in (small, large):
        assert ready.label is not None
        back = to_native_grid(one_hot(ready.label), ready.geometry)
        np.testing.assert_array_equal(back.argmax(-1), own(case))
    whole = prepare(case, Grid(AS_IT_IS, (10, 12)), ("LGE",))
    np.testing.assert_array_equal(small.image[:, :, 4:16], whole.image)
    np.testing.assert_array_equal(large.image[2:6], whole.image)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(2, 14), st.integers(2, 14), st.integers(2, 6)),
    size=st.tuples(st.integers(1, 8), st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 99),
)
def test_a_part_of_the_whole_is_the_crop_and_what_it_leaves_out_is_counted(shape, size, seed):
    label = np.random.default_rng(seed).choice([0, 1, 2, IGNORE], shape).astype(np.uint8)
    case = case_of(label, images.affine(("L", "P", "S")))
    cropped, whole = (prepare(case, Grid(AS_IT_IS, size, no_crop=kept), ("LGE",)) for kept in (False, True))
    start = [(n - k) // 2 for n, k in zip(whole.image.shape, size, strict=False)]
    assert part(whole.geometry, start, size) == cropped.geometry
    inside = tuple(slice(s, s + k) for s, k in zip(start, size, strict=True))
    np.testing.assert_array_equal(whole.image[inside], cropped.image)
    structures = (label == 1) | (label == 2)
    assert cropped.label is not None
    held = ((cropped.label == 1) | (cropped.label == 2)).sum()
    assert lost_share(own(case), cropped.geometry) == pytest.approx(
        1 - held / structures.sum() if structures.any() else 0
    )
    assert lost_share(own(case), whole.geometry) == 0
