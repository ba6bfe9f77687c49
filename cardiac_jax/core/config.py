"""Configurations as JSON and as flat keys."""

from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from cardiac_jax.core.types import Config


def to_config(data: dict[str, Any]) -> Config:
    """Returns a locked configuration from JSON; lists become tuples."""

    def cast(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cast(inner) for key, inner in value.items()}
        return tuple(map(cast, value)) if isinstance(value, list) else value

    return ConfigDict(cast(data)).lock()


def flat(data: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yields (dotted key, value) of a nested configuration."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def words(value: Any) -> tuple[str, ...]:
    """Returns a list of names, given as a tuple or as comma-separated text from the command line."""
    parts = value if isinstance(value, tuple | list) else (value,)
    return tuple(word.strip() for part in parts for word in str(part).split(",") if word.strip())
