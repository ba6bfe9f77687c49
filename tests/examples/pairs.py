"""A data set of your own: `root/<id>_image.nii.gz` beside `root/<id>_mask.nii.gz`, the left ventricle as 1.

--config.data.name=tests.examples.pairs:PAIRS
"""

from pathlib import Path

from cardiac_jax import Dataset, InputError, Record


def find(root: Path) -> list[Record]:
    """A record per image; the last patient validates."""
    images = sorted(root.glob("*_image.nii.gz"))
    if not images:
        raise InputError(root, "holds no <id>_image.nii.gz")
    records = []
    for path in images:
        name = path.name.removesuffix("_image.nii.gz")
        mask = path.with_name(f"{name}_mask.nii.gz")
        split = "val" if path == images[-1] else "train"
        records.append(Record(name, name, {"LGE": path}, mask if mask.exists() else None, split=split))
    return records


PAIRS = Dataset("tests.examples.pairs:PAIRS", ("background", "LV"), {0: 0, 1: 1}, ("LGE",), find, "affine")
