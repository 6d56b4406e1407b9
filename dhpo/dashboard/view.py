"""What is shown of a search: the fold of its events that a page, the routes and the metrics read from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from dhpo._front import front_rows
from dhpo._points import PointFold, Points
from dhpo._trials import TrialRecord
from dhpo.dashboard.runs import RunLog
from dhpo.dashboard.text import config_text
from dhpo.errors import SpaceError
from dhpo.events import (
    Event,
    SearchFinished,
    SessionOpened,
    TrialCancelled,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialTimedOut,
)
from dhpo.objectives import Objectives
from dhpo.space import HpProblem
from dhpo.trial import Status

T = TypeVar("T")

_MOST_TEXTS = 20_000


class LiveWorker(NamedTuple):
    """A worker as the Dask scheduler knows it."""

    address: str
    name: str
    threads: int
    memory: int  # bytes
    memory_limit: int  # bytes; 0 for none
    status: str
    trials: tuple[int, ...]  # that it runs, or that wait there


class Facts(NamedTuple):
    """What the events do not tell."""

    running: bool = False  # a driver is at work
    now: float | None = None  # the search's clock, seconds
    num_trials: int | None = None  # the budget of trials
    time_limit: float | None = None  # when the time is up, by the search's clock
    cluster: str = ""  # what the cluster waits for, or how its jobs stand
    workers: tuple[LiveWorker, ...] | None = None  # None where nobody can tell


class View:
    """Folds a search's events into what is shown of it.

    Args:
        settings: of the journal's header.
        search_id: of the journal's header.
        name: what people call the search.
    """

    def __init__(self, settings: Mapping[str, Any], search_id: str = "", name: str = "") -> None:
        self.settings = settings
        self.search_id = search_id
        self.name = name or search_id
        self.objectives = Objectives.parse(settings.get("objectives"))
        self.log = RunLog()
        self.facts = Facts()
        self.opened: SessionOpened | None = None  # the last driver
        self.finished: str | None = None  # why, where the search ended by itself
        self.last_error: tuple[int, str] | None = None
        self.time = 0.0  # of the last event
        self.n_events = 0
        self.n_ended_since_opened = 0
        self._fold = PointFold(self.objectives)
        self._derived: dict[str, Any] = {}  # what follows from the events, until there are more of them
        self._texts: dict[int, str] = {}

    def apply(self, events: Sequence[Event]) -> None:
        """Fold a batch of events."""
        for event in events:
            if type(event) is not TrialReported:
                self._note(event)
                self.log.apply(event)
            if event.time > self.time:
                self.time = event.time
        self._fold.extend((list(events),))
        self.n_events += len(events)
        self._derived.clear()

    def _note(self, event: Event) -> None:
        match event:
            case SessionOpened():
                self.opened, self.finished, self.n_ended_since_opened = event, None, 0
            case SearchFinished():
                self.finished = event.reason
            case TrialCompleted() | TrialPaused():
                self.n_ended_since_opened += 1
            case TrialCancelled():
                self.n_ended_since_opened += event.trial in self.log.out  # else its run had ended before
            case TrialFailed():
                self.n_ended_since_opened += 1
                self.last_error = (event.trial, event.error)
            case TrialTimedOut():
                self.n_ended_since_opened += 1
                self.last_error = (event.trial, f"it ran longer than {event.limit:g} s")

    @property
    def n_reports(self) -> int:
        """How many reports there were."""
        return self._fold.n_reports

    @property
    def now(self) -> float:
        """The search's clock, as far as it is known."""
        return self.time if self.facts.now is None else max(self.time, self.facts.now)

    def _once(self, name: str, make: Callable[[], T]) -> T:
        if name not in self._derived:
            self._derived[name] = make()
        found: T = self._derived[name]
        return found

    def points(self) -> Points:
        """All results so far."""
        return self._once("points", self._fold.points)

    def front(self) -> NDArray[np.intp]:
        """The rows of the points that are on the Pareto front; of equal ones the first."""
        return self._once("front", lambda: front_rows(self.points().costs, strict=True, unique=True))

    def text_of(self, trial: int) -> str:
        """A trial's configuration in one line."""
        if trial not in self._texts:
            if len(self._texts) >= _MOST_TEXTS:
                self._texts.clear()
            self._texts[trial] = config_text(self.by_number()[trial].config)
        return self._texts[trial]

    def records(self) -> Iterator[TrialRecord]:
        """All trials: those that have ended in the order of their ends, then those that run or rest."""
        yield from self._fold.ended
        yield from self._fold.fold.running.values()

    def by_number(self) -> dict[int, TrialRecord]:
        """All trials by their numbers."""
        return self._once("by_number", lambda: {record.number: record for record in self.records()})

    def counts(self) -> dict[Status, int]:
        """Trials by status, without known ones."""
        counts = dict.fromkeys(Status, 0)
        for record in self.records():
            counts[record.status] += not record.known
        return counts

    @property
    def n_known(self) -> int:
        """How many trials were added with their results."""
        return sum(record.known for record in self._fold.ended)

    @cached_property
    def problem(self) -> HpProblem | None:
        """The search space; None where it cannot be read."""
        try:
            return HpProblem.from_json(self.settings["problem"])
        except (KeyError, SpaceError):
            return None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The hyperparameters."""
        return tuple(str(name) for name in (self.settings.get("problem") or {}).get("names", ()))

    @property
    def resource_name(self) -> str:
        """What reports are counted by, such as "epoch"."""
        return (self.settings.get("stopper") or {}).get("time_attr") or "report"
