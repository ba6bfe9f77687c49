"""Whether a partly annotated gold standard shows a structure completely, so that it has a volume.

Voxels with label 255 are unknown. A volume, a mass, an ejection fraction or an AHA segment of a map in which part of
the heart may be unknown is NaN: what is annotated is no smaller heart.
"""

import numpy as np
from scipy import ndimage

from cardiac_jax.core.types import IGNORE

FULL, PARTIAL = "full", "partial"
"""Values of the column `annotation`: every voxel that may belong to the heart is annotated, or not."""


def incomplete(truth: np.ndarray, ignore: int = IGNORE) -> bool:
    """Whether part of the heart may lie in unknown voxels of a label map `[*S]`.

    The structures of a heart touch each other. Unknown voxels that known background separates from every labelled voxel
    (a padded frame, slices beyond an annotated empty slice) cannot belong to it. Any other unknown region may, and so
    may all of them if nothing is labelled.
    """
    unknown = truth == ignore
    if not unknown.any():
        return False
    labelled = (truth != 0) & ~unknown
    if not labelled.any():
        return True
    around = ndimage.binary_dilation(labelled, ndimage.generate_binary_structure(truth.ndim, truth.ndim))
    return bool((around & unknown).any())


def ends_seen(truth: np.ndarray, ignore: int = IGNORE) -> bool:
    """Whether both ends of the heart are annotated in a stack `[Z, H, W]`: only slices between them are missing.

    At each end of the stack the outermost fully annotated slice is the end of the stack, or holds no structure.
    """
    annotated = np.flatnonzero(~(truth == ignore).any(axis=(1, 2)))
    if not annotated.size:
        return False
    outermost = ((annotated[0], 0), (annotated[-1], len(truth) - 1))
    return all(z == end or not truth[z].any() for z, end in outermost)
