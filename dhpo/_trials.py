"""What the events of a search say of each trial, without deciding anything: the fold that all views share.

A report counts if it belongs to the running attempt of a trial that has not ended, was not there before, and holds all
objectives as finite numbers. That is the study's rule; this fold keeps what users want to see instead of what
decisions need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from math import nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhpo._blocks import Block
from dhpo._html import pairs
from dhpo._sieve import Runs, Sieve
from dhpo.events import (
    Event,
    SearchFinished,
    SessionOpened,
    TrialAdded,
    TrialCancelled,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialPromoted,
    TrialProposed,
    TrialReported,
    TrialTimedOut,
    WorkerLost,
)
from dhpo.objectives import Objectives
from dhpo.trial import Status

_RUNNING = Status.RUNNING  # an enum's member is slow to look up, and there may be millions of reports


@dataclass(slots=True)
class TrialRecord:
    """One trial as its events tell it. Times are seconds of the search's clock, NaN where not known."""

    number: int
    config: Mapping[str, Any]
    bracket: int
    origin: str
    submitted: float
    status: Status = Status.RUNNING
    attempt: int = 1
    index: int = 0  # of the last report of this attempt that counts
    resource: float | None = None  # of the last report that counts
    reported: Mapping[str, Any] | None = None  # the values of that report
    returned: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    traceback: str = ""
    started: float = nan
    ended: float = nan
    gathered: float = nan  # when the driver heard of the end
    worker: str = ""
    known: bool = False  # was added with its result, and not run

    @property
    def values(self) -> Mapping[str, Any] | None:
        """The values by which the trial stands: what it returned, else its last report that counts."""
        return self.reported if self.returned is None else self.returned

    @property
    def failed(self) -> bool:
        """Whether it ended without a result."""
        no_result = self.status is Status.CANCELLED and self.values is None
        return no_result or self.status in (Status.FAILED, Status.TIMED_OUT)

    def _repr_html_(self) -> str:
        told = {"resource": self.resource, **(self.values or {}), "attempt": self.attempt, "worker": self.worker}
        rows = {**self.config, **told, **({"error": self.error} if self.error else {})}
        return pairs(rows, f"Trial {self.number}: {self.status}")


class FoldedBlock(NamedTuple):
    """What came of the events of a block; places are those among its events."""

    counts: NDArray[np.bool_]  # which of the reports in its columns count
    reports: list[tuple[int, TrialReported, tuple[float, ...] | None]]  # the others: place, and costs where it counts
    ended: list[tuple[int, TrialRecord]]


class TrialFold:
    """Folds events into the records of the trials that have not ended; hands out each record when its trial ends.

    A paused trial has not ended: its record stays here, also when the search is over.
    """

    def __init__(self, objectives: Objectives) -> None:
        self.running: dict[int, TrialRecord] = {}
        self.finished = False  # the search ended by itself: what still runs is cancelled
        self._costs = objectives.costs

    def report(self, event: TrialReported) -> tuple[float, ...] | None:
        """Fold a report. Returns its costs, or None when it does not count."""
        _, trial, attempt, index, resource, values = event
        record = self.running.get(trial)
        if record is None or attempt != record.attempt or index <= record.index or record.status is not _RUNNING:
            return None
        costs = self._costs(values)
        if costs is not None:
            record.index, record.resource, record.reported = index, resource, values
        return costs

    def apply(self, event: Event) -> TrialRecord | None:
        """Fold any event. Returns the record of the trial that it ended, if it ended one."""
        match event:
            case TrialReported():
                self.report(event)
            case TrialProposed(time, trial, config, bracket, origin):
                self.running[trial] = TrialRecord(trial, config, bracket, origin, time)
            case TrialCompleted() | TrialFailed() | TrialTimedOut():
                return self._end(event)
            case TrialAdded():
                return self._added(event)
            case TrialCancelled():
                return self._cancel(event)
            case TrialPaused(time, trial, attempt, started, ended, worker):
                if (record := self._current(trial, attempt)) is not None and record.reported is not None:
                    record.status = Status.PAUSED
                    record.gathered, record.started, record.ended, record.worker = time, started, ended, worker
            case TrialPromoted(_, trial, attempt):
                record = self.running.get(trial)
                if record is not None and record.status is Status.PAUSED and attempt == record.attempt + 1:
                    record.status = Status.RUNNING
                    _restart(record)
            case WorkerLost(_, trial, attempt):
                if (record := self._current(trial, attempt)) is not None:
                    _restart(record)
            case SessionOpened():
                self.finished = False
                for record in self.running.values():
                    if record.status is _RUNNING:
                        _restart(record)
            case SearchFinished():
                self.finished = True
        return None

    def fold(self, batches: Iterator[list[Event]]) -> Iterator[TrialRecord]:
        """Fold batches, handing out the records of the trials that end."""
        for batch in batches:
            for event in batch:
                if (record := self.apply(event)) is not None:
                    yield record

    def fold_blocks(self, blocks: Iterable[Block]) -> Iterator[TrialRecord]:
        """The same for the blocks of a whole journal."""
        sieve = Sieve()
        for block in blocks:
            for part in block.sessions():
                yield from (record for _, record in self.block(part, sieve.runs(part)).ended)

    def block(self, block: Block, runs: Runs) -> FoldedBlock:
        """Fold a block. Of a run of reports (see ``dhpo/_sieve.py``) the first and the last one tell all."""
        chosen = np.flatnonzero(runs.first | runs.last | runs.odd)
        events = block.reports.taken(chosen).events(block.names)
        ends = np.searchsorted(block.reports.place[chosen], block.places).tolist()
        counted: list[bool] = []
        found = FoldedBlock(np.zeros(len(block.reports), dtype=bool), [], [])
        for end, place, other in zip(ends, block.places.tolist(), block.others, strict=True):
            counted += [self.report(event) is not None for event in islice(events, end - len(counted))]
            if type(other) is TrialReported:
                found.reports.append((place, other, self.report(other)))
            elif (record := self.apply(other)) is not None:
                found.ended.append((place, record))
        counted += [self.report(event) is not None for event in events]
        found.counts[chosen] = counted
        of_run = np.zeros(int(runs.run.max(initial=-1)) + 1, dtype=bool)
        of_run[runs.run[runs.first]] = found.counts[runs.first]
        return found._replace(counts=np.where(runs.odd, found.counts, of_run[runs.run]))

    def _current(self, trial: int, attempt: int) -> TrialRecord | None:
        """The record of a trial, if it runs and this is its attempt."""
        record = self.running.get(trial)
        return record if record is not None and record.attempt == attempt and record.status is _RUNNING else None

    def _end(self, event: TrialCompleted | TrialFailed | TrialTimedOut) -> TrialRecord | None:
        record = self._current(event.trial, event.attempt)
        if record is None:
            return None
        del self.running[event.trial]
        record.gathered, record.started, record.ended = event.time, event.started, event.ended
        record.worker = event.worker
        if isinstance(event, TrialCompleted):
            self._complete(record, event)
        elif isinstance(event, TrialFailed):
            record.status, record.error, record.traceback = Status.FAILED, event.error, event.traceback
        else:
            record.status, record.error = Status.TIMED_OUT, f"it ran longer than {event.limit:g} s"
        return record

    def _cancel(self, event: TrialCancelled) -> TrialRecord | None:
        record = self.running.get(event.trial)
        if record is None or record.attempt != event.attempt:
            return None
        del self.running[event.trial]
        if record.status is _RUNNING:  # else its run had ended before
            record.gathered = record.ended = event.time
        record.status = Status.CANCELLED
        if record.values is None:
            record.error = "it was cancelled"
        return record

    def _added(self, event: TrialAdded) -> TrialRecord:
        """The record of a known trial: it began and ended when it was added."""
        time, number, config, values, error, resource, origin = event
        usable = values is not None and self._costs(values) is not None
        return TrialRecord(
            number, config, 0, origin, time,
            status=Status.COMPLETED if usable else Status.FAILED, resource=resource, error=error,
            returned=values if usable else None, started=time, ended=time, gathered=time, known=True,
        )  # fmt: skip

    def _complete(self, record: TrialRecord, event: TrialCompleted) -> None:
        if event.values is not None and self._costs(event.values) is not None:
            record.returned = event.values
        record.metadata = event.metadata
        if record.values is None:
            record.status, record.error = Status.FAILED, "it ended without any result"
        else:
            record.status = Status.STOPPED if event.stopped else Status.COMPLETED


def _restart(record: TrialRecord) -> None:
    record.attempt += 1
    record.index = 0
