"""Layouts of the published data sets: the files of one simulated patient."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cardiac_jax.errors import InputError
from cardiac_jax.phantom import axial, tissue, ultrasound
from cardiac_jax.phantom.patient import ACDC_GROUP
from cardiac_jax.phantom.simulate import Exam, Stack, cine, end_systole, raw_labels, simulate

HEART = ("id", "split", "group", "pathology", "lv_edv_ml", "rv_edv_ml", "myo_ml", "ef", "rv_ef", "scar_percent")
ATRIUM = ("id", "group", "ablated", "la_ml", "enhanced_percent")
CAVITY = ("id", "group", "lv_edv_ml", "lv_esv_ml", "ef")
_MSCMR = {"LGE": "LGE", "bSSFP": "C0", "T2": "T2"}
_MYOPS = {"bSSFP": "C0", "LGE": "DE", "T2": "T2"}


class Wanted(NamedTuple):
    """One patient to be simulated and written.

    Attributes:
      group: pathology group, or None.
      folder: folder of the patient's split, if the layout has such folders.
      frames: number of frames of a beat.
      options: options of the simulation, e.g. spacing, size and slices.
    """

    seed: int
    case: int
    group: str | None
    folder: str
    sequences: Sequence[str]
    frames: int
    options: Mapping[str, Any]


class File(NamedTuple):
    """One file: a text, or an image `[X, Y, Z]` or `[X, Y, Z, T]` with its affine `[4, 4]` (RAS mm)."""

    name: str
    content: np.ndarray | str
    affine: np.ndarray | None = None


class Drawn(NamedTuple):
    """The files of one simulated patient, and the patient's row of `cases.csv`."""

    files: list[File]
    row: tuple


class Layout(NamedTuple):
    """One layout.

    Attributes:
      draw: simulates a patient and returns its files.
      sequences: sequences that the layout can hold.
      usual: sequences written by default.
      options: default options of the simulation.
      columns: columns of `cases.csv`.
      groups: default pathology groups; None: all, balanced.
      described: whether a `dataset.json` names the sequence and the label values, which are then 1 RV, 2 Myo, 3 LV.
    """

    draw: Callable[[Wanted], Drawn]
    sequences: tuple[str, ...]
    usual: tuple[str, ...]
    options: Mapping[str, Any]
    columns: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    described: bool = False


def _mscmr(wanted: Wanted) -> Drawn:
    name, exams, files = f"patient{wanted.case + 1}", [], []
    for sequence in wanted.sequences:
        exams.append(_exam(wanted, sequence))
        stem, stack = f"{wanted.folder}/{name}_{_MSCMR[sequence]}", exams[-1].stack
        files.append(File(f"{stem}.nii.gz", _image(stack), stack.affine))
        files.append(File(f"{stem}_manual.nii.gz", tissue.RAW[stack.label], stack.affine))
    return Drawn(files, _row(name, wanted.folder, exams[0]))


def _myops(wanted: Wanted) -> Drawn:
    name = f"myops_training_{101 + wanted.case}"
    exams = [_exam(wanted, sequence) for sequence in wanted.sequences]
    files = [File(f"train25/{name}_{_MYOPS[exam.sequence]}.nii.gz", _image(exam.stack), exam.affine) for exam in exams]
    gold = raw_labels(exams[0].stack.pathology)
    files.append(File(f"train25_myops_gd/{name}_gd.nii.gz", gold, exams[0].affine))
    return Drawn(files, _row(name, "", exams[0]))


def _acdc(wanted: Wanted) -> Drawn:
    name, files = f"patient{wanted.case + 1:03d}", []
    beat = cine(wanted.seed, wanted.case, wanted.frames, wanted.group, base_first=True, **wanted.options)
    x, y, z = beat[0].stack.spacing_mm
    affine = np.diag([-x, -y, z, 1.0])  # as in ACDC, without the patient's orientation
    numbers = {"ED": 1, "ES": 1 + end_systole(wanted.frames)}
    for number in numbers.values():
        exam, stem = beat[number - 1], f"{name}/{name}_frame{number:02d}"
        files.append(File(f"{stem}.nii.gz", _image(exam.stack), affine))
        files.append(File(f"{stem}_gt.nii.gz", exam.label, affine))
    files.append(File(f"{name}/{name}_4d.nii.gz", np.stack([_image(exam.stack) for exam in beat], axis=-1), affine))
    info = {**numbers, "Group": ACDC_GROUP[beat[0].group], "Height": 172.0, "NbFrame": wanted.frames, "Weight": 75.0}
    files.append(File(f"{name}/Info.cfg", "".join(f"{key}: {value}\n" for key, value in info.items())))
    return Drawn(files, _row(name, "", beat[0]))


def _hr(wanted: Wanted) -> Drawn:
    name, exams, files = f"patient{wanted.case + 1}", [], []
    for phase in ("ED", "ES"):
        exams.append(_exam(wanted, wanted.sequences[0], phase, twin=True))
        for grid, stack in (("lr", exams[-1].stack), ("hr", exams[-1].twin)):
            if stack is not None:
                stem = f"twins/{name}_{phase}_{grid}"
                files.append(File(f"{stem}.nii.gz", _image(stack), stack.affine))
                files.append(File(f"{stem}_label.nii.gz", stack.label, stack.affine))
    return Drawn(files, _row(name, "", exams[0]))


def _lasc(wanted: Wanted) -> Drawn:
    name = f"patient{wanted.case + 1:03d}"
    scan = axial.scan(wanted.seed, wanted.case, wanted.group, **wanted.options)
    image = np.clip(np.rint(scan.image), 0, 255).astype(np.uint8)
    files = [
        File(f"{name}/lgemri.nrrd", image, scan.affine),
        File(f"{name}/laendo.nrrd", scan.label * np.uint8(255), scan.affine),
    ]
    return Drawn(files, (name, wanted.group, int(scan.ablated), f"{scan.la_ml:.3f}", f"{scan.enhanced_percent:.3f}"))


def _cetus(wanted: Wanted) -> Drawn:
    name, (in_plane, between) = f"Patient{wanted.case + 1}", wanted.options["spacing_mm"]
    others = [key for key in ("size", "slices") if key in wanted.options]
    if others:
        raise InputError(others[0], "is that of the field of view in the layout cetus")
    if in_plane != between:
        raise InputError(f"spacing_mm {in_plane}, {between}", "the voxels of the layout cetus are isotropic")
    volumes, files = ultrasound.scan(wanted.seed, wanted.case, wanted.group, spacing_mm=in_plane), []
    for volume in volumes:
        stem = f"{name}/{name}_{volume.phase}"
        files.append(File(f"{stem}.mhd", np.rint(volume.image).astype(np.uint8), volume.affine))
        files.append(File(f"{stem}_truth.mhd", volume.label, volume.affine))
    ed, es = volumes
    return Drawn(files, (name, ed.group, f"{ed.lv_ml:.3f}", f"{es.lv_ml:.3f}", f"{ed.ef:.3f}"))


def _exam(wanted: Wanted, sequence: str, phase: str = "ED", twin: bool = False) -> Exam:
    return simulate(wanted.seed, wanted.case, sequence, phase, wanted.group, twin=twin, **wanted.options)


def _image(stack: Stack) -> np.ndarray:
    return np.clip(np.rint(stack.image), 0, 32767).astype(np.int16)


def _row(name: str, folder: str, exam: Exam) -> tuple:
    numbers = (exam.lv_ml, exam.rv_ml, exam.myo_ml, exam.ef, exam.rv_ef, exam.scar_percent)
    return (name, folder, exam.group, exam.pathology, *(f"{v:.3f}" for v in numbers))


_THICK = {"spacing_mm": (0.75, 13.0), "size": (288, 288), "slices": 5, "thickness": 0.6, "acute": True}
_COARSE = {"spacing_mm": (1.25, 10.0), "size": (120, 120), "slices": 12}
LAYOUTS: Mapping[str, Layout] = {
    "mscmr": Layout(_mscmr, tuple(_MSCMR), ("LGE",), {}, HEART),
    "myops": Layout(_myops, tuple(_MYOPS), tuple(_MYOPS), _THICK, HEART, ("infarct",)),
    "acdc": Layout(_acdc, ("cine",), ("cine",), {}, HEART),
    "hr": Layout(_hr, tissue.SEQUENCES, ("cine",), _COARSE, HEART, described=True),
    "lasc": Layout(_lasc, ("LGE",), ("LGE",), {}, ATRIUM),
    "cetus": Layout(_cetus, ("US",), ("US",), {"spacing_mm": (1.0, 1.0)}, CAVITY, ("normal", "infarct", "dilated")),
}
