"""The canonical frame, the network's grid in it, and the way back to the grid of the case and of its file."""

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
from cardiac_jax.data.preprocess import Grid, prepare, to_native_grid
from cardiac_jax.data.sets import dataset
from cardiac_jax.data.stack import from_volume
from cardiac_jax.errors import InputError
from tests import images

AS_IT_IS = (0.0, 0.0, 0.0)


def case_of(label: np.ndarray, grid: np.ndarray, sequences=("LGE",), seed=0, order="affine") -> Case:
    """A case of noise; `label` is `[X, Y, Z]`, as a file with the affine `grid` holds it."""
    rng = np.random.default_rng(seed)
    drawn = from_volume(label, grid, order)
    arrays = {s: rng.normal(100, 30, drawn.data.shape).astype(np.float32) for s in sequences}
    return Case("a", "p", arrays, drawn.data, drawn.frame, grid, None, None, None, Path("a.nii.gz"))


def own(case: Case) -> np.ndarray:
    """The label, `[Z, H, W]`."""
    assert case.label is not None
    return case.label


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
    thick = shape.index(1) if shape.count(1) == 1 else thick  # one slice, whatever its spacing
    label = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    case = case_of(label, images.affine(codes, spacing, tilt=tilt), order=order)
    np.testing.assert_array_equal(case.stack(own(case)).to_file(), label)
    prepared = prepare(case, Grid(AS_IT_IS, size), ("LGE",))
    assert prepared.label is not None
    assert prepared.image.shape == (shape[thick], *size, 1) and prepared.label.shape == (shape[thick], *size)
    back = case.stack(to_native_grid(one_hot(prepared.label), prepared.geometry)).to_file()
    np.testing.assert_array_equal(back.sum(-1), 1)
    everywhere = to_native_grid(np.ones((*prepared.label.shape, 4), np.float32), prepared.geometry)
    kept = case.stack(everywhere).to_file()[..., 3] == 1
    np.testing.assert_array_equal(back.argmax(-1)[kept], label[kept])
    np.testing.assert_array_equal(back[~kept], np.eye(4)[np.zeros((~kept).sum(), int)])
    axes = case.frame.axes
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
    prepared = prepare(case, Grid((0.0, wanted, wanted), (round(100 / wanted),) * 2), ("LGE",))
    assert prepared.label is not None
    back = case.stack(to_native_grid(one_hot(prepared.label), prepared.geometry).argmax(-1)).to_file()
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
    assert frame == ((2, 1, 0), (False, False, False), False)  # nor of apex and base


def test_z_score_position_and_padding():
    label = np.ones((6, 8, 5), np.uint8)
    label[:, :, 4] = np.where(np.arange(8) < 4, 1, IGNORE)  # the last slice is annotated in part
    case = case_of(label, images.affine(), ("LGE", "T2"), order="apex_first")
    prepared = prepare(case, Grid(AS_IT_IS, (12, 10)), ("T2", "LGE"))
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
    single = prepare(case_of(label[..., :1], images.affine()), Grid(AS_IT_IS, (4, 4)), ("LGE",))
    np.testing.assert_array_equal(single.position, [0.5])
    with pytest.raises(InputError, match=r"a.nii.gz: case a lacks the sequence bSSFP"):
        prepare(case, Grid(AS_IT_IS, (4, 4)), ("bSSFP",))


def test_ignored_pixels_stay_ignored_when_resampled():
    """Of 20 columns the left half is annotated: so it is, by area, on any grid."""
    label = np.full((20, 20, 2), IGNORE, np.uint8)
    label[:10], label[:5] = 2, 3
    case = case_of(label, images.affine(("P", "I", "R"), (1.0, 1.0, 8.0)))
    prepared = prepare(case, Grid((0.0, 0.5, 0.5), (40, 40)), ("LGE",))
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
        prepared = prepare(case, Grid(AS_IT_IS, (240, 240)), ("LGE",))
        assert case.label is not None and prepared.label is not None
        for k in (1, 2, 3):
            assert (prepared.label == k).sum() == (case.label == k).sum()
        widths = [np.argwhere(plane == 3).std(axis=0).mean() for plane in prepared.label if (plane == 3).any()]
        ratios.append(np.mean(widths[:2]) / np.median(widths))  # spread serves scribbles too
        assert ratios[-1] < 1, record.id
        right, left = (np.argwhere(prepared.label == k)[:, 2].mean() for k in (1, 3))
        assert right + 15 < left, record.id  # the right ventricle lies at smaller columns
        back = to_native_grid(one_hot(np.where(prepared.label == IGNORE, 0, prepared.label)), prepared.geometry)
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
    case = case_of(images.label(), images.affine(), order="apex_first")
    flat = prepare(case, Grid(AS_IT_IS, (12, 10)), ("LGE",))
    solid = prepare(case, Grid(AS_IT_IS, (depth, 12, 10)), ("LGE",))
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
    back = to_native_grid(marked, solid.geometry)
    assert back.shape == (*case.shape, 2)
    per_slice = back[..., 1].reshape(slices, -1).max(axis=1)
    inside = (np.arange(slices) >= start) & (np.arange(slices) < start + depth)
    np.testing.assert_allclose(per_slice, inside)
    np.testing.assert_allclose(back.sum(axis=-1), 1)


# --- slices resampled along Z


def pillar(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Ellipsoids one within the other, `[Z, H, W]`: half axes 30, 22, 22 mm of class 3 within 40, 32, 32 mm of 2."""
    at_mm = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing_mm, strict=True)]
    z, y, x = np.meshgrid(*at_mm, indexing="ij")
    far = np.hypot(y, x)
    inner, outer = (z / 30) ** 2 + (far / 22) ** 2 < 1, (z / 40) ** 2 + (far / 32) ** 2 < 1
    return np.where(inner, 3, np.where(outer, 2, 0)).astype(np.uint8)


@pytest.mark.parametrize("codes", images.AXIS_CODES[::5])
@pytest.mark.parametrize(("own_mm", "wanted_mm"), [(8.0, 2.0), (8.0, 5.0), (2.5, 5.0), (3.0, 4.0)])
def test_labels_and_probabilities_survive_slices_of_another_thickness(codes, own_mm, wanted_mm):
    shape, spacing = (round(100 / own_mm), 50, 50), (own_mm, 1.8, 1.8)
    grid = images.affine(codes, spacing[::-1])
    frame = orientation(grid, "affine")
    order = np.argsort(frame.axes)
    label = from_canonical(pillar(shape, spacing), frame)
    assert label.shape == tuple(shape[i] for i in order)
    case = case_of(label, grid)
    prepared = prepare(case, Grid((wanted_mm, 0.0, 0.0), (48, 48)), ("LGE",))
    assert prepared.label is not None and prepared.image.shape == (*prepared.label.shape, 1)
    slices = round(shape[0] * own_mm / wanted_mm)
    assert prepared.label.shape == (slices, 48, 48)
    assert prepared.spacing_mm == pytest.approx((wanted_mm, 1.8, 1.8))
    drawn = pillar(prepared.label.shape, (wanted_mm, 1.8, 1.8))
    assert dice(prepared.label, drawn, 3) > 0.9 and dice(prepared.label, drawn, 2) > 0.85
    back = to_native_grid(one_hot(prepared.label), prepared.geometry)
    assert back.shape == (*case.shape, 4)
    np.testing.assert_allclose(back.sum(axis=-1), 1, atol=1e-5)
    assert dice(back.argmax(-1), own(case), 3) > 0.9 and dice(back.argmax(-1), own(case), 2) > 0.85


@pytest.mark.parametrize(
    ("own_mm", "wanted_mm", "slices", "cropped"), [(8.0, 2.0, 18, 6), (3.0, 6.0, 9, 0), (8.0, 2.0, 60, 0)]
)
def test_what_is_linear_along_z_comes_back_linear(own_mm, wanted_mm, slices, cropped):
    """A ramp of probability over the slices; outside the slices that the grid keeps there is background."""
    count = 10
    case = case_of(np.zeros((5, 6, count), np.uint8), images.affine(("L", "P", "S"), (1.0, 1.0, own_mm)))

    def ramp(number: int, step_mm: float) -> np.ndarray:
        at_mm = (np.arange(number) - (number - 1) / 2) * step_mm  # both fields of view have one centre
        one = np.broadcast_to((0.5 + 0.005 * at_mm)[:, None, None], (number, *case.shape[1:]))
        return np.stack([1 - one, one], axis=-1)

    prepared = prepare(case, Grid((wanted_mm, 0.0, 0.0), (slices, *case.shape[1:])), ("LGE",))
    back, filled = (to_native_grid(ramp(slices, wanted_mm), prepared.geometry, *fill) for fill in ((), (-3.0,)))
    away_mm = np.abs(np.arange(count) - (count - 1) / 2) * own_mm
    outside = away_mm > slices * wanted_mm / 2
    inner = away_mm < slices * wanted_mm / 2 - max(own_mm, wanted_mm)  # the kernel does not reach the edge
    assert outside.sum() == cropped and inner.sum() >= 2
    np.testing.assert_allclose(back[inner], ramp(count, own_mm)[inner], atol=1e-5)
    np.testing.assert_allclose(back.sum(axis=-1), 1, atol=1e-6)
    np.testing.assert_array_equal(back[outside], np.broadcast_to([1, 0], back[outside].shape))
    np.testing.assert_array_equal(filled[outside], np.broadcast_to([-3, 0], back[outside].shape))
    np.testing.assert_array_equal(filled[~outside], back[~outside])


def test_position_and_padding_of_resampled_slices():
    """Ten slices of 8 mm become 20 of 4 mm in a grid of 24: two slices of padding at either end."""
    label = np.ones((6, 6, 10), np.uint8)
    grid = Grid((4.0, 0.0, 0.0), (24, 6, 6))
    affine = images.affine(("L", "P", "S"), (1.0, 1.0, 8.0))
    prepared = prepare(case_of(label, affine), grid, ("LGE",))
    assert prepared.label is not None
    within = np.arange(24)[2:-2]
    np.testing.assert_allclose(prepared.position[[0, 1, 22, 23]], 0.5)
    expected = np.clip((within - 11.5) * 4 / 8 / 9 + 0.5, 0, 1)  # 9 steps of 8 mm from apex to base
    np.testing.assert_allclose(prepared.position[2:-2], expected, atol=1e-6)
    assert not prepared.image[[0, 1, 22, 23]].any() and prepared.image[2:-2].any(axis=(1, 2, 3)).all()
    assert (prepared.label[2:-2] == 1).all() and (prepared.label[[0, 1, 22, 23]] == 0).all()
    label[:, :, 5:] = IGNORE  # the upper half of the slices
    half = prepare(case_of(label, affine), grid, ("LGE",)).label
    assert half is not None
    np.testing.assert_array_equal((half == 1).all(axis=(1, 2)), (within[0] <= np.arange(24)) & (np.arange(24) < 12))
    assert (half[12:] == IGNORE).all() and (half[:2] == IGNORE).all(), "padding of a volume annotated in part"
