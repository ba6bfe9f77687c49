"""Data sets by name. To add one, write `data/sets/<name>.py` with `DATASET = Dataset(...)` and list it here."""

from collections.abc import Sequence
from pathlib import Path

from cardiac_jax.core.registry import lookup
from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.case import Dataset
from cardiac_jax.data.labels import merged
from cardiac_jax.data.sets import acdc, cetus, folder, lasc, mscmr, myops, phantom, twins
from cardiac_jax.errors import InputError

_MODULES = (acdc, cetus, folder, lasc, mscmr, myops, phantom, twins)
DATASETS: dict[str, Dataset] = {module.DATASET.name: module.DATASET for module in _MODULES}


def register_dataset(held: Dataset) -> None:
    """Makes `config.data.name` find a data set of your own under its name, in this process."""
    DATASETS[held.name] = held


def dataset(name: str, classes: Sequence[str] = (), root: Path | None = None) -> Dataset:
    """Return the data set `name`, with its labels merged into `classes`.

    Args:
      classes: classes to keep besides the background; empty: all. Of the other classes, those in the wall (oedema,
        scar) become Myo, and the rest becomes background.
      root: its folder, for data sets whose classes a `dataset.json` names.

    Raises:
      InputError: there is no such data set, it lacks a class, or its `dataset.json` cannot be used.
    """
    original = lookup("datasets", "data.name", name, DATASETS)
    if not isinstance(original, Dataset):
        raise InputError("data.name", f"{name!r} is a {type(original).__name__}, a Dataset is expected")
    if root is not None and original.described is not None:
        original = original.described(root)
    if not classes:
        return original
    for wanted in classes:
        if wanted not in original.classes:
            raise InputError("data.classes", f"{name} has no class {wanted!r}, only {', '.join(original.classes)}")
    kept = tuple(c for k, c in enumerate(original.classes) if k == 0 or c in classes)
    labels = {raw: k if k == IGNORE else merged(original.classes[k], kept) for raw, k in original.labels.items()}
    return original._replace(classes=kept, labels=labels)
