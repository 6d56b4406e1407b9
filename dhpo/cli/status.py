"""How a search stands, read from its directory while it runs or after."""

from __future__ import annotations

import fcntl
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from dhpo import control, journal
from dhpo._blocks import Block
from dhpo.budget import parse_duration
from dhpo.cli.record import RunRecord
from dhpo.events import (
    Event,
    SearchFinished,
    SessionOpened,
    TrialCancelled,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialPromoted,
    TrialReported,
    TrialTimedOut,
)
from dhpo.results import BestPoint, Results
from dhpo.trial import Status


class State(StrEnum):
    """Where a search stands."""

    RUNNING = "running"  # a driver holds its journal
    FINISHED = "finished"
    INTERRUPTED = "interrupted"  # there is work left: run it again
    FAILED = "failed"  # given up after too many failures


@dataclass(slots=True)
class SearchStatus:
    """How a search stands. Durations are in seconds.

    Args:
        directory: of the search.
        state: where it stands.
        reason: why it ended, where it did by itself.
        opened: the last start of a driver.
        record: what ``dhpo run`` was started with, where it was.
        counts: trials by their status, without known ones.
        known: how many trials were added with their results, and not run.
        reports: how many reports and results of trials have come in all: it grows as long as a search gets on.
        elapsed: the search's clock: the time that its runs took together.
        trials_per_hour: ended trials, over the last run.
        eta: until the trials are done or the time is up, as far as that can be told.
        last_error: the failed trial that ended last, as (trial, error).
        results: what was found.
    """

    directory: Path
    state: State
    reason: str | None
    opened: SessionOpened | None
    record: RunRecord | None
    counts: dict[Status, int]
    known: int
    reports: int
    elapsed: float
    trials_per_hour: float | None
    eta: float | None
    last_error: tuple[int, str] | None
    results: Results

    @property
    def ended(self) -> int:
        """How many trials have ended, in whatever way."""
        return sum(self.counts.values()) - self.counts[Status.RUNNING]

    @property
    def paused(self) -> bool:
        """Whether a person has paused it: it starts no more trials."""
        return control.is_paused(self.directory)

    @property
    def stopped(self) -> bool:
        """Whether a person has ended its last run."""
        return self.state is State.INTERRUPTED and control.was_stopped(self.directory)

    @property
    def failed(self) -> int:
        """How many trials ended without a result."""
        return self.counts[Status.FAILED] + self.counts[Status.TIMED_OUT]

    @property
    def num_trials(self) -> int | None:
        """How many trials there are to be, where that is known."""
        return None if self.record is None else self.record.num_trials

    @property
    def progress(self) -> str:
        """How many trials of how many have ended, such as "12 of 40"."""
        return str(self.ended) if self.num_trials is None else f"{self.ended} of {self.num_trials}"

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        single = self.results.objectives.single
        best = self.results.best() if single else None
        return {
            "directory": str(self.directory),
            "state": self.state.value,
            "finished": self.state is State.FINISHED,
            "paused": self.paused,
            "stopped": self.stopped,
            "reason": self.reason,
            "host": None if self.opened is None else self.opened.host,
            "pid": None if self.opened is None else self.opened.pid,
            "num_trials": self.num_trials,
            "ended": self.ended,
            "failed": self.failed,
            "known": self.known,
            "reports": self.reports,
            "trials": {status.value: count for status, count in self.counts.items()},
            "objectives": self.results.objectives.as_dict(),
            "best": None if best is None else point(best),
            "front_size": None if single else len(self.results.pareto_front(strict=True, unique=True)),
            "elapsed_s": round(self.elapsed, 3),
            "trials_per_hour": None if self.trials_per_hour is None else round(self.trials_per_hour, 3),
            "eta_s": None if self.eta is None else round(self.eta, 3),
            "last_error": None
            if self.last_error is None
            else dict(zip(("trial", "error"), self.last_error, strict=True)),
        }


def point(best: BestPoint) -> dict[str, Any]:
    """The JSON form of a point."""
    return {"trial": best.trial, "resource": best.resource, "values": best.values, "config": dict(best.config)}


def read_status(directory: Path) -> SearchStatus:
    """Read how a search stands. Its journal is read once, from the beginning.

    Raises:
        JournalError: there is no journal, or it cannot be read.
    """
    header, _ = journal.read(directory)
    running = is_held(directory / journal.FILE_NAME)  # before reading: what is not held then, reads as it ended
    run = _LastRun()
    results = Results(
        header.settings, lambda: journal.read(directory)[1], directory,
        lambda: run.watch(journal.read_blocks(directory)[1]),
    )  # fmt: skip
    known = set(results.known())
    counts = Counter(status for number, status in results.statuses().items() if number not in known)
    by_status = {status: counts[status] for status in Status}
    ended = counts.total() - counts[Status.RUNNING]
    record = RunRecord.read(directory)
    elapsed = run.last_time
    if running and run.opened is not None:
        elapsed = max(elapsed, time.time() - run.opened.epoch)
    spent = elapsed - (0.0 if run.opened is None else run.opened.time)
    rate = run.n_ended / spent if run.n_ended and spent > 0 else None
    return SearchStatus(
        directory=directory,
        state=State.RUNNING if running else _state(run.finished, record, ended, counts[Status.RUNNING]),
        reason=run.finished,
        opened=run.opened,
        record=record,
        counts=by_status,
        known=len(known),
        reports=run.reports,
        elapsed=elapsed,
        trials_per_hour=None if rate is None else 3600 * rate,
        eta=_eta(record, ended, rate, spent) if running else None,
        last_error=run.last_error,
        results=results,
    )


@dataclass(slots=True)
class _LastRun:
    """What the events say of the last run of a search."""

    opened: SessionOpened | None = None
    finished: str | None = None
    n_ended: int = 0
    reports: int = 0  # of all runs
    last_time: float = 0.0
    last_error: tuple[int, str] | None = None
    resting: set[int] = field(default_factory=set)  # the trials that were paused and not promoted

    def watch(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Take note of the blocks, and pass them on."""
        for block in blocks:
            self.reports += len(block.reports)
            self.last_time = max(self.last_time, float(block.reports.time.max(initial=0.0)))
            for event in block.others:
                self._note(event)
            yield block

    def _note(self, event: Event) -> None:
        self.last_time = max(self.last_time, event.time)
        if isinstance(event, TrialReported | TrialCompleted | TrialFailed | TrialTimedOut):
            self.reports += 1
        match event:
            case SessionOpened():
                self.opened, self.finished, self.n_ended = event, None, 0
            case TrialCompleted():
                self.n_ended += 1
            case TrialPaused():
                self.n_ended += 1
                self.resting.add(event.trial)
            case TrialPromoted():
                self.n_ended -= 1
                self.resting.discard(event.trial)
            case TrialCancelled():
                self.n_ended += event.trial not in self.resting
            case TrialFailed():
                self.n_ended += 1
                self.last_error = (event.trial, event.error)
            case TrialTimedOut():
                self.n_ended += 1
                self.last_error = (event.trial, f"it ran longer than {event.limit:g} s")
            case SearchFinished():
                self.finished = event.reason


def _state(reason: str | None, record: RunRecord | None, ended: int, n_running: int) -> State:
    """The state of a search that no driver holds."""
    wanted = None if record is None else record.num_trials
    if wanted is not None and ended >= wanted and not n_running:
        return State.FINISHED
    if reason is None or (reason == "time_out reached" and wanted is not None):
        return State.INTERRUPTED
    return State.FAILED if reason.startswith("the last ") else State.FINISHED


def _eta(record: RunRecord | None, ended: int, rate: float | None, spent: float) -> float | None:
    """Seconds until the budget of trials or of time is used up, whichever comes first."""
    limits = []
    if record is not None and record.num_trials is not None and rate is not None:
        limits.append((record.num_trials - ended) / rate)
    if record is not None and (seconds := parse_duration(record.time_out)) is not None:
        limits.append(seconds - spent)
    return max(0.0, min(limits)) if limits else None


def is_held(path: Path) -> bool:
    """Whether a driver holds the journal's lock; False too where the file system has no locks."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
