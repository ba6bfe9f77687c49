"""Write simulated patients as real NIfTI files in the layouts of the published data sets.

    mscmr   {train,val,test}/patientN_{LGE,C0,T2}.nii.gz, ..._manual.nii.gz              200 Myo, 500 LV, 600 RV
    myops   train25/myops_training_1NN_{C0,DE,T2}.nii.gz, train25_myops_gd/..._gd.nii.gz also 1220 oedema, 2221 scar
    acdc    patientNNN/Info.cfg, patientNNN_frameMM.nii.gz, ..._gt.nii.gz, ED and ES     1 RV, 2 Myo, 3 LV
    hr      twins/patientN_{ED,ES}_{lr,hr,lr_label,hr_label}.nii.gz                      1 RV, 2 Myo, 3 LV

`cases.csv` beside them holds what only a simulation knows: group, ejection fractions, volumes and scar of each patient.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cardiac_jax.data import nifti
from cardiac_jax.data.files import atomic_write
from cardiac_jax.data.phantom import tissue
from cardiac_jax.data.phantom.patient import ACDC_GROUP, GROUPS, group_of
from cardiac_jax.data.phantom.simulate import Exam, Stack, raw_labels, simulate
from cardiac_jax.errors import InputError

SHARES = (0.65, 0.1, 0.25)  # of patients in train, val and test
COLUMNS = ("id", "split", "group", "pathology", "lv_edv_ml", "rv_edv_ml", "myo_ml", "ef", "rv_ef", "scar_percent")
_MSCMR = {"LGE": "LGE", "bSSFP": "C0", "T2": "T2"}
_MYOPS = {"bSSFP": "C0", "LGE": "DE", "T2": "T2"}

Files = Iterator[tuple[str, np.ndarray, Stack] | tuple[str, str]]


def _save(path: Path, data: bytes) -> Path:
    atomic_write(path, lambda temporary: temporary.write_bytes(data))
    return path


def split_of(case: int, patients: int, shares: Sequence[float] = SHARES) -> str:
    """Folder of a case: runs of train, val and test; every five consecutive cases hold each group once."""
    place = (case + 0.5) / patients * sum(shares)
    return "train" if place < shares[0] else "val" if place < shares[0] + shares[1] else "test"


def _image(stack: Stack) -> np.ndarray:
    return np.clip(np.rint(stack.image), 0, 32767).astype(np.int16)


def _mscmr(make: Callable[..., Exam], case: int, folder: str, sequences: Sequence[str]) -> Files:
    for sequence in sequences:
        exam, name = make(sequence, "ED", False), f"{folder}/patient{case + 1}_{_MSCMR[sequence]}"
        yield f"{name}.nii.gz", _image(exam.stack), exam.stack
        yield f"{name}_manual.nii.gz", tissue.RAW[exam.label], exam.stack


def _myops(make: Callable[..., Exam], case: int, folder: str, sequences: Sequence[str]) -> Files:
    name, exam = f"myops_training_{101 + case}", None
    for sequence in sequences:
        exam = make(sequence, "ED", False)
        yield f"train25/{name}_{_MYOPS[sequence]}.nii.gz", _image(exam.stack), exam.stack
    if exam is not None:
        yield f"train25_myops_gd/{name}_gd.nii.gz", raw_labels(exam.stack.pathology), exam.stack


def _acdc(make: Callable[..., Exam], case: int, folder: str, sequences: Sequence[str]) -> Files:
    name, frames = f"patient{case + 1:03d}", {"ED": 1, "ES": 9 + case % 5}
    exam = None
    for phase, frame in frames.items():
        exam = make(sequences[0], phase, False)
        yield f"{name}/{name}_frame{frame:02d}.nii.gz", _image(exam.stack), exam.stack
        yield f"{name}/{name}_frame{frame:02d}_gt.nii.gz", exam.label, exam.stack
    if exam is not None:
        info = {**frames, "Group": ACDC_GROUP[exam.group], "Height": 172.0, "NbFrame": 30, "Weight": 75.0}
        yield f"{name}/Info.cfg", "".join(f"{key}: {value}\n" for key, value in info.items())


def _hr(make: Callable[..., Exam], case: int, folder: str, sequences: Sequence[str]) -> Files:
    for phase in ("ED", "ES"):
        exam, name = make(sequences[0], phase, True), f"twins/patient{case + 1}_{phase}"
        for grid, stack in (("lr", exam.stack), ("hr", exam.twin)):
            if stack is not None:
                yield f"{name}_{grid}.nii.gz", _image(stack), stack
                yield f"{name}_{grid}_label.nii.gz", stack.label, stack


# layout: function, sequences by default, stack by default
_LAYOUTS: Mapping[str, tuple[Callable[..., Files], tuple[str, ...], Mapping[str, Any]]] = {
    "mscmr": (_mscmr, ("LGE",), {}),
    "myops": (_myops, ("bSSFP", "LGE", "T2"), {}),
    "acdc": (_acdc, ("cine",), {}),
    "hr": (_hr, ("cine",), {"spacing_mm": (1.25, 10.0), "size": (120, 120), "slices": 12}),
}


def write(
    root: Path,
    layout: str,
    patients: int,
    seed: int,
    *,
    sequences: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    shares: Sequence[float] = SHARES,
    spacing_mm: tuple[float, float] | None = None,
    size: tuple[int, int] | None = None,
    slices: int | None = None,
    misalign_mm: float = 1.6,
    on_patient: Callable[[int], None] | None = None,
) -> list[Path]:
    """Simulate cases 0 .. patients - 1 and write them below `root`; returns the files written, `cases.csv` last.

    Args:
      layout: "mscmr", "myops", "acdc" or "hr"; see the module.
      sequences: those to write; by default LGE (mscmr), all three (myops), cine (acdc, hr: one only).
      groups: pathology groups to cycle through; by default all five, balanced (myops: infarct).
      shares: of patients in train, val and test (mscmr).
      spacing_mm, size, slices, misalign_mm: as for `simulate`; "hr" defaults to 120 x 120 x 12 at 1.25 x 1.25 x 10 mm.
      on_patient: called with the number of patients done, for a progress bar.

    Raises:
      InputError: unknown layout, sequence or group; fewer than one patient.
    """
    if layout not in _LAYOUTS:
        raise InputError(layout, f"not a layout of the phantom; known: {', '.join(_LAYOUTS)}")
    if patients < 1:
        raise InputError(f"{patients} patients", "at least one is needed")
    produce, usual, stack = _LAYOUTS[layout]
    sequences = tuple(usual if sequences is None else sequences)
    allowed = {"mscmr": tuple(_MSCMR), "myops": tuple(_MYOPS)}.get(layout, tissue.SEQUENCES)
    wrong = [s for s in sequences if s not in allowed]
    if wrong or not sequences:
        raise InputError(", ".join(wrong) or "no sequence", f"layout {layout} takes {', '.join(allowed)}")
    groups = ("infarct",) if layout == "myops" and groups is None else groups
    if groups is not None and (not groups or set(groups) - set(GROUPS)):
        raise InputError(", ".join(groups) or "no group", f"groups are {', '.join(GROUPS)}")
    given = {"spacing_mm": spacing_mm, "size": size, "slices": slices}
    options = {**stack, **{key: value for key, value in given.items() if value is not None}, "misalign_mm": misalign_mm}
    root, written, rows = Path(root), [], []
    for case in range(patients):
        group = group_of(seed, case) if groups is None else groups[case % len(groups)]
        exams: list[Exam] = []

        def make(sequence: str, phase: str, twin: bool, case=case, group=group, exams=exams) -> Exam:
            exams.append(simulate(seed, case, sequence, phase, group, twin=twin, **options))
            return exams[-1]

        folder = split_of(case, patients, shares)
        for name, content, *on in produce(make, case, folder, sequences):
            if isinstance(content, str):
                written.append(_save(root / name, content.encode()))
            else:
                header = nifti.header_for(on[0].affine)
                written.append(_save(root / name, nifti.encode(content, header, compress=True)))
        rows.append(_row(_identity(layout, case), folder if layout == "mscmr" else "", exams[0]))
        if on_patient is not None:
            on_patient(case + 1)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    return [*written, _save(root / "cases.csv", text.getvalue().encode())]


def _identity(layout: str, case: int) -> str:
    return {"myops": f"myops_training_{101 + case}", "acdc": f"patient{case + 1:03d}"}.get(layout, f"patient{case + 1}")


def _row(name: str, folder: str, exam: Exam) -> tuple:
    numbers = (exam.lv_ml, exam.rv_ml, exam.myo_ml, exam.ef, exam.rv_ef, exam.scar_percent)
    return (name, folder, exam.group, exam.pathology, *(f"{v:.3f}" for v in numbers))
