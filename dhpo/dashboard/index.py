"""What follows from all points of a search, kept up to date: each update takes as long as there is news.

The points of a trial are a chain, each with the row of the one before it. A report of a later attempt takes its place
behind those of smaller resources; the others are gone. Where the best of all are among these, they are found anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dhpo._rows import RETURNED, Growing, Rows
from dhpo.dashboard.leaders import Leaders

Array: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.int64]

_CHUNK = 1 << 16


class PointIndex:
    """The points by trial, by rung, and the best of them. Trials have slots, in the order in which they showed up.

    Args:
        rows: all points in the order in which they came, which grow.
        levels: the resources of the rungs, ascending.
    """

    def __init__(self, rows: Rows, levels: Sequence[float] = ()) -> None:
        n_objectives = rows.costs.shape[1]
        self.rows = rows
        self.levels = tuple(levels)
        self.leaders = Leaders(rows)
        self._done = 0
        self._slots: dict[int, int] = {}
        self._before = Growing(np.int64)  # the row before each row in its chain, -1 for none
        self._gone = Growing(np.bool_)
        self._n_gone = 0
        self._numbers = Growing(np.int64)  # by slot, as all that follows
        self._last = Growing(np.int64)  # row
        self._least = Growing(np.float64, n_objectives)  # costs
        self._arrived = [Growing(np.int64) for _ in self.levels]  # the first row at each level or beyond, -1 for none

    def __len__(self) -> int:
        """How many points there are, without those that are gone."""
        return len(self.rows) - self._n_gone

    def update(self) -> None:
        """Take in the rows that have come since the last call."""
        while self._done < len(self.rows):
            begin, self._done = self._done, min(self._done + _CHUNK, len(self.rows))
            self._take(begin, self._done)

    @property
    def trials(self) -> Places:
        """The numbers of the trials with points, by slot."""
        return self._numbers.values

    @property
    def last(self) -> Places:
        """The last row of each trial, by slot."""
        return self._last.values

    @property
    def least(self) -> Array:
        """The least cost of each trial and objective, by slot."""
        return self._least.values

    def arrived(self, level: int) -> Places:
        """The first row of each trial at a level, by its place, or beyond; -1 for none; by slot."""
        return self._arrived[level].values

    def slot(self, trial: int) -> int | None:
        """The slot of a trial; None where it has no points."""
        return self._slots.get(trial)

    def in_order(self) -> Places:
        """All slots, by the trials' numbers."""
        return np.argsort(self.trials, kind="stable")

    def here(self) -> Places:
        """The rows that are not gone."""
        return np.flatnonzero(~self._gone.values) if self._n_gone else np.arange(len(self.rows))

    def chains(self, slots: Sequence[int]) -> list[Places]:
        """The rows of some trials, each in the order in which they came."""
        places = np.arange(len(slots))
        row = self.last[np.asarray(slots, dtype=np.int64)]
        found: list[tuple[Places, Places]] = []
        before = self._before.values
        while len(row):
            found.append((places, row))
            row = before[row]
            places, row = places[row >= 0], row[row >= 0]
        if not found:
            return []
        whose, rows = (np.concatenate(column)[::-1] for column in zip(*found, strict=True))
        rows = rows[np.argsort(whose, kind="stable")]
        return np.split(rows, np.cumsum(np.bincount(whose, minlength=len(slots)))[:-1])

    def _take(self, begin: int, end: int) -> None:
        """Take in the rows from ``begin`` up to ``end``."""
        trials, costs = self.rows.trial[begin:end], self.rows.costs[begin:end]
        numbers, inverse = np.unique(trials, return_inverse=True)
        slot = self._slots_of(numbers)[inverse]
        order = np.argsort(slot, kind="stable")
        first = np.append(True, slot[order][1:] != slot[order][:-1])  # of its trial, among these
        starts = np.flatnonzero(first)
        mine = slot[order][starts]
        before = np.empty(len(order), dtype=np.int64)
        before[order] = np.where(first, self.last[slot[order]], np.roll(order, 1) + begin)
        self._before.add(before)
        self._gone.fill(end, False)
        self.last[mine] = order[np.append(starts[1:], len(order)) - 1] + begin
        self.least[mine] = np.minimum(self.least[mine], np.minimum.reduceat(costs[order], starts))
        self._arrive(begin, slot, order)
        dead = self._replace(begin, end)
        chosen = begin + np.flatnonzero(~self._gone.values[begin:end])
        if dead and self.leaders.has(dead):
            self.leaders = Leaders(self.rows)
            chosen = self.here()
        for part in range(0, len(chosen), _CHUNK):
            self.leaders.take(chosen[part : part + _CHUNK])

    def _slots_of(self, numbers: Places) -> Places:
        slots = [self._slots.setdefault(number, len(self._slots)) for number in numbers.tolist()]
        self._numbers.fill(len(self._slots), -1)
        self.trials[slots] = numbers
        for column in (self._last, *self._arrived):
            column.fill(len(self._slots), -1)
        self._least.fill(len(self._slots), np.inf)
        return np.array(slots, dtype=np.int64)

    def _arrive(self, begin: int, slot: Places, order: Places) -> None:
        """Note who has come to a level for the first time."""
        resources = self.rows.resource[begin:]
        for level, column in zip(self.levels, self._arrived, strict=True):
            rows = order[resources[order] >= level]
            slots, first = np.unique(slot[rows], return_index=True)
            new = column.values[slots] < 0
            column.values[slots[new]] = begin + rows[first[new]]

    def _replace(self, begin: int, end: int) -> list[int]:
        """Take out what later attempts have replaced; return these rows."""
        attempts = self.rows.attempt
        again = begin + np.flatnonzero((attempts[begin:end] > 1) & (self.rows.ordinal[begin:end] != RETURNED))
        dead: list[int] = []
        touched: set[int] = set()
        for row in again.tolist():
            last = int(self._before.values[row])
            if last < 0 or attempts[row] <= attempts[last]:
                continue
            chain = self._chain(last)
            resource = self.rows.resource[row]
            stay = [r for r in chain if self.rows.resource[r] < resource]
            if len(stay) < len(chain):
                dead += [r for r in chain if not self.rows.resource[r] < resource]
                self._link([*stay, row])
                touched.add(self._slots[int(self.rows.trial[row])])
        self._gone.values[dead] = True
        self._n_gone += len(dead)
        for slot in touched:
            self._settle(slot)
        return dead

    def _chain(self, row: int) -> list[int]:
        """A row and all before it in its chain, from the first one on."""
        found = []
        while row >= 0:
            found.append(row)
            row = int(self._before.values[row])
        return found[::-1]

    def _link(self, rows: Sequence[int]) -> None:
        self._before.values[list(rows)] = [-1, *rows[:-1]]

    def _settle(self, slot: int) -> None:
        """What is known of a trial some of whose points are gone."""
        rows = np.array(self._chain(int(self.last[slot])))
        self.least[slot] = self.rows.costs[rows].min(axis=0)
        for level, column in zip(self.levels, self._arrived, strict=True):
            there = rows[self.rows.resource[rows] >= level]
            column.values[slot] = there[0] if len(there) else -1
