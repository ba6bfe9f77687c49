"""Rows on disk: CSV for spreadsheets, JSON for programs. NaN is an empty cell or null, infinite is "inf"."""

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cardiac_jax.data.io.write import atomic_write
from cardiac_jax.errors import InputError
from cardiac_jax.metrics.evaluate import Row
from cardiac_jax.metrics.summary import Rows


def write_csv(path: Path, rows: Rows) -> None:
    """One line per row under the keys of the first; floats in full precision.

    Raises:
      ValueError: there is no row, or rows differ in their keys.
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
    """`{"about": {...}, "rows": [...]}`; `about` says where the rows come from (checkpoint, data, split)."""
    text = json.dumps({"about": dict(about or {}), "rows": [plain(row) for row in rows]}, indent=1, allow_nan=False)

    def write(temporary: Path) -> None:
        temporary.write_text(text + "\n", encoding="utf-8")

    atomic_write(path, write)


def read_json(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """What `write_json` wrote: (about, rows).

    Raises:
      InputError: the file is not there or not of this kind.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        rows = [{k: _value(v) for k, v in row.items()} for row in held["rows"]]
        return held["about"], rows
    except FileNotFoundError:
        raise InputError(path, "no such file") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(path, "not a file of measured rows") from None


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def plain(row: Mapping[str, object]) -> dict[str, object]:
    """A row as JSON can hold it: NaN is null, infinite "inf"."""

    def held(value: object) -> object:
        if isinstance(value, float) and not math.isfinite(value):
            return None if math.isnan(value) else str(value)
        return value

    return {key: held(value) for key, value in row.items()}


def _value(value: Any) -> Any:
    if value is None:
        return math.nan
    return float(value) if value in ("inf", "-inf") else value
