"""MyoPS 2020: bSSFP, LGE and T2 of 45 patients after infarction, registered to one grid, with oedema and scar.

Provenance: X. Zhuang and L. Li, the MICCAI 2020 challenge (https://zmiclab.github.io/zxh/0/myops20/); L. Li et al.,
"MyoPS: a benchmark of myocardial pathology segmentation combining three-sequence cardiac magnetic resonance images",
Medical Image Analysis 87 (2023). Licence: by registration with the organisers, for research, not to be redistributed.

Cases 101 to 125 are patients of MS-CMRSeg (`mscmr`) with other numbers: never train on one of the two
sets and validate or test on the other, and never use both in one training.

    root/train25/myops_training_<1NN>_{C0,DE,T2}.nii.gz     C0 is bSSFP, DE is LGE; 2 to 6 slices, 12 to 23 mm apart
         train25_gd/ or
         train25_myops_gd/myops_training_<1NN>_gd.nii.gz    200 Myo (normal), 500 LV, 600 RV, 1220 oedema, 2221 scar
         test20/myops_test_<2NN>_{C0,DE,T2}.nii.gz          without annotation

A case is one patient. The root may also be a folder of images, with its annotation in the same folder or a sibling
folder, or one image file.
"""

import re
from pathlib import Path

from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.labels import CLASSES
from cardiac_jax.errors import InputError

_FILE = re.compile(r"(?P<id>myops_(?P<side>training|test)_\d+)_(?P<sequence>C0|DE|T2)(?i:\.nii(\.gz)?)$")
_GOLD = re.compile(r"(?P<id>myops_(?P<side>training|test)_\d+)_gd(?i:\.nii(\.gz)?)$")
_SEQUENCES = {"C0": "bSSFP", "DE": "LGE", "T2": "T2"}
_SPLITS = {"training": "train", "test": "test"}
_GOLD_FOLDERS = ("_myops_gd", "_gd")


def find(root: Path) -> list[Record]:
    """Return the records sorted by id, one per patient.

    Raises:
      InputError: there is no image, or `root` is a file with another name.
    """
    root = root if root.name else root.absolute()
    if root.is_file():
        match = _FILE.match(root.name)
        if match is None:
            raise InputError(root, "is not named myops_{training,test}_<NNN>_{C0,DE,T2}.nii.gz")
        return [record for record in _records(root.absolute().parent) if record.id == match["id"]]
    if not root.is_dir():
        raise InputError(root, "no such file or folder")
    folders = [root, *(p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.endswith(_GOLD_FOLDERS))]
    records = [record for folder in folders for record in _records(folder)]
    if not records:
        raise InputError(root, "holds no myops_{training,test}_<NNN>_{C0,DE,T2}.nii.gz, nor do its folders")
    return sorted(records, key=lambda r: r.id)


def _records(folder: Path) -> list[Record]:
    gold_folders = [folder, *(folder.with_name(folder.name + end) for end in _GOLD_FOLDERS)]
    golds = {m["id"]: (p, m["side"]) for g in gold_folders if g.is_dir() for p, m in _matches(_GOLD, g)}
    images: dict[str, dict[str, Path]] = {}
    sides = {case: side for case, (_, side) in golds.items()}
    for path, match in _matches(_FILE, folder):
        images.setdefault(match["id"], {})[_SEQUENCES[match["sequence"]]] = path
        sides[match["id"]] = match["side"]
    records = []
    for case in sorted(sides):
        available = images.get(case, {})
        # A missing sequence still gets a path, so that reading names the missing file.
        paths = {s: available.get(s, folder / f"{case}_{code}.nii.gz") for code, s in _SEQUENCES.items()}
        gold = golds[case][0] if case in golds else None
        records.append(Record(case, case, paths, gold, split=_SPLITS[sides[case]]))
    return records


def _matches(pattern: re.Pattern[str], folder: Path) -> list[tuple[Path, re.Match[str]]]:
    return [(path, match) for path in sorted(folder.iterdir()) if (match := pattern.match(path.name))]


LABELS = {0: 0, 200: 2, 500: 3, 600: 1, 1220: 4, 2221: 5}
DATASET = Dataset(
    "myops", (*CLASSES, "oedema", "scar"), LABELS, tuple(_SEQUENCES.values()), find, "affine", registered=True
)
