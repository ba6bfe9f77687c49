"""The canonical frame, and the way back from it to any file's own grid."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data import resample
from cardiac_jax.data.case import Case
from cardiac_jax.data.load import load
from cardiac_jax.data.orientation import from_canonical, orientation, slice_axis, to_canonical
from cardiac_jax.data.preprocess import Grid, prepare, to_file_grid
from cardiac_jax.data.sets import dataset
from cardiac_jax.errors import InputError
from tests import images


def case_of(label: np.ndarray, grid: np.ndarray, sequences=("LGE",), seed=0) -> Case:
    rng = np.random.default_rng(seed)
    arrays = {s: rng.normal(100, 30, label.shape).astype(np.float32) for s in sequences}
    x, y, z = (float(s) for s in np.linalg.norm(grid[:3, :3], axis=0))
    return Case("a", "p", arrays, label, grid, (x, y, z), None, None, None, Path("a.nii.gz"))


def one_hot(label: np.ndarray, classes: int = 4) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[label]


def dice(one: np.ndarray, two: np.ndarray, k: int) -> float:
    return 2 * float(((one == k) & (two == k)).sum()) / float((one == k).sum() + (two == k).sum())


@settings(max_examples=60, deadline=None)
@given(
    codes=st.sampled_from(images.AXIS_CODES),
    tilt=st.floats(-0.7, 0.7),
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    size=st.tuples(*[st.integers(1, 24)] * 2),
    thick=st.integers(0, 2),
    order=st.sampled_from(["affine", "base_first", "apex_first"]),
    seed=st.integers(0, 99),
)
def test_restore_undoes_prepare_exactly_when_spacing_is_kept(codes, tilt, shape, size, thick, order, seed):
    spacing = [0.8, 0.8, 0.8]
    spacing[thick] = 6.0
    label = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    case = case_of(label, images.affine(codes, spacing, tilt=tilt))
    prepared = prepare(case, Grid(None, size), ("LGE",), order)
    assert prepared.label is not None
    assert prepared.image.shape == (shape[thick], *size, 1) and prepared.label.shape == (shape[thick], *size)
    back = to_file_grid(one_hot(prepared.label), prepared.geometry)
    np.testing.assert_array_equal(back.sum(-1), 1)
    kept = to_file_grid(np.ones((*prepared.label.shape, 4), np.float32), prepared.geometry)[..., 3] == 1
    np.testing.assert_array_equal(back.argmax(-1)[kept], label[kept])
    np.testing.assert_array_equal(back[~kept], np.eye(4)[np.zeros((~kept).sum(), int)])
    axes = prepared.geometry.frame.axes
    assert kept.sum() == shape[thick] * min(shape[axes[1]], size[0]) * min(shape[axes[2]], size[1])


@settings(max_examples=25, deadline=None)
@given(
    codes=st.sampled_from(images.AXIS_CODES),
    spacing=st.tuples(st.floats(0.6, 2.0), st.floats(0.6, 2.0)),
    wanted=st.floats(0.6, 2.0),
    extent=st.integers(90, 140),
)
def test_smooth_blobs_survive_resampling(codes, spacing, wanted, extent):
    """A disc of radius 22 mm within a ring to 32 mm: Dice over 0.95 after there and back."""
    shape = (round(extent / spacing[0]), round(extent / spacing[1]), 2)
    x, y = ((np.arange(n) - n / 2) * s for n, s in zip(shape[:2], spacing, strict=True))
    radius = np.hypot(x[:, None], y[None])[..., None] * np.ones(2)
    label = np.where(radius < 22, 3, np.where(radius < 32, 2, 0)).astype(np.uint8)
    case = case_of(label, images.affine(codes, (*spacing, 8.0)))
    prepared = prepare(case, Grid(wanted, (round(100 / wanted),) * 2), ("LGE",), "affine")
    assert prepared.label is not None
    back = to_file_grid(one_hot(prepared.label), prepared.geometry).argmax(-1)
    assert dice(back, label, 3) > 0.95 and dice(back, label, 2) > 0.95
    area_mm2 = float((prepared.label[0] == 3).sum()) * prepared.spacing_mm[1] * prepared.spacing_mm[2]
    drawn_mm2 = float((label[..., 0] == 3).sum()) * spacing[0] * spacing[1]
    assert area_mm2 == pytest.approx(drawn_mm2, rel=0.06)  # a pixel is 0.3% of the disc at most


@pytest.mark.parametrize("codes", images.AXIS_CODES)
@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_the_frame_is_the_patients_whatever_the_file(codes, tilt):
    """Each voxel holds its own place in the patient: the axes must then run to base, feet, left-posterior."""
    for thick in range(3):
        spacing = [1.0, 1.0, 1.0]
        spacing[thick] = 4.0
        grid = images.affine(codes, spacing, tilt=tilt)
        index = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1)
        place = index @ grid[:3, :3].T
        frame = orientation(grid, "affine")
        canonical = to_canonical(place, frame)
        assert frame.axes[0] == thick
        up, down, across = (np.diff(canonical, axis=a).mean(axis=(0, 1, 2)) for a in range(3))
        assert up @ (1, -1, 1) > 0
        rest = [grid[:3, i] for i in range(3) if i != thick]
        best = max(
            s * h[2] * -1 + t * (-w[0] - w[1]) / np.sqrt(2)
            for h, w in (rest, rest[::-1])
            for s in (1, -1)
            for t in (1, -1)
        )
        assert -down[2] - (across[0] + across[1]) / np.sqrt(2) == pytest.approx(best, abs=1e-6)
        np.testing.assert_array_equal(from_canonical(canonical, frame), place)


def test_slice_axis_and_known_orders():
    assert slice_axis((5.0, 0.7, 0.7)) == 0 and slice_axis((0.7, 5.0, 0.7)) == 1
    assert slice_axis((1.0, 1.1, 1.0)) == 2  # not clearly larger
    grid = images.affine(("L", "P", "S"))
    assert orientation(grid, "affine").flips[0] is False  # towards the head is towards the base
    assert orientation(grid, "base_first").flips[0] is True
    assert orientation(grid, "apex_first").flips[0] is False
    with pytest.raises(ValueError, match="slice_order"):
        orientation(grid, "random")


def test_ties_are_broken_the_same_way():
    """Axial axes say nothing of up and down: pixels stay as stored, first axis along columns."""
    frame = orientation(np.diag([-1.5, -1.5, 8.0, 1.0]), "affine")
    assert frame == ((2, 1, 0), (False, False, False))


def test_z_score_position_and_padding():
    label = np.ones((6, 8, 5), np.uint8)
    label[:, :, 4] = np.where(np.arange(8) < 4, 1, IGNORE)  # the last slice is annotated in part
    case = case_of(label, images.affine(), ("LGE", "T2"))
    prepared = prepare(case, Grid(None, (12, 10)), ("T2", "LGE"), "apex_first")
    assert prepared.label is not None
    np.testing.assert_allclose(prepared.position, [0, 0.25, 0.5, 0.75, 1])
    inside = prepared.label[0] == 1
    assert inside.sum() == 48
    for channel, name in enumerate(("T2", "LGE")):
        values = prepared.image[:, inside, channel]
        assert values.mean() == pytest.approx(0, abs=1e-5) and values.std() == pytest.approx(1, abs=1e-5)
        raw = case.images[name]
        np.testing.assert_allclose(np.sort(values.ravel()), np.sort((raw.ravel() - raw.mean()) / raw.std()), atol=1e-4)
    assert (prepared.image[:, ~inside] == 0).all()
    assert (prepared.label[:4, ~inside] == 0).all() and (prepared.label[4][~inside] == IGNORE).all()
    single = prepare(case_of(label[..., :1], images.affine()), Grid(None, (4, 4)), ("LGE",), "affine")
    np.testing.assert_array_equal(single.position, [0.5])
    with pytest.raises(InputError, match=r"a.nii.gz: case a lacks the sequence bSSFP"):
        prepare(case, Grid(None, (4, 4)), ("bSSFP",), "affine")


def test_ignored_pixels_stay_ignored_when_resampled():
    """Of 20 columns the left half is annotated: so it is, by area, on any grid."""
    label = np.full((20, 20, 2), IGNORE, np.uint8)
    label[:10], label[:5] = 2, 3
    case = case_of(label, images.affine(("P", "I", "R"), (1.0, 1.0, 8.0)))
    prepared = prepare(case, Grid(0.5, (40, 40)), ("LGE",), "affine")
    assert prepared.label is not None
    np.testing.assert_array_equal(prepared.label[0, 0], [3] * 10 + [2] * 10 + [IGNORE] * 20)


def test_down_sampling_does_not_alias():
    """Stripes finer than the new pixels average out, in place of turning into broad false ones."""
    x = np.arange(200)
    stripes = np.cos(2 * np.pi * x / 2.2)
    wave = np.cos(2 * np.pi * (x - 99.5) / 40)
    positions = (np.arange(100) - 49.5) * 2 + 99.5
    weights = resample.matrix(positions, 200, 2.0, cubic=True)
    inner = slice(5, -5)
    assert np.abs(weights @ stripes)[inner].max() < 0.1  # sampling without a filter keeps amplitude 1
    np.testing.assert_allclose((weights @ wave)[inner], np.cos(2 * np.pi * (positions - 99.5) / 40)[inner], atol=0.03)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)


def test_cubic_interpolation_reproduces_quadratics():
    """Keys' kernel is exact for polynomials up to the second degree, away from the edge."""
    x = np.arange(30.0)
    positions = np.linspace(3, 26, 77)
    weights = resample.matrix(positions, 30, 0.3, cubic=True)
    np.testing.assert_allclose(weights @ (0.1 * x**2 - x + 3), 0.1 * positions**2 - positions + 3, rtol=1e-5, atol=1e-5)


def test_mscmr_stacks_grow_from_apex_to_base(real_data):
    """Every patient: the left ventricle widens from the first slices on; nothing lies outside 240 x 240."""
    data = dataset("mscmr")
    records = data.find(real_data / "mscmr")
    assert len(records) >= 30
    ratios = []
    for record in records:
        case = load(record, data, ("LGE",), labelled=True)
        prepared = prepare(case, Grid(None, (240, 240)), ("LGE",), data.slice_order)
        assert case.label is not None and prepared.label is not None
        for k in (1, 2, 3):
            assert (prepared.label == k).sum() == (case.label == k).sum()
        widths = [np.argwhere(plane == 3).std(axis=0).mean() for plane in prepared.label if (plane == 3).any()]
        ratios.append(np.mean(widths[:2]) / np.median(widths))  # spread serves scribbles too
        assert ratios[-1] < 1, record.id
        right, left = (np.argwhere(prepared.label == k)[:, 2].mean() for k in (1, 3))
        assert right + 15 < left, record.id  # the right ventricle lies at smaller columns
        back = to_file_grid(one_hot(np.where(prepared.label == IGNORE, 0, prepared.label)), prepared.geometry)
        np.testing.assert_array_equal(back.argmax(-1), np.where(case.label == IGNORE, 0, case.label))
    assert np.mean(ratios) < 0.75


@pytest.mark.parametrize("order", ["base_first", "apex_first"])
def test_where_the_affine_lost_its_orientation_pixels_stay_as_stored(order):
    """ACDC: diag(+, +, +) would turn the right ventricle to the other side."""
    frame = orientation(np.diag([1.25, 1.25, 10.0, 1.0]), order)
    assert frame.axes == (2, 1, 0)
    assert frame.flips[1:] == (False, False)


@pytest.mark.parametrize("depth", [2, 4, 7])
def test_a_volume_is_cut_or_padded_along_its_slices_and_comes_back(depth):
    case = case_of(images.label(), images.affine())
    flat = prepare(case, Grid(None, (12, 10)), ("LGE",), "apex_first")
    solid = prepare(case, Grid(None, (depth, 12, 10)), ("LGE",), "apex_first")
    assert solid.image.shape == (depth, 12, 10, 1) and solid.label is not None and flat.label is not None
    slices = len(flat.image)
    start = (slices - depth) // 2
    for z in range(depth):
        if 0 <= z + start < slices:
            np.testing.assert_array_equal(solid.image[z], flat.image[z + start])
            np.testing.assert_array_equal(solid.label[z], flat.label[z + start])
        else:
            assert not solid.image[z].any() and (solid.label[z] == IGNORE).all()
    marked = np.eye(2, dtype=np.float32)[np.ones((depth, 12, 10), int)]
    back = to_file_grid(marked, solid.geometry)
    assert back.shape == (*case.images["LGE"].shape, 2)
    axis = solid.geometry.frame.axes[0]
    per_slice = np.moveaxis(back, axis, 0)[..., 1].reshape(slices, -1).max(axis=1)
    if solid.geometry.frame.flips[0]:
        per_slice = per_slice[::-1]
    inside = (np.arange(slices) >= start) & (np.arange(slices) < start + depth)
    np.testing.assert_allclose(per_slice, inside)
    np.testing.assert_allclose(back.sum(axis=-1), 1)
