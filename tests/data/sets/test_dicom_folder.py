"""DICOM in folders: which cases there are, what is kept apart, and what is said of every file."""

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk

from cardiac_jax.data.discover import discover
from cardiac_jax.data.io import dicom, formats
from cardiac_jax.data.sets import dicom_folder, folder
from cardiac_jax.errors import InputError
from tests import dicoms, images

DATA = images.image(dicoms.SHAPE)
LONG = images.affine(("P", "I", "L"), (1.5, 1.5, 8.0), (40.0, 0.0, 30.0), tilt=0.5)  # a long-axis view


def ids(root) -> list[str]:
    return [record.id for record in folder.find(root)]


def test_stacks_of_one_folder_are_named_by_series_and_others_by_folder(tmp_path):
    dicoms.stack(tmp_path / "p1" / "two", DATA, series=1)
    dicoms.stack(tmp_path / "p1" / "two", DATA + 1, series=2)
    dicoms.stack(tmp_path / "p2" / "lge", DATA + 2, series=3)
    dicoms.stack(tmp_path / "p3" / "lge", DATA + 3, series=4)
    records, _ = dicom_folder.find(tmp_path)
    assert [r.id for r in records] == ["p2_lge", "p3_lge", "two_series1", "two_series2"]
    for record, more in zip(records, (2, 3, 0, 1), strict=True):
        np.testing.assert_array_equal(formats.read(record.images["image"], record.part).data, DATA + more)
    assert ids(tmp_path / "p2" / "lge") == ["lge"]
    with pytest.raises(InputError, match=r"two: holds 2 DICOM images: series1, series2; name one of them"):
        formats.read(tmp_path / "p1" / "two")
    with pytest.raises(InputError, match="none of them is 'series3'"):
        formats.read(tmp_path / "p1" / "two", "series3")


def test_copies_of_a_series_in_two_folders_are_two_cases(tmp_path):
    for name in ("original", "anonymous"):
        dicoms.stack(tmp_path / name, DATA)
    assert ids(tmp_path) == ["anonymous", "original"]


def test_views_and_other_files_are_kept_apart_and_said(tmp_path):
    dicoms.stack(tmp_path / "p" / "sax", DATA, series=5)
    dicoms.file(tmp_path / "p" / "lax" / "4ch.dcm", DATA[..., 0], LONG, 0, series=9)
    for k, codes in enumerate((("L", "P", "S"), ("P", "I", "L"), ("L", "I", "P"))):
        scout = images.affine(codes, (1.5, 1.5, 8.0))
        dicoms.file(tmp_path / "p" / "scout" / f"{k}.dcm", DATA[..., 0], scout, 0, series=1, number=k)
    state = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1", "PixelData": None}
    dicoms.file(tmp_path / "p" / "sax" / "report", DATA[..., 0], LONG, 0, series=20, **state)
    (tmp_path / "p" / "sax" / "notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / "p" / "sax" / ".hidden").write_bytes(b"\0")
    found = discover(folder.DATASET, tmp_path)
    assert [record.id for record in found.records] == ["sax"]
    assert found.notes == [
        f"{tmp_path}: 4 other views kept apart: p/scout/0.dcm, p/scout/1.dcm, p/scout/2.dcm, p/lax/4ch.dcm",
        f"{tmp_path}: 1 DICOM object without an image: p/sax/report (Grayscale Softcopy Presentation State Storage)",
        f"{tmp_path}: 1 file that is not DICOM: p/sax/notes.txt",
        f"{tmp_path}: 1 hidden file: p/sax/.hidden",
        f"not read in {tmp_path}: 2 folders (p/lax, p/scout)",
    ]
    np.testing.assert_array_equal(dicom.read(tmp_path / "p" / "sax").data, DATA)
    assert ids(tmp_path / "p" / "lax") == ["lax"]  # named on its own, a view is a case
    with pytest.raises(InputError, match=r"1.dcm: has another orientation .120.0 degrees. than 0.dcm"):
        formats.read(tmp_path / "p" / "scout")


def test_a_scout_in_the_series_of_a_stack_is_refused(tmp_path):
    dicoms.stack(tmp_path / "s", DATA)
    position = dicoms.numbers(dicoms.place(dicoms.AFFINE, 6)[0])
    dicoms.file(tmp_path / "s" / "scout.dcm", DATA[..., 0], LONG, 0, number=99, ImagePositionPatient=position)
    with pytest.raises(InputError, match=r"scout.dcm: has another orientation"):
        formats.read(tmp_path / "s")


def test_a_radial_set_is_refused(tmp_path):
    for k in range(6):
        turn = images.affine(("P", "I", "L"), (1.5, 1.5, 8.0), (0.0, 0.0, 0.0))
        angle = np.pi * k / 6
        turn[:2, :3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]] @ turn[:2, :3]
        dicoms.file(tmp_path / f"{k}.dcm", DATA[..., k], turn, 0, number=k)
    with pytest.raises(InputError, match=r"1.dcm: has another orientation .30.0 degrees. than 0.dcm"):
        formats.read(tmp_path)


def test_a_damaged_file_spoils_the_stacks_of_its_folder_only(tmp_path):
    dicoms.stack(tmp_path / "a", DATA, series=1)
    files = dicoms.stack(tmp_path / "b", DATA, series=2)
    files[-1].write_bytes(b"")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "lost.dcm").write_bytes(bytes(300))
    records = folder.find(tmp_path)
    assert [r.id for r in records] == ["a", "b", "c"]
    formats.read(records[0].images["image"])
    for record, name in ((records[1], "IM2005.dcm"), (records[2], "lost.dcm")):
        with pytest.raises(InputError, match=name):
            formats.read(record.images["image"], record.part)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_4d_file_is_a_case_for_each_frame(suffix, tmp_path):
    data = images.image((12, 10, 4, 3))
    if suffix == ".nii.gz":
        images.save(tmp_path / "b_cine.nii.gz", data)
    elif suffix == ".nrrd":
        directions = np.vstack([images.affine()[:3, :3].T, np.full((1, 3), np.nan)])
        header = {"space": "LPS", "space directions": directions, "kinds": ["domain"] * 3 + ["list"]}
        nrrd.write(str(tmp_path / "b_cine.nrrd"), data, header)
    else:
        frames = [sitk.GetImageFromArray(data[..., t].T.copy()) for t in range(3)]
        sitk.WriteImage(sitk.JoinSeries(frames), str(tmp_path / f"b_cine{suffix}"))
    images.save(tmp_path / "a.nii.gz", data[..., 0])
    records = folder.find(tmp_path)
    assert [r.id for r in records] == ["a", "b_frame01", "b_frame02", "b_frame03"]
    assert all(list(r.images) == ["cine"] and r.patient == "b" for r in records[1:])
    for t, record in enumerate(records[1:]):
        read = formats.read(record.images["cine"], record.part)
        np.testing.assert_array_equal(read.data, data[..., t])
        written = formats.encode(tmp_path / f"out{suffix}", read.data, read.affine, record.images["cine"])
        (tmp_path / f"out{suffix}").write_bytes(written)
        again = formats.read(tmp_path / f"out{suffix}")
        np.testing.assert_array_equal(again.data, read.data)
        np.testing.assert_allclose(again.affine, read.affine, atol=1e-5)
    path = records[1].images["cine"]
    with pytest.raises(InputError, match="is 4D"):
        formats.read(path)
    with pytest.raises(InputError, match="holds frame01 to frame03, not 'frame04'"):
        formats.read(path, "frame04")


def test_slices_in_the_place_of_time_are_not_taken_for_frames(tmp_path):
    data = images.image((12, 10, 1, 4))
    path = images.save(tmp_path / "a.nii", data)  # units: mm, s
    assert [r.part for r in folder.find(path)] == ["frame01", "frame02", "frame03", "frame04"]
    raw = bytearray(path.read_bytes())
    raw[123] = 2  # units: mm alone
    path.write_bytes(raw)
    (record,) = folder.find(path)
    with pytest.raises(InputError, match=r"is 4D .12 x 10 x 1 x 4"):
        formats.read(path, record.part)
