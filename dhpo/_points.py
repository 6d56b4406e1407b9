"""Every result that a search has seen, as columns: millions of them fit into memory where dictionaries would not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dhpo._blocks import Block
from dhpo._rows import RETURNED, Arrivals, Rows, kept_rows
from dhpo._sieve import Sieve
from dhpo._trials import FoldedBlock, TrialFold, TrialRecord
from dhpo.events import Event, TrialReported
from dhpo.objectives import Objectives


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
        self.rows = Rows(len(objectives))
        self._sieve = Sieve()

    def extend(self, batches: Iterable[list[Event]]) -> None:
        """Fold batches of events, one by one."""
        fold, objectives = self.fold, self.objectives
        ordinal = self.n_reports - 1
        for batch in batches:
            found: list[tuple[float, ...]] = []
            for event in batch:
                if type(event) is TrialReported:
                    ordinal += 1
                    costs = fold.report(event)
                    if costs is not None:
                        found.append((ordinal, event.trial, event.attempt, event.resource, event.time, *costs))
                elif (record := fold.apply(event)) is not None:
                    self.ended.append(record)
                    if (row := _returned(record, objectives)) is not None:
                        found.append(row)
            if found:
                self.rows.add(np.array(found, dtype=float))
        self.n_reports = ordinal + 1

    def extend_blocks(self, blocks: Iterable[Block]) -> None:
        """Fold blocks, from the first one of a search on: the same in a fraction of the time."""
        for block in blocks:
            for part in block.sessions():
                found = self.fold.block(part, self._sieve.runs(part))
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
        self.rows.add(table)
        self.n_reports += len(reports) + len(found.reports)

    def points(self) -> Points:
        """All points so far."""
        return _points(self.rows, np.arange(len(self.rows)))

    def points_of(self, trials: NDArray[np.int64]) -> Points:
        """The points of some trials; ``arrival`` is among these."""
        return _points(self.rows, np.flatnonzero(np.isin(self.rows.trial, trials)))

    def arrivals(self) -> Arrivals:
        """All points so far in the order in which they came, without sorting them."""
        return self.rows.arrivals()

    def best(self, column: int) -> tuple[int, float, list[float]] | None:
        """The point of the least cost, of equal ones that which came first.

        Args:
            column: of the objective.

        Returns:
            Its trial, resource and costs; None where there are no points.
        """
        found = self.arrivals()
        if not len(found.trial):
            return None
        row = int(found.costs[:, column].argmin())
        return int(found.trial[row]), float(found.resource[row]), found.costs[row].tolist()


def _returned(record: TrialRecord, objectives: Objectives) -> tuple[float, ...] | None:
    """The row of what a trial returned, unless its last report said the same."""
    if record.returned is None:
        return None
    costs = objectives.costs(record.returned)
    known = None if record.reported is None else objectives.costs(record.reported)
    if costs is None or costs == known:
        return None
    resource = np.nan if record.resource is None else record.resource
    return (RETURNED, record.number, record.attempt, resource, record.gathered, *costs)


def _points(rows: Rows, chosen: NDArray[np.intp]) -> Points:
    """The points of some rows. Column by column: another table of millions of rows would be large."""
    order = chosen[np.argsort(rows.trial[chosen], kind="stable")]
    if (rows.attempt[chosen] > 1).any():
        order = order[kept_rows(rows, order)]
    trial = rows.trial[order]
    first = np.searchsorted(trial, trial)  # the row at which each row's trial begins
    return Points(
        ordinal=rows.ordinal[order],
        arrival=order.astype(np.int64, copy=False),
        trial=trial,
        index=np.arange(1, len(trial) + 1) - first,
        resource=rows.resource[order],
        time=rows.time[order],
        costs=rows.costs[order],
    )
