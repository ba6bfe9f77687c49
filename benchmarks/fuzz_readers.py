"""Damaged files through every reader: exceptions that are not InputError, slow files, peak memory.

    python -m benchmarks.fuzz_readers [--files=20000 --seed=0 --keep=DIR]

Valid files (NIfTI-1 and -2, NRRD, MetaImage, plain and compressed, label maps, Info.cfg, dataset.json, and with the
extra `dicom` a DICOM series) are damaged one at a time: bytes changed, cut, repeated or inserted anywhere; numbers of
headers replaced by extreme ones; lines dropped, repeated or emptied. Each is read as the commands read it. Printed:
how many were read and refused, every other exception with its place, files that took over `SLOW_S`, and the growth of
the largest resident memory. `--keep` is a folder for the files that were neither. Exit status 1 if there are any.
"""

import argparse
import gzip
import importlib.util
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from cardiac_jax import notes
from cardiac_jax.data import label_maps
from cardiac_jax.data.io import formats, metaimage, nifti, nrrd
from cardiac_jax.data.load import canonical_labels, label_values
from cardiac_jax.data.regrid import on_grid
from cardiac_jax.data.sets import acdc
from cardiac_jax.data.stack import from_volume
from cardiac_jax.errors import InputError

SLOW_S = 2.0
SHAPE = (12, 10, 4)
LABELS = {0: 0, 1: 1, 2: 2, 3: 3}
NUMBERS = ("0", "-1", "1", "7", "0.5", "1e30", "-1e-30", "nan", "inf", "none", "()", "(,)", "", "65536", "4294967296")
NIFTI_NUMBERS = (0, 1, -1, 2, 3, 7, 100, 32767, -32768, 2147483647, 1e30, -1e30, 1e-30, float("nan"), float("inf"))
Files = Mapping[str, bytes]


class Kind(NamedTuple):
    """Valid files by name, the name of the one that is damaged, how, and how the folder is read."""

    files: Files
    damaged: str
    damage: Callable[[random.Random, bytes], bytes]
    read: Callable[[Path], object]


class Report(NamedTuple):
    """Counts of files that were read and refused; exceptions by place; names of slow files with their seconds."""

    read: int
    refused: int
    exceptions: Counter[str]
    slow: list[tuple[str, float]]


def kinds() -> dict[str, Kind]:
    """Every kind of file, valid."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 900, SHAPE).astype(np.int16)
    label = np.zeros(SHAPE, np.uint8)
    label[2:4, 2:8], label[4:7, 2:8], label[7:9, 2:8] = 1, 2, 3
    affine = np.diag([-1.4, -1.4, 8.0, 1.0])
    affine[:3, 3] = 40, 60, -30
    two = nib.Nifti2Header()
    two.set_data_shape(SHAPE)
    two.set_sform(affine, 1)
    two.set_qform(affine, 1)
    found = {}
    for suffix in (".nii", ".nii.gz", ".nrrd", ".mha"):
        data = formats.encode(Path(f"x{suffix}"), image, affine)
        found[f"image{suffix}"] = Kind({f"x{suffix}": data}, f"x{suffix}", _damage_of(suffix), _read_image)
        data = formats.encode(Path(f"x{suffix}"), label, affine)
        found[f"label{suffix}"] = Kind({f"x{suffix}": data}, f"x{suffix}", _damage_of(suffix), _read_label)
    scaled = nifti.header_for(affine)
    plain = {
        "NIfTI-2.nii": nifti.encode(label, two, compress=False),
        "NIfTI-2.nii.gz": nifti.encode(label, two, compress=True),
        "float.nii": nifti.encode(label.astype(np.float32), scaled, compress=False),
        "raw.nrrd": _raw_nrrd(label, affine),
        "raw.mha": _raw_mha(label, affine),
        "segments.seg.nrrd": _raw_nrrd(label, affine, "Segment0_ID:=Segment_1\nSegment0_LabelValue:=1\n"),
    }
    for name, data in plain.items():
        found[name] = Kind({name: data}, name, _damage_of("." + name.partition(".")[2]), _read_label)
    info = b"ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"
    found[acdc.INFO] = Kind({f"patient001/{acdc.INFO}": info}, f"patient001/{acdc.INFO}", _damage_text, acdc.find)
    names = b'{"labels": {"background": 0, "RV": 1, "Myo": 2, "LV": 3}, "channel_names": {"0": "LGE"}}\n'
    maps = {f"{side}/a.nii.gz": formats.encode(Path("a.nii.gz"), label, affine) for side in ("pred", "truth")}
    found["dataset.json"] = Kind({**maps, "truth/dataset.json": names}, "truth/dataset.json", _damage_text, _read_maps)
    if importlib.util.find_spec("pydicom"):  # the extra `dicom`
        found["DICOM"] = Kind(_series(image), "1.dcm", _damage_dicom, formats.read)
    return found


def run(files: int, seed: int, keep: Path | None = None) -> Report:
    """Damages and reads `files` files, the same for the same `seed`."""
    rng, known = random.Random(seed), kinds()
    read, refused, exceptions, slow = 0, 0, Counter[str](), []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), notes.collected():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)
        for number in range(files):
            name = list(known)[number % len(known)]
            kind, root = known[name], Path(folder) / name
            if number < len(known):
                for path, data in kind.files.items():
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    (root / path).write_bytes(data)
                kind.read(root)  # as it is
            data = kind.damage(rng, kind.files[kind.damaged])
            (root / kind.damaged).write_bytes(data)
            start, wrong = time.perf_counter(), True
            try:
                kind.read(root)
                read, wrong = read + 1, False
            except InputError as error:
                wrong = "\n" in str(error)
                refused += not wrong
                exceptions += Counter([f"{name}: a message of several lines"] * wrong)
            except Exception as error:
                at = traceback.extract_tb(error.__traceback__)[-1]
                exceptions[f"{name}: {type(error).__name__} at {Path(at.filename).name}:{at.lineno}"] += 1
            seconds = time.perf_counter() - start
            if seconds > SLOW_S:
                slow.append((f"{number} {name}", seconds))
            if keep is not None and (wrong or seconds > SLOW_S):
                shutil.copytree(root, keep / f"{number}_{name}")
    return Report(read, refused, exceptions, slow)


def _read_image(root: Path) -> None:
    volume = formats.read(next(root.iterdir()))
    from_volume(volume.data, volume.affine, "affine")


def _read_label(root: Path) -> None:
    path = next(root.iterdir())
    volume = formats.read(path)
    on_grid(path, volume, volume, "itself")
    label_values(volume.data, path)
    canonical_labels(volume.data, LABELS, path)


def _read_maps(root: Path) -> None:
    label_maps.find(root / "pred", root / "truth")


def _damage_of(suffix: str) -> Callable[[random.Random, bytes], bytes]:
    return {".nii": _damage_nifti, ".nii.gz": _damage_gzip}.get(suffix, _damage_header)


def _damage_bytes(rng: random.Random, data: bytes) -> bytes:
    """Changes, cuts, repeats or inserts bytes, one to four times."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1) if rng.random() < 0.5 else min(rng.randrange(600), len(out))
        span = rng.choice((1, 2, 4, 8, 64, 1000))
        way = rng.randrange(5)
        if way == 0:
            out[at : at + span] = rng.randbytes(len(out[at : at + span]))
        elif way == 1:
            out[at : at + span] = bytes([rng.choice((0, 1, 127, 128, 255))]) * len(out[at : at + span])
        elif way == 2:
            del out[at : at + span]
        elif way == 3:
            out[at:at] = out[at : at + span] * rng.choice((1, 2, 50))
        else:
            del out[at:]
    return bytes(out)


def _damage_text(rng: random.Random, data: bytes) -> bytes:
    """Drops, repeats or empties lines, or replaces words of them by extreme numbers."""
    if rng.random() < 0.2:
        return _damage_bytes(rng, data)
    lines = data.split(b"\n")
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(lines))
        way = rng.randrange(6)
        if way == 0 and len(lines) > 1:
            del lines[at]
        elif way == 1:
            lines.insert(at, lines[at])
        elif way == 2:
            lines[at] = b""
        else:
            words = lines[at].split(b" ")
            long = rng.choice((b"9" * 5000, b"[" * 5000, b"(" * 300, b"1," * 400, b'"'))
            number = rng.choice(NUMBERS).encode() if rng.random() < 0.85 else long
            words[rng.randrange(len(words))] = number
            lines[at] = b" ".join(words)
    return b"\n".join(lines)


def _damage_header(rng: random.Random, data: bytes) -> bytes:
    """Damages the text header of NRRD or MetaImage, or any bytes."""
    end = data.find(b"\n\n") if data.startswith(b"NRRD") else data.find(b"LOCAL\n") + 5
    if rng.random() < 0.3:
        return _damage_bytes(rng, data)
    return _damage_text(rng, data[:end]) + data[end:]


def _damage_nifti(rng: random.Random, data: bytes) -> bytes:
    """Replaces fields of the header by extreme numbers, or damages any bytes."""
    if rng.random() < 0.3:
        return _damage_bytes(rng, data)
    kind = nib.nifti2.header_dtype if struct.unpack("<i", data[:4])[0] == 540 else nib.nifti1.header_dtype
    header = np.frombuffer(data[: kind.itemsize], kind).copy()
    for _ in range(rng.randint(1, 3)):
        field = rng.choice([name for name in kind.names or () if kind[name].base.kind in "iuf"])
        values = header[field].reshape(-1)
        with np.errstate(all="ignore"):
            values[rng.randrange(len(values))] = np.array(rng.choice(NIFTI_NUMBERS)).astype(values.dtype)
    return header.tobytes() + data[kind.itemsize :]


def _damage_gzip(rng: random.Random, data: bytes) -> bytes:
    """Damages what is compressed, or the compressed bytes."""
    if rng.random() < 0.3:
        return _damage_bytes(rng, data)
    return gzip.compress(_damage_nifti(rng, gzip.decompress(data)), 1)


def _damage_dicom(rng: random.Random, data: bytes) -> bytes:
    """Replaces, drops or repeats an element, changes its length alone, or damages any bytes."""
    if rng.random() < 0.3:
        return _damage_bytes(rng, data)
    parts, at = [data[:132]], 132
    while at < len(data):
        long = data[at + 4 : at + 6] in (b"OB", b"OW")
        length = struct.unpack_from("<I" if long else "<H", data, at + (8 if long else 6))[0]
        end = at + (12 if long else 8) + length
        parts.append(data[at:end])
        at = end
    k = rng.randrange(1, len(parts))
    tag, code = struct.unpack_from("<HH", parts[k]), parts[k][4:6]
    way, value = rng.randrange(6), parts[k][12 if code in (b"OB", b"OW") else 8 :]
    if way == 0:
        parts[k] = b""
    elif way == 1:
        parts[k] *= 2
    elif way == 2:
        parts[k] = parts[k][:6] + rng.randbytes(2) + parts[k][8:]
    elif code == b"US":
        parts[k] = _element(tag, code, struct.pack("<H", rng.choice((0, 1, 2, 3, 7, 8, 12, 32, 255, 4096, 65535))))
    elif code in (b"OB", b"OW"):
        parts[k] = _element(tag, code, value[: rng.randrange(len(value) + 1)] * rng.choice((1, 1, 3)))
    else:
        words = value.split(b"\\")
        words[rng.randrange(len(words))] = rng.choice(NUMBERS).encode()
        parts[k] = _element(tag, code, b"\\".join(words))
    return b"".join(parts)


def _element(tag: tuple[int, int], code: bytes, value: bytes) -> bytes:
    """An element of DICOM, explicit VR, little endian."""
    value += b" " * (len(value) % 2) if code not in (b"UI", b"OB", b"OW") else b"\0" * (len(value) % 2)
    size = b"\0\0" + struct.pack("<I", len(value)) if code in (b"OB", b"OW") else struct.pack("<H", len(value))
    return struct.pack("<HH", *tag) + code + size + value


def _raw_nrrd(data: np.ndarray, affine: np.ndarray, more: str = "") -> bytes:
    head = nrrd.encode(data, nrrd.header_for(affine)).partition(b"\n\n")[0].replace(b"encoding: gzip", b"encoding: raw")
    return head + b"\n" + more.encode() + b"\n" + data.tobytes(order="F")


def _raw_mha(data: np.ndarray, affine: np.ndarray) -> bytes:
    head = metaimage.encode(data, metaimage.header_for(affine)).partition(b"LOCAL\n")[0]
    return head.replace(b"CompressedData = True", b"CompressedData = False") + b"LOCAL\n" + data.tobytes(order="F")


def _series(image: np.ndarray) -> Files:
    """A DICOM series, one file per slice."""
    uid, files = b"1.2.826.0.1.3680043.8.498.77", {}
    columns, rows, slices = image.shape
    for z in range(slices):
        kind, own, plane = b"1.2.840.10008.5.1.4.1.1.4", b"%s.%d" % (uid, z), image[..., z].T.astype("<u2").tobytes()
        meta = [((2, 1), b"OB", b"\0\1"), ((2, 2), b"UI", kind), ((2, 3), b"UI", own)]
        meta.append(((2, 16), b"UI", b"1.2.840.10008.1.2.1"))
        head = b"".join(_element(*element) for element in meta)
        numbers = {(0x28, 2): 1, (0x28, 0x10): rows, (0x28, 0x11): columns, (0x28, 0x100): 16}
        numbers |= {(0x28, 0x101): 16, (0x28, 0x102): 15, (0x28, 0x103): 0}
        text = [
            ((8, 0x16), b"UI", kind), ((8, 0x18), b"UI", own), ((8, 0x60), b"CS", b"MR"), ((0x18, 0x50), b"DS", b"8"),
            ((0x20, 0xD), b"UI", uid + b".9"), ((0x20, 0xE), b"UI", uid + b".8"), ((0x20, 0x11), b"IS", b"1"),
            ((0x20, 0x13), b"IS", b"%d" % (z + 1)), ((0x20, 0x32), b"DS", b"5\\6\\%d" % (8 * z)),
            ((0x20, 0x37), b"DS", b"1\\0\\0\\0\\1\\0"), ((0x20, 0x52), b"UI", uid + b".7"),
            ((0x28, 4), b"CS", b"MONOCHROME2"), ((0x28, 0x30), b"DS", b"1.4\\1.4"),
            ((0x28, 0x1052), b"DS", b"0"), ((0x28, 0x1053), b"DS", b"2"), ((0x7FE0, 0x10), b"OW", plane),
        ]  # fmt: skip
        held = sorted([*text, *((tag, b"US", struct.pack("<H", number)) for tag, number in numbers.items())])
        start = b"\0" * 128 + b"DICM" + _element((2, 0), b"UL", struct.pack("<I", len(head))) + head
        files[f"{z}.dcm"] = start + b"".join(_element(*element) for element in held)
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    run(len(kinds()), args.seed)  # what the readers themselves take
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    found = run(args.files, args.seed, args.keep)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    wrong = sum(found.exceptions.values())
    print(f"{args.files} files of {len(kinds())} kinds in {time.perf_counter() - start:.0f} s, seed {args.seed}")
    print(f"{found.read} read, {found.refused} refused, {wrong} other exceptions, {len(found.slow)} over {SLOW_S:g} s")
    print(f"largest resident memory grew by {grown_mb:.0f} MB")
    for place, count in found.exceptions.most_common():
        print(f"{count:6d}  {place}")
    for name, seconds in found.slow:
        print(f"{seconds:6.1f} s  {name}")
    return int(bool(wrong or found.slow))


if __name__ == "__main__":
    sys.exit(main())
