"""Checks a data set without training, or writes a phantom.

python -m launch.prepare --check --data.name=mscmr --data.root=DIR|FILE
python -m launch.prepare --phantom=DIR --patients=20 --seed=0 --layout=mscmr

Exit status: 0 done, 2 if there is any problem.
"""

from pathlib import Path

import numpy as np
from absl import flags
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cardiac_jax.commands import cli
from cardiac_jax.data.check import Findings, check
from cardiac_jax.data.sets import dataset
from cardiac_jax.errors import InputError

flags.DEFINE_bool("check", False, "Read every file of the data set and list all problems.")
flags.DEFINE_string("data.name", None, "Name of the data set (of --check).")
flags.DEFINE_string("data.root", None, "Its folder, or a single file (of --check).")
flags.DEFINE_list("data.sequences", None, "Sequences every case needs, on one grid. Default: what there is.")
flags.DEFINE_bool("labels", True, "Whether a case without label is a problem (of --check).")
flags.DEFINE_string("phantom", None, "Folder to write a phantom data set to.")
flags.DEFINE_integer("patients", 20, "Patients (of --phantom).", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed (of --phantom).")
flags.DEFINE_string("layout", "mscmr", "Whose layout (of --phantom).")


def main() -> int:
    values = flags.FLAGS
    if values.check == (values.phantom is not None):
        raise InputError("--check, --phantom", "give one of them")
    if values.phantom is not None:
        return _phantom(Path(values.phantom), values.layout, values.patients, values.seed)
    name, place = (values[key].value for key in ("data.name", "data.root"))
    if name is None or place is None:
        raise InputError("--check", "needs --data.name and --data.root")
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
