"""What an executor knows of the time that trials take, and of the time that the driver has."""

from __future__ import annotations

import time

from dhpo.events import Start
from dhpo.walltime import Durations, Horizon, fits
from dhpo.worker.reporter import Record
from dhpo.worker.runner import End, EndKind


class Outlook:
    """Tells whether a trial would come to its next rung, or its end, before the driver has to end."""

    def __init__(self) -> None:
        self.durations = Durations()
        self.horizon: Horizon | None = None  # the driver's end
        self._typical: Start | None = None  # what a new trial is like
        self._reporting: set[int] = set()  # trials that run, and have reported since they began to

    @property
    def unit(self) -> float:
        """Seconds that a unit of resource takes."""
        return self.durations.unit

    @property
    def need(self) -> float:
        """Seconds that a new trial takes until its next rung, or its end."""
        return 0.0 if self._typical is None else self.durations.need(self._typical)

    @property
    def left(self) -> float | None:
        """Seconds until the driver's end, where there is one."""
        return None if self.horizon is None else self.horizon.left(time.time())

    def tidings(self) -> dict[str, float | None]:
        """What the relay has to know of it."""
        return {"need": self.need, "unit": self.unit, "left": self.left}

    def fits(self, start: Start | None = None) -> bool:
        """Whether there is time for this trial, or for a new one."""
        if self.horizon is None:
            return True
        need = self.need if start is None else self.durations.need(start)
        return fits(need, self.unit, self.horizon.left(time.time()), self.horizon.life)

    def begun(self, start: Start) -> None:
        """A trial was given out."""
        if not start.resume_from:
            self._typical = start

    def reported(self, record: Record) -> None:
        """A trial has reported."""
        self._reporting.add(record.trial)
        self.durations.reported(record.seconds, record.units, first=record.index == 1)

    def ended(self, trial: int, end: End | None = None) -> None:
        """A trial runs no longer; it came to an ``end`` by itself, or was lost."""
        self._reporting.discard(trial)
        if end is not None and end.kind == EndKind.COMPLETED and not end.stopped:
            self.durations.ran(end.ended - end.started)

    def drained(self, running: int) -> bool:
        """Whether the driver's end leaves nothing to wait for, when so many trials run.

        What does not report may still come to its end by itself; once the driver's end is there, it is not waited for.
        """
        if self.horizon is None or self.fits():
            return False
        return not (running if self.left else self._reporting)
