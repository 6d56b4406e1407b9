"""Searches driven by hand: ask for trials, tell what became of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dhpo._html import pairs
from dhpo.errors import SettingError
from dhpo.events import Decide, TrialCompleted, TrialFailed, TrialPaused, TrialReported
from dhpo.executors.base import WallClock
from dhpo.known import KnownResult
from dhpo.session import Session
from dhpo.trial import Configuration, Decision, Status
from dhpo.worker.values import check_objectives, plain, read_returned


class ManualTrial(NamedTuple):
    """A trial to be run by hand. One that was paused comes again, to go on from the resource that it has reached."""

    number: int
    config: Configuration
    resume_from: float = 0

    def _repr_html_(self) -> str:
        return pairs(self.config, f"Trial {self.number}")


class Manual:
    """Asks and tells over a session, under the same rules, and in the same journal, as the loop."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._clock = WallClock(session.study.time)
        self._asked: dict[int, float] = {}
        self._commit = session.commit
        session.commit([session.opened(self._now())])

    def _now(self) -> float:
        return round(self._clock.now(), 6)

    def ask(self, n: int) -> list[ManualTrial]:
        """Give up to ``n`` trials, paused ones that may go on before new ones; fewer where the space is exhausted."""
        study = self._session.study
        now, first = self._now(), len(study.trials)
        promoted = study.promote(n, now)
        proposals = self._session.searcher.propose(range(first, first + n - len(promoted)))
        self._commit([*promoted, *study.admit(proposals, now)])
        given = [*(study.trials[event.trial] for event in promoted), *study.trials[first:]]
        self._asked.update((t.number, now) for t in given)
        return [ManualTrial(t.number, Configuration(t.config), t.promoted_from) for t in given]

    def add(self, results: Sequence[KnownResult]) -> list[int]:
        """Make known results trials; see :meth:`dhpo.Search.add_results`."""
        return self._session.add(results, self._now())

    def tell(self, trial: ManualTrial | int, values: Any, *, resource: float | None, error: str | None) -> Decision:
        """Take a report, a result or a failure; see :meth:`dhpo.Search.tell`."""
        number = trial if isinstance(trial, int) else trial.number
        study = self._session.study
        if not 0 <= number < len(study.trials) or study.trials[number].status is not Status.RUNNING:
            raise SettingError(f"trial {number} is not running: tell only what ask() gave, until it has ended")
        if error is None and resource is not None:
            return self._report(number, values, resource)
        self._end(number, values, error)
        return Decision.STOP

    def _report(self, number: int, values: Any, resource: float) -> Decision:
        study = self._session.study
        state = study.trials[number]
        if isinstance(values, Mapping):
            flat = {str(k): plain(v, str(k)) for k, v in values.items()}
        else:
            flat = read_returned(values, study.objectives).values or {}
        check_objectives(flat, study.objectives, "tell()")
        if isinstance(resource, int | float) and 0 < resource <= state.promoted_from:
            return Decision.CONTINUE  # as it was before the pause: known already
        if not isinstance(resource, int | float) or not (state.resource or 0) < resource < float("inf"):
            raise SettingError(f"resource={resource!r}: it must be positive and grow; the last was {state.resource}")
        time_attr = self._session.setup.stopper.time_attr
        if time_attr is not None:
            flat.setdefault(time_attr, resource)
        event = TrialReported(self._now(), number, state.attempt, state.index + 1, resource, flat)
        decisions = [c.decision for c in self._commit([event]) if isinstance(c, Decide)]
        if Decision.PAUSE in decisions:
            now = self._now()
            self._commit([TrialPaused(now, number, state.attempt, *self._run_of(number, now))])
            return Decision.PAUSE
        max_t = study.stopper.max_t
        if Decision.STOP in decisions or (max_t is not None and resource >= max_t):
            self._end(number, None, None)
            return Decision.STOP
        return Decision.CONTINUE

    def _run_of(self, number: int, now: float) -> tuple[float, float, str]:
        """When a run that ends now began, when it ended, and where it was."""
        return self._asked.get(number, now), now, f"{os.uname().nodename}-{os.getpid()}"

    def _end(self, number: int, values: Any, error: str | None) -> None:
        state = self._session.study.trials[number]
        now = self._now()
        run = self._run_of(number, now)
        returned = None if error is not None else read_returned(values, self._session.study.objectives)
        if returned is not None and returned.failure is None:
            if returned.values is None and state.costs is None:
                raise SettingError(f"trial {number} has no values yet: tell(trial, values) or tell(trial, error=...)")
            result = (returned.values, returned.metadata, state.stopping)
            self._commit([TrialCompleted(now, number, state.attempt, *result, *run)])
        else:
            text = str(error if returned is None else returned.failure)
            self._commit([TrialFailed(now, number, state.attempt, text, "", *run)])
