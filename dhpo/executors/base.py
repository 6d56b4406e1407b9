"""The protocol of executors, and what they share: the clock, the inbox, and how records become events."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from dhpo.events import (
    Cancel,
    Decide,
    Event,
    Start,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialTimedOut,
)
from dhpo.proposer import Place
from dhpo.walltime import Horizon
from dhpo.worker.job import Job
from dhpo.worker.reporter import Record
from dhpo.worker.runner import End, EndKind


class RunFunction(Protocol):
    """The run function and its data, as the driver holds them: as they are, or packed for shipping."""

    def here(self) -> tuple[Callable[..., Any], Any]:
        """The function and its data, for trials that run in this process."""

    def packed(self) -> Any:
        """The two, packed once (:class:`dhpo.worker.package.Packed`), for trials that run in other processes."""


class Executor(Protocol):
    """Runs trials and tells what becomes of them. All methods are called from the loop's thread."""

    @property
    def searcher_place(self) -> Place:
        """Where a searcher computes that takes its time, while trials run here."""

    async def open(self, job: Job, function: RunFunction, time: float) -> None:
        """Make ready to run trials. ``time`` is where the search's clock stands."""

    async def close(self) -> None:
        """Abandon whatever runs, and release everything."""

    def now(self) -> float:
        """The search's clock, in seconds."""

    def free(self) -> int:
        """How many more trials it would take now."""

    def start(self, starts: Sequence[Start]) -> None:
        """Run these trials, as one batch."""

    async def events(self, timeout: float | None) -> list[Event]:
        """Wait for events; [] at the timeout (seconds) or after :meth:`wake`.

        Calling it again says that the last batch is journalled and acted upon: only then is it acknowledged, and a
        report in it that waits for a decision and got none is answered by CONTINUE.
        """

    def wake(self) -> None:
        """Let :meth:`events` return. May be called from any thread."""

    def obey(self, command: Decide | Cancel) -> None:
        """Answer a report, or stop a trial."""

    def want(self, trials: int) -> None:
        """How many trials could run now, if there were workers for them: those that run, and those that may come."""

    def end_by(self, horizon: Horizon) -> None:
        """Have the trials leave in time for an end of the driver, and start none that does not fit before it.

        Those that leave are told as lost, without blame; those that are started again wait for another run. May be
        called again, with an earlier end.
        """

    def drained(self) -> bool:
        """Whether an end given by :meth:`end_by` leaves nothing to wait for: nothing would be started any more, and …

        … no trial runs of which another report is expected in time.
        """

    def address(self) -> str | None:
        """Where a person can watch the workers, if anywhere."""

    def status(self) -> str | None:
        """What the executor waits for, in one line for a person; None while trials run."""


class WallClock:
    """The search's clock over real time: it goes on from where an earlier run left it."""

    def __init__(self, start: float) -> None:
        self._zero = time.monotonic() - start
        self.epoch = time.time() - start  # the unix time at which the search's clock stood at 0

    def now(self) -> float:
        """Seconds since the search was first started, time between its runs left out."""
        return time.monotonic() - self._zero

    def at(self, unix: float) -> float:
        """The search's time at a unix time, of a machine whose clock agrees with this one."""
        return round(unix - self.epoch, 6)


class Inbox:
    """What has come for the loop: filled from any thread, emptied in batches by the loop."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._flag = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._called = False

    def put(self, item: Any) -> None:
        """Add an item. The loop's thread is woken once for as many as come before it looks."""
        self._items.append(item)
        self.wake()

    def wake(self) -> None:
        """Let :meth:`take` return, even with nothing."""
        if not self._called:
            self._called = True
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._flag.set)

    def __len__(self) -> int:
        """How many items lie there."""
        return len(self._items)

    async def take(self, timeout: float | None) -> list[Any]:
        """Everything that is there, waiting for the first item."""
        if not self._items:
            try:
                async with asyncio.timeout(timeout):
                    await self._flag.wait()
            except TimeoutError:
                pass
        # The flags go down before the items are taken: whoever puts one after that wakes the loop again.
        self._called = False
        self._flag.clear()
        items = []
        while self._items:
            items.append(self._items.popleft())
        return items


def reported(record: Record, now: float) -> TrialReported:
    """The event of a report."""
    return TrialReported(round(now, 6), record.trial, record.attempt, record.index, record.resource, record.values)


def ended(end: End, now: float, clock: WallClock) -> Event | None:
    """The event of a run's end; None where the run no longer counts."""
    now = round(now, 6)
    started, finished = clock.at(end.started), clock.at(end.ended)
    match end.kind:
        case EndKind.COMPLETED:
            return TrialCompleted(
                now, end.trial, end.attempt, end.values, end.metadata, end.stopped, started, finished, end.worker
            )
        case EndKind.PAUSED:
            return TrialPaused(now, end.trial, end.attempt, started, finished, end.worker)
        case EndKind.FAILED:
            return TrialFailed(now, end.trial, end.attempt, end.error, end.traceback, started, finished, end.worker)
        case EndKind.TIMED_OUT:
            limit = round(finished - started, 3)
            return TrialTimedOut(now, end.trial, end.attempt, limit, started, finished, end.worker)
    return None
