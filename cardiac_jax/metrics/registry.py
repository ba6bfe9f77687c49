"""Registry of metrics by column name: printed label, unit, whether higher is better, and the function that computes it.

A metric of one case (`of="case"`) is computed by `evaluate.evaluate_structures` for every structure; a new row here is
a new column in the files of an evaluation. `report/` lists the metrics that it prints.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from cardiac_jax.metrics import agreement, clinical, icc, motion, pair, restoration, scar


class Metric(NamedTuple):
    """How one column of numbers is interpreted and printed.

    Attributes:
      label: printed name, without the unit.
      unit: printed unit; "" if there is none.
      higher_is_better: None if neither direction is better, e.g. for a volume.
      digits: printed decimals.
      function: computes it; its arguments depend on `of`. None of a column that is no registered metric.
      of: "case": a `pair.StructurePair`; "cohort": two measurements of the same cases; "heart": label maps of a heart,
        see the function; "image": two images; "reader": a score that a person gave an image.
      scale: factor from the stored to the printed value, e.g. 100 for a fraction printed in per cent.
    """

    label: str
    unit: str
    higher_is_better: bool | None
    digits: int
    scale: float = 1.0
    function: Callable[..., Any] | None = None
    of: str = "case"

    @property
    def heading(self) -> str:
        """Label and unit, e.g. "HD (mm)"; only the label if there is no unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def text(self, value: float, sign: str = "") -> str:
        """Printed form of a value; `sign="+"` for a difference."""
        return f"{self.scale * value:{sign}.{self.digits}f}"

    def with_interval(self, value: float, low: float, high: float) -> str:
        """Printed form "value [low, high]", with a dash for NaN."""
        value_, low_, high_ = ("-" if math.isnan(v) else self.text(v) for v in (value, low, high))
        return value_ if math.isnan(value) else f"{value_} [{low_}, {high_}]"


METRICS: dict[str, Metric] = {
    "dice": Metric("Dice", "", True, 3, function=pair.dice),
    "jaccard": Metric("Jaccard", "", True, 3, function=pair.jaccard),
    "balanced_accuracy": Metric("balanced accuracy", "%", True, 1, 100.0, function=pair.balanced_accuracy),
    "sensitivity": Metric("sensitivity", "%", True, 1, 100.0, function=pair.sensitivity),
    "precision": Metric("precision", "%", True, 1, 100.0, function=pair.precision),
    "specificity": Metric("specificity", "%", True, 2, 100.0, function=pair.specificity),
    "hd_mm": Metric("HD", "mm", False, 2, function=pair.hd_mm),
    "hd95_mm": Metric("HD95", "mm", False, 2, function=pair.hd95_mm),
    "asd_mm": Metric("ASD", "mm", False, 2, function=pair.asd_mm),
    "assd_mm": Metric("ASSD, mean of both directions", "mm", False, 2, function=pair.assd_mm),
    "surface_dice": Metric(f"surface Dice at {pair.TOLERANCE_MM:g} mm", "", True, 3, function=pair.surface_dice),
    "volume_pred_ml": Metric("predicted volume", "ml", None, 1, function=pair.volume_pred_ml),
    "volume_truth_ml": Metric("volume", "ml", None, 1, function=pair.volume_truth_ml),
    "volume_error_ml": Metric("volume error", "ml", None, 1, function=pair.volume_error_ml),
    "volume_abs_error_ml": Metric("absolute volume error", "ml", False, 1, function=pair.volume_abs_error_ml),
    "volumetric_similarity": Metric("volumetric similarity", "", True, 3, function=pair.volumetric_similarity),
    "relative_volume_difference": Metric(
        "relative volume difference", "%", None, 1, 100.0, function=pair.relative_volume_difference
    ),
    "lesion_sensitivity": Metric("lesion sensitivity", "%", True, 1, 100.0, function=pair.lesion_sensitivity),
    "lesion_precision": Metric("lesion precision", "%", True, 1, 100.0, function=pair.lesion_precision),
    "lesion_f1": Metric("lesion F1", "", True, 3, function=pair.lesion_f1),
    "normalised_mae": Metric("norm. MAE", "%", False, 1, 100.0, function=agreement.relative_errors, of="cohort"),
    "pearson_r": Metric("Pearson's r", "", True, 3, function=agreement.pearson, of="cohort"),
    "concordance": Metric("Lin's CCC", "", True, 3, function=agreement.concordance, of="cohort"),
    "icc": Metric("ICC(2,1)", "", True, 3, function=icc.icc, of="cohort"),
    "edv_ml": Metric("EDV", "ml", None, 1, function=clinical.function, of="heart"),
    "esv_ml": Metric("ESV", "ml", None, 1, function=clinical.function, of="heart"),
    "sv_ml": Metric("SV", "ml", None, 1, function=clinical.function, of="heart"),
    "ef": Metric("EF", "%", None, 1, 100.0, function=clinical.function, of="heart"),
    "mass_g": Metric("mass", "g", None, 1, function=clinical.mass_g, of="heart"),
    "bsa_m2": Metric("body surface area", "m2", None, 2, function=clinical.bsa_m2, of="heart"),
    "index": Metric("index by body surface area", "1/m2", None, 1, function=clinical.index, of="heart"),
    "interpolated_volume_ml": Metric(
        "volume, interpolated between slices (Abramson 2020)",
        "ml",
        None,
        1,
        function=clinical.interpolated_volume_ml,
        of="heart",
    ),
    "wall_thickening": Metric("wall thickening", "%", None, 1, 100.0, function=motion.wall_thickening, of="heart"),
    "wall_motion_mm": Metric("inward wall motion", "mm", None, 1, function=motion.wall_motion_mm, of="heart"),
    "scar_ml": Metric("scar", "ml", None, 1, function=scar.quantify, of="heart"),
    "core_ml": Metric("core scar", "ml", None, 1, function=scar.quantify, of="heart"),
    "grey_ml": Metric("grey zone", "ml", None, 1, function=scar.quantify, of="heart"),
    "myocardium_ml": Metric("myocardium", "ml", None, 1, function=scar.quantify, of="heart"),
    "scar_percent": Metric("scar share of the myocardium", "%", None, 1, function=scar.quantify, of="heart"),
    "core_percent": Metric("core scar share of the myocardium", "%", None, 1, function=scar.quantify, of="heart"),
    "ssim": Metric("SSIM", "", True, 3, function=restoration.ssim, of="image"),
    "plane_ssim": Metric("SSIM of slices", "", True, 3, function=restoration.plane_ssim, of="image"),
    "psnr_db": Metric("PSNR", "dB", True, 2, function=restoration.psnr, of="image"),
    "opinion": Metric("MOS", "", True, 2, of="reader"),
}
