"""Checks a data set without training, writes a phantom, or makes low-resolution twins of high-resolution volumes.

python -m launch.prepare --check --data.name=mscmr --data.root=DIR|FILE
python -m launch.prepare --phantom=DIR --patients=20 --seed=0 --layout=mscmr
python -m launch.prepare --twins=DIR --data.name=lasc --data.root=DIR --misalign_mm=2 --seed=0

--twins writes for every labelled volume of a data set a stack of 10 mm slices and, on a grid of 1.25 x 1.25 x 2 mm, the
image and label it was made of (cardiac_jax/data/degraded.py): data.name=twins. It goes on where an earlier start ended.

Exit status: 0 done, 2 if there is any problem.
"""

from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cardiac_jax.commands import cli
from cardiac_jax.data.check import Findings, check
from cardiac_jax.data.sets import dataset
from cardiac_jax.errors import InputError, raise_failed
from cardiac_jax.progress import say_found

flags.DEFINE_bool("check", False, "Read every file of the data set and list all problems.")
flags.DEFINE_string("data.name", None, "Name of the data set (of --check and --twins).")
flags.DEFINE_string("data.root", None, "Its folder, or a single file (of --check and --twins).")
flags.DEFINE_list("data.sequences", None, "Sequences every case needs, on one grid. Default: what there is.")
flags.DEFINE_bool("labels", True, "Whether a case without label is a problem (of --check).")
flags.DEFINE_string("phantom", None, "Folder to write a phantom data set to.")
flags.DEFINE_integer("patients", 20, "Patients (of --phantom).", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed (of --phantom and --twins).")
flags.DEFINE_string("layout", "mscmr", "Whose layout: mscmr, myops, acdc, hr, lasc or cetus (of --phantom).")
flags.DEFINE_string("twins", None, "Folder to write low-resolution twins to, made from --data.name.")
flags.DEFINE_float("misalign_mm", 2.0, "Largest in-plane shift of a slice along each axis, uniform (of --twins).")
flags.DEFINE_float("rotation_deg", 0.0, "Largest in-plane rotation of a slice, uniform (of --twins).")
flags.DEFINE_float("sigma_mm", 4.0, "SD of the Gaussian across slices (of --twins).")
flags.DEFINE_float("noise", 0.0, "SD of the noise, as a share of the image's SD (of --twins).")
flags.DEFINE_float("size_mm", 0.0, "In-plane side of the box about the label that is kept; 0: all (of --twins).")
flags.DEFINE_integer("limit", 0, "Number of cases, the first by name; 0: all (of --twins).", lower_bound=0)


def main() -> int:
    values = flags.FLAGS
    if values.check + (values.phantom is not None) + (values.twins is not None) != 1:
        raise InputError("--check, --phantom, --twins", "give one of them")
    if values.phantom is not None:
        return _phantom(Path(values.phantom), values.layout, values.patients, values.seed)
    name, place = (values[key].value for key in ("data.name", "data.root"))
    if name is None or place is None:
        raise InputError("--twins" if values.twins else "--check", "needs --data.name and --data.root")
    if values.twins is not None:
        return _twins(Path(values.twins), name, Path(place))
    chosen, root = dataset(name, root=Path(place)), Path(place)
    found = check(chosen, root, values["data.sequences"].value, labelled=values.labels)
    _show(found, root, chosen.classes)
    if found.problems:
        raise InputError(root, f"{len(found.problems)} problems, listed above; {len(found.rows)} cases without problem")
    return 0


def _phantom(root: Path, layout: str, patients: int, seed: int) -> int:
    from cardiac_jax.data.sets import phantom

    phantom.write(root, layout, patients, seed)
    print(f"wrote {patients} patients to {root}")
    return 0


def _twins(out: Path, name: str, root: Path) -> int:
    from cardiac_jax.data import degraded
    from cardiac_jax.data.discover import discover

    values = flags.FLAGS
    sequences = values["data.sequences"].value or [""]
    if len(sequences) > 1:
        raise InputError("--data.sequences", f"names {len(sequences)} sequences; --twins takes one")
    chosen = dataset(name, root=root)
    found = discover(chosen, root)
    failed = {problem.where: problem for problem in found.problems}
    say_found(found.notes, failed, cli.console)
    keys = ("misalign_mm", "rotation_deg", "sigma_mm", "noise", "size_mm", "seed")
    given: dict[str, Any] = {key: values[key].value for key in keys}
    options = degraded.Options(sequences[0], **given)
    labelled = [record for record in found.records if record.label is not None]
    if not labelled:
        raise InputError(root, "has no labelled case")
    records = labelled[: values.limit or None]
    unmade = degraded.write(out, records, chosen, options, cli.console)
    raise_failed(failed | unmade, len(records) - len(unmade))
    print(f"wrote twins of {len(records)} cases to {out}")
    return 0


def _show(found: Findings, root: Path, classes: tuple[str, ...]) -> None:
    """A table of cases, a table of problems, a line of totals, on standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    style = box.SIMPLE if console.is_terminal else box.ASCII  # a pipe may not support other characters
    if found.rows:
        table = Table("case", "split", "group", "sequences", "size", "spacing mm", box=style)
        for heading in ("slices", "annotated", "in full", *classes):
            table.add_column(heading, justify="right")
        for row in found.rows:
            size, spacing = " x ".join(map(str, row.shape)), " x ".join(f"{s:.3g}" for s in row.spacing_mm)
            counts = [str(n) for n in (row.shape[0], row.annotated, row.fully_annotated, *row.voxels)]
            table.add_row(*map(Text, (row.id, row.split, row.group, row.sequences, size, spacing, *counts)))
        console.print(table)
    for note in found.notes:
        print(note)
    if found.problems:
        table = Table(box=style, title="Problems")
        table.add_column("file or key", overflow="fold")
        table.add_column("problem", overflow="fold")
        for problem in found.problems:
            where = Path(problem.where)
            inside = where != root and where.is_relative_to(root)
            shown = str(where.relative_to(root)) if inside else problem.where
            table.add_row(Text(shown), Text(problem.problem))
        console.print(table)
    totals = (
        np.array([(r.shape[0], r.annotated, r.fully_annotated) for r in found.rows], int).reshape(-1, 3).sum(axis=0)
    )
    print(
        f"{root}: {len(found.rows)} cases without problem, {totals[0]} slices, {totals[1]} annotated, "
        f"{totals[2]} of them in full; {len(found.problems)} problems"
    )


def run() -> None:
    """Entry point of `cardiac-prepare` and of `python -m launch.prepare`."""
    cli.run(main, __name__)
