"""What the settings of :class:`dhpo.CBO` are checked for, and how a journal keeps them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dhpo.encoding import Encoding
from dhpo.errors import SettingError
from dhpo.searchers.prior import Prior


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse what is none of the choices.

    Raises:
        SettingError: as said.
    """
    if value not in choices:
        raise SettingError(f"{name}={value!r} is unknown: write one of {', '.join(map(repr, choices))}")


def check_number(name: str, value: Any, low: float, high: float = math.inf) -> None:
    """Refuse what is no number within the limits.

    Raises:
        SettingError: as said.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        limits = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
        raise SettingError(f"{name}={value!r}: give a number {limits}")


def check_count(name: str, value: Any, *, optional: bool = False) -> None:
    """Refuse what is no integer of at least 1 (nor None, if it is optional).

    Raises:
        SettingError: as said.
    """
    if not (optional and value is None) and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise SettingError(f"{name}={value!r}: give an integer of at least 1{', or None' * optional}")


def as_json(value: Any) -> Any:
    """A setting as JSON can keep it; what JSON cannot express is named only."""
    if isinstance(value, Prior):
        return {"rows": len(value.rows), "digest": value.digest, "weight": value.weight}
    if isinstance(value, Mapping):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return getattr(value, "__qualname__", None) or repr(value)


def shape(encoding: Encoding) -> list[tuple[str, str, int, bool]]:
    """What encoded rows of two spaces must have in common to mean the same."""
    return [(column.name, column.kind, column.n_choices, column.log) for column in encoding.columns]
