"""MS-CMRSeg 2019: cardiac MR of 45 patients with cardiomyopathy, short-axis LGE, bSSFP and T2.

Provenance: X. Zhuang, "Multivariate mixture model for myocardial segmentation combining multi-source images",
IEEE TPAMI 41 (2019), and the MICCAI 2019 challenge (https://zmiclab.github.io/zxh/0/mscmrseg19/).
Licence: by registration with the organisers, for research, not to be redistributed.
Some releases annotate most LGE slices by scribbles, with 255 in voxels that are not annotated.

    root/[train|val|test/]patient<N>_LGE.nii.gz          also _C0 (bSSFP) and _T2, each on its own grid
                          patient<N>_LGE_manual.nii.gz   200 Myo, 500 LV, 600 RV, 0 background, 255 ignore

A case is one patient; its label is that of the first available sequence, in the order LGE, C0, T2.
The root may also be one image file.
"""

import re
from pathlib import Path

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.labels import CLASSES
from cardiac_jax.errors import InputError

_FILE = re.compile(r"(?P<patient>patient(?P<number>\d+))_(?P<sequence>LGE|C0|T2)(?P<manual>_manual)?(?i:\.nii(\.gz)?)$")
_SEQUENCES = {"LGE": "LGE", "C0": "bSSFP", "T2": "T2"}
_SPLITS = ("train", "val", "test")


def find(root: Path) -> list[Record]:
    """Return the records sorted by id, one per patient and folder.

    Raises:
      InputError: there is no image, or `root` is a file with another name.
    """
    if root.is_file():
        match = _FILE.match(root.name)
        if match is None or match["manual"]:
            raise InputError(root, "is not named patient<N>_{LGE,C0,T2}.nii.gz")
        wanted = [p for p in root.parent.iterdir() if p.name.startswith(f"{match['patient']}_{match['sequence']}")]
        return _records(wanted, _split(root.parent))
    if not root.is_dir():
        raise InputError(root, "no such file or folder")
    folders = [root, *(root / name for name in _SPLITS if (root / name).is_dir())]
    records = [r for folder in folders for r in _records(sorted(folder.iterdir()), _split(folder))]
    if not records:
        raise InputError(root, "holds no patient<N>_{LGE,C0,T2}.nii.gz, nor do its train, val, test")
    return sorted(records, key=lambda r: (r.id, r.split or ""))


def _split(folder: Path) -> str | None:
    return folder.name if folder.name in _SPLITS else None


def _records(files: list[Path], split: str | None) -> list[Record]:
    images: dict[str, dict[str, Path]] = {}
    labels: dict[str, dict[str, Path]] = {}
    for path in files:
        if match := _FILE.match(path.name):
            target = labels if match["manual"] else images
            target.setdefault(match["patient"], {})[_SEQUENCES[match["sequence"]]] = path
    records = []
    for patient in sorted(images.keys() | labels.keys()):
        available, annotated = images.get(patient, {}), labels.get(patient, {})
        if not available:  # an annotation without an image: record the missing file, so that reading names it
            available = {s: p.with_name(p.name.replace("_manual", "")) for s, p in annotated.items()}
        ordered = {s: available[s] for s in _SEQUENCES.values() if s in available}
        records.append(Record(patient, patient, ordered, annotated.get(next(iter(ordered))), split=split))
    return records


LABELS = {0: 0, 200: 2, 500: 3, 600: 1, IGNORE: IGNORE}
DATASET = Dataset("mscmr", CLASSES, LABELS, tuple(_SEQUENCES.values()), find, "affine", side_files=("*_manual.nii*",))
