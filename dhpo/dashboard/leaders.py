"""The best of all points as they come: incumbents, the Pareto front, and what its hypervolume grew by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dhpo._progress import falls
from dhpo._rows import Growing, Rows
from dhpo.pareto import hypervolume_trace, reference_point

Array: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.int64]

_AT_ONCE = 1024


class Leaders:
    """Points that were the best when they came.

    Args:
        rows: all points in the order in which they came.
    """

    def __init__(self, rows: Rows) -> None:
        n_objectives = rows.costs.shape[1]
        self._rows = rows
        self._incumbents = [Growing(np.int64) for _ in range(n_objectives)]
        self._lowest = np.full(n_objectives, np.inf)
        self._highest = np.full(n_objectives, -np.inf)
        self._front = np.empty(0, dtype=np.int64)
        self._entered = Growing(np.int64)  # the front, and what was in it before
        self._trace: tuple[tuple[object, ...], Array] = ((), np.empty(0))

    def take(self, rows: Places) -> None:
        """Take in rows that are later than all before."""
        costs = self._rows.costs[rows]
        for column, found in enumerate(self._incumbents):
            better = falls(np.append(self._lowest[column], costs[:, column]))[1:]
            found.add(rows[better])
        self._lowest = np.minimum(self._lowest, costs.min(axis=0, initial=np.inf))
        self._highest = np.maximum(self._highest, costs.max(axis=0, initial=-np.inf))
        if len(self._incumbents) == 1:
            self._front = self._incumbents[0].values[-1:]
            return
        for begin in range(0, len(rows), _AT_ONCE):
            self._enter(rows[begin : begin + _AT_ONCE])

    def _enter(self, rows: Places) -> None:
        """Let rows into the front."""
        all_costs = self._rows.costs
        for row in rows[~_covered(all_costs[rows], all_costs[self._front])].tolist():
            cost, front = all_costs[row], all_costs[self._front]
            if not (front <= cost).all(axis=1).any():
                self._front = np.append(self._front[~(cost <= front).all(axis=1)], row)
                self._entered.add([row])

    def has(self, rows: Iterable[int]) -> bool:
        """Whether something that is known here depends on one of these rows."""
        gone = np.fromiter(rows, dtype=np.int64)
        costs = self._rows.costs[gone]
        known = [*(column.values for column in self._incumbents), self._entered.values]
        is_extreme = (costs <= self._lowest).any() or (costs >= self._highest).any()
        return bool(is_extreme or any(np.isin(gone, column).any() for column in known))

    def incumbents(self, column: int) -> Places:
        """The rows that were better than all before them in one objective."""
        return self._incumbents[column].values

    @property
    def front(self) -> Places:
        """The rows of the Pareto front, as they came; of equal ones the first."""
        return self._front

    @property
    def reference(self) -> Array:
        """The reference point that all points give. There must be one."""
        return reference_point(np.stack([self._lowest, self._highest]))

    def hypervolumes(self) -> tuple[Places, Array]:
        """The rows by which the hypervolume of the front grew, and how large it was then."""
        rows, reference = self._entered.values, self.reference
        state = (len(rows), *reference.tolist())
        if state != self._trace[0]:
            self._trace = (state, hypervolume_trace(self._rows.costs[rows], reference))
        grows = falls(-self._trace[1])
        return rows[grows], self._trace[1][grows]


def _covered(points: Array, front: Array) -> NDArray[np.bool_]:
    """Which points some member of the front equals or dominates."""
    found = np.zeros(len(points), dtype=bool)
    for member in front:
        found |= (member <= points).all(axis=1)
    return found
