"""Writing files: under a temporary name, then renamed. Label maps are written with the geometry of their image."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Generator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from cardiac_jax.data.io import formats, volume
from cardiac_jax.data.stack import Stack
from cardiac_jax.errors import InputError

LOCK = ".lock"


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` on a temporary file in the folder of `path` (same suffix), then renames it to `path`.

    Parent folders are made. On any failure (disk full, interruption, an error in `write`) the temporary file is removed
    and `path` is not changed.

    Raises:
      OSError: with `path` as its file name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = volume.suffix(path) or path.suffix
    handle, name = tempfile.mkstemp(prefix=f".{path.name.removesuffix(suffix)}.", suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes it private
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    except BaseException:  # also on Ctrl-C: remove the temporary file
        temporary.unlink(missing_ok=True)
        raise


def write_label(
    path: Path, labels: Stack, raw_values: Mapping[int, int] | None = None, source: Path | None = None
) -> None:
    """Writes a label map in its file's axis order, so that it opens aligned with the image.

    The suffix of `path` chooses the format (.nii, .nii.gz, .nrrd, .mha, .mhd with .raw).

    Args:
      labels: `[Z, H, W]` classes.
      raw_values: `Dataset.labels`, raw value -> class. Raw values are written, the first if a class has several; None:
        classes are written.
      source: a file on the same grid. If it has the same format, its header is copied (affine, qform and sform codes,
        units); otherwise a header is made from the affine.

    Raises:
      InputError: a class has no raw value, `source` has another grid, or the suffix is unknown.
    """
    data = labels.to_file()
    table = {c: c for c in range(256)}
    if raw_values is not None:
        table = {c: raw for raw, c in reversed(list(raw_values.items()))}
    present = [int(c) for c in np.unique(data)]
    missing = [c for c in present if c not in table]
    if missing:
        raise InputError(path, f"cannot hold class {missing[0]}, which has no raw value in the data set")
    # The type does not depend on the classes present, so that all files of a data set have the same type.
    top = max(raw_values if raw_values is not None else present)
    out = np.zeros(data.shape, np.uint8 if top < 2**8 else np.int16 if top < 2**15 else np.int32)
    for c in present:
        out[data == c] = table[c]
    write_array(path, out, labels.affine, source)


def write_array(path: Path, data: np.ndarray, affine: np.ndarray, source: Path | None = None) -> None:
    """Writes `data [X, Y, Z, ...]` in the format given by the suffix of `path`; `source` as for `write_label`."""
    for file, content in formats.contents(path, data, affine, source).items():
        atomic_write(file, partial(_put, content=content))


@contextlib.contextmanager
def lock(workdir: Path) -> Generator[None]:
    """Context manager that locks `workdir`, which is made if missing.

    Raises:
      InputError: another run holds the lock.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / LOCK).open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read().strip()
            raise InputError(workdir, f"is in use by another run{f' (process {holder})' if holder else ''}") from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)
