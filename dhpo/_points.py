"""Every result that a search has seen, as columns: millions of them fit into memory where dictionaries would not."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dhpo._trials import TrialFold, TrialRecord
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


def fold_points(batches: Iterable[list[Event]], objectives: Objectives) -> tuple[list[TrialRecord], TrialFold, Points]:
    """Read a whole journal once.

    Returns:
        The records of the ended trials in the order of their ends, the fold with those that run, and all points.
    """
    fold = TrialFold(objectives)
    ended: list[TrialRecord] = []
    rows = array("d")
    ordinal = -1
    for batch in batches:
        for event in batch:
            if type(event) is TrialReported:
                ordinal += 1
                costs = fold.report(event)
                if costs is not None:
                    rows.extend((ordinal, event.trial, event.attempt, event.resource, event.time, *costs))
            elif (record := fold.apply(event)) is not None:
                ended.append(record)
                if (costs := _news(record, objectives)) is not None:
                    resource = np.nan if record.resource is None else record.resource
                    rows.extend((_RETURNED, record.number, record.attempt, resource, record.gathered, *costs))
    return ended, fold, _points(np.frombuffer(rows).reshape(-1, 5 + len(objectives)))


def _news(record: TrialRecord, objectives: Objectives) -> tuple[float, ...] | None:
    """The costs that a trial returned, unless its last report said the same."""
    if record.returned is None:
        return None
    costs = objectives.costs(record.returned)
    known = None if record.reported is None else objectives.costs(record.reported)
    return None if costs == known else costs


def _points(table: NDArray[np.float64]) -> Points:
    order = np.argsort(table[:, 1], kind="stable")
    order = order[_kept(table[order])]
    table = table[order]
    trial = table[:, 1].astype(np.int64)
    first = np.searchsorted(trial, trial)  # the row at which each row's trial begins
    return Points(
        ordinal=table[:, 0].astype(np.int64),
        arrival=order.astype(np.int64),
        trial=trial,
        index=np.arange(1, len(trial) + 1) - first,
        resource=table[:, 3],
        time=table[:, 4],
        costs=table[:, 5:],
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
