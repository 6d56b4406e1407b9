"""Objectives: their names, their directions, and the costs (to be minimised) that everything inside dhpo ranks by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

from dhpo.errors import ObjectiveError

#: The name of the single objective when the user names none: whatever the run function returns, to be maximised.
DEFAULT_OBJECTIVE = "objective"


class Direction(StrEnum):
    """Whether more or less of an objective is better."""

    MAX = "MAX"
    MIN = "MIN"

    @classmethod
    def parse(cls, value: Any, name: str) -> Direction:
        """Read a user's spelling: "MAX", "MIN", "maximize", "minimise", … in any case."""
        text = value.upper() if isinstance(value, str) else ""
        for direction in cls:
            if text in (direction.value, f"{direction}IMIZE", f"{direction}IMISE"):
                return direction
        raise ObjectiveError(f"objective {name!r} has the direction {value!r}: write 'MAX' or 'MIN'")


# An enum's member is slow to look up, and a resumed search asks for it millions of times.
_MAX = Direction.MAX


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective: the name under which it is reported, and its direction."""

    name: str
    direction: Direction = Direction.MAX


@dataclass(frozen=True, slots=True)
class Objectives:
    """The objectives of a search, in their given order."""

    items: tuple[Objective, ...]

    @classmethod
    def parse(cls, value: Any = None) -> Objectives:
        """Read what a user gave: None (one objective, "objective", MAX), a name, names, or {name: "MAX" | "MIN"}.

        Raises:
            ObjectiveError: a direction is unknown, a name is empty, no string or given twice, or there is none.
        """
        if value is None:
            value = {DEFAULT_OBJECTIVE: Direction.MAX}
        if isinstance(value, Objectives):
            return value
        if isinstance(value, str):
            value = (value,)
        if isinstance(value, Mapping):
            pairs = [(name, Direction.parse(direction, str(name))) for name, direction in value.items()]
        elif isinstance(value, Sequence):
            pairs = [(name, Direction.MAX) for name in value]
        else:
            raise ObjectiveError(f"objectives={value!r}: give a mapping such as {{'accuracy': 'MAX', 'time': 'MIN'}}")
        if not pairs:
            raise ObjectiveError("objectives is empty: name at least one, such as {'accuracy': 'MAX'}")
        for name, _ in pairs:
            if not isinstance(name, str) or not name:
                raise ObjectiveError(f"an objective's name is {name!r}: it must be a non-empty string")
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise ObjectiveError(f"an objective is named twice in {names}")
        return cls(tuple(Objective(name, direction) for name, direction in pairs))

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Objective]:
        return iter(self.items)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(o.name for o in self.items)

    @property
    def single(self) -> bool:
        """Whether there is exactly one objective."""
        return len(self.items) == 1

    @property
    def signs(self) -> tuple[float, ...]:
        """What turns values into costs: -1 for an objective to be maximised, +1 for one to be minimised."""
        return tuple(-1.0 if o.direction is Direction.MAX else 1.0 for o in self.items)

    def as_dict(self) -> dict[str, str]:
        """The JSON form, ``{name: "MAX" | "MIN"}``."""
        return {o.name: o.direction.value for o in self.items}

    def costs(self, values: Mapping[str, Any]) -> tuple[float, ...] | None:
        """The objectives of one report as costs, all to be minimised; None if one is missing or not finite."""
        costs = []
        for objective in self.items:
            value = values.get(objective.name)
            if type(value) is not float:  # a resumed search looks at millions of floats
                if not isinstance(value, int | float):
                    return None
                value = float(value)
            if not isfinite(value):
                return None
            costs.append(-value if objective.direction is _MAX else value)
        return tuple(costs)

    def values(self, costs: Sequence[float]) -> dict[str, float]:
        """The inverse of :meth:`costs`."""
        return {o.name: sign * cost for o, sign, cost in zip(self.items, self.signs, costs, strict=True)}
