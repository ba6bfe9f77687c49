"""Thickening, wall motion and function of a patient: rings whose measures are known, indices by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from cardiac_jax.data.sets import acdc
from cardiac_jax.metrics import clinical, measures
from tests.ventricle import LV, MYO, SPACING_MM, ring, stack

CLASSES = ("background", "RV", "Myo", "LV")
ED, ES = ((25.0, 33.0), (15.0, 28.0))  # endocardium and epicardium, mm


def _rows(kind: str, bsa: float = math.nan) -> list[dict]:
    found = []
    for phase, (inner, outer) in (("ED", ED), ("ES", ES)):
        truth = stack(*[ring(inner, outer, 180.0)] * 6)
        pred = stack(*[ring(inner - 2, outer, 180.0)] * 6)  # the cavity 2 mm too small all round
        rows = getattr(measures.measure_case(pred, truth, SPACING_MM, CLASSES), kind)
        found += [{"case": f"p_{phase}", "patient": "p", "phase": phase, "bsa_m2": bsa, **row} for row in rows]
    return found


def test_motion_of_concentric_rings():
    rows = measures.motion_rows(_rows("segments"))
    assert [row["segment"] for row in rows] == list(range(1, 18)) and rows[0]["name"] == "basal anterior"
    for row in rows[:16]:
        assert row["wall_thickening_truth"] == pytest.approx((13 - 8) / 8, abs=0.05)
        assert row["wall_thickening_pred"] == pytest.approx((15 - 10) / 10, abs=0.05)
        assert row["wall_motion_truth_mm"] == pytest.approx(10, abs=0.3)
        assert row["wall_motion_pred_mm"] == pytest.approx(10, abs=0.3)
    assert math.isnan(rows[16]["wall_motion_truth_mm"]), "no ray meets the apex"


def test_the_motion_of_the_whole_heart_is_no_wall_motion():
    label = stack(*[ring(*ED, 180.0)] * 6)
    still, moved = (
        measures.measure_case(one, one, SPACING_MM, CLASSES).segments for one in (label, np.roll(label, 3, axis=2))
    )
    rows = [{"patient": "p", "phase": p, **row} for p, of in (("ED", still), ("ES", moved)) for row in of]
    for row in measures.motion_rows(rows)[:16]:
        assert row["wall_motion_truth_mm"] == pytest.approx(0, abs=1e-6)
        assert row["wall_thickening_truth"] == pytest.approx(0, abs=1e-6)


def test_function_of_a_patient_with_mass_at_ed_only_and_indices():
    bsa = clinical.bsa_m2(184.0, 95.0)
    assert bsa == pytest.approx(2.2036, abs=1e-4)  # Mosteller: sqrt(184 x 95 / 3600)
    found = {row["measure"]: row for row in measures.function_rows(_rows("clinical", bsa))}
    ed = stack(*[ring(*ED, 180.0)] * 6)
    voxel_ml = math.prod(SPACING_MM) / 1000
    edv, mass = (ed == LV).sum() * voxel_ml, 1.05 * (ed == MYO).sum() * voxel_ml
    assert found["LV EDV"]["truth"] == pytest.approx(edv) and found["LV EDVi"]["truth"] == pytest.approx(edv / bsa)
    assert found["LV mass ED"]["truth"] == pytest.approx(mass)
    assert found["LV mass ED index"]["truth"] == pytest.approx(mass / bsa)
    assert found["LV EF"]["truth"] == pytest.approx(100 * (1 - (15 / 25) ** 2), abs=1.5)
    assert found["LV wall thickening"]["truth"] == pytest.approx(100 * 5 / 8, abs=5)
    assert not any("mass ES" in name for name in found)
    assert {found[name]["unit"] for name in ("LV EDVi", "RV ESVi")} == {"ml/m2"}
    without = {row["measure"] for row in measures.function_rows(_rows("clinical"))}
    assert set(found) - without == {f"{v} {q}i" for v in ("LV", "RV") for q in ("EDV", "ESV", "SV")} | {
        "LV mass ED index"
    }


@pytest.mark.parametrize(
    ("lines", "want"),
    [
        ("Height: 184.0\nWeight: 95.0\n", (184.0, 95.0)),
        ("Weight: 95\n", (None, 95.0)),
        ("Height: 1.84\nWeight: n/a\n", (None, None)),  # metres are no centimetres
        ("Height: nan\nWeight: inf\n", (None, None)),
    ],
)
def test_height_and_weight_of_info(tmp_path: Path, lines: str, want: tuple):
    folder = tmp_path / "patient001"
    folder.mkdir()
    (folder / "Info.cfg").write_text(f"ED: 1\nES: 12\nGroup: NOR\n{lines}", encoding="utf-8")
    for frame in ("01", "12"):
        (folder / f"patient001_frame{frame}.nii.gz").touch()
    for record in acdc.find(tmp_path):
        assert (record.height_cm, record.weight_kg) == want
    assert math.isnan(clinical.bsa_m2(None, 80.0)) and math.isnan(clinical.bsa_m2(180.0, None))
