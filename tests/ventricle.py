"""A left ventricle whose measures are known: rings of myocardium about blood, with a right ventricle on one side."""

import numpy as np

RV, MYO, LV = 1, 2, 3
SPACING_MM = (10.0, 1.4, 1.4)
SIZE = 72


def polar(
    spacing_mm: tuple[float, ...] = SPACING_MM, centre: tuple[float, float] = (0.3, 0.2)
) -> tuple[np.ndarray, np.ndarray]:
    """Distance in mm from `centre` (pixels off the middle) and counterclockwise angle in degrees, `[SIZE, SIZE]`."""
    down, right = (
        (i - (SIZE - 1) / 2 - c) * s for i, c, s in zip(np.indices((SIZE, SIZE)), centre, spacing_mm[1:], strict=True)
    )
    return np.hypot(down, right), np.rad2deg(np.arctan2(-down, right))


def apart(angle_deg: np.ndarray, other_deg: float) -> np.ndarray:
    """Angle between two directions, 0 to 180 degrees."""
    return np.abs((angle_deg - other_deg + 180) % 360 - 180)


def ring(
    inner_mm: float | np.ndarray,
    outer_mm: float | np.ndarray,
    septum_deg: float | None = 180.0,
    spacing_mm: tuple[float, ...] = SPACING_MM,
    centre: tuple[float, float] = (0.3, 0.2),
) -> np.ndarray:
    """One slice, `[SIZE, SIZE]`: the right ventricle reaches 60 degrees to either side of `septum_deg`."""
    radius, angle = polar(spacing_mm, centre)
    label = np.zeros(radius.shape, np.uint8)
    if septum_deg is not None:
        label[(radius < outer_mm + 12) & (apart(angle, septum_deg) < 60)] = RV
    label[radius < outer_mm] = MYO
    label[radius < inner_mm] = LV
    return label


def stack(*slices: np.ndarray) -> np.ndarray:
    """`[Z, H, W]`, apex first."""
    return np.stack(slices)
