"""Several images at one position: phases in order, kinds of image apart, or refused with the numbers."""

import numpy as np
import pydicom
import pytest

from cardiac_jax.data.io import dicom, formats
from cardiac_jax.data.sets import folder
from cardiac_jax.errors import InputError
from tests import dicoms, images

SHAPE = (12, 10, 4, 5)
BEAT = images.image(SHAPE)
TIMES = [120, 0, 160, 40, 80]  # ms, of the phases in the order of an enhanced file


def phases(root, stem: str) -> np.ndarray:
    """All cases under `root`, which are phases, as `[X, Y, Z, T]`."""
    records = folder.find(root)
    assert [r.id for r in records] == [f"{stem}_phase{t + 1:02d}" for t in range(len(records))]
    assert {r.patient for r in records} == {stem}
    return np.stack([formats.read(r.images["image"], r.part).data for r in records], axis=-1)


WAYS = {
    "one series": {},
    "files by phase": {"name": lambda z, t: f"{t}/{z}.dcm"},
    "one series for each slice": {"series": lambda z: 10 + z},
    "a folder and a series for each slice": {"series": lambda z: 90 - z, "name": lambda z, t: f"s{z}/{t}.dcm"},
    "acquired in another order": {"InstanceNumber": lambda z, t: 99 - t},
    "trigger times of another heart rate": {"TriggerTime": lambda z, t: str((30 + 3 * z) * t + 5)},
    "no trigger time": {"TriggerTime": lambda z, t: None, "TemporalPositionIdentifier": lambda z, t: t + 1},
    "trigger times of 0": {
        "TriggerTime": lambda z, t: "0",
        "AcquisitionTime": lambda z, t: f"10{58 + t // 2 - t // 4}{t:02d}.5",
    },
    "nothing but numbers": {"TriggerTime": lambda z, t: None},
}


@pytest.mark.parametrize("name", WAYS)
def test_a_cine_stack_is_its_phases_in_order(name, tmp_path):
    dicoms.cine(tmp_path / "sax", BEAT, **WAYS[name])
    np.testing.assert_array_equal(phases(tmp_path / "sax", "sax"), BEAT)


def test_a_cine_of_one_slice_is_phases_of_one_slice(tmp_path):
    dicoms.cine(tmp_path / "beat", BEAT[:, :, :1])
    np.testing.assert_array_equal(phases(tmp_path, "beat"), BEAT[:, :, :1])


def test_enhanced_files_are_read_in_the_order_of_positions_and_times(tmp_path):
    order = [(z, t) for t in range(5) for z in range(4)]
    np.random.default_rng(0).shuffle(order)
    planes = [BEAT[..., z, t] for z, t in order]
    dicoms.enhanced(tmp_path / "sax" / "IM1", planes, [z for z, _ in order], [40 * t for _, t in order])
    np.testing.assert_array_equal(phases(tmp_path, "sax"), BEAT)
    for z in range(4):  # as some scanners write it: a file and a series for each slice
        path = dicoms.enhanced(tmp_path / "each" / f"{z}", [BEAT[..., z, t] for t in (3, 0, 4, 1, 2)], [z] * 5, TIMES)
        dicoms.change(path, SeriesInstanceUID=f"1.2.{z}", SOPInstanceUID=f"1.3.{z}")
    np.testing.assert_array_equal(phases(tmp_path / "each", "each"), BEAT)
    stack = dicoms.enhanced(tmp_path / "one" / "IM1", [BEAT[..., z, 0] for z in (2, 0, 3, 1)], (2, 0, 3, 1), [0] * 4)
    read = formats.read(stack)
    np.testing.assert_array_equal(read.data, BEAT[..., 0])
    np.testing.assert_allclose(read.affine, dicoms.AFFINE, atol=1e-6)


@pytest.mark.parametrize("fault", ["gap", "count", "groups", "truncated"])
def test_an_enhanced_file_with_a_fault_is_refused(fault, tmp_path):
    places = [0, 1, 3] if fault == "gap" else [0, 1, 2]
    path = dicoms.enhanced(tmp_path / "IM1", [BEAT[..., z, 0] for z in places], places, [0] * 3)
    if fault == "count":
        dicoms.change(path, NumberOfFrames=4)
    if fault == "groups":
        dicoms.change(path, PerFrameFunctionalGroupsSequence=pydicom.dcmread(path).PerFrameFunctionalGroupsSequence[:2])
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    words = {"gap": "missing", "count": "720 bytes.*960", "groups": "functional groups for 2", "truncated": "truncated"}
    with pytest.raises(InputError, match=f"IM1: .*{words[fault]}"):
        formats.read(path)


def _without(z, t):
    return lambda files: files[5 * z + t].unlink()


FAULTS = {
    "a phase of a slice is missing": (_without(2, 3), "position 3 of 4, which has 4 images.*other positions have 5"),
    "each slice lacks another phase": (
        lambda f: [_without(z, 4 * (z == 1))(f) for z in range(4)],
        "begins the phases at 0 to 120 ms of TriggerTime, other positions have 40 to 160 ms: a phase is missing",
    ),
    "a trigger time twice": (
        lambda f: dicoms.change(f[7], TriggerTime="40"),
        "IM0102.dcm: has the TriggerTime of IM0101.dcm",
    ),
    "a file without its trigger time": (lambda f: dicoms.change(f[7], TriggerTime=None), "IM0102.dcm: lacks TriggerT"),
    "a phase lies elsewhere": (
        lambda f: dicoms.change(f[7], ImagePositionPatient=dicoms.numbers(dicoms.place(dicoms.AFFINE, 1.4)[0])),
        "IM0102.dcm|IM02..dcm.*displaced",
    ),
    "nothing orders the phases": (
        lambda f: [dicoms.change(p, TriggerTime=None, InstanceNumber=1) for p in f],
        "IM0001.dcm: lies at the position of IM0000.dcm, and nothing orders the two",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_cine_with_a_fault_is_refused_with_the_numbers(name, tmp_path):
    change, words = FAULTS[name]
    change(dicoms.cine(tmp_path / "sax", BEAT))
    (record,) = folder.find(tmp_path)
    with pytest.raises(InputError, match=words):
        formats.read(record.images["image"], record.part)


def test_magnitude_and_phase_of_one_series_are_two_stacks(tmp_path):
    for number, (kind, t) in enumerate((("M", 0), ("P", 1))):
        for z in range(4):
            fields = {"ImageType": ["ORIGINAL", "PRIMARY", kind], "AcquisitionTime": "100000"}
            dicoms.file(
                tmp_path / "lge" / f"{z}{kind}.dcm", BEAT[..., z, t], dicoms.AFFINE, z, 7, 2 * z + number, **fields
            )
    records = folder.find(tmp_path)
    assert [r.id for r in records] == ["lge_series7_M", "lge_series7_P"]
    for t, record in enumerate(records):
        np.testing.assert_array_equal(formats.read(record.images["image"], record.part).data, BEAT[..., t])


def test_phases_of_the_real_cine(real_data):
    """Six short-axis slices of nine phases, each slice a series in a folder; the four-chamber view is kept apart."""
    root = real_data / "dicom"
    found = phases(root, "patient1")
    assert found.shape == (256, 208, 6, 9) or found.shape == (208, 256, 6, 9)
    files = {}
    for path in root.glob("*/series*/*.dcm"):
        held = pydicom.dcmread(path)
        if path.parent.name != "series14001":
            normal = np.cross(*np.array(held.ImageOrientationPatient, float).reshape(2, 3))
            height = round(float(np.array(held.ImagePositionPatient, float) @ normal), 2)
            files.setdefault(height, []).append((float(held.TriggerTime), held.pixel_array.T))
    for z, height in enumerate(sorted(files)):
        beat = [pixels for _, pixels in sorted(files[height], key=lambda item: item[0])]
        np.testing.assert_array_equal(found[:, :, z], np.stack(beat, axis=-1))
    np.testing.assert_array_equal(found, phases(root / "patient1", "patient1"))
    survey = dicom.survey(root)
    assert [frame.path.parent.name for stack in survey.apart for frame in stack.frames] == ["series14001"]
    said = dicom.notes(survey, root)
    assert (
        "patient1: 9 phases (of 25 acquired) of 6 slices 17.7 mm apart, series 7001, 8001, 9001, ... 12001" in said[0]
    )
    assert said[1] == f"{root}: 1 other view kept apart: patient1/series14001/phase00.dcm"
