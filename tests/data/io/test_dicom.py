"""DICOM of one stack: whatever the order, layout and encoding of its files, it is the same array, or it is refused."""

import itertools
import shutil
import sys

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from cardiac_jax.data.io import dicom, formats
from cardiac_jax.data.sets import folder
from cardiac_jax.errors import InputError
from tests import dicoms, images

DATA = images.image(dicoms.SHAPE)


def same(read, data=DATA, affine=dicoms.AFFINE) -> None:
    np.testing.assert_array_equal(read.data, data)
    np.testing.assert_allclose(read.affine, affine, atol=1e-6)


def rewrite(path, syntax, **words) -> None:
    held = pydicom.dcmread(path)
    held.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        held["PixelData"].VR = "OW"
        held.PixelData = np.frombuffer(held.PixelData, "<i2").astype(">i2").tobytes()
    if syntax == JPEGLSLossless:
        held.PixelData = encapsulate([held.PixelData])
        held["PixelData"].is_undefined_length = True
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    pydicom.dcmwrite(path, held, implicit_vr=implicit, little_endian=little, force_encoding=True, **words)


def bare(path) -> None:
    """Removes preamble, magic string and file meta information."""
    held = pydicom.dcmread(path)
    del held.file_meta
    held.preamble = None
    held.save_as(path, implicit_vr=True, little_endian=True)


def compress(path) -> None:
    held = pydicom.dcmread(path)
    held.compress(RLELossless)
    held.save_as(path)


def turned(degrees: float) -> list[str]:
    _, axes, _ = dicoms.place(dicoms.AFFINE, 0)
    row, column = axes.reshape(2, 3)
    normal, angle = np.cross(row, column), np.radians(degrees)
    return dicoms.numbers([*row, *(np.cos(angle) * column + np.sin(angle) * normal)])


def moved(path, along: int, mm: float) -> None:
    position, axes, _ = dicoms.place(dicoms.AFFINE, int(path.stem[-1]))
    directions = (*axes.reshape(2, 3), np.cross(*axes.reshape(2, 3)))
    dicoms.change(path, ImagePositionPatient=dicoms.numbers(position + mm * directions[along]))


def each(change):
    return lambda files: [change(path) for path in files]


def shorter(path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def changed(k: int, **fields):
    return lambda files: dicoms.change(files[k], **fields)


RIGHT = {
    "names in another order": lambda f: [p.rename(p.with_name(f"{k * 5 % 6}.dcm")) for k, p in enumerate(f)],
    "no suffix": each(lambda p: p.rename(p.with_suffix(""))),
    "named by UID": each(lambda p: p.rename(p.with_name(f"1.2.3.{p.stem[-1]}"))),
    "instance numbers against the order": lambda f: [dicoms.change(p, InstanceNumber=9 - k) for k, p in enumerate(f)],
    "a series for each slice": lambda f: [dicoms.change(p, SeriesInstanceUID=f"1.2.{k}") for k, p in enumerate(f)],
    "the last slice is another series": changed(5, SeriesInstanceUID="1.2.3", SeriesNumber=7),
    "a folder for each slice": lambda f: [
        shutil.move(p, (p.parent / str(k)).mkdir() or p.parent / str(k)) for k, p in enumerate(f)
    ],
    "positions rounded to 0.01 mm": each(
        lambda p: dicoms.change(
            p, ImagePositionPatient=[f"{float(v):.2f}" for v in pydicom.dcmread(p).ImagePositionPatient]
        )
    ),
    "implicit": each(lambda p: rewrite(p, ImplicitVRLittleEndian)),
    "big-endian": each(lambda p: rewrite(p, ExplicitVRBigEndian)),
    "no preamble": each(bare),
    "compressed": each(compress),
    "12 bits": each(lambda p: dicoms.change(p, BitsStored=12, HighBit=11)),
    "a scale of 1": each(lambda p: dicoms.change(p, RescaleSlope="1", RescaleIntercept="0")),
    "SpacingBetweenSlices is the gap": each(lambda p: dicoms.change(p, SpacingBetweenSlices="2")),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_stack_is_read_whatever_its_files_are_like(name, tmp_path):
    RIGHT[name](dicoms.stack(tmp_path / "s", DATA))
    (record,) = folder.find(tmp_path)
    assert (record.id, record.part) == ("s", "")
    for _ in range(2):
        read = formats.read(record.images["image"], record.part)
        if name.startswith("positions"):
            np.testing.assert_allclose(read.affine, dicoms.AFFINE, atol=0.02)
            read = read._replace(affine=dicoms.AFFINE)
        same(read)


REFUSED = {  # name: (what is done to the files, the file named, words of the message)
    "a slice is missing": (lambda f: f[2].unlink(), "1003", "16.00 mm from IM1001.dcm, other slices 8.00 mm.*missing"),
    "every second slice is missing": (
        lambda f: [dicoms.change(p, SpacingBetweenSlices="8") for p in f] and [f[k].unlink() for k in (1, 3, 5)],
        "1000",
        "SpacingBetweenSlices 8 mm, but positions are 16 mm apart",
    ),
    "a file twice": (lambda f: shutil.copy(f[3], f[3].with_name("copy.dcm")), "copy", "repeats IM1003.dcm: .*SOPInst"),
    "a position twice": (
        lambda f: dicoms.file(f[3].with_name("x.dcm"), DATA[..., 3], dicoms.AFFINE, 3, number=77),
        "x",
        "position 4 of 6, which has 2 images .IM1003.dcm, x.dcm.; other positions have 1",
    ),
    "a position twice, in another series": (
        lambda f: [
            [dicoms.change(p, SeriesInstanceUID=f"1.2.{k}") for k, p in enumerate(f)],
            dicoms.file(f[3].with_name("x.dcm"), DATA[..., 3], dicoms.AFFINE, 3, 8, 77),
        ],
        "x",
        "position of IM1003.dcm, which is of another series",
    ),
    "the end slice twice, in a stack of one series a slice": (
        lambda f: [
            [dicoms.change(p, SeriesInstanceUID=f"1.2.{k}") for k, p in enumerate(f)],
            shutil.copy(f[5], f[5].with_name("copy.dcm")),
        ],
        "copy",
        "repeats IM1005.dcm",
    ),
    "every image twice": (
        lambda f: [
            dicoms.file(f[k].with_name(f"x{k}.dcm"), DATA[..., k], dicoms.AFFINE, k, number=50 + k) for k in range(6)
        ],
        "x0",
        "is a copy of IM1000.dcm",
    ),
    "the last pixels are missing": (lambda f: shorter(f[5], 7), "1005", "declares 240 bytes.*file holds 233"),
    "all pixels are missing": (lambda f: shorter(f[0], 252), "1000", "ends before its PixelData"),
    "the header ends early": (lambda f: f[0].write_bytes(f[0].read_bytes()[:700]), "1000", "ends before its PixelData"),
    "an empty file": (lambda f: f[5].write_bytes(b""), "1005", "zero bytes"),
    "a file of zeros": (lambda f: f[0].write_bytes(bytes(2000)), "1000", "is not DICOM"),
    "a broken link": (lambda f: (f[5].unlink(), f[5].symlink_to("gone")), "1005", "broken link"),
    "more rows than pixels": (changed(1, Rows=11), "1001", "holds 240 bytes of PixelData, its header declares 264"),
    "fewer rows than pixels": (changed(1, Rows=9), "1001", "holds 240 bytes of PixelData, its header declares 216"),
    "another matrix": (changed(2, Rows=12, Columns=10), "1002", "10 x 12 pixels, not 12 x 10 as IM1000"),
    "another orientation": (
        changed(5, ImageOrientationPatient=turned(2.0)),
        "1005",
        "another orientation .2.0 degrees. than IM1000.dcm of the same series",
    ),
    "sheared": (lambda f: [moved(p, 0, 4.0 * k) for k, p in enumerate(f)], "100[05]", "beside the normal"),
    "displaced in its plane": (lambda f: moved(f[3], 1, 1.0), "1003", "1.00 mm beside the normal"),
    "displaced across its plane": (lambda f: moved(f[3], 2, 0.8), "100[34]", "displaced"),
    "another pixel spacing": (changed(4, PixelSpacing=["1.4", "1.5"]), "1004", "pixels of 1.5 x 1.4 mm, not 1.5 x 1.5"),
    "another frame of reference": (changed(4, FrameOfReferenceUID="1.2.3"), "1004", "another FrameOfReferenceUID"),
    "another patient": (changed(4, PatientID="someone"), "1004", "another patient or study"),
    "no position": (changed(4, ImagePositionPatient=None), "1004", "lacks ImagePositionPatient"),
    "a position of two numbers": (changed(4, ImagePositionPatient=["1", "2"]), "1004", "3 numbers are expected"),
    "axes that are not orthogonal": (
        changed(4, ImageOrientationPatient=["1", "0", "0", "0.5", "0.9", "0"]),
        "1004",
        "not orthonormal",
    ),
    "no pixel spacing": (changed(4, PixelSpacing=None), "1004", "lacks PixelSpacing"),
    "negative pixel spacing": (changed(4, PixelSpacing=["-1", "1"]), "1004", "invalid PixelSpacing"),
    "another kind of object": (
        lambda f: [dicoms.change(f[5], SOPClassUID=dicoms.MR.replace("8", "3", 1))],
        "1005",
        "damaged: its two SOP class UIDs differ",
    ),
    "no series": (changed(4, SeriesInstanceUID=None), "1004", "lacks SeriesInstanceUID"),
    "colour": (changed(4, SamplesPerPixel=3), "1004", "3 samples per pixel"),
    "inverted": (each(lambda p: dicoms.change(p, PhotometricInterpretation="MONOCHROME1")), "1000", "MONOCHROME1"),
    "12 bits allocated": (changed(4, BitsAllocated=12), "1004", "12 bits allocated"),
    "more bits than stored": (
        each(lambda p: dicoms.change(p, BitsStored=9, HighBit=8, PixelRepresentation=0)),
        "1000",
        "more than the 9 bits stored",
    ),
    "a slope out of range": (
        lambda f: [dicoms.change(p, RescaleSlope="1e300" if p is f[5] else "2", RescaleIntercept="0") for p in f],
        "1005",
        "beyond the range of float32",
    ),
    "damaged file meta information": (
        lambda f: f[5].write_bytes(f[5].read_bytes().replace(b"UI\x1a\0", b"UI\x10\0", 1)),
        "1005",
        "is damaged",
    ),
    "a slope of 0": (changed(4, RescaleSlope="0", RescaleIntercept="1"), "1004", "RescaleSlope of 0"),
    "a slice without the scale of the others": (
        lambda f: [dicoms.change(p, RescaleSlope="2", RescaleIntercept="1") for p in f[:5]],
        "1005",
        "lacks RescaleSlope",
    ),
    "a compression nothing decodes": (
        each(lambda p: rewrite(p, JPEGLSLossless)),
        "1000",
        "needs a decoder: pip install|cannot be decoded",
    ),
    "compressed pixels end early": (lambda f: (compress(f[5]), shorter(f[5], 20)), "1005", "compressed pixels do not"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_stack_with_a_fault_is_refused_and_the_file_named(name, tmp_path):
    change, at, words = REFUSED[name]
    change(dicoms.stack(tmp_path / "s", DATA))
    (record,) = folder.find(tmp_path)
    with pytest.raises(InputError, match=f"{at}[^ ]*: .*{words}"):
        formats.read(record.images["image"], record.part)


def test_each_slice_is_scaled_by_its_own_header(tmp_path):
    for z in range(6):
        fields = {"RescaleSlope": str(1 + z), "RescaleIntercept": str(-10 * z)}
        dicoms.file(tmp_path / f"{z}.dcm", DATA[..., z], dicoms.AFFINE, z, number=z, **fields)
    read = dicom.read(tmp_path)
    assert read.data.dtype == np.float32
    same(read, DATA * np.arange(1, 7, dtype=np.float32) - 10.0 * np.arange(6, dtype=np.float32))


def test_signs_are_read_from_the_bits_in_use(tmp_path):
    data = (images.image((12, 10, 3)) - 450).astype(np.int16)
    masked = (data & 0xFFF).astype(np.uint16)  # a sign in bit 11, zeros above
    for name, held in (("extended", data), ("masked", masked)):
        fields = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}
        dicoms.stack(tmp_path / name, held, **fields)
        np.testing.assert_array_equal(dicom.read(tmp_path / name).data, data)
    dicoms.stack(tmp_path / "bytes", data, BitsAllocated=8, BitsStored=8, HighBit=7, Columns=24, PixelRepresentation=0)
    np.testing.assert_array_equal(dicom.read(tmp_path / "bytes").data[::2], (data & 0xFF).astype(np.uint8))


@pytest.mark.parametrize("codes", [("L", "P", "S"), ("A", "I", "L"), ("L", "P", "I"), ("P", "S", "R")])
def test_the_same_stack_is_the_same_in_nifti_and_for_itk(codes, tmp_path):
    affine = images.affine(codes, (0.75, 1.5, 8.0), (12.0, -55.0, 31.0), tilt=0.3)
    files = dicoms.stack(tmp_path / "s", DATA, affine)
    read, nifti = formats.read(tmp_path / "s"), formats.read(images.save(tmp_path / "s.nii.gz", DATA, affine))
    if np.linalg.det(affine[:3, :3]) < 0:  # DICOM of a left-handed grid: slices are sorted along their normal
        turn = np.diag([1.0, 1.0, -1.0, 1.0])
        turn[2, 3] = DATA.shape[2] - 1
        nifti = nifti._replace(data=nifti.data[..., ::-1], affine=nifti.affine @ turn)
    same(read, nifti.data, nifti.affine)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(files[0].parent)))
    image = reader.Execute()
    np.testing.assert_array_equal(read.data, sitk.GetArrayFromImage(image).T)
    corners = itertools.product(*((0, n - 1) for n in read.data.shape))
    for corner in corners:
        expected = np.array(image.TransformIndexToPhysicalPoint(corner)) * (-1, -1, 1)
        np.testing.assert_allclose((read.affine @ [*corner, 1])[:3], expected, atol=1e-6)


def test_a_single_slice_has_its_thickness_or_is_refused(tmp_path):
    path = dicoms.file(tmp_path / "one.dcm", DATA[..., 0], dicoms.AFFINE, 0)
    assert formats.read(path).spacing_mm == pytest.approx((1.5, 1.5, 6.0))
    header = nib.Nifti1Image.from_bytes(
        formats.encode(tmp_path / "out.nii", DATA[..., :1], formats.read(path).affine, source=path)
    )
    np.testing.assert_allclose(header.affine, formats.read(path).affine, atol=1e-4)
    dicoms.change(path, SliceThickness=None)
    with pytest.raises(InputError, match=r"one.dcm: is a single slice without SliceThickness"):
        formats.read(path)


def test_without_its_extra_dicom_is_one_clear_line(tmp_path, monkeypatch):
    dicoms.stack(tmp_path / "s", DATA)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (record,) = folder.find(tmp_path)
    with pytest.raises(InputError, match=r"needs an extra: pip install 'cardiac-jax\[dicom\]'"):
        formats.read(record.images["image"])
