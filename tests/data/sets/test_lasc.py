"""LASC in its publisher's layout: NRRD, where 255 is the atrium."""

import shutil
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cardiac_jax.data.check import check
from cardiac_jax.data.io import formats, write
from cardiac_jax.data.load import load
from cardiac_jax.data.orientation import orientation
from cardiac_jax.data.preprocess import Grid, prepare, to_native_grid
from cardiac_jax.data.sets import dataset, lasc, phantom
from cardiac_jax.errors import InputError
from tests import images

LASC = dataset("lasc")
COARSE = {"spacing_mm": (3.0, 3.0), "size": (72, 64), "slices": 18}
GRID = np.diag([-0.625, -0.625, 0.625, 1.0])


def scan(folder: Path) -> Path:
    folder.mkdir(parents=True)
    label = np.zeros((12, 10, 4), np.uint8)
    label[3:8, 2:7, 1:3] = 255
    for name, data in ((lasc.IMAGE, images.image().astype(np.uint8)), (lasc.LABEL, label)):
        (folder / name).write_bytes(formats.encode(folder / name, data, GRID))
    return folder


def test_records_of_the_publishers_folders_and_of_one_scan(tmp_path, monkeypatch):
    scan(tmp_path / "Training Set" / "B7")
    folder = scan(tmp_path / "Training Set" / "A1")
    scan(tmp_path / "Testing Set" / "C3")
    records = LASC.find(tmp_path)
    assert [(r.id, r.split) for r in records] == [("A1", "train"), ("B7", "train"), ("C3", "test")]
    assert all(r.patient == r.id and list(r.images) == ["LGE"] and r.label is not None for r in records)
    assert not check(LASC, tmp_path).problems
    assert [r.id for r in LASC.find(tmp_path / "Training Set")] == ["A1", "B7"]
    monkeypatch.chdir(folder)
    for root in (folder, folder / lasc.IMAGE, Path("."), Path(lasc.IMAGE)):
        assert [(r.id, r.split) for r in LASC.find(root)] == [("A1", "train")]
    with pytest.raises(InputError, match=r"laendo\.nrrd: is not named lgemri\.nrrd"):
        LASC.find(folder / lasc.LABEL)


def test_255_is_the_atrium_and_nothing_is_ignored(tmp_path):
    """From the file to the network's grid, back, and into a file again."""
    scan(tmp_path / "A1")
    (record,) = LASC.find(tmp_path)
    (row,) = check(LASC, tmp_path).rows
    assert row.fully_annotated == row.annotated == 4 and row.voxels == (480 - 50, 50)
    case = load(record, LASC, labelled=True)
    assert case.label is not None and set(np.unique(case.label)) == {0, 1} and (case.label == 1).sum() == 50
    np.testing.assert_allclose(case.spacing_mm, 0.625)
    prepared = prepare(case, Grid((0.0, 0.0, 0.0), (16, 16)), ("LGE",))
    assert prepared.label is not None and set(np.unique(prepared.label)) == {0, 1}  # padding too
    back = to_native_grid(np.eye(2, dtype=np.float32)[prepared.label], prepared.geometry).argmax(-1)
    np.testing.assert_array_equal(back, case.label)
    write.write_label(tmp_path / "out.nrrd", case.stack(back), LASC.labels, case.source)
    np.testing.assert_array_equal(
        formats.read(tmp_path / "out.nrrd").data, formats.read(tmp_path / "A1/laendo.nrrd").data
    )


@pytest.mark.parametrize(
    ("spoil", "culprit", "words"),
    [
        (lambda f: (f / lasc.LABEL).unlink(), "", "case B2 has no label file"),
        (lambda f: (f / lasc.IMAGE).unlink(), lasc.IMAGE, "no such file"),
        (lambda f: (f / lasc.IMAGE).write_bytes((f / lasc.IMAGE).read_bytes()[:-30]), lasc.IMAGE, "truncated|damaged"),
        (
            lambda f: (f / lasc.LABEL).write_bytes(formats.encode(f / lasc.LABEL, images.label(), GRID)),
            lasc.LABEL,
            r"unknown label values 200 .*; known are 0, 255",
        ),
    ],
)
def test_a_fault_is_named_and_the_other_scans_are_read(tmp_path, spoil, culprit, words):
    scan(tmp_path / "A1")
    spoil(scan(tmp_path / "B2"))
    found = check(LASC, tmp_path)
    assert [row.id for row in found.rows] == ["A1"]
    with pytest.raises(InputError, match=words):
        raise found.problems[0]
    assert [Path(p.where) for p in found.problems] == [tmp_path / "B2" / culprit]


def test_the_phantom_in_this_layout_is_read_in_bounded_memory(tmp_path):
    phantom.write(tmp_path / "one", "lasc", 1, 3, **COARSE)
    found = check(LASC, tmp_path / "one")
    assert not found.problems and found.rows[0].shape == (18, 64, 72) and found.rows[0].voxels[1] > 400
    for number in range(6):
        shutil.copytree(tmp_path / "one" / "patient001", tmp_path / "six" / f"scan{number}")
    peaks = []
    for root in (tmp_path / "one", tmp_path / "six"):
        tracemalloc.start()
        assert not check(LASC, root).problems
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_the_real_scans(real_data, monkeypatch):
    reads: Counter[Path] = Counter()
    read = formats.read

    def counting(path: Path, part: str = ""):
        reads[path] += 1
        return read(path, part)

    monkeypatch.setattr(formats, "read", counting)
    found = check(LASC, real_data / "lasc")
    assert not found.problems and len(found.rows) == 24
    assert len(reads) == 48 and set(reads.values()) == {1}
    for row in found.rows:
        assert row.spacing_mm == pytest.approx((0.625,) * 3) and row.fully_annotated == row.shape[0] == 88
        assert 30e3 < row.voxels[1] * 0.625**3 < 130e3  # mm3
    behind = 0
    for record in LASC.find(real_data / "lasc")[:8]:
        case = load(record, LASC, labelled=True)
        # Axial, rows to the back, columns to the left, slices upwards: as stored.
        assert case.frame == orientation(case.affine, LASC.slice_order) == ((2, 1, 0), (False, False, False), False)
        # Behind the atrium lies the descending aorta, full of contrast, on the left; in front of it, the heart.
        image, label = case.images["LGE"], case.label
        assert label is not None
        z, y, _ = (int(v) for v in np.argwhere(label == 1).mean(axis=0))
        heart, back = image[z, : y // 2], image[z, -12:]
        behind += heart.mean() > back.mean()
    assert behind >= 6
