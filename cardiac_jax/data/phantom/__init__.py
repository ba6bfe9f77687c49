"""The phantom: simulated short-axis cardiac MR with what makes the real thing difficult, and a truth that is known.

Provenance: computed by this package from a seed; no patient's data went into it. Licence: the package's own.

A parametric biventricular heart beats inside a torso (`heart`, `infarct`, `anatomy`, `torso`); signal equations give
each tissue its brightness (`tissue`); a scanner samples it in thick, oblique, misaligned slices (`acquire`,
`plan`, `simulate`).

    root/{train,val,test}/patient<N>_LGE.nii.gz   patient<N>_LGE_manual.nii.gz   as MS-CMRSeg: 200 Myo, 500 LV, 600 RV
    root/cases.csv                                group, ejection fraction, volumes and scar of every patient

`write` also takes the layouts of `acdc` (with the whole beat), `lasc` (`atrium`, `axial`) and `myops`: those folders
are read as the data sets of these names.
"""

import csv
from dataclasses import replace
from pathlib import Path

from cardiac_jax.data import mscmr
from cardiac_jax.data.case import CLASSES, IGNORE, Dataset, Record
from cardiac_jax.data.phantom.patient import ACDC_GROUP, GROUPS
from cardiac_jax.data.phantom.plan import twin_grid
from cardiac_jax.data.phantom.simulate import Exam, Stack, cine, raw_labels, simulate
from cardiac_jax.data.phantom.write import write

__all__ = [
    "ACDC_GROUP",
    "DATASET",
    "GROUPS",
    "Exam",
    "Stack",
    "cine",
    "find",
    "raw_labels",
    "simulate",
    "twin_grid",
    "write",
]


def find(root: Path) -> list[Record]:
    """Records of the "mscmr" layout, with groups from `cases.csv` where there is one; raises InputError."""
    records = mscmr.find(root)
    table = root / "cases.csv"
    if not table.is_file():
        return records
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
