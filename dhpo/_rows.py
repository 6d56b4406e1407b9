"""Points in the order in which they came, as columns that grow."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

#: The ordinal of what was returned.
RETURNED = -1
_LEAST = 256
_GROWTH = 3  # what is not used of it takes no memory yet

Number = TypeVar("Number", bound=np.generic)


class Growing(Generic[Number]):
    """An array that grows at its end.

    Args:
        kind: of the numbers.
        width: of a row; None: a row is a number.
    """

    def __init__(self, kind: type[Number], width: int | None = None) -> None:
        self._array: NDArray[Number] = np.empty(0 if width is None else (0, width), dtype=kind)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def values(self) -> NDArray[Number]:
        """The rows there are now: a view, which may be written to until there are more."""
        return self._array[: self._size]

    def add(self, rows: Any) -> None:
        """Add rows: an array, or what becomes one."""
        end = self._size + len(rows)
        if end > len(self._array):
            room = max(_LEAST, end, int(_GROWTH * len(self._array)))
            grown = np.empty((room, *self._array.shape[1:]), self._array.dtype)
            grown[: self._size] = self.values
            self._array = grown
        self._array[self._size : end] = rows
        self._size = end

    def fill(self, size: int, value: Any) -> None:
        """Add rows of one value until there are so many."""
        if size > self._size:
            self.add(np.broadcast_to(value, (size - self._size, *self._array.shape[1:])))


class Arrivals(NamedTuple):
    """Points in the order in which they came."""

    trial: NDArray[np.int64]
    resource: NDArray[np.float64]  # NaN for what was returned by a trial that did not report
    time: NDArray[np.float64]
    costs: NDArray[np.float64]  # (points, objectives), to be minimised


class Rows:
    """All points, also those that later attempts have replaced. The properties are views of the rows there are now.

    Args:
        n_objectives: how many costs a point has.
    """

    def __init__(self, n_objectives: int) -> None:
        self._whole = [Growing(np.int64) for _ in range(3)]
        self._floats = [Growing(np.float64) for _ in range(2)]
        self._costs = Growing(np.float64, n_objectives)

    def __len__(self) -> int:
        return len(self._costs)

    def add(self, table: NDArray[np.float64]) -> None:
        """Add rows: ordinal, trial, attempt, resource, time, and the costs."""
        for place, whole in enumerate(self._whole):
            whole.add(table[:, place])
        for place, column in enumerate(self._floats, start=len(self._whole)):
            column.add(table[:, place])
        self._costs.add(table[:, 5:])

    @property
    def ordinal(self) -> NDArray[np.int64]:
        """The place among all reports, ``RETURNED`` for what was returned."""
        return self._whole[0].values

    @property
    def trial(self) -> NDArray[np.int64]:
        """The trial's number."""
        return self._whole[1].values

    @property
    def attempt(self) -> NDArray[np.int64]:
        """The trial's attempt, from 1."""
        return self._whole[2].values

    @property
    def resource(self) -> NDArray[np.float64]:
        """The resource; NaN where nothing was reported."""
        return self._floats[0].values

    @property
    def time(self) -> NDArray[np.float64]:
        """The search's clock, in seconds."""
        return self._floats[1].values

    @property
    def costs(self) -> NDArray[np.float64]:
        """The costs, (rows, objectives)."""
        return self._costs.values

    def arrivals(self) -> Arrivals:
        """The rows that no later attempt has replaced."""
        again = self.attempt > 1
        if not again.any():
            return Arrivals(self.trial, self.resource, self.time, self.costs)
        rows = np.flatnonzero(np.isin(self.trial, self.trial[again]))
        rows = rows[np.argsort(self.trial[rows], kind="stable")]
        counts = np.ones(len(self), dtype=bool)
        counts[rows[~kept_rows(self, rows)]] = False
        return Arrivals(self.trial[counts], self.resource[counts], self.time[counts], self.costs[counts])


def kept_rows(rows: Rows, order: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which of these rows, sorted by trial, no later attempt has replaced."""
    trials, attempts, resources = rows.trial[order], rows.attempt[order], rows.resource[order]
    kept = np.ones(len(order), dtype=bool)
    reports = rows.ordinal[order] != RETURNED
    for trial in np.unique(trials[attempts > 1]):
        begin, end = np.searchsorted(trials, [trial, trial + 1])
        for row in range(begin + 1, end):
            if reports[row] and attempts[row] > attempts[row - 1]:
                kept[begin:row] &= resources[begin:row] < resources[row]
    return kept
