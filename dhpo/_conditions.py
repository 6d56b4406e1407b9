"""ConfigSpace's conditions and forbidden clauses as predicates on a whole encoded matrix.

They are evaluated on snapped entries, where equal values have equal codes and codes are ordered as the values are.
An inactive entry is NaN: it equals nothing, is in no set, and is neither above nor below anything; so it *is* unequal
to everything, which is also how ConfigSpace's own check takes a ``NotEqualsCondition`` on an inactive parent.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dhpo._columns import Column, Floats
from dhpo._configspace import cs, forbidden
from dhpo.errors import SpaceError

Mask = npt.NDArray[np.bool_]
Operator = Callable[[Any, Any], Any]

_COMPARISONS: dict[type, Operator] = {
    cs.EqualsCondition: operator.eq,
    cs.NotEqualsCondition: operator.ne,
    cs.LessThanCondition: operator.lt,
    cs.GreaterThanCondition: operator.gt,
    cs.ForbiddenEqualsClause: operator.eq,
    forbidden.ForbiddenLessThanClause: operator.lt,
    forbidden.ForbiddenLessThanEqualsClause: operator.le,
    forbidden.ForbiddenGreaterThanClause: operator.gt,
    forbidden.ForbiddenGreaterThanEqualsClause: operator.ge,
}
_MEMBERSHIPS = (cs.InCondition, cs.ForbiddenInClause)
_RELATIONS: dict[type, Operator] = {
    cs.ForbiddenEqualsRelation: operator.eq,
    cs.ForbiddenLessThanRelation: operator.lt,
    forbidden.ForbiddenLessThanEqualsRelation: operator.le,
    cs.ForbiddenGreaterThanRelation: operator.gt,
    forbidden.ForbiddenGreaterThanEqualsRelation: operator.ge,
}
_ALL = (cs.AndConjunction, cs.ForbiddenAndConjunction)
_ANY = (cs.OrConjunction, forbidden.ForbiddenOrConjunction)


class Predicate(Protocol):
    """Says for each row of an encoded matrix whether it holds there."""

    def __call__(self, rows: Floats) -> Mask:
        """The mask, of shape (n,), of an (n, d) matrix."""


@dataclass(frozen=True)
class _Compare:
    column: int
    op: Operator
    code: float

    def __call__(self, rows: Floats) -> Mask:
        return np.asarray(self.op(rows[:, self.column], self.code), dtype=np.bool_)


@dataclass(frozen=True)
class _Member:
    column: int
    codes: tuple[float, ...]

    def __call__(self, rows: Floats) -> Mask:
        return np.isin(rows[:, self.column], self.codes)


@dataclass(frozen=True)
class _Relation:
    """Compares the values themselves, of two columns that may have different scales."""

    left: int
    right: int
    columns: tuple[Column, Column]
    op: Operator

    def __call__(self, rows: Floats) -> Mask:
        left, right = rows[:, self.left], rows[:, self.right]
        both = ~(np.isnan(left) | np.isnan(right))
        holds = np.zeros(len(rows), dtype=np.bool_)
        values = self.columns[0].comparable(left[both]), self.columns[1].comparable(right[both])
        holds[both] = np.asarray(self.op(*values), dtype=np.bool_)
        return holds


@dataclass(frozen=True)
class _All:
    parts: tuple[Predicate, ...]

    def __call__(self, rows: Floats) -> Mask:
        return np.asarray(np.all([part(rows) for part in self.parts], axis=0), dtype=np.bool_)


@dataclass(frozen=True)
class _Any:
    parts: tuple[Predicate, ...]

    def __call__(self, rows: Floats) -> Mask:
        return np.asarray(np.any([part(rows) for part in self.parts], axis=0), dtype=np.bool_)


def compile_clause(clause: Any, columns: Sequence[Column], index: Mapping[str, int]) -> Predicate:
    """Compile a ConfigSpace condition or forbidden clause.

    Args:
        clause: The condition or forbidden clause, conjunctions included.
        columns: The columns of the space.
        index: The position of each hyperparameter among them.

    Returns:
        The predicate on snapped rows that holds where the condition is met, or the clause forbids.

    Raises:
        SpaceError: The type of clause is not known.
    """
    kind = type(clause)
    if isinstance(clause, _ALL):
        return _All(tuple(compile_clause(part, columns, index) for part in clause.components))
    if isinstance(clause, _ANY):
        return _Any(tuple(compile_clause(part, columns, index) for part in clause.components))
    if kind in _RELATIONS:
        left, right = index[clause.left.name], index[clause.right.name]
        return _Relation(left, right, (columns[left], columns[right]), _RELATIONS[kind])
    if kind not in _COMPARISONS and not isinstance(clause, _MEMBERSHIPS):
        raise SpaceError(f"the clause {clause} of type {kind.__name__} is not known; use ConfigSpace's own classes")
    name = (clause.parent if isinstance(clause, cs.conditions.Condition) else clause.hyperparameter).name
    position = index[name]
    values = clause.values if isinstance(clause, _MEMBERSHIPS) else [clause.value]
    codes = columns[position].encode([{name: value} for value in values], clip=False)
    if isinstance(clause, _MEMBERSHIPS):
        return _Member(position, tuple(codes.tolist()))
    return _Compare(position, _COMPARISONS[kind], float(codes[0]))


def activation_order(conditions: Sequence[Any], index: Mapping[str, int]) -> list[Any]:
    """Sort conditions so that each comes after those that decide on its parents."""
    parents = {
        condition.child.name: {part.parent.name for part in getattr(condition, "dlcs", (condition,))}
        for condition in conditions
    }
    depth: dict[str, int] = {}

    def depth_of(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max((depth_of(parent) for parent in parents.get(name, ())), default=0)
        return depth[name]

    return sorted(conditions, key=lambda condition: (depth_of(condition.child.name), index[condition.child.name]))
