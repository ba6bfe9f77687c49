"""Reads and writes rows as CSV and JSON. NaN is an empty cell or null, infinity is "inf"."""

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cardiac_jax.data.io.write import atomic_write
from cardiac_jax.errors import InputError
from cardiac_jax.metrics.rows import Row
from cardiac_jax.metrics.summary import Rows


def write_csv(path: Path, rows: Rows) -> None:
    """Writes one line per row, with the keys of the first row as header and floats in full precision.

    Raises:
      ValueError: there are no rows, or rows differ in their keys.
    """
    if not rows:
        raise ValueError("no rows to write")
    header = list(rows[0])

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header)
            writer.writeheader()
            for row in rows:
                if set(row) != set(header):
                    raise ValueError(f"keys {sorted(row)} differ from {sorted(header)}")
                writer.writerow({k: "" if _is_nan(v) else v for k, v in row.items()})

    atomic_write(path, write)


def write_json(path: Path, rows: Rows, about: Mapping[str, Any] | None = None) -> None:
    """Writes `{"about": {...}, "rows": [...]}`; `about` is the provenance of the rows (checkpoint, data, split)."""
    text = json.dumps({"about": dict(about or {}), "rows": [plain(row) for row in rows]}, indent=1, allow_nan=False)

    def write(temporary: Path) -> None:
        temporary.write_text(text + "\n", encoding="utf-8")

    atomic_write(path, write)


def read_json(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """`about` and rows from a file of `write_json`.

    Raises:
      InputError: the file does not exist or has other content.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [{k: _value(v) for k, v in row.items()} for row in content["rows"]]
        return content["about"], rows
    except FileNotFoundError:
        raise InputError(path, "no such file") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(path, "is not a file of measured rows") from None


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def plain(row: Mapping[str, object]) -> dict[str, object]:
    """A row with JSON values: NaN becomes None, infinity "inf"."""

    def json_value(value: object) -> object:
        if isinstance(value, float) and not math.isfinite(value):
            return None if math.isnan(value) else str(value)
        return value

    return {key: json_value(value) for key, value in row.items()}


def _value(value: Any) -> Any:
    if value is None:
        return math.nan
    return float(value) if value in ("inf", "-inf") else value
