"""Formats round trip, predictions keep their image's geometry, nothing is half-written, one run per folder."""

import errno
import gzip
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from cardiac_jax.data.fingerprint import digests
from cardiac_jax.data.io import formats, write
from cardiac_jax.data.load import load
from cardiac_jax.data.sets import dataset
from cardiac_jax.data.stack import from_volume
from cardiac_jax.errors import InputError
from tests import images, tiny

NAMES = ["x.nii", "x.nii.gz", "x.nrrd", "x.mha"]
OBLIQUE = images.affine(("L", "S", "P"), (0.7, 0.8, 6.0), tilt=0.4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
def test_round_trip_and_agreement_with_itk(tmp_path, name, dtype):
    data = images.image().astype(dtype)
    path = tmp_path / name
    path.write_bytes(formats.encode(path, data, OBLIQUE))
    read = formats.read(path)
    np.testing.assert_array_equal(read.data, data)
    assert read.data.dtype == np.dtype(dtype)
    np.testing.assert_allclose(read.affine, OBLIQUE, atol=1e-5)
    other = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(other).T, data)
    np.testing.assert_allclose(_ras(other), OBLIQUE, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("compress", [True, False])
def test_files_written_by_itk_are_read(tmp_path, name, compress):
    image = sitk.GetImageFromArray(images.image().T.copy())
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ OBLIQUE
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(tmp_path / name), compress)
    read = formats.read(tmp_path / name)
    np.testing.assert_array_equal(read.data, images.image())
    np.testing.assert_allclose(read.affine, OBLIQUE, atol=1e-4)


@pytest.mark.parametrize("compress", [True, False])
def test_voxels_beside_their_header(tmp_path, compress):
    """A pair of files (.mhd) written by ITK is read, and one written here is read by ITK."""
    path = tmp_path / "a.mhd"
    write.write_array(path, images.image(), OBLIQUE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mhd", "a.raw"]
    other = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(other).T, images.image())
    np.testing.assert_allclose(_ras(other), OBLIQUE, atol=1e-5)
    sitk.WriteImage(other, str(tmp_path / "b.mhd"), compress)
    read = formats.read(tmp_path / "b.mhd")
    np.testing.assert_array_equal(read.data, images.image())
    np.testing.assert_allclose(read.affine, OBLIQUE, atol=1e-5)
    voxels = tmp_path / ("b.zraw" if compress else "b.raw")
    assert formats.parts(tmp_path / "b.mhd") == [voxels, tmp_path / "b.mhd"]
    assert formats.parts(tmp_path / "c.nii") == [tmp_path / "c.nii"]
    before = digests({"b": tmp_path / "b.mhd"})
    voxels.write_bytes(voxels.read_bytes()[::-1])
    assert digests({"b": tmp_path / "b.mhd"}) != before, "the digest of a header includes its voxels"
    with pytest.raises(ValueError, match="two files"):
        formats.encode(path, images.image(), OBLIQUE)


def test_voxels_that_start_like_gzip_are_voxels_whatever_their_file_is_called(tmp_path):
    data = images.image()
    data[:2, 0, 0] = np.frombuffer(b"\x1f\x8b\x08\x00", "<i2")
    name = "Größe 1.mhd" if sys.getfilesystemencoding() == "utf-8" else "Size 1.mhd"
    write.write_array(tmp_path / name, data, OBLIQUE)
    np.testing.assert_array_equal(formats.read(tmp_path / name).data, data)


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ("../a.raw", r"a\.mhd: stores its voxels in \.\./a\.raw, expected a file in its own folder"),
        ("other.raw", r"other\.raw: no such file"),
        ("LIST", r"a\.mhd: stores its voxels in several files \(ElementDataFile = LIST\), expected one"),
        ("a%02d.raw 1 4 1", r"in several files"),
        ("", r"stores its voxels in no file"),
        ("a" * 256, r"expected a file in its own folder"),
        ("a\0.raw", r"expected a file in its own folder"),
        ("a.raw", r"a\.raw: is truncated: the header declares 960 bytes of voxels, the file holds 958"),
        ("HeaderSize", r"a\.mhd: has HeaderSize = 2, expected none before the voxels in a\.raw"),
    ],
)
def test_a_header_without_its_voxels_is_refused(tmp_path, told, problem):
    path = tmp_path / "a.mhd"
    write.write_array(path, images.image(), OBLIQUE)
    (tmp_path / "a.raw").write_bytes((tmp_path / "a.raw").read_bytes()[:-2])
    line = b"HeaderSize = 2\nElementDataFile = a.raw" if told == "HeaderSize" else b"ElementDataFile = " + told.encode()
    path.write_bytes(path.read_bytes().replace(b"ElementDataFile = a.raw", line))
    with pytest.raises(InputError, match=problem):
        formats.read(path)


def _ras(image: sitk.Image) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    out[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ out


def test_rescaling_units_byte_order_and_nifti_2(tmp_path):
    scaled = nib.Nifti1Image(images.image(), images.affine())
    scaled.header.set_slope_inter(0.5, -3.0)
    nib.save(scaled, tmp_path / "scaled.nii")
    stored = nib.Nifti1Image.from_filename(tmp_path / "scaled.nii")
    np.testing.assert_allclose(formats.read(tmp_path / "scaled.nii").data, stored.get_fdata(), rtol=1e-6)
    metres = nib.Nifti1Image(images.image(), np.diag([1e-3, 1e-3, 5e-3, 1.0]))
    metres.header.set_xyzt_units("meter")
    nib.save(metres, tmp_path / "metres.nii")
    assert formats.read(tmp_path / "metres.nii").spacing_mm == pytest.approx((1.0, 1.0, 5.0))
    big = nib.Nifti1Image(images.image(), OBLIQUE, nib.Nifti1Header(endianness=">"))
    nib.save(big, tmp_path / "big.nii")
    nib.save(nib.Nifti2Image(images.image(), OBLIQUE), tmp_path / "two.nii.gz")
    for name in ("big.nii", "two.nii.gz"):
        read = formats.read(tmp_path / name)
        np.testing.assert_array_equal(read.data, images.image())
        np.testing.assert_allclose(read.affine, OBLIQUE, atol=1e-5)
        again = tmp_path / f"again_{name}"
        again.write_bytes(formats.encode(again, images.label(), read.affine, tmp_path / name))
        np.testing.assert_array_equal(formats.read(again).data, images.label())


@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 2), (4, 3)])
def test_a_prediction_keeps_header_codes_units_and_raw_values(tmp_path, codes):
    images.save(tmp_path / "patient1_LGE.nii.gz", images.image(), OBLIQUE, codes)
    data = dataset("mscmr")
    case = load(data.find(tmp_path)[0], data)
    labels = np.random.default_rng(0).integers(0, 4, (12, 10, 4)).astype(np.uint8)
    drawn = from_volume(labels, case.affine, data.slice_order)
    write.write_label(tmp_path / "out" / "p.nii.gz", drawn, data.labels, case.source)
    image, written = (nib.Nifti1Image.from_filename(tmp_path / n) for n in ("patient1_LGE.nii.gz", "out/p.nii.gz"))
    np.testing.assert_array_equal(written.affine, image.affine)
    for field in ("qform_code", "sform_code", "xyzt_units", "pixdim", "quatern_b", "srow_x", "qoffset_z"):
        np.testing.assert_array_equal(written.header[field], image.header[field])
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.array([0, 600, 200, 500])[labels])
    assert written.get_data_dtype() == np.int16
    with gzip.open(tmp_path / "out" / "p.nii.gz") as stream:
        assert nib.Nifti1Header.from_fileobj(stream).get_slope_inter() == (1.0, 0.0)
    itk = [sitk.ReadImage(str(tmp_path / n)) for n in ("patient1_LGE.nii.gz", "out/p.nii.gz")]
    np.testing.assert_array_equal(_ras(itk[0]), _ras(itk[1]))
    write.write_label(tmp_path / "p.nii", drawn, source=case.source)
    np.testing.assert_array_equal(formats.read(tmp_path / "p.nii").data, labels)
    write.write_label(tmp_path / "empty.nii", drawn.with_data(0 * drawn.data), data.labels, case.source)
    empty = nib.Nifti1Image.from_filename(tmp_path / "empty.nii")
    assert empty.get_data_dtype() == np.int16, "the type of a file does not depend on what it holds"


@pytest.mark.parametrize("source", NAMES)
@pytest.mark.parametrize("target", NAMES)
def test_a_prediction_lies_on_its_image_in_every_format(tmp_path, source, target):
    path = tmp_path / f"in_{source}"
    path.write_bytes(formats.encode(path, images.image(), OBLIQUE))
    data = dataset("folder")
    case = load(data.find(path)[0], data)
    labels = np.zeros((12, 10, 4), np.uint8)
    labels[3:6, 2:5] = 3
    drawn = from_volume(labels, case.affine, data.slice_order)
    assert drawn.frame == case.frame and drawn.data.shape == case.shape != labels.shape
    write.write_label(tmp_path / target, drawn, source=case.source)
    one, two = sitk.ReadImage(str(path)), sitk.ReadImage(str(tmp_path / target))
    np.testing.assert_allclose(_ras(one), _ras(two), atol=1e-5)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(two).T, labels)


def test_what_a_label_file_cannot_hold(tmp_path):
    images.patient(tmp_path, 1)
    data = dataset("mscmr")
    case = load(data.find(tmp_path)[0], data)
    out = tmp_path / "p.nii.gz"
    with pytest.raises(InputError, match="class 4"):
        write.write_label(out, case.stack(np.full(case.shape, 4, np.uint8)), data.labels, case.source)
    with pytest.raises(InputError, match=r"patient1_LGE\.nii\.gz: has another grid"):
        write.write_label(out, case.stack(np.zeros((5, 12, 10), np.uint8)), source=case.source)
    with pytest.raises(InputError, match="suffix"):
        write.write_label(tmp_path / "p.png", case.stack(np.zeros(case.shape, np.uint8)), source=case.source)
    assert not out.exists()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError("x")]
)
def test_a_failed_write_leaves_nothing_and_harms_nothing(tmp_path, error):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"former")

    def fail(temporary: Path) -> None:
        assert temporary.parent == tmp_path and temporary.name.endswith(".nii.gz") and temporary != path
        temporary.write_bytes(b"half")
        raise error

    with pytest.raises(type(error)) as caught:
        write.atomic_write(path, fail)
    assert path.read_bytes() == b"former" and [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]
    if isinstance(error, OSError):
        assert isinstance(caught.value, OSError) and caught.value.filename == str(path)


def test_a_full_disk_leaves_nothing(tmp_path):
    """A file size limit makes the kernel refuse the write, as a full disk does."""
    program = (
        "import resource, signal, sys; from pathlib import Path; from cardiac_jax.data.io import write\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "write.atomic_write(Path(sys.argv[1]), lambda p: write._put(p, bytes(10000)))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "big.bin")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tiny.ROOT)
    assert done.returncode == 1 and "File too large" in done.stderr and "big.bin" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_makes_folders_and_ordinary_permissions(tmp_path):
    path = tmp_path / "new" / "folder" / "x.json"
    write.atomic_write(path, lambda p: write._put(p, b"{}"))
    (tmp_path / "plain").write_bytes(b"")
    assert path.read_bytes() == b"{}"
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_one_run_per_work_directory(tmp_path):
    program = (
        "import sys; from pathlib import Path; from cardiac_jax.data.io.write import lock\n"
        "with lock(Path(sys.argv[1])):\n print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    root = tiny.ROOT
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match=rf"run: is in use by another run \(process {other.pid}\)"),
            write.lock(tmp_path / "run"),
        ):
            pytest.fail("two runs hold one work directory")
        other.kill()  # however it ends, the lock is free
    with write.lock(tmp_path / "run"):
        pass
