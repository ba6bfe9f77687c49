"""Rows written and read again: nothing lost, valid JSON, no half-written file, bad files named."""

import csv
import json
import math
from pathlib import Path

import pytest

from cardiac_jax.errors import InputError
from cardiac_jax.results import records

ROWS = [
    {"case": "p1", "structure": "LV", "status": "ok", "dice": 0.1 + 0.2, "hd_mm": 3.5},
    {"case": "p2", "structure": "LV", "status": "missed", "dice": 0.0, "hd_mm": math.inf},
    {"case": "p3", "structure": "LV", "status": "absent", "dice": math.nan, "hd_mm": math.nan},
]


def test_json_round_trip(tmp_path: Path):
    file = tmp_path / "rows.json"
    records.write_json(file, ROWS, {"split": "test"})
    json.loads(file.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    about, rows = records.read_json(file)
    assert about == {"split": "test"}
    assert rows[:2] == ROWS[:2]
    assert rows[2]["case"] == "p3" and math.isnan(rows[2]["dice"]) and math.isnan(rows[2]["hd_mm"])


def test_csv_round_trip(tmp_path: Path):
    file = tmp_path / "rows.csv"
    records.write_csv(file, ROWS)
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert list(rows[0]) == list(ROWS[0])
    assert float(rows[0]["dice"]) == 0.1 + 0.2
    assert rows[1]["hd_mm"] == "inf" and rows[2]["hd_mm"] == ""


def test_failure_leaves_the_old_file_alone(tmp_path: Path):
    file = tmp_path / "rows.csv"
    records.write_csv(file, ROWS)
    before = file.read_bytes()
    with pytest.raises(ValueError, match="keys"):
        records.write_csv(file, [*ROWS, {"case": "p4"}])
    assert file.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["rows.csv"]
    with pytest.raises(ValueError, match="no rows"):
        records.write_csv(file, [])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"rows": [1], "about": {}}', '{"rows": []}'])
def test_other_files_are_refused_by_name(tmp_path: Path, text: str):
    file = tmp_path / "rows.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"rows\.json: is not a file of measured rows"):
        records.read_json(file)


def test_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"none\.json: no such file"):
        records.read_json(tmp_path / "none.json")
