"""What the relay's records say: the events of the attempts that are out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dhpo import errors
from dhpo.errors import RunFunctionError
from dhpo.events import Event, Start, TrialFailed, WorkerLost
from dhpo.executors._outlook import Outlook
from dhpo.executors._pacing import Pacing
from dhpo.executors._tasks import Tasks
from dhpo.executors.base import WallClock, ended, reported
from dhpo.worker.reporter import Record
from dhpo.worker.runner import End


class Reader:
    """Turns records into events.

    Args:
        tasks: the attempts that are out. Those that have ended are taken from it.
        outlook: learns how long trials take.
        pacing: likewise.
        clock: the search's.
    """

    def __init__(self, tasks: Tasks, outlook: Outlook, pacing: Pacing, clock: WallClock) -> None:
        self.asked: set[tuple[str, int]] = set()  # reports that wait for a decision
        self._tasks = tasks
        self._outlook = outlook
        self._pacing = pacing
        self._clock = clock

    def event(self, record: Sequence[Any], now: float) -> Event | None:
        """What a record says, at this time of the search's clock; None where nobody needs to know.

        Raises:
            RunFunctionError: the run function cannot be loaded on the workers; or another error of dhpo's, likewise.
        """
        kind, *payload = record
        if kind == "report":
            report = Record(*payload)
            if key := self._tasks.waiting(report):
                self.asked.add((key, report.index))
            self._outlook.reported(report)
            return reported(report, now)
        start = self._tasks.end(payload[0])
        if start is None:
            return None
        now = round(now, 6)
        if kind == "end":
            return self._ended(start, payload[1], payload[2:], now)
        self._outlook.ended(start.trial)
        if kind == "lost":
            return WorkerLost(now, start.trial, start.attempt, payload[1])
        text, trace, worker = payload[1:]
        return TrialFailed(now, start.trial, start.attempt, text, trace, now, now, worker)

    def _ended(self, start: Start, what: str, fields: Sequence[Any], now: float) -> Event | None:
        if what == "unloadable":
            raise getattr(errors, fields[0], RunFunctionError)(fields[1])
        if what in ("bounced", "unbegun"):
            self._tasks.bounced(start)
            return None
        end = End(*fields) if what == "end" else None
        self._outlook.ended(start.trial, end)
        if end is not None:
            self._pacing.ended(end)
        event = None if end is None else ended(end, now, self._clock)
        # Else it left in time for an end, or its worker, which is closing, has let go of it.
        return event or WorkerLost(now, start.trial, start.attempt, fields[0] if what == "returned" else "")
