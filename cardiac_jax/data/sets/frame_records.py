"""4D files as cases, one for each frame: "<id>_frame01", "<id>_frame02", ...."""

from collections.abc import Sequence
from dataclasses import replace

from cardiac_jax.data.case import Record
from cardiac_jax.data.io import frames


def by_frame(records: Sequence[Record]) -> list[Record]:
    """Return the records; the 4D images of a record become records of their own, one for each frame."""
    found = []
    for record in records:
        totals = {name: frames.count(path) for name, path in record.images.items() if not record.part}
        flat = {name: path for name, path in record.images.items() if totals.get(name, 1) == 1}
        found += [replace(record, images=flat)] if flat else []
        for name, total in totals.items():
            for part in (frames.name(k, total) for k in range(1, total + 1) if total > 1):
                image = {name: record.images[name]}
                found.append(replace(record, id=f"{record.id}_{part}", images=image, part=part))
    return found
