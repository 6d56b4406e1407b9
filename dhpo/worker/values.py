"""What a run function may report and return, made plain: Python scalars, strings, and small nests of them."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from dhpo.errors import ReportError
from dhpo.objectives import DEFAULT_OBJECTIVE, Objectives

_MAX_TEXT = 100_000
_MAX_ITEMS = 10_000
_MAX_WHOLE = 1_000_000
_MAX_DEPTH = 4
_MOST_DIMENSIONS = 64  # of a numpy array
_INT64 = 2**63


def text(value: Any) -> str:
    """Anything as text that travels: halves of surrogate pairs, as in odd file names, have no encoding."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def plain(value: Any, name: str) -> Any:
    """A value as plain Python: what JSON and msgpack can hold.

    Raises:
        ReportError: it is something else, too long or too deep.
    """
    kind = type(value)
    if kind is float or kind is bool or value is None:
        return value
    return _Reading().plain(value, name)


def plain_mapping(values: Mapping[Any, Any], what: str) -> dict[str, Any]:
    """Named values as plain Python; all of them together are bounded, too, because all of them travel.

    Raises:
        ReportError: as :func:`plain` does, or there are too many; ``what`` says of what.
    """
    if len(values) > _MAX_ITEMS:
        raise ReportError(f"{what} has {len(values)} entries: give at most {_MAX_ITEMS}")
    reading = _Reading()
    return {(named := reading.text(str(name), what)): reading.plain(value, named) for name, value in values.items()}


class _Reading:
    """Reads values up to a total size: characters of texts, and items of lists and mappings."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _MAX_WHOLE

    def plain(self, value: Any, name: str, depth: int = 0) -> Any:
        kind = type(value)
        if kind is float or kind is bool or value is None:
            return value
        if kind is int:
            return value if -_INT64 <= value < _INT64 else _long(value, name)
        if isinstance(value, str):
            return self.text(value, name)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, int):
            return self.plain(int(value), name)
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            if depth > _MAX_DEPTH or len(value) > _MAX_ITEMS:
                raise ReportError(f"{name!r} is nested too deeply or holds more than {_MAX_ITEMS} items")
            self._spend(len(value), name)
            if isinstance(value, Mapping):
                return {self.text(str(k), name): self.plain(v, name, depth + 1) for k, v in value.items()}
            return [self.plain(v, name, depth + 1) for v in value]
        return self._from_array(value, name, depth)

    def text(self, value: str, name: str) -> str:
        if len(value) > _MAX_TEXT:
            raise ReportError(f"{name!r} is a text of {len(value)} characters: report at most {_MAX_TEXT}")
        made = text(value)
        self._spend(len(made), name)
        return made

    def _spend(self, size: int, name: str) -> None:
        self._left -= size
        if self._left < 0:
            raise ReportError(
                f"with {name!r} there are more than {_MAX_WHOLE} characters and items in all: save what is large in "
                "report.checkpoint_dir, and report its name"
            )

    def _from_array(self, value: Any, name: str, depth: int) -> Any:
        """numpy's scalars and small arrays, torch's tensors and the like, by their common ``tolist``."""
        size = getattr(value, "size", 1)
        size = size() if callable(size) else size
        count = size if isinstance(size, int) else getattr(value, "numel", lambda: 1)()
        if not hasattr(value, "tolist") or isinstance(value, type):
            raise ReportError(f"{name!r} is a {type(value).__name__}: report numbers, strings or lists of them")
        if count > _MAX_ITEMS:
            raise ReportError(f"{name!r} is an array of {count} items: report at most {_MAX_ITEMS}")
        listed = value.tolist()
        if isinstance(listed, list) and count == 1:
            for _ in range(_MOST_DIMENSIONS):
                listed = listed[0] if isinstance(listed, list) and listed else listed
        if type(listed) is type(value) or isinstance(listed, complex):
            raise ReportError(f"{name!r} is a {type(value).__name__}: report a real number")
        return self.plain(listed, name, depth + 1)


def _long(value: int, name: str) -> float:
    """An integer beyond 64 bits: its digits travel nowhere."""
    try:
        return float(value)
    except OverflowError:
        raise ReportError(f"{name!r} is an integer of {value.bit_length()} bits: report it as a text") from None


def check_objectives(values: Mapping[str, Any], objectives: Objectives, what: str) -> None:
    """Make sure that every objective is there and a finite number.

    Raises:
        ReportError: names the first that is not.
    """
    for name in objectives.names:
        if name not in values:
            raise ReportError(f"{what} lacks the objective {name!r}; it has {list(values)}")
        value = values[name]
        if not isinstance(value, int | float):
            raise ReportError(f"{what} has {name}={value!r}, which is no number")
        if not isfinite(value):
            raise ReportError(f"{what} has {name}={value}, which is not finite")


class Returned:
    """A run function's return value, read: ``values`` (None: the last report counts), ``metadata``, or ``failure``."""

    __slots__ = ("failure", "metadata", "values")

    def __init__(
        self, values: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None, failure: str | None = None
    ) -> None:
        self.values = values
        self.metadata = metadata or {}
        self.failure = failure


def read_returned(value: Any, objectives: Objectives) -> Returned:
    """Read a return value: None, a number, "F_reason", one value per objective, or a mapping.

    A mapping holds either ``objective`` (a number or one per objective, as DeepHyper has it) or the objectives by
    name; ``metadata`` and whatever else it holds become metadata.

    Raises:
        ReportError: it is none of these, or an objective is missing or not finite.
    """
    if value is None:
        return Returned()
    if isinstance(value, str):
        told = plain(value, "the returned value")
        if told.startswith("F"):
            return Returned(failure=told)
        raise ReportError(f"the run function returned the text {told[:80]!r}; a failure starts with 'F'")
    metadata: dict[str, Any] = {}
    if isinstance(value, Mapping):
        rest = {text(k): v for k, v in value.items()}
        extra = rest.pop("metadata", None)
        if isinstance(extra, Mapping):
            metadata = plain_mapping(extra, "the returned metadata")
        named = all(name in rest for name in objectives.names)
        given = {n: rest.pop(n) for n in objectives.names} if named else rest.pop(DEFAULT_OBJECTIVE, None)
        metadata.update(plain_mapping(rest, "the returned mapping"))
        if given is None:
            raise ReportError(
                f"the returned mapping lacks the objectives {list(objectives.names)}; it has {list(value)}"
            )
        if not named:
            inner = read_returned(given, objectives)
            return Returned(inner.values, metadata, inner.failure)
        values = plain_mapping(given, "the returned mapping")
        if failed := next((v for v in values.values() if isinstance(v, str) and v.startswith("F")), None):
            return Returned(None, metadata, failed)
    else:
        listed = plain(value, "the returned value")
        numbers = listed if isinstance(listed, list) else [listed]
        if len(numbers) != len(objectives):
            raise ReportError(
                f"the run function returned {len(numbers)} values for the {len(objectives)} objectives "
                f"{list(objectives.names)}"
            )
        values = dict(zip(objectives.names, numbers, strict=True))
    check_objectives(values, objectives, "the returned value")
    return Returned(values, metadata)
