"""What a file tells of its geometry twice must agree; one grid is one grid however it is stored."""

import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiac_jax import notes
from cardiac_jax.data import label_maps
from cardiac_jax.data.check import check
from cardiac_jax.data.discover import discover
from cardiac_jax.data.io import formats, geometry
from cardiac_jax.data.io.volume import Volume
from cardiac_jax.data.load import load
from cardiac_jax.data.orientation import orientation
from cardiac_jax.data.preprocess import Grid, prepare
from cardiac_jax.data.regrid import on_grid
from cardiac_jax.data.sets import dataset
from cardiac_jax.errors import InputError
from cardiac_jax.metrics.evaluate import evaluate_case
from tests import dicoms, images

OBLIQUE = images.affine(("L", "S", "P"), (0.7, 0.8, 6.0), tilt=0.4)
CLASSES = ("background", "RV", "Myo", "LV")


def said(path: Path) -> list[str]:
    """The notes of a file."""
    with notes.collected() as found:
        formats.read(path)
    return [note for _, note in found]


# --- told twice


def written(path: Path, grid: np.ndarray, codes: tuple[int, int] = (1, 1), **fields) -> Path:
    """An image of which raw fields of the header are then replaced."""
    images.save(path, images.image(), grid, codes)
    raw = path.read_bytes()
    header = np.frombuffer(raw[:348], nib.nifti1.header_dtype).copy()
    for name, value in fields.items():
        header[name][0] = value
    path.write_bytes(header.tobytes() + raw[348:])
    return path


MOVED = OBLIQUE + np.array([[0, 0, 0, 1.0]] + [[0] * 4] * 3)
PIXDIM = (1, 0.7, 0.8, 6, 0, 0, 0, 0)
TWICE = {  # name: (codes, header fields, words of the message)
    "identity sform, true pixdim": ((0, 1), {"srow_x": (1, 0, 0, 0), "srow_y": (0, 1, 0, 0), "srow_z": (0, 0, 1, 0)},
                                    r"two voxel sizes: 0\.7 x 0\.8 x 6 mm by pixdim, 1 x 1 x 1 mm by sform"),
    "stale pixdim": ((0, 1), {"pixdim": (1, 1.4, 1.4, 8, 0, 0, 0, 0)}, r"sizes: 1\.4 x 1\.4 x 8 mm by pixdim, 0\.7 x"),
    "moved qform": ((1, 1), {"qoffset_x": OBLIQUE[0, 3] + 1}, "two places: sform and qform put a corner 1 mm apart"),
    "turned qform": ((1, 2), {"quatern_b": 0, "quatern_c": 0, "quatern_d": 0}, "two places: sform and qform"),
    "metres": ((0, 1), {"xyzt_units": 1}, r"voxels of 0\.7 x 0\.8 x 6 m \(xyzt_units\)"),
    "micrometres": ((1, 0), {"xyzt_units": 3}, r"voxels of 0\.7 x 0\.8 x 6 um"),
    "metres called mm": ((0, 0), {"pixdim": (1, 7e-4, 8e-4, 6e-3, 0, 0, 0, 0)}, "invalid voxel spacing"),
    "far away": ((0, 1), {"srow_x": (*OBLIQUE[0, :3], 3e8)}, "invalid position"),
}  # fmt: skip


@pytest.mark.parametrize("name", TWICE)
def test_a_file_that_contradicts_itself_is_refused_with_both_statements(tmp_path, name):
    codes, fields, words = TWICE[name]
    path = written(tmp_path / "x.nii", OBLIQUE, codes, **fields)
    with pytest.raises(InputError, match=words):
        formats.read(path)
    assert formats.read(written(path, OBLIQUE, codes)).spacing_mm == pytest.approx((0.7, 0.8, 6.0))


@pytest.mark.parametrize("fields", [{"pixdim": (0, *PIXDIM[1:])}, {"pixdim": (1, -0.7, 0.8, 6, 0, 0, 0, 0)}])
def test_signs_that_the_standard_gives_a_meaning_are_read(tmp_path, fields):
    one, other = (formats.read(written(tmp_path / n, np.diag([0.7, 0.8, 6.0, 1.0]), (1, 0), **f)).affine
                  for n, f in (("a.nii", {}), ("b.nii", fields)))  # fmt: skip
    np.testing.assert_array_equal(one, other)


def test_sform_and_qform_of_every_orientation_agree_to_rounding(tmp_path):
    tilts = (0.0, 1e-5, 3e-4, 1e-3, 0.3)  # just off a half turn a quaternion loses half its digits
    for codes, tilt in itertools.product(images.AXIS_CODES, tilts):
        grid = images.affine(codes, (1.4, 1.2, 8.0), tilt=tilt)
        header = nib.Nifti1Header()
        header.set_data_shape((512, 512, 30))
        header.set_qform(grid, 1)
        qform = header.get_qform()
        geometry.checked({"sform": grid, "qform": qform}, {"pixdim": header["pixdim"][1:4]}, (512, 512, 30), Path("x"))


def test_a_size_told_twice_in_nrrd_and_metaimage(tmp_path):
    path = tmp_path / "x.nrrd"
    sound = formats.encode(path, images.image(), OBLIQUE)
    for more, words in {
        b"spacings: 0.7 0.8 5\n": r"two voxel sizes: 0\.7 x 0\.8 x 5 mm by spacings",
        b'space units: "m" "m" "m"\n': "invalid voxel spacing",
        b'space units: "m" "mm" "mm"\n': "different space units",
    }.items():
        path.write_bytes(sound.replace(b"kinds:", more + b"kinds:"))
        with pytest.raises(InputError, match=words):
            formats.read(path)
    path.write_bytes(sound.replace(b"dimension: 3", b"dimension: 4"))
    with pytest.raises(InputError, match="two numbers of axes: 4 by dimension, 3 by sizes"):
        formats.read(path)
    path = tmp_path / "x.mha"
    path.write_bytes(formats.encode(path, images.image(), OBLIQUE).replace(b"NDims = 3", b"NDims = 4"))
    with pytest.raises(InputError, match="two numbers of axes: 4 by NDims, 3 by DimSize"):
        formats.read(path)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.nrrd"])
def test_a_slice_more_than_the_header_declares_is_refused(tmp_path, name):
    path = tmp_path / name
    if name == "x.nrrd":
        path.write_bytes(formats.encode(path, images.image(), OBLIQUE).replace(b"sizes: 12 10 4", b"sizes: 12 10 3"))
    else:
        raw = bytearray(formats.encode(Path("x.nii"), images.image(), OBLIQUE))
        raw[46] = 3  # dim[3]
        path.write_bytes(gzip.compress(bytes(raw)) if name.endswith("gz") else bytes(raw))
    with pytest.raises(InputError, match="240 bytes, a slice or more, after the 720"):
        formats.read(path)


# --- told once, or not at all


def test_what_a_file_does_not_tell_is_noted(tmp_path):
    path = written(tmp_path / "a.nii", np.diag([0.7, 0.8, 6.0, 1.0]), (0, 0))
    assert not formats.read(path).placed and "qform_code and sform_code are 0" in said(path)[0]
    path = written(tmp_path / "b.nii", np.eye(4))
    assert "the identity" in said(path)[0]
    path = written(tmp_path / "c.nii", OBLIQUE)
    assert formats.read(path).placed and not said(path)
    path = tmp_path / "d.nrrd"
    text = formats.encode(path, images.label(), np.diag([-0.7, -0.8, 6.0, 1.0]))
    lines = [line for line in text.split(b"\n") if not line.startswith(b"space")]
    path.write_bytes(b"\n".join(lines).replace(b"kinds:", b"spacings: 0.7 0.8 6\nkinds:"))
    read = formats.read(path)
    assert read.spacing_mm == pytest.approx((0.7, 0.8, 6.0)) and "no space directions" in said(path)[0]
    again = tmp_path / "again.nrrd"  # a prediction keeps to what its image tells
    again.write_bytes(formats.encode(again, images.label(), read.affine, path))
    assert not formats.read(again).placed and formats.read(again).spacing_mm == pytest.approx((0.7, 0.8, 6.0))
    placed = tmp_path / "e.nrrd"
    placed.write_bytes(text)
    with pytest.raises(InputError, match="unknown grid: it tells no position, the image d does"):
        on_grid(path, read, formats.read(placed)._replace(affine=OBLIQUE), "the image d")
    assert on_grid(path, read, read._replace(affine=OBLIQUE), "x").data is read.data  # neither tells one


def test_notes_are_said_once_and_of_few_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(notes, "_files", {})
    for name in "aabbcdefg":
        formats.read(written(tmp_path / f"{name}.nii", np.eye(4)))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == notes.MOST + 1 and lines[3].startswith("note: further files: tells 1 x 1 x 1 mm")
    assert [line.partition(".nii")[0][-1] for line in lines[:3]] == ["a", "b", "c"]


# --- one grid, stored in many ways


def stored(one: Volume, axes, flips) -> Volume:
    """`one` with its axes permuted and flipped in storage, at the same place."""
    back = np.zeros((4, 4))
    back[3, 3] = 1
    for k, axis in enumerate(axes):
        back[axis, k], back[axis, 3] = (-1, one.data.shape[axis] - 1) if flips[k] else (1, 0)
    data = np.flip(one.data.transpose(axes), [k for k in range(3) if flips[k]])
    return Volume(np.ascontiguousarray(data), one.affine @ back, None)


@settings(max_examples=40, deadline=None)
@given(
    codes=st.sampled_from(images.AXIS_CODES),
    tilt=st.floats(0, 0.7),
    axes=st.permutations(range(3)),
    flips=st.tuples(*[st.booleans()] * 3),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    nudge=st.floats(-0.03, 0.03),
)
def test_a_grid_stored_flipped_or_permuted_is_brought_back_exactly(codes, tilt, axes, flips, shape, nudge):
    one = Volume(images.image(shape), images.affine(codes, (0.7, 0.8, 6.0), tilt=tilt), None)
    other = stored(one, axes, flips)
    other.affine[:3, 3] += nudge
    found = on_grid(Path("x"), other, one, "y")
    np.testing.assert_array_equal(found.data, one.data)
    np.testing.assert_array_equal(found.affine, one.affine)
    other.affine[:3, 3] += 0.5
    with pytest.raises(InputError, match="y"):
        on_grid(Path("x"), other, one, "y")


@pytest.mark.parametrize(("axes", "flips"), [((0, 1, 2), (1, 0, 0)), ((2, 0, 1), (0, 1, 1))])
def test_a_case_is_the_same_however_its_label_is_stored(tmp_path, axes, flips):
    _, label = images.patient(tmp_path, 1)
    data = dataset("mscmr")
    before = load(data.find(tmp_path)[0], data)
    other = stored(formats.read(label), axes, flips)
    images.save(label, other.data, other.affine)
    assert formats.read(label).data.shape == other.data.shape
    np.testing.assert_array_equal(load(data.find(tmp_path)[0], data).label, before.label)


@settings(max_examples=8, deadline=None)
@given(codes=st.sampled_from(images.AXIS_CODES), tilt=st.floats(0, 0.7), seed=st.integers(0, 99))
def test_converting_files_changes_no_measure(tmp_path_factory, codes, tilt, seed):
    """NIfTI, NRRD, MetaImage and DICOM of the same maps, each predicted map on a storage of its own."""
    folder, rng = tmp_path_factory.mktemp("formats"), np.random.default_rng(seed)
    grid = images.affine(codes, (1.37, 1.41, 7.9), tilt=tilt)
    y, x, _ = np.indices((20, 18, 4))
    maps = []
    for radius, shift in ((5.0, 0.0), (5.5, 1.3)):
        far = np.hypot(y - 10 - shift, x - 9)
        maps.append(np.select([far < radius - 2, far < radius, far < radius + 2], [3, 2, 1], 0).astype(np.uint8))
    maps[1][..., rng.integers(4)] = 0
    measured = []
    for name in ("x.nii.gz", "x.nrrd", "x.mha", "dicom"):
        files = []
        for folder_name, data in zip(("pred", "truth"), maps, strict=True):
            given = stored(Volume(data, grid, None), rng.permutation(3), rng.integers(0, 2, 3).astype(bool))
            path = folder / folder_name / name
            path.parent.mkdir(exist_ok=True)
            if name == "dicom":
                dicoms.stack(path, given.data.astype(np.uint16), given.affine, SliceThickness=None)
            else:
                path.write_bytes(formats.encode(path, given.data, given.affine))
            files.append(formats.read(path))
        pred, truth = on_grid(Path("x"), files[0], files[1], "y"), files[1]
        axis = orientation(truth.affine, "affine", truth.data.shape).axes[0]
        measured.append(evaluate_case(pred.data, truth.data, truth.spacing_mm, CLASSES, slice_axis=axis))
    for rows in measured[1:]:
        for row, first in zip(rows, measured[0], strict=True):
            numbers = [k for k, v in first.items() if isinstance(v, float)]
            assert {k: row[k] for k in first.keys() - numbers} == {k: first[k] for k in first.keys() - numbers}
            np.testing.assert_allclose([row[k] for k in numbers], [first[k] for k in numbers], rtol=1e-6, atol=1e-6)


# --- segmentations of Slicer


def slicer(path: Path, data: np.ndarray, grid: np.ndarray, more: str = "") -> Path:
    text = formats.encode(path, data, grid).replace(b"kinds:", b"Segment0_ID:=Segment_1\nkinds:")
    path.write_bytes(text)
    return path


def test_the_box_of_a_segmentation_is_padded_to_its_image(tmp_path):
    label = np.zeros((12, 10, 4), np.int64)
    label[3:7, 2:8, 1:3] = 2
    whole = Volume(label, OBLIQUE, None)
    corner = np.eye(4)
    corner[:3, 3] = 3, 2, 1
    path = slicer(tmp_path / "a.seg.nrrd", label[3:7, 2:8, 1:3], OBLIQUE @ corner)
    for other in (whole, stored(whole, (2, 0, 1), (True, False, True))):
        with notes.collected() as found:
            padded = on_grid(path, formats.read(path), other, "the image")
        np.testing.assert_array_equal(padded.data, other.data)
        assert "the rest is background" in found[0][1]
    corner[:3, 3] = 3.4, 2, 1
    between = slicer(tmp_path / "b.seg.nrrd", label[3:7, 2:8, 1:3], OBLIQUE @ corner)
    with pytest.raises(InputError, match="has shape 4 x 6 x 2, the image has 12 x 10 x 4"):
        on_grid(between, formats.read(between), whole, "the image")
    corner[:3, 3] = 10, 2, 1
    outside = slicer(tmp_path / "c.seg.nrrd", label[3:7, 2:8, 1:3], OBLIQUE @ corner)
    with pytest.raises(InputError, match="segments outside the image"):
        on_grid(outside, formats.read(outside), whole, "the image")
    plain = tmp_path / "d.nrrd"  # not of Slicer: outside is not known to be background
    plain.write_bytes(formats.encode(plain, label[3:7, 2:8, 1:3], OBLIQUE @ corner))
    with pytest.raises(InputError, match="has shape 4 x 6 x 2"):
        on_grid(plain, formats.read(plain), whole, "the image")


def test_a_segmentation_beside_its_image_is_no_image(tmp_path):
    for name in ("a.nrrd", "a.seg.nrrd"):
        (tmp_path / name).write_bytes(formats.encode(tmp_path / name, images.image(), OBLIQUE))
    found = discover(dataset("folder"), tmp_path)
    assert [dict(record.images) for record in found.records] == [{"image": tmp_path / "a.nrrd"}]
    assert not found.problems and "1 label maps (a.seg.nrrd)" in found.notes[0]
    with pytest.raises(InputError, match=r"a\.nrrd and a\.seg\.nrrd are files of one name"):
        label_maps.listed(tmp_path)  # as label maps they are two of one case


def test_axes_of_nrrd_that_are_not_of_space(tmp_path):
    data, path = images.label((5, 4, 3)), tmp_path / "a.seg.nrrd"
    sound = formats.encode(path, data, OBLIQUE).partition(b"\n\n")[0]

    def four(count: int, first: str, more: bytes = b"") -> None:
        head = sound.replace(b"dimension: 3", b"dimension: 4").replace(b"sizes: ", f"sizes: {count} ".encode())
        head = head.replace(b"kinds: ", f"kinds: {first} ".encode()).replace(b"directions: ", b"directions: none ")
        body = np.stack([data + k for k in range(count)])
        path.write_bytes(head + b"\n" + more + b"\n" + gzip.compress(body.tobytes(order="F")))

    four(1, "list")
    np.testing.assert_array_equal(formats.read(path).data, data)
    four(2, "list", b"Segment0_Layer:=0\nSegment1_Layer:=1\n")
    with pytest.raises(InputError, match="2 layers of overlapping segments"):
        formats.read(path)
    four(3, "RGB-color")
    with pytest.raises(InputError, match="3 components a voxel"):
        formats.read(path)
    four(2, "list")
    frames = formats.nrrd.read(path).data
    np.testing.assert_array_equal(frames, np.stack([data, data + 1], axis=-1))
    with pytest.raises(InputError, match=r"is 4D .5 x 4 x 3 x 2"):
        formats.read(path)


# --- one slice


@pytest.mark.parametrize("axis", range(3))
def test_an_axis_of_length_1_is_the_slice_axis_whatever_its_spacing(tmp_path, axis):
    """Pixels of 1.4 x 1.9 mm, 1, 1.5 and 8 mm (and nothing) between slices: one canonical image, one network grid."""
    plane = images.image((14, 12, 1))
    found = []
    for thick in (1.0, 1.5, 8.0, 0.0):
        grid = images.affine(("L", "S", "P"), (1.4, 1.9, thick or 1.0), tilt=0.4)
        grid[:3, 2] *= thick > 0
        given = Volume(plane, grid, None)
        order = [*(k for k in range(3) if k != 2)]
        order.insert(axis, 2)
        given = stored(given, order, (False,) * 3)
        path = tmp_path / f"{thick:g}.nii"
        header = nib.Nifti1Header()
        header.set_data_shape(given.data.shape)
        header.set_sform(given.affine, 1)
        header["pixdim"][1:4] = np.linalg.norm(given.affine[:3, :3], axis=0)
        header["vox_offset"], header["magic"] = 352, b"n+1"
        header.set_data_dtype(np.int16)
        path.write_bytes(header.binaryblock.ljust(352, b"\0") + given.data.tobytes(order="F"))
        data = dataset("folder")
        case = load(data.find(path)[0], data)
        prepared = prepare(case, Grid((2.0, 1.5, 1.5), (4, 16, 16)), ("LGE",))
        assert case.shape[0] == 1 and case.spacing_mm[1:] == pytest.approx((1.9, 1.4))
        found.append((case.images["image"], prepared.image))
    for image, network in found[1:]:
        np.testing.assert_array_equal(image, found[0][0])
        np.testing.assert_allclose(network, found[0][1], atol=1e-5)


def test_a_file_of_two_axes_lies_on_the_grid_of_one_slice(tmp_path):
    flat = images.save(tmp_path / "flat.nii", images.image()[..., 0], OBLIQUE)
    deep = images.save(tmp_path / "deep.nii", images.image()[..., :1], OBLIQUE)
    thin = OBLIQUE.copy()
    thin[:3, 2] /= 6
    other = images.save(tmp_path / "thin.nii", images.image()[..., 0], thin)
    for path in (flat, other):
        found = on_grid(path, formats.read(path), formats.read(deep), "deep")
        np.testing.assert_array_equal(found.data, images.image()[..., :1])
    assert found.spacing_mm == pytest.approx((0.7, 0.8, 6.0))


# --- apex and base


def test_an_affine_along_the_scanner_knows_no_apex(tmp_path):
    for codes in images.AXIS_CODES:
        for tilt, known in ((0.0, False), (0.005, False), (0.1, True), (0.7, True)):
            grid = images.affine(codes, (1.4, 1.4, 8.0), tilt=tilt)
            assert orientation(grid, "affine").apex_known is known
            assert orientation(grid, "base_first").apex_known


def test_check_notes_an_annotation_unlike_a_heart(tmp_path):
    label = np.zeros((20, 16, 6), np.uint8)
    for z in range(6):
        label[12:15, 4 : 12 - z, z], label[3:6, 4 : 12 - z, z] = 3, 1  # smaller towards the apex
    changes = {"sound": label, "mirrored": label[::-1], "reversed": label[..., ::-1]}
    for number, changed in enumerate(changes.values(), 1):
        folder = tmp_path / f"patient{number:03d}"
        for frame in (1, 2):
            stem = folder / f"patient{number:03d}_frame{frame:02d}"
            images.save(stem.with_name(stem.name + ".nii.gz"), images.image(label.shape), np.diag([1.4, 1.4, 8, 1.0]))
            images.save(stem.with_name(stem.name + "_gt.nii.gz"), changed, np.diag([1.4, 1.4, 8, 1.0]))
        (folder / "Info.cfg").write_text("ED: 1\nES: 2\n", encoding="utf-8")
    found = check(dataset("acdc"), tmp_path)
    assert not found.problems
    told = [(Path(line.partition(": ")[0]).name, line.partition(": ")[2]) for line in found.notes]
    mirrored = "has the right ventricle on the right of the left one: is it mirrored?"
    other = "has both ventricles largest at the apex: do its slices run the other way?"
    assert told == [
        *((f"patient002_frame{k:02d}_gt.nii.gz", mirrored) for k in (1, 2)),
        *((f"patient003_frame{k:02d}_gt.nii.gz", other) for k in (1, 2)),
    ]
