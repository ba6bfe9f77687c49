"""Report section that defines the measures of its tables; `docs/metrics.md` compares them with other programs'."""

from collections.abc import Sequence

from cardiac_jax.metrics.pair import TOLERANCE_MM
from cardiac_jax.report.collect import Entry
from cardiac_jax.report.options import Options
from cardiac_jax.report.page import Section

OVERLAP = (
    "Overlap is measured per case in 3D. A structure absent from both maps has no value and is excluded; one that"
    " is in only one of them has Dice 0. Voxels without annotation count nowhere."
)
DISTANCES = (
    "Distances are between boundary voxels (a face neighbour lies outside), in mm with the voxel spacing: HD is "
    "the largest, HD95 the larger of the two directions' 95th percentiles, ASD the mean of both directions "
    "pooled. MedPy's HD95 pools both directions before the percentile; SimpleITK averages the two directed means. A "
    "structure in only one of the maps makes them infinite: a miss, counted beside the mean of the others. In 3D "
    "the first and the last slice of a structure are boundary all over, so ASD is smaller than that of 2D "
    "contours. Faces towards voxels without annotation are no boundary. Surface Dice: the share of the boundary "
    f"within {TOLERANCE_MM:g} mm."
)
VOLUMES = (
    "Volume is voxel count x voxel volume, slice spacing included. A partly annotated case has no volume, mass, "
    "ejection fraction or thickness. Tables that say 'interpolated' count the outermost slices half (Abramson "
    "2020). Mass is 1.05 g/ml x the wall at end-diastole."
)
WALL = (
    "Where oedema or scar are classes of their own, 'Myo' is the rest of the wall and 'myocardium' the whole "
    "wall, which is what thickness, mass and shares of scar use. Core scar is at least half as bright as the "
    "brightest pixel of the enhancement (full width at half maximum), each map's own. Lesions are 3D components; "
    "one is found if a voxel of it overlaps."
)


def definitions(entries: Sequence[Entry], options: Options) -> Section:
    """Section of text: what each measure is, and where other programs' differ."""
    classes = {name for entry in entries for name in entry.results.structures}
    text = (OVERLAP, DISTANCES, VOLUMES, *((WALL,) if classes & {"scar", "oedema", "mvo"} else ()))
    return Section("definitions", "Definitions", text)
