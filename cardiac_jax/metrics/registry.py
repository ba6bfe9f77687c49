"""Registry of metrics by column name: printed label, unit, and whether higher is better."""

import math
from typing import NamedTuple


class Metric(NamedTuple):
    """How one column of numbers is interpreted and printed.

    Attributes:
      label: printed name, without the unit.
      unit: printed unit; "" if there is none.
      higher_is_better: None if neither direction is better, e.g. for a volume.
      digits: printed decimals.
      scale: factor from the stored to the printed value, e.g. 100 for a fraction printed in per cent.
    """

    label: str
    unit: str
    higher_is_better: bool | None
    digits: int
    scale: float = 1.0

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
    # Comparison of two label maps: columns of `evaluate.evaluate_case`.
    "dice": Metric("Dice", "", True, 3),
    "jaccard": Metric("Jaccard", "", True, 3),
    "balanced_accuracy": Metric("balanced accuracy", "%", True, 1, 100.0),
    "hd_mm": Metric("HD", "mm", False, 2),
    "hd95_mm": Metric("HD95", "mm", False, 2),
    "asd_mm": Metric("ASD", "mm", False, 2),
    "volume_pred_ml": Metric("predicted volume", "ml", None, 1),
    "volume_truth_ml": Metric("volume", "ml", None, 1),
    "volume_error_ml": Metric("volume error", "ml", None, 1),
    # Agreement of two measurements over cases: `agreement.agreement`.
    "normalised_mae": Metric("norm. MAE", "%", False, 1, 100.0),
    "pearson_r": Metric("Pearson's r", "", True, 3),
    "concordance": Metric("Lin's CCC", "", True, 3),
    # Ventricles and myocardium: `clinical.Function`, `clinical.mass_g`, `scar.Scar`.
    "edv_ml": Metric("EDV", "ml", None, 1),
    "esv_ml": Metric("ESV", "ml", None, 1),
    "sv_ml": Metric("SV", "ml", None, 1),
    "ef": Metric("EF", "%", None, 1, 100.0),
    "mass_g": Metric("mass", "g", None, 1),
    "scar_ml": Metric("scar", "ml", None, 1),
    "core_ml": Metric("core scar", "ml", None, 1),
    "grey_ml": Metric("grey zone", "ml", None, 1),
    "myocardium_ml": Metric("myocardium", "ml", None, 1),
    "scar_percent": Metric("scar share of the myocardium", "%", None, 1),
    "core_percent": Metric("core scar share of the myocardium", "%", None, 1),
    # Comparison of two images: `restoration`.
    "ssim": Metric("SSIM", "", True, 3),
    "psnr_db": Metric("PSNR", "dB", True, 2),
}
