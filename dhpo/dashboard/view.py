"""What is shown of a search: the fold of its events that a page, the routes and the metrics read from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from dhpo._blocks import Block, blocks_of
from dhpo._collector import collector_at_rest
from dhpo._points import PointFold
from dhpo.dashboard.index import PointIndex
from dhpo.dashboard.levels import Rungs
from dhpo.dashboard.roster import Roster
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
    TrialTimedOut,
)
from dhpo.objectives import Objectives
from dhpo.space import HpProblem

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
        fold: of all events, where there is one: :meth:`extend` then leaves it as it is.
    """

    def __init__(
        self, settings: Mapping[str, Any], search_id: str = "", name: str = "", fold: PointFold | None = None
    ) -> None:
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
        self._is_folded = fold is not None
        self._fold = PointFold(self.objectives) if fold is None else fold
        self._roster = Roster(self._fold)
        self._texts: dict[int, str] = {}

    def apply(self, events: Sequence[Event]) -> None:
        """Fold a batch of events."""
        self.extend(blocks_of((events,), self.objectives.names))

    def extend(self, blocks: Iterable[Block]) -> None:
        """Fold events by the block."""
        with collector_at_rest():
            for block in blocks:
                self._take(block)

    def _take(self, block: Block) -> None:
        for event in block.others:
            self._note(event)
            self.log.apply(event)
            self.time = max(self.time, event.time)
        self.time = max(self.time, float(block.reports.time.max(initial=0.0)))
        if not self._is_folded:
            self._fold.extend_blocks((block,))
        self.n_events += block.size

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

    @property
    def points(self) -> PointIndex:
        """All results so far."""
        self._index.update()
        return self._index

    @property
    def trials(self) -> Roster:
        """All trials so far."""
        self._roster.update()
        return self._roster

    def text_of(self, trial: int) -> str:
        """A trial's configuration in one line."""
        if trial not in self._texts:
            if len(self._texts) >= _MOST_TEXTS:
                self._texts.clear()
            self._texts[trial] = config_text(self.trials[trial].config)
        return self._texts[trial]

    @cached_property
    def _index(self) -> PointIndex:
        return PointIndex(self._fold.rows, self.rungs.levels)

    @cached_property
    def rungs(self) -> Rungs:
        """The rungs that the stopper's settings say."""
        return Rungs(self.settings.get("stopper"), {} if self.problem is None else self.problem.constants)

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
