"""CETUS 2014: apical 3D ultrasound of 45 patients, the left ventricular cavity annotated at ED and at ES.

Provenance: O. Bernard et al., "Standardized evaluation system for left ventricular segmentation algorithms in 3D
echocardiography", IEEE TMI 35 (2016), three hospitals and three vendors' scanners, 15 healthy subjects and 30 patients
with infarction or dilated cardiomyopathy (https://www.creatis.insa-lyon.fr/Challenge/CETUS/). Licence: by registration,
for research, not to be redistributed.

    root/Patient<N>/Patient<N>_ED.mhd         image at end-diastole, its voxels in a file beside it (.raw or .zraw)
                    Patient<N>_ED_truth.mhd   1 cavity of the left ventricle with papillary muscles, 0 background
                    Patient<N>_ES.mhd         end-systole
                    Patient<N>_ES_truth.mhd

THIS LAYOUT WAS NOT TESTED ON THE REAL FILES, only on those of the phantom (`launch.prepare --layout=cetus`). Public
scripts for the challenge's first release read all frames of the beat (`Patient<N>_frame<MM>.mhd`; one script resamples
them to 0.001, so their voxel sizes seem to be in metres), the numbers of ED and ES (`Patient<N>_ED_ES_time.txt`) and
meshes (`Patient<N>_ED_truth.vtk`). Such a folder is refused with that reason: its two frames must be resampled to 1 mm
isotropic, as in the papers, and its meshes filled to label maps.

A case is one phase of one patient, "Patient1_ED" or "Patient1_ES"; both are on the same side of every split. Patients
of the challenge's test set have no truth. Any label value but 0 and 1 is refused. Only `launch.evaluate --pred` also
takes 255 for the cavity, as for every data set with one structure. Voxels outside the pyramid of the beams are 0 in the
image and background in the truth.

No axis of the file runs along the short axis: it lies in the coordinates of the probe, and where depth is stored is not
known. The slice order is therefore "unknown": Z, H, W are the third, second and first axis of the file, unflipped.
Volumes, ejection fraction, overlap and distances do not depend on it. Not given are apical, middle and basal thirds,
and, since there is no myocardium either, AHA segments, wall thickness, mass and anatomical validity.
The root may also be one patient's folder or one image.
"""

import re
from pathlib import Path

from cardiac_jax.data.case import Dataset, Record, first_error_raised
from cardiac_jax.errors import InputError

CLASSES = ("background", "LV")
SEQUENCE = "US"
PHASES = ("ED", "ES")
_PATIENT = re.compile(r"Patient\d+$")
_IMAGE = re.compile(r"(?P<patient>Patient\d+)_(?P<phase>E[DS])\.mhd$")
_FIRST_RELEASE = ("*_frame*.mhd", "*_truth.vtk", "*_ED_ES_time.txt")


def survey(root: Path) -> tuple[list[Record], list[InputError]]:
    """Return the records sorted by id, and one error for each patient without image or truth without its image.

    Raises:
      InputError: there is no patient, or `root` is a file that is not a patient's image.
    """
    root = root if root.name else root.absolute()
    if root.is_file():
        match = _IMAGE.match(root.name)
        if match is None:
            raise InputError(root, "is not named Patient<N>_ED.mhd or Patient<N>_ES.mhd")
        return [_record(root.absolute().parent, match["patient"], match["phase"])], []
    if not root.is_dir():
        raise InputError(root, "no such file or folder")
    inside = [path for path in sorted(root.iterdir()) if path.is_dir() and _PATIENT.match(path.name)]
    patients = inside or ([root] if _PATIENT.match(root.name) else [])
    if not patients:
        raise InputError(root, "holds no Patient<N> folder")
    records: list[Record] = []
    problems: list[InputError] = []
    for folder in patients:
        present = [phase for phase in PHASES if _image(folder, folder.name, phase).exists()]
        records += [_record(folder, folder.name, phase) for phase in present]
        alone = [p for p in PHASES if p not in present and _truth(folder, folder.name, p).exists()]
        if alone:
            truth = _truth(folder, folder.name, alone[0])
            problems.append(InputError(truth, f"has no image {_image(folder, folder.name, alone[0]).name}"))
        elif not present:
            problems.append(InputError(folder, f"holds no {folder.name}_ED.mhd or {folder.name}_ES.mhd{_why(folder)}"))
    return sorted(records, key=lambda record: record.id), problems


find = first_error_raised(survey)


def _image(folder: Path, patient: str, phase: str) -> Path:
    return folder / f"{patient}_{phase}.mhd"


def _truth(folder: Path, patient: str, phase: str) -> Path:
    return folder / f"{patient}_{phase}_truth.mhd"


def _record(folder: Path, patient: str, phase: str) -> Record:
    truth = _truth(folder, patient, phase)
    images = {SEQUENCE: _image(folder, patient, phase)}
    return Record(f"{patient}_{phase}", patient, images, truth if truth.exists() else None, phase=phase)


def _why(folder: Path) -> str:
    """What the folder holds instead, if it looks like the first release."""
    if not any(next(folder.glob(pattern), None) for pattern in _FIRST_RELEASE):
        return ""
    return "; its frames and meshes are of the first release: convert ED and ES to images and label maps"


DATASET = Dataset("cetus", CLASSES, {0: 0, 1: 1}, (SEQUENCE,), find, "unknown", survey=survey)
