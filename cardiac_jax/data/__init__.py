"""Data sets by name. To add one, write `data/<name>.py` with `DATASET = Dataset(...)` and list it here."""

from cardiac_jax.data import acdc, folder, lasc, mscmr, myops, phantom
from cardiac_jax.data.case import Dataset
from cardiac_jax.errors import InputError

_MODULES = (acdc, folder, lasc, mscmr, myops, phantom)
DATASETS: dict[str, Dataset] = {module.DATASET.name: module.DATASET for module in _MODULES}


def dataset(name: str) -> Dataset:
    """The data set called `name`; raises InputError listing the names."""
    if name not in DATASETS:
        raise InputError("data.name", f"unknown data set {name!r}, known are {', '.join(sorted(DATASETS))}")
    return DATASETS[name]
