"""Every kind of bad file is refused with one line that names it; `prepare --check` lists them all at once."""

import gzip
import resource
import struct
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cardiac_jax.data.io import formats, volume
from cardiac_jax.data.load import inspect, load
from cardiac_jax.data.sets import dataset
from cardiac_jax.errors import InputError
from tests import images, tiny

DIMS, DATATYPE, OFFSET, SFORM_ROW_X = 40, 70, 108, 280  # byte places in a NIfTI-1 header


def patched(path: Path, place: int, code: str, *values: float) -> None:
    """Overwrites part of a gzip NIfTI header."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<" + code, raw, place, *values)
    path.write_bytes(gzip.compress(bytes(raw), mtime=0))


def voxels(path: Path, change) -> None:
    loaded = nib.load(path)
    data = np.asarray(loaded.dataobj).astype(np.float32)
    images.save(path, change(data), loaded.affine)


def bomb(path: Path) -> None:
    """A small header followed by far more zeros than it declares."""
    raw = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(raw + bytes(32 * 2**20), mtime=0))


def holes(data: np.ndarray) -> np.ndarray:
    data[1, 2, 3], data[0, 0, 0], data[5, 5, 1] = np.nan, np.inf, -np.inf
    return data


def foreign(data: np.ndarray) -> np.ndarray:
    data[0, 0, :3], data[1, 0, 0] = 7, 421.5
    return data


FULL = "patient1_LGE.nii.gz"
DRAWN = "patient1_LGE_manual.nii.gz"
CASES = {  # name: (file at fault, what is done to the files, words of the message)
    "missing image": (FULL, lambda i, m: i.unlink(), "no such file"),
    "zero length": (FULL, lambda i, m: i.write_bytes(b""), "zero bytes"),
    "truncated gzip": (FULL, lambda i, m: i.write_bytes(i.read_bytes()[:-200]), "truncated"),
    "truncated voxels": (
        FULL,
        lambda i, m: i.write_bytes(gzip.compress(gzip.decompress(i.read_bytes())[:-7])),
        "declares 960 bytes of voxels, the file holds 953",
    ),
    "damaged gzip": (
        FULL,
        lambda i, m: i.write_bytes(i.read_bytes()[:400] + bytes(100) + i.read_bytes()[500:]),
        "damaged gzip|truncated",
    ),
    "not NIfTI": (FULL, lambda i, m: i.write_bytes(b"%PDF-1.7 " * 90), "not NIfTI"),
    "short text": (FULL, lambda i, m: i.write_text("hello", encoding="utf-8"), "not NIfTI"),
    "no magic": (FULL, lambda i, m: patched(i, 344, "4s", b"\0\0\0\0"), "no magic"),
    "header of a pair": (FULL, lambda i, m: patched(i, 344, "4s", b"ni1\0"), "pair"),
    "directory": (DRAWN, lambda i, m: (m.unlink(), m.mkdir()), "DICOM"),
    "negative dims": (
        FULL,
        lambda i, m: patched(i, DIMS, "4h", 3, -12, 10, 4),
        "invalid header: dimensions -12",
    ),
    "too many dims": (FULL, lambda i, m: patched(i, DIMS, "h", 900), "invalid header: 900 dimensions"),
    "huge dims": (FULL, lambda i, m: patched(i, DIMS, "4h", 3, 32767, 32767, 32767), "over the limit"),
    "larger than file": (
        FULL,
        lambda i, m: patched(i, DIMS, "4h", 3, 500, 500, 100),
        "declares 50000000 bytes of voxels, the file holds 960",
    ),
    "unknown type": (FULL, lambda i, m: patched(i, DATATYPE, "h", 9999), "invalid header .9999"),
    "colour": (FULL, lambda i, m: patched(i, DATATYPE, "h", 128), "real numbers"),
    "absurd offset": (FULL, lambda i, m: patched(i, OFFSET, "f", 1e12), "invalid header"),
    "offset NaN": (FULL, lambda i, m: patched(i, OFFSET, "f", float("nan")), "invalid header"),
    "gzip bomb": (FULL, lambda i, m: bomb(i), "far more than the 960 bytes"),
    "affine NaN": (FULL, lambda i, m: patched(i, SFORM_ROW_X, "f", float("nan")), "not finite"),
    "zero spacing": (FULL, lambda i, m: patched(i, SFORM_ROW_X, "12f", *[0.0] * 12), "invalid voxel spacing"),
    "not orthonormal": (
        FULL,
        lambda i, m: patched(i, SFORM_ROW_X, "12f", 1, 0.1, 0, 0, 0, 1, 0, 0, 0, 0, 5, 0),
        "not orthonormal",
    ),
    "NaN and inf": (FULL, lambda i, m: voxels(i, holes), "3 voxels that are NaN or infinite"),
    "constant": (FULL, lambda i, m: voxels(i, lambda d: d * 0 + 4), "constant image .every voxel is 4"),
    "empty volume": (
        FULL,
        lambda i, m: patched(i, DIMS, "4h", 3, 12, 10, 0),
        "empty volume: dimensions 12 x 10 x 0",
    ),
    "4D": (FULL, lambda i, m: images.save(i, images.image((12, 10, 4, 3))), "is 4D .12 x 10 x 4 x 3"),
    "5D": (FULL, lambda i, m: images.save(i, images.image((12, 10, 4, 3, 2))), "is 5D"),
    "shape": (DRAWN, lambda i, m: images.save(m, images.label((12, 10, 5))), "shape 12 x 10 x 5, the image"),
    "spacing": (
        DRAWN,
        lambda i, m: images.save(m, images.label(), images.affine(spacing_mm=(0.8, 0.75, 5.0))),
        "spacing 0.8 x 0.75 x 5 mm, the image",
    ),
    "origin": (
        DRAWN,
        lambda i, m: images.save(m, images.label(), images.affine(origin_mm=(11.0, -20.0, 30.0))),
        "corner 1 mm apart",
    ),
    "direction": (
        DRAWN,
        lambda i, m: images.save(m, images.label(), images.affine(codes=("A", "S", "R"))),
        "lies elsewhere",
    ),
    "unknown labels": (
        DRAWN,
        lambda i, m: voxels(m, foreign),
        r"7 \(3 voxels\), 421.5 \(1 voxels\); known are 0, 200",
    ),
    "label truncated": (DRAWN, lambda i, m: m.write_bytes(m.read_bytes()[:-60]), "truncated"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_with_one_line_that_names_the_file(tmp_path, name):
    culprit, spoil, words = CASES[name]
    image, label = images.patient(tmp_path, 1)
    spoil(image, label)
    data = dataset("mscmr")
    with pytest.raises(InputError, match=words) as caught:
        load(data.find(tmp_path)[0], data, labelled=True)
    assert Path(caught.value.where) == tmp_path / culprit
    assert str(caught.value).startswith(str(tmp_path / culprit) + ": ")
    assert "\n" not in str(caught.value)


def test_a_sound_case_is_accepted(tmp_path):
    images.patient(tmp_path, 1)
    data = dataset("mscmr")
    case = load(data.find(tmp_path)[0], data, ("LGE",), labelled=True)
    raw = images.label()
    assert case.images["LGE"].dtype == np.float32 and case.label is not None and case.label.dtype == np.uint8
    assert case.images["LGE"].shape == case.label.shape == case.shape == (4, 10, 12)
    np.testing.assert_array_equal(case.stack(case.images["LGE"]).to_file(), images.image())
    label = case.stack(case.label).to_file()
    for value, known in {0: 0, 200: 2, 500: 3, 600: 1, 255: 255}.items():
        np.testing.assert_array_equal(label == known, raw == value)


def test_unreadable_file(tmp_path, monkeypatch):
    image, _ = images.patient(tmp_path, 1)

    def refuse(self, *args):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"cannot be read .Permission denied"):
        formats.read(image)


def test_missing_label_and_sequence(tmp_path):
    _, label = images.patient(tmp_path, 1)
    label.unlink()
    data = dataset("mscmr")
    record = data.find(tmp_path)[0]
    assert load(record, data).label is None
    with pytest.raises(InputError, match="case patient1 has no label file"):
        load(record, data, labelled=True)
    with pytest.raises(InputError, match="case patient1 lacks the sequence T2"):
        load(record, data, ("LGE", "T2"))


def test_sequences_on_two_grids_are_refused(tmp_path):
    images.patient(tmp_path, 1)
    images.save(tmp_path / "patient1_T2.nii.gz", images.image((6, 5, 3)))
    data = dataset("mscmr")
    case, problems = inspect(data.find(tmp_path)[0], data, ("LGE", "T2"))
    assert case is None and [Path(p.where).name for p in problems] == ["patient1_T2.nii.gz"]
    _, problems = inspect(data.find(tmp_path)[0], data, ("T2",))  # the label was drawn on LGE
    assert [Path(p.where).name for p in problems] == [DRAWN]


def test_unknown_data_set_and_empty_folder(tmp_path):
    with pytest.raises(InputError, match=r"^data\.name: 'mscmrr' is not one of .*mscmr, .*phantom"):
        dataset("mscmrr")
    with pytest.raises(InputError, match="holds no patient"):
        dataset("mscmr").find(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        dataset("folder").find(tmp_path / "nowhere")
    (tmp_path / "image.png").write_bytes(b"1")
    with pytest.raises(InputError, match="no known image suffix"):
        formats.read(tmp_path / "image.png")


def test_a_bomb_is_not_inflated(tmp_path):
    """A 1 GiB bomb in 1 MB: refused without the memory it would need."""
    path, _ = images.patient(tmp_path, 1)
    path.write_bytes(path.read_bytes() + gzip.compress(bytes(2**24)) * 64)  # gzip members are concatenated
    assert path.stat().st_size < 2**21
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="far more"):
        formats.read(path)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib * 1024 < 2**28


@pytest.mark.parametrize("name", ["x.nrrd", "x.mha"])
def test_bad_nrrd_and_metaimage(tmp_path, name):
    path = tmp_path / name
    sound = formats.encode(path, images.image(), images.affine())
    sizes = b"12 10 4"
    for content, words in {
        sound[:-40]: "truncated|damaged",
        b"": "zero bytes",
        b"P5 12 10 255 " * 40: "not NRRD|not MetaImage",
        sound.replace(sizes, b"-2 10 4"): "invalid header",
        sound.replace(sizes, b"12 10 0"): "empty volume",
        sound.replace(sizes, b"90000 90000 90000"): "over the limit",
        sound.replace(sizes, b"12 10 9"): "truncated",
        sound.replace(sizes, b"12 1o 4"): "header",
    }.items():
        path.write_bytes(content)
        with pytest.raises(InputError, match=words) as caught:
            formats.read(path)
        assert caught.value.where == str(path) and "\n" not in str(caught.value)


def test_limits_are_checked_before_the_voxels_are_read():
    with pytest.raises(InputError, match="over the limit"):
        volume.checked_shape((volume.MAX_VOXELS, 2, 1), Path("x"))
    assert volume.checked_shape((5, 4, 1, 1, 1), Path("x")) == (5, 4, 1)
    assert volume.checked_shape((5, 4), Path("x")) == (5, 4, 1)


def test_check_reports_every_problem_in_one_table(tmp_path):
    spoiled = [name for name in ("zero length", "unknown labels", "constant", "huge dims", "origin", "not NIfTI")]
    for number, name in enumerate(spoiled, 1):
        CASES[name][1](*images.patient(tmp_path / "train", number))
    images.patient(tmp_path / "train", 20)
    images.patient(tmp_path / "train", 21)
    images.patient(tmp_path / "val", 21)  # one patient on both sides
    command = [
        sys.executable,
        "-m",
        "launch.prepare",
        "--check",
        "--data.name=mscmr",
        f"--data.root={tmp_path}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tiny.ROOT)
    assert done.returncode == 2 and "Traceback" not in done.stdout + done.stderr, done.stderr
    for number, name in enumerate(spoiled, 1):
        culprit = CASES[name][0].replace("patient1", f"patient{number}")
        assert f"train/{culprit}" in done.stdout
    for words in (
        "zero bytes",
        "7 (3 voxels)",
        "constant image",
        "over the limit",
        "1 mm apart",
        "not NIfTI",
    ):
        assert words in done.stdout
    assert "patient patient21 is in train and in val" in done.stdout
    assert f"{len(spoiled) + 1} problems" in done.stdout
    sound = subprocess.run([*command[:-1], f"--data.root={tmp_path}/val"], capture_output=True, text=True)
    assert sound.returncode == 0 and "0 problems" in sound.stdout
