"""ACDC 2017: short-axis cine MR of 150 patients in five groups, annotated at end-diastole and end-systole.

Provenance: O. Bernard et al., "Deep learning techniques for automatic MRI cardiac multi-structures segmentation and
diagnosis: is the problem solved?", IEEE TMI 37 (2018), University Hospital of Dijon
(https://www.creatis.insa-lyon.fr/Challenge/acdc/). Licence: CC BY-NC-SA 4.0, with the paper cited.

    root/[training|testing/]patient<NNN>/Info.cfg                          ED, ES: frame numbers from 1; Group;
                                                                           Height (cm), Weight (kg); ...
                                         patient<NNN>_frame<MM>.nii.gz     those two frames
                                         patient<NNN>_frame<MM>_gt.nii.gz  1 RV, 2 Myo, 3 LV, 0 background
                                         patient<NNN>_4d.nii.gz            all frames of the beat: not a case

A case is one phase of one patient, "patient001_ED" or "patient001_ES"; both are on the same side of every split.
Groups: NOR normal, DCM dilated, HCM hypertrophic, MINF infarct, RV abnormal right ventricle; other values are kept.
The root may also be one patient's folder or one frame.

Slices run from base to apex. The affines do not give the patient's orientation: they are axis-aligned, and short-axis
slices are not. The slice order was therefore derived from the annotation of 40 patients, eight per group, at
end-diastole. In 39 of them the left ventricular cavity is larger over the first third of its slices than over the last.
In the other one (patient047, a dilated apex) this holds for the right ventricle, with 1128 pixels in the first slice
and none in the last two. Pixels are stored as they are displayed, columns to the patient's left and rows downwards,
regardless of the affine.
"""

import re
from pathlib import Path

from cardiac_jax.data.case import Dataset, Record, first_error_raised
from cardiac_jax.data.labels import CLASSES
from cardiac_jax.data.sets.entries import stem
from cardiac_jax.errors import InputError

INFO = "Info.cfg"
MOST_INFO = 2**16  # bytes
PHASES = ("ED", "ES")
HEIGHT_CM, WEIGHT_KG = (30.0, 250.0), (2.0, 400.0)  # what a person can have
_PATIENT = re.compile(r"patient\d+$")
_FRAME = re.compile(r"patient\d+_frame(?P<frame>\d{1,6})(?P<gt>_gt)?\.nii(\.gz)?$", re.IGNORECASE)
_SPLITS = {"training": "train", "testing": "test"}


def survey(root: Path) -> tuple[list[Record], list[InputError]]:
    """Return the records sorted by id, and one error for each patient with an unusable `Info.cfg`.

    Raises:
      InputError: there is no patient, or `root` is a file that is not one of a patient's two frames.
    """
    root = root if root.name else root.absolute()
    if root.is_file():
        return [_single(root)], []
    if not root.is_dir():
        raise InputError(root, "no such file or folder")
    if _PATIENT.match(root.name) and not any(_PATIENT.match(p.name) for p in root.iterdir()):
        patients = [root]
    else:
        folders = [root, *(root / name for name in _SPLITS if (root / name).is_dir())]
        patients = [p for folder in folders for p in sorted(folder.iterdir()) if p.is_dir() and _PATIENT.match(p.name)]
    if not patients:
        raise InputError(root, f"holds no patient<NNN> folder, nor do its {', '.join(_SPLITS)}")
    records: list[Record] = []
    problems: list[InputError] = []
    for patient in patients:
        try:
            records += _records(patient)
        except InputError as error:
            problems.append(error)
    return sorted(records, key=lambda r: (r.id, r.split or "")), problems


find = first_error_raised(survey)


def read_info(path: Path) -> dict[str, str]:
    """Return the `key: value` lines of an `Info.cfg`.

    Raises:
      InputError: the file cannot be read, has other lines, or is longer than `MOST_INFO`.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_INFO + 1)
    except FileNotFoundError as error:
        raise InputError(path, "no such file") from error
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error
    if len(content) > MOST_INFO:
        raise InputError(path, f"has more than {MOST_INFO} bytes, which no {INFO} has")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # any bytes are letters there; the keys are ASCII in both
    if "\0" in text:
        raise InputError(path, "cannot be read (not a text)")
    lines = [line for line in text.splitlines() if line.strip()]
    pairs = [line.partition(":") for line in lines]
    if not all(colon for _, colon, _ in pairs):
        raise InputError(path, "is not a list of `key: value` lines")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _records(folder: Path) -> list[Record]:
    info, name = read_info(folder / INFO), folder.name
    records = []
    for phase in PHASES:
        number = _frame_number(folder / INFO, info, phase)
        label = _file(folder, number, "_gt")
        records.append(
            Record(
                id=f"{name}_{phase}",
                patient=name,
                images={"cine": _file(folder, number)},
                label=label if label.exists() else None,
                phase=phase,
                group=info.get("Group") or None,
                split=_SPLITS.get(folder.parent.name),
                height_cm=_size(info, "Height", HEIGHT_CM),
                weight_kg=_size(info, "Weight", WEIGHT_KG),
            )
        )
    if records[0].images == records[1].images:
        raise InputError(folder / INFO, f"gives the same frame as {' and '.join(PHASES)}")
    return records


def _frame_number(path: Path, info: dict[str, str], phase: str) -> int:
    if phase not in info:
        raise InputError(path, f"lacks the key {phase}, a frame number")
    if not info[phase].isdecimal() or len(info[phase]) > 6:
        raise InputError(path, f"gives {phase} as {info[phase][:40]!r}, expected a frame number")
    return int(info[phase])


def _size(info: dict[str, str], key: str, within: tuple[float, float]) -> float | None:
    """Height or weight; None if the file gives none that a person can have in this unit. No case depends on it."""
    try:
        value = float(info.get(key, ""))
    except ValueError:
        return None
    return value if within[0] <= value <= within[1] else None


def _single(path: Path) -> Record:
    match = _FRAME.match(path.name)
    if match is None or match["gt"]:
        raise InputError(path, "is not named patient<NNN>_frame<MM>.nii.gz")
    for record in _records(path.absolute().parent):
        if record.images["cine"] == path.absolute():
            return record
    raise InputError(path, f"is neither of the frames {' and '.join(PHASES)} of {INFO}")


def _file(folder: Path, frame: int, end: str = "") -> Path:
    """The file of a frame, whose number may be written with any zeros in front; the usual name if there is none."""
    usual = folder / f"{folder.name}_frame{frame:02d}{end}.nii.gz"
    matches = {path: _FRAME.match(path.name) for path in sorted(folder.iterdir())}
    found = [p for p, m in matches.items() if m and int(m["frame"]) == frame and (m["gt"] or "") == end]
    if len(found) > 1 and len({stem(path).casefold() for path in found}) > 1:
        raise InputError(found[1], f"is frame {frame}, as is {found[0].name}")
    return usual if usual in found or not found else found[0]


DATASET = Dataset(
    "acdc",
    CLASSES,
    {k: k for k in range(4)},
    ("cine",),
    find,
    "base_first",
    survey=survey,
    side_files=("Info.cfg", "patient*_4d.nii*", "MANDATORY_CITATION.md"),
)
