"""The trials of a search by number and by status, kept up to date as they end."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from dhpo._points import PointFold
from dhpo._rows import Growing
from dhpo._trials import TrialRecord
from dhpo.dashboard.index import PointIndex
from dhpo.trial import Status

_STATUSES = tuple(Status)
_CODES = {status: code for code, status in enumerate(_STATUSES)}


class Roster:
    """All trials.

    Args:
        fold: of the search's events.
    """

    def __init__(self, fold: PointFold) -> None:
        self._fold = fold
        self._n_ended = self._n_coded = 0
        self._ended: dict[int, TrialRecord] = {}
        self._counts = dict.fromkeys(Status, 0)
        self.n_known = 0  # trials that were added with their results
        self._with_values: list[TrialRecord] = []  # that have ended
        self._costs = Growing(np.float64, len(fold.objectives))  # of these, by which they stand
        self._brackets = Growing(np.int64)  # by the slots of the index
        self._codes = Growing(np.int64)  # likewise; of the status, where the trial has ended

    def update(self) -> None:
        """Take in the trials that have ended since the last call."""
        costs_of = self._fold.objectives.costs
        new = self._fold.ended[self._n_ended :]
        self._n_ended += len(new)
        for record in new:
            self._ended[record.number] = record
            self._counts[record.status] += not record.known
            self.n_known += record.known
        shown = [record for record in new if _has_values(record)]
        if shown:
            self._with_values += shown
            self._costs.add([costs_of(record.values or {}) for record in shown])

    def __iter__(self) -> Iterator[TrialRecord]:
        """Those that have ended in the order of their ends, then those that run or rest."""
        yield from self._fold.ended
        yield from self._fold.fold.running.values()

    def __getitem__(self, number: int) -> TrialRecord:
        """A trial by its number."""
        running = self._fold.fold.running
        return running[number] if number in running else self._ended[number]

    @property
    def ended(self) -> list[TrialRecord]:
        """Those that have ended, in the order of their ends."""
        return self._fold.ended

    @property
    def open(self) -> list[TrialRecord]:
        """Those that run, or rest."""
        return list(self._fold.fold.running.values())

    def counts(self) -> dict[Status, int]:
        """Trials by status, without known ones."""
        counts = self._counts.copy()
        for record in self._fold.fold.running.values():
            counts[record.status] += 1
        return counts

    def with_values(self) -> tuple[list[TrialRecord], NDArray[np.float64]]:
        """The trials that have a result, in the order of all, and the costs of these, (n, objectives)."""
        costs_of = self._fold.objectives.costs
        running = [record for record in self._fold.fold.running.values() if _has_values(record)]
        costs = [costs_of(record.values or {}) for record in running]
        if not running:
            return self._with_values, self._costs.values
        return [*self._with_values, *running], np.vstack([self._costs.values, np.array(costs, dtype=float)])

    def by_slot(self, index: PointIndex) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The bracket of each trial with points, and the code of its status (see :func:`code_of`), by slot."""
        new = [self[number] for number in index.trials[len(self._brackets) :].tolist()]
        self._brackets.fill(len(index.trials), 0)
        self._codes.fill(len(index.trials), 0)
        for record in chain(new, self._fold.ended[self._n_coded :], self._fold.fold.running.values()):
            if (slot := index.slot(record.number)) is not None:
                self._brackets.values[slot], self._codes.values[slot] = record.bracket, _CODES[record.status]
        self._n_coded = len(self._fold.ended)
        return self._brackets.values, self._codes.values


def code_of(status: Status) -> int:
    """The number that stands for a status."""
    return _CODES[status]


def _has_values(record: TrialRecord) -> bool:
    return record.values is not None and not record.failed
