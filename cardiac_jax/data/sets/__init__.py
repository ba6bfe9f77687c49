"""Data sets by name. To add one, write `data/sets/<name>.py` with `DATASET = Dataset(...)` and list it here."""

from collections.abc import Sequence

from cardiac_jax.core.registry import lookup
from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.case import Dataset
from cardiac_jax.data.labels import merged
from cardiac_jax.data.sets import acdc, folder, lasc, mscmr, myops, phantom
from cardiac_jax.errors import InputError

_MODULES = (acdc, folder, lasc, mscmr, myops, phantom)
DATASETS: dict[str, Dataset] = {module.DATASET.name: module.DATASET for module in _MODULES}


def dataset(name: str, classes: Sequence[str] = ()) -> Dataset:
    """The data set called `name`, of whose classes only `classes` are told apart (background aside; none: all are).

    Of the others, what lies in the wall (oedema, scar) is Myo, the rest background.

    Raises:
      InputError: there is no such data set, or it lacks a class.
    """
    whole = lookup("datasets", "data.name", name, DATASETS)
    if not isinstance(whole, Dataset):
        raise InputError("data.name", f"{name!r} is a {type(whole).__name__}, a Dataset is expected")
    if not classes:
        return whole
    for wanted in classes:
        if wanted not in whole.classes:
            raise InputError("data.classes", f"{name} has no class {wanted!r}, only {', '.join(whole.classes)}")
    kept = tuple(c for k, c in enumerate(whole.classes) if k == 0 or c in classes)
    labels = {raw: k if k == IGNORE else merged(whole.classes[k], kept) for raw, k in whole.labels.items()}
    return whole._replace(classes=kept, labels=labels)
