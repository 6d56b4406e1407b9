"""Every result that a search has seen, as columns: millions of them fit into memory where dictionaries would not."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dhpo._blocks import Block
from dhpo._sieve import Sieve
from dhpo._trials import FoldedBlock, TrialFold, TrialRecord
from dhpo.events import Event, TrialReported
from dhpo.objectives import Objectives

_RETURNED = -1.0


@dataclass(frozen=True, slots=True)
class Points:
    """The reports that count, and what trials returned where that says something new; by trial, then as they came.

    When a trial was run again, the reports of the new attempt replace those of the older ones from the new attempt's
    first resource on.
    """

    ordinal: NDArray[np.int64]  # the place among all reports of the journal, -1 for what was returned
    arrival: NDArray[np.int64]  # the order in which the points came
    trial: NDArray[np.int64]
    index: NDArray[np.int64]  # the place within the trial, from 1
    resource: NDArray[np.float64]  # NaN for what was returned by a trial that did not report
    time: NDArray[np.float64]
    costs: NDArray[np.float64]  # (points, objectives), to be minimised

    def __len__(self) -> int:
        return len(self.trial)

    def by_arrival(self) -> NDArray[np.intp]:
        """The rows in the order in which they came."""
        return np.argsort(self.arrival, kind="stable")

    def last_rows(self) -> NDArray[np.intp]:
        """The last row of each trial."""
        return np.flatnonzero(np.append(self.trial[1:] != self.trial[:-1], True)[: len(self)])


class PointFold:
    """Folds events into points and records. A live view keeps one and goes on with it."""

    def __init__(self, objectives: Objectives) -> None:
        self.objectives = objectives
        self.fold = TrialFold(objectives)  # with the trials that run
        self.ended: list[TrialRecord] = []  # in the order of their ends
        self.n_reports = 0
        self._rows = array("d")

    def extend(self, batches: Iterable[list[Event]]) -> None:
        """Fold more batches."""
        fold, rows, objectives = self.fold, self._rows, self.objectives
        ordinal = self.n_reports - 1
        for batch in batches:
            for event in batch:
                if type(event) is TrialReported:
                    ordinal += 1
                    costs = fold.report(event)
                    if costs is not None:
                        rows.extend((ordinal, event.trial, event.attempt, event.resource, event.time, *costs))
                elif (record := fold.apply(event)) is not None:
                    self.ended.append(record)
                    if (row := _returned(record, objectives)) is not None:
                        rows.extend(row)
        self.n_reports = ordinal + 1

    def extend_blocks(self, blocks: Iterable[Block]) -> None:
        """Fold blocks: the same in a fraction of the time. Those of a whole journal, before anything else."""
        sieve = Sieve()
        for block in blocks:
            for part in block.sessions():
                found = self.fold.block(part, sieve.runs(part))
                self._add(part, found)

    def _add(self, block: Block, found: FoldedBlock) -> None:
        """Take in the points of a block, in the order in which they came."""
        reports, m = block.reports, len(self.objectives)
        odd = np.array([place for place, event, _ in found.reports], dtype=np.int64)
        rows = np.flatnonzero(found.counts)
        places = reports.place[rows]
        table = np.empty((len(rows), 5 + m))
        table[:, 0] = self.n_reports + rows + np.searchsorted(odd, places)
        for column, values in enumerate((reports.trial, reports.attempt, reports.resource, reports.time), start=1):
            table[:, column] = values[rows]
        order = [block.names.index(name) for name in self.objectives.names]
        table[:, 5:] = reports.values[rows][:, order] * np.array(self.objectives.signs)
        extra: list[tuple[float, ...]] = []
        at: list[int] = []
        for number, (place, event, costs) in enumerate(found.reports):
            if costs is not None:
                ordinal = self.n_reports + number + int(np.searchsorted(reports.place, place))
                extra.append((ordinal, event.trial, event.attempt, event.resource, event.time, *costs))
                at.append(place)
        for place, record in found.ended:
            self.ended.append(record)
            if (row := _returned(record, self.objectives)) is not None:
                extra.append(row)
                at.append(place)
        if extra:
            table = np.vstack([table, np.array(extra)])
            table = table[np.argsort(np.concatenate([places, at]), kind="stable")]
        self._rows.frombytes(table.tobytes())
        self.n_reports += len(reports) + len(found.reports)

    def points(self) -> Points:
        """All points so far."""
        return _points(self._table())  # copies of its columns

    def best(self, column: int) -> tuple[int, float, list[float]] | None:
        """The point of the least cost, of equal ones that which came first, without sorting all of them.

        Args:
            column: of the objective.

        Returns:
            Its trial, resource and costs; None where there are no points.
        """
        table = self._table()
        if not len(table):
            return None
        costs = table[:, 5 + column]
        if (again := table[:, 2] > 1).any():
            rows = np.flatnonzero(np.isin(table[:, 1], table[again, 1]))
            rows = rows[np.argsort(table[rows, 1], kind="stable")]
            costs = costs.copy()
            costs[rows[~_kept(table[rows])]] = np.inf
        _, trial, _, resource, _, *found = table[costs.argmin()].tolist()
        return int(trial), resource, found

    def _table(self) -> NDArray[np.float64]:
        """The rows in the order in which they came: a view, which must be gone before more are added."""
        return np.frombuffer(self._rows).reshape(-1, 5 + len(self.objectives))


def _returned(record: TrialRecord, objectives: Objectives) -> tuple[float, ...] | None:
    """The row of what a trial returned, unless its last report said the same."""
    if record.returned is None:
        return None
    costs = objectives.costs(record.returned)
    known = None if record.reported is None else objectives.costs(record.reported)
    if costs is None or costs == known:
        return None
    resource = np.nan if record.resource is None else record.resource
    return (_RETURNED, record.number, record.attempt, resource, record.gathered, *costs)


def _points(table: NDArray[np.float64]) -> Points:
    """The points of a table of rows. Column by column: another table of millions of rows would be large."""
    order = np.argsort(table[:, 1], kind="stable")
    if (table[:, 2] > 1).any():
        order = order[_kept(table[order])]
    trial = table[order, 1].astype(np.int64)
    first = np.searchsorted(trial, trial)  # the row at which each row's trial begins
    return Points(
        ordinal=table[order, 0].astype(np.int64),
        arrival=order.astype(np.int64, copy=False),
        trial=trial,
        index=np.arange(1, len(trial) + 1) - first,
        resource=table[order, 3],
        time=table[order, 4],
        costs=table[order, 5:],
    )


def _kept(table: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows of a table sorted by trial no later attempt has replaced."""
    kept = np.ones(len(table), dtype=bool)
    trials, attempts, resources = table[:, 1], table[:, 2], table[:, 3]
    reports = table[:, 0] != _RETURNED
    for trial in np.unique(trials[attempts > 1]):
        begin, end = np.searchsorted(trials, [trial, trial + 1])
        for row in range(begin + 1, end):
            if reports[row] and attempts[row] > attempts[row - 1]:
                kept[begin:row] &= resources[begin:row] < resources[row]
    return kept
