"""Which worker ran which trial, and when: the runs of a search as its events tell them."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

import numpy as np

from dhpo._rows import Growing
from dhpo.events import (
    Event,
    SessionOpened,
    TrialCancelled,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialPromoted,
    TrialProposed,
    TrialTimedOut,
    WorkerLost,
)

#: How a run ended, by the event that told it; "completed" may also be "stopped".
OUTCOMES = ("completed", "stopped", "paused", "failed", "lost", "running")
_ENDS: dict[type[Any], str] = {
    TrialCompleted: "completed",
    TrialPaused: "paused",
    TrialFailed: "failed",
    TrialTimedOut: "failed",
}


class Run(NamedTuple):
    """One attempt of a trial on a worker. Times are seconds of the search's clock."""

    worker: str  # "" where nobody has told it (yet)
    trial: int
    attempt: int
    submitted: float
    started: float
    ended: float
    outcome: str  # one of OUTCOMES


class Worker:
    """What the runs say of one worker."""

    __slots__ = ("busy", "first", "last", "lost", "n_runs", "number")

    def __init__(self, number: int) -> None:
        self.number = number  # in the order of their first runs
        self.n_runs = 0
        self.busy = 0.0  # seconds
        self.first = inf
        self.last = 0.0
        self.lost: float | None = None  # when it was lost, unless it ran something since

    def take(self, run: Run) -> None:
        """Count a run that has ended."""
        self.n_runs += 1
        self.busy += max(0.0, run.ended - run.started)
        self.first = min(self.first, run.started)
        self.last = max(self.last, run.ended)
        self.lost = run.ended if run.outcome == "lost" else None


class RunLog:
    """Folds events into runs."""

    def __init__(self) -> None:
        self.runs: list[Run] = []  # that have ended, in the order in which this was told
        self.out: dict[int, tuple[int, float]] = {}  # trial -> (attempt, when it was given out), of what runs
        self.started = Growing(np.float64)  # of these runs, as the following
        self.ended = Growing(np.float64)
        self.waited = Growing(np.float64)  # seconds from being given out to the beginning; without what was lost
        self.workers: dict[str, Worker] = {}
        self.n_lost = 0
        self.sessions: list[float] = []

    def apply(self, event: Event) -> None:
        """Fold any event but a report."""
        match event:
            case TrialProposed(time, trial):
                self.out[trial] = (1, time)
            case TrialPromoted(time, trial, attempt):
                self.out[trial] = (attempt, time)
            case TrialCompleted() | TrialPaused() | TrialFailed() | TrialTimedOut():
                self._end(event)
            case WorkerLost(time, trial, attempt, worker):
                attempt_out, submitted = self.out.get(trial, (0, 0.0))
                if attempt_out == attempt:
                    self.n_lost += 1
                    self._add(Run(worker, trial, attempt, submitted, submitted, time, "lost"))
                    self.out[trial] = (attempt + 1, time)
            case TrialCancelled(_, trial):  # nobody tells where it ran
                self.out.pop(trial, None)
            case SessionOpened(time):
                self.sessions.append(time)
                self.out = {trial: (attempt + 1, time) for trial, (attempt, _) in self.out.items()}

    def _end(self, event: TrialCompleted | TrialPaused | TrialFailed | TrialTimedOut) -> None:
        attempt, submitted = self.out.get(event.trial, (0, 0.0))
        if attempt != event.attempt:
            return
        del self.out[event.trial]
        stopped = isinstance(event, TrialCompleted) and event.stopped
        outcome = "stopped" if stopped else _ENDS[type(event)]
        self._add(Run(event.worker, event.trial, attempt, submitted, event.started, event.ended, outcome))

    def _add(self, run: Run) -> None:
        if run.worker:  # else it did not run, or nobody knows where
            self.runs.append(run)
            self.started.add((run.started,))
            self.ended.add((run.ended,))
            if run.outcome != "lost":
                self.waited.add((run.started - run.submitted,))
            if run.worker not in self.workers:
                self.workers[run.worker] = Worker(len(self.workers))
            self.workers[run.worker].take(run)
