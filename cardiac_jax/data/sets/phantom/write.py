"""Writer of simulated patients as image files in the layouts of the published data sets.

    mscmr   {train,val,test}/patientN_{LGE,C0,T2}.nii.gz, ..._manual.nii.gz              200 Myo, 500 LV, 600 RV
    myops   train25/myops_training_1NN_{C0,DE,T2}.nii.gz, train25_myops_gd/..._gd.nii.gz also 1220 oedema, 2221 scar
    acdc    patientNNN/Info.cfg, ..._frameMM.nii.gz, ..._gt.nii.gz, ED and ES, ..._4d    1 RV, 2 Myo, 3 LV
    lasc    patientNNN/lgemri.nrrd, laendo.nrrd                                          255 LA
    cetus   PatientN/PatientN_{ED,ES}.mhd, ..._truth.mhd, with .raw                      1 LV
    hr      twins/patientN_{ED,ES}_{lr,hr,lr_label,hr_label}.nii.gz, dataset.json        1 RV, 2 Myo, 3 LV

`cases.csv` holds the simulated truth of each patient: group, ejection fractions, volumes and scar (lasc: group, whether
the veins were ablated, volume and enhancement of the atrium; cetus: group, volumes and ejection fraction of the LV).
"""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cardiac_jax.data.io.write import atomic_write, write_array
from cardiac_jax.data.labels import CLASSES
from cardiac_jax.data.sets import description
from cardiac_jax.data.sets.phantom.layouts import LAYOUTS, File, Layout, Wanted
from cardiac_jax.errors import InputError
from cardiac_jax.phantom.patient import GROUPS, group_of

SHARES = (0.65, 0.1, 0.25)  # shares of patients in train, val and test
FRAMES = 10  # frames of a beat


def split_of(case: int, patients: int, shares: Sequence[float] = SHARES) -> str:
    """Return the split of a case: "train", "val" or "test", each a run of consecutive cases.

    Every five consecutive cases contain each group once.
    """
    position = (case + 0.5) / patients * sum(shares)
    return "train" if position < shares[0] else "val" if position < shares[0] + shares[1] else "test"


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
    misalign_mm: float | None = None,
    frames: int = FRAMES,
    on_patient: Callable[[int], None] | None = None,
) -> list[Path]:
    """Simulate cases 0 .. patients - 1, write them below `root` and return the files written, `cases.csv` last.

    Args:
      layout: "mscmr", "myops", "acdc", "lasc", "cetus" or "hr"; see the module docstring.
      sequences: sequences to write; by default LGE (mscmr, lasc), all three (myops), cine (acdc, hr: one only), US.
      groups: pathology groups to cycle through; by default all five, balanced (myops: infarct; cetus:
        normal, infarct, dilated).
      shares: shares of patients in train, val and test (mscmr).
      spacing_mm, size, slices: as for `simulate` and `axial.scan`, whose defaults apply to mscmr, acdc and lasc. The
        default of "hr" is 120 x 120 x 12 at 1.25 x 1.25 x 10 mm, of "myops" 288 x 288 x 5 at 0.75 x 0.75 x 13 mm.
        cetus: 1 mm isotropic, in the box of the field of view (no size and slices).
      misalign_mm: as for `simulate` (not lasc and cetus).
      frames: number of frames of the beat (acdc).
      on_patient: called with the number of patients written, for a progress bar.

    Raises:
      InputError: unknown layout, sequence or group; fewer than one patient or four frames. Nothing is written then.
    """
    if layout not in LAYOUTS:
        raise InputError(layout, f"not a layout of the phantom; known: {', '.join(LAYOUTS)}")
    if layout in ("lasc", "cetus") and misalign_mm is not None:
        raise InputError("misalign_mm", "a 3D scan has no breath-holds")
    if patients < 1:
        raise InputError(f"{patients} patients", "at least one is needed")
    chosen = LAYOUTS[layout]
    sequences = _sequences(layout, chosen, sequences)
    groups = chosen.groups if groups is None else groups
    if groups is not None and (not groups or set(groups) - set(GROUPS)):
        raise InputError(", ".join(groups) or "no group", f"groups are {', '.join(GROUPS)}")
    given = {"spacing_mm": spacing_mm, "size": size, "slices": slices, "misalign_mm": misalign_mm}
    options = {**chosen.options, **{key: value for key, value in given.items() if value is not None}}
    root, written, rows = Path(root), [], []
    for case in range(patients):
        group = group_of(seed, case) if groups is None else groups[case % len(groups)]
        folder = split_of(case, patients, shares)
        drawn = chosen.draw(Wanted(seed, case, group, folder, sequences, frames, options))
        written += [_save(root, file) for file in drawn.files]
        rows.append(drawn.row)
        if on_patient is not None:
            on_patient(case + 1)
    if chosen.described:
        description.write(root, {name: k for k, name in enumerate(CLASSES)}, sequences)
        written.append(root / description.DESCRIPTION)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([chosen.columns, *rows])
    return [*written, _save(root, File("cases.csv", text.getvalue()))]


def _sequences(layout: str, chosen: Layout, asked: Sequence[str] | None) -> tuple[str, ...]:
    sequences = tuple(chosen.usual if asked is None else asked)
    wrong = [s for s in sequences if s not in chosen.sequences]
    if wrong or not sequences:
        raise InputError(", ".join(wrong) or "no sequence", f"layout {layout} takes {', '.join(chosen.sequences)}")
    return sequences


def _save(root: Path, file: File) -> Path:
    path = root / file.name
    if isinstance(file.content, np.ndarray) and file.affine is not None:
        write_array(path, file.content, file.affine)
    else:
        text = str(file.content)
        atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path
