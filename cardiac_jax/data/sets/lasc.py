"""LASC 2018, the left atrial segmentation challenge: 154 LGE scans of 60 patients with atrial fibrillation.

Provenance: Z. Xiong et al., "A global benchmark of algorithms for segmenting the left atrium from late
gadolinium-enhanced cardiac magnetic resonance imaging", Medical Image Analysis 67 (2021), scans of the University of
Utah (https://www.cardiacatlas.org/atriaseg2018-challenge/). Licence: by registration, for research, not to be
redistributed.

    root/[Training Set|Testing Set/]<id>/lgemri.nrrd    88 axial slices, 0.625 mm in all directions
                                         laendo.nrrd    255 cavity of the left atrium with vein stumps, 0 background
                                         lawall.nrrd    the wall, not used

Here 255 is the atrium, not IGNORE: every voxel is annotated.
A case is one scan. It is not published which scans (before and after ablation) belong to one patient, so each scan
counts as one patient. The file axes are the patient's (left, posterior, superior), so the affine gives the orientation.
The root may also be one scan's folder or its `lgemri.nrrd`.
"""

from pathlib import Path

from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.errors import InputError

CLASSES = ("background", "LA")
IMAGE, LABEL = "lgemri.nrrd", "laendo.nrrd"
_SPLITS = {"Training Set": "train", "Testing Set": "test"}


def find(root: Path) -> list[Record]:
    """Return the records sorted by id, one per scan.

    Raises:
      InputError: there is no scan, or `root` is a file with another name.
    """
    root = root if root.name else root.absolute()
    if root.is_file():
        if root.name != IMAGE:
            raise InputError(root, f"is not named {IMAGE}")
        return [_record(root.absolute().parent)]
    if not root.is_dir():
        raise InputError(root, "no such file or folder")
    folders = [root, *(root / name for name in _SPLITS if (root / name).is_dir())]
    scans = [root, *(p for folder in folders for p in sorted(folder.iterdir()) if p.is_dir())]
    records = [_record(scan) for scan in scans if any((scan / name).exists() for name in (IMAGE, LABEL))]
    if not records:
        raise InputError(root, f"holds no <id>/{IMAGE}, nor do its {', '.join(_SPLITS)}")
    return sorted(records, key=lambda r: (r.id, r.split or ""))


def _record(scan: Path) -> Record:
    label = scan / LABEL
    split = _SPLITS.get(scan.parent.name)
    return Record(scan.name, scan.name, {"LGE": scan / IMAGE}, label if label.exists() else None, split=split)


DATASET = Dataset("lasc", CLASSES, {0: 0, 255: 1}, ("LGE",), find, "affine", side_files=("lawall.nrrd",))
