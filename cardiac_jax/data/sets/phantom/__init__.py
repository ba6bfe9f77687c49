"""The phantom as a data set: patients simulated by `cardiac_jax.phantom`, in the file layouts of published data sets.

Provenance: computed by this package from a seed, without patient data. Licence: that of the package.

    root/{train,val,test}/patient<N>_LGE.nii.gz   patient<N>_LGE_manual.nii.gz   as MS-CMRSeg: 200 Myo, 500 LV, 600 RV
    root/cases.csv                                group, ejection fraction, volumes and scar of every patient

`write` also supports the layouts of `acdc` (with all frames of the beat), `lasc` (simulated by `phantom.atrium` and
`phantom.axial`), `cetus` (by `phantom.ultrasound`) and `myops`: read those with the data sets of the same names; and
"hr", read as `twins`.
"""

import csv
from dataclasses import replace
from pathlib import Path

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.labels import CLASSES
from cardiac_jax.data.sets import mscmr
from cardiac_jax.data.sets.phantom.write import write
from cardiac_jax.errors import InputError

__all__ = ["DATASET", "find", "write"]


def find(root: Path) -> list[Record]:
    """Return the records of a folder in the "mscmr" layout, with groups from `cases.csv`.

    The root may also be one of the folders train, val and test, or one image file.

    Raises:
      InputError: there is no image, or no `cases.csv`: the patients may be real.
    """
    records = mscmr.find(root)
    folder = root.absolute().parent if root.is_file() else root.absolute()
    table = (folder.parent if folder.name in ("train", "val", "test") else folder) / "cases.csv"
    if not table.is_file():
        raise InputError(root, "holds no cases.csv: it is not a simulated phantom; name its data set with data.name")
    with table.open(newline="", encoding="utf-8") as file:
        groups = {row["id"]: row["group"] for row in csv.DictReader(file)}
    return [replace(record, group=groups.get(record.patient)) for record in records]


DATASET = Dataset(
    "phantom",
    CLASSES,
    {0: 0, 200: 2, 500: 3, 600: 1, 1220: 2, 2221: 2, IGNORE: IGNORE},
    ("LGE", "bSSFP", "T2"),
    find,
    "affine",
)
