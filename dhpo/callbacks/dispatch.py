"""Tells callbacks what happens: from events to plain values, and to those only who want to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

from dhpo.callbacks._listeners import Listener
from dhpo.callbacks.base import Callback, Decided, Ended, Finished, Lost, Proposed, Reported, Saved, SearchInfo
from dhpo.events import (
    Decide,
    Event,
    SearchFinished,
    SessionOpened,
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
from dhpo.study import Study
from dhpo.trial import Status

_End = TrialCompleted | TrialPaused | TrialFailed | TrialTimedOut


class Dispatcher:
    """A watcher of the loop that tells callbacks of its batches.

    Events that no longer count (a copy, or of an attempt that was given up) are told to nobody, as the study ignores
    them.

    Args:
        callbacks: who is told.
        search_id: the search's.
        settings: what it was made with.
        directory: its directory.
        num_trials: how many trials there will be.
        wake: has the loop look whether the search is to end.
    """

    def __init__(
        self,
        callbacks: Sequence[Callback],
        search_id: str,
        settings: Mapping[str, Any],
        directory: Path | None,
        num_trials: int | None,
        wake: Callable[[], None],
    ) -> None:
        self._listeners = [Listener(callback, wake) for callback in callbacks]
        self._about = search_id, settings, directory, num_trials
        self._current: dict[int, tuple[int, int]] = {}  # the attempt and the last report of each running trial
        self._decisions: dict[tuple[int, int, int], Decide] = {}
        self._saved: dict[int, int] = {}  # when each trial saved last, in ns
        self._cancelled_trials: set[int] = set()
        self._started = False
        self._reason: str | None = None
        self._handlers: dict[type[Any], Callable[[Any, Study], None]] = {
            SessionOpened: self._opened,
            TrialProposed: self._proposed,
            TrialPromoted: self._promoted,
            WorkerLost: self._lost,
            TrialCancelled: self._cancelled,
            SearchFinished: self._over,
            **dict.fromkeys((TrialCompleted, TrialPaused, TrialFailed, TrialTimedOut), self._ended),
        }
        if self._heard("on_report", "on_decision", "on_checkpoint"):
            self._handlers[TrialReported] = self._reported

    def _heard(self, *names: str) -> bool:
        """Whether anybody listens to one of these."""
        return any(listener.hears(name) for listener in self._listeners for name in names)

    def __call__(self, events: Sequence[Event], study: Study) -> None:
        """Take in what happened."""
        for event in events:
            if (handler := self._handlers.get(type(event))) is not None:
                handler(event, study)
        self._decisions.clear()

    def decided(self, command: Decide) -> None:
        """Take in the answer to a report of the batch that comes next."""
        if self._heard("on_decision"):
            self._decisions[command[:3]] = command

    def wants_end(self) -> str | None:
        """Why a callback wants the search to end; None while none does."""
        return next((listener.reason for listener in self._listeners if listener.reason is not None), None)

    def finish(self, study: Study) -> None:
        """The run is over. Returns when all callbacks have heard of it."""
        if self._started:
            self._started = False
            self._tell("on_finish", Finished(self._reason, len(study.trials), study.n_failed, study.time))
        for listener in self._listeners:
            listener.close()

    def _tell(self, name: str, value: Any) -> None:
        for listener in self._listeners:
            listener.tell(name, value)

    def _opened(self, event: SessionOpened, study: Study) -> None:
        running = list(study.running())
        self._current = {trial.number: (trial.attempt, 0) for trial in running}
        search_id, settings, directory, num_trials = self._about
        info = SearchInfo(
            search_id, directory, study.objectives.as_dict(), tuple(settings["problem"]["names"]),
            settings["time_attr"], num_trials, len(study.trials), len(study.trials) - len(running),
            {trial.number: trial.config for trial in running}, settings,
        )  # fmt: skip
        self._started = True
        self._tell("on_start", info)

    def _proposed(self, event: TrialProposed, study: Study) -> None:
        self._current[event.trial] = (1, 0)
        self._tell("on_proposal", Proposed(event.trial, 1, event.config, event.origin, event.time))

    def _promoted(self, event: TrialPromoted, study: Study) -> None:
        if event.trial not in self._current:
            self._current[event.trial] = (event.attempt, 0)
            config = study.trials[event.trial].config
            self._tell("on_proposal", Proposed(event.trial, event.attempt, config, "promoted", event.time))

    def _reported(self, event: TrialReported, study: Study) -> None:
        key = event.trial, event.attempt, event.index
        attempt, index = self._current.get(event.trial, (0, 0))
        if event.attempt != attempt or event.index <= index or study.objectives.costs(event.values) is None:
            return
        self._current[event.trial] = key[1:]
        self._tell("on_report", Reported(event.trial, event.attempt, event.resource, event.values, event.time))
        if (answer := self._decisions.get(key)) is not None:
            self._tell("on_decision", Decided(*key[:2], event.resource, answer.decision, event.time))
        self._look_for_checkpoint(event, event.resource)

    def _ended(self, event: _End, study: Study) -> None:
        if self._current.get(event.trial, (0,))[0] != event.attempt:
            return
        del self._current[event.trial]
        state = study.trials[event.trial]
        self._look_for_checkpoint(event, state.resource)
        failed = state.status in (Status.FAILED, Status.TIMED_OUT)
        values = None if failed or state.costs is None else study.objectives.values(state.costs)
        metadata = event.metadata if isinstance(event, TrialCompleted) else {}
        self._tell("on_end", Ended(
            event.trial, event.attempt, state.config, state.status, values, state.resource, metadata,
            _error(event) if failed else "", event.ended - event.started, event.worker, event.time,
        ))  # fmt: skip

    def _cancelled(self, event: TrialCancelled, study: Study) -> None:
        state = study.trials[event.trial] if 0 <= event.trial < len(study.trials) else None
        if state is None or state.status is not Status.CANCELLED or event.trial in self._cancelled_trials:
            return
        self._cancelled_trials.add(event.trial)
        self._current.pop(event.trial, None)
        values = None if state.costs is None else study.objectives.values(state.costs)
        self._tell("on_end", Ended(
            event.trial, event.attempt, state.config, state.status, values, state.resource, {}, "", nan, "", event.time
        ))  # fmt: skip

    def _lost(self, event: WorkerLost, study: Study) -> None:
        if self._current.get(event.trial, (0,))[0] != event.attempt:
            return
        self._current[event.trial] = (event.attempt + 1, 0)
        self._look_for_checkpoint(event, study.trials[event.trial].resource)
        self._tell("on_loss", Lost(event.trial, event.attempt, event.worker, event.time))

    def _over(self, event: SearchFinished, study: Study) -> None:
        self._reason = event.reason

    def _look_for_checkpoint(self, event: TrialReported | WorkerLost | _End, resource: float | None) -> None:
        root = self._about[2]
        if root is None or not self._heard("on_checkpoint"):
            return
        directory = root / "checkpoints" / f"trial-{event.trial}"
        if (newest := _newest(directory)) > self._saved.get(event.trial, 0):
            self._saved[event.trial] = newest
            self._tell("on_checkpoint", Saved(event.trial, event.attempt, directory, resource, event.time))


def _error(event: _End) -> str:
    if isinstance(event, TrialFailed):
        return event.error
    if isinstance(event, TrialTimedOut):
        return f"it ran longer than {event.limit:g} s"
    return "it ended without any result"


def _newest(directory: Path) -> int:
    """When something in the folder was changed last (ns); 0 where nothing is in it."""
    newest = 0
    try:
        for path in directory.iterdir():
            newest = max(newest, path.stat().st_mtime_ns)
    except OSError:  # it is not there, or the trial is just changing it
        return newest
    return newest
