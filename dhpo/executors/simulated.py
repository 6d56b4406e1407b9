"""Trials under a virtual clock: hours of a thousand workers in seconds, through the same loop and the same study."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from time import time as unix_time
from typing import Any

import numpy as np

from dhpo.errors import SettingError
from dhpo.events import Cancel, Decide, Event, Start, TrialCompleted, TrialFailed, TrialPaused, WorkerLost
from dhpo.executors.base import RunFunction, reported
from dhpo.proposer import Place
from dhpo.trial import Decision, Due
from dhpo.walltime import Horizon
from dhpo.worker.job import Job
from dhpo.worker.reporter import Record
from dhpo.worker.runner import End, EndKind, run_trial

Seconds = Callable[[Mapping[str, Any], Mapping[str, Any]], float]


class _Recorder:
    """A channel that only takes down what a trial reports."""

    horizon: Horizon | None = None  # the virtual clock has no end
    unit = 0.0

    def __init__(self) -> None:
        self.records: list[Record] = []

    def send(self, record: Record) -> None:
        self.records.append(record)

    def ask(self, record: Record) -> Decision:
        self.records.append(record)
        return Decision.CONTINUE


@dataclass(slots=True)
class _Running:
    """A trial on a simulated worker: what it will report, and how far it is."""

    number: int
    start: Start
    worker: int
    began: float
    records: list[Record]
    end: End
    due: Due
    next: int = 0
    waiting: int = 0  # the index of the report that waits for a decision


class Simulated:
    """An executor with a virtual clock.

    A trial's run function is called when the trial starts, and its reports are then delivered at the virtual times
    that ``seconds`` says. The searcher is asked in place: proposals cost no virtual time. A trial that was paused and
    goes on takes no time for what it reports up to its rung, as if it had gone on from a checkpoint.

    Args:
        workers: how many workers there are.
        seconds: how long a report took since the one before it: the name of a reported (or returned) value, or a
            function of the configuration and the values.
        startup: seconds until the workers come, as in a batch system's queue: a number, or (least, most) of a
            uniform distribution, drawn per worker.
        deaths_per_hour: the rate at which each worker dies, with its trial; a new one comes after ``startup``.
        spread: the standard deviation of the logarithm of the workers' slowness (0: all alike).
        seed: seeds whatever is random in the cluster.
    """

    searcher_place = Place.HERE

    def __init__(
        self,
        workers: int = 100,
        seconds: str | Seconds = "seconds",
        *,
        startup: float | tuple[float, float] = 0.0,
        deaths_per_hour: float = 0.0,
        spread: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not isinstance(workers, int) or workers < 1:
            raise SettingError(f"workers={workers!r}: give a positive whole number")
        if deaths_per_hour < 0 or spread < 0:
            raise SettingError(f"deaths_per_hour={deaths_per_hour!r} and spread={spread!r} must not be negative")
        self.workers = workers
        self.seconds = seconds
        self.startup = startup if isinstance(startup, tuple) else (startup, startup)
        self.deaths_per_hour = deaths_per_hour
        self.spread = spread
        self.seed = seed
        self.busy_seconds = 0.0
        self._horizon: Horizon | None = None

    async def open(self, job: Job, function: RunFunction, time: float) -> None:
        """Let the workers queue up."""
        self._job = job
        self._function, self._data = function.here()
        self._horizon = None
        self._rng = np.random.default_rng(self.seed)
        self._now = time
        self._heap: list[tuple[float, int, str, int]] = []
        self._count = 0
        self._idle: list[int] = []
        self._slowness = np.exp(self._rng.normal(0.0, self.spread, self.workers)) if self.spread else None
        self._running: dict[int, _Running] = {}  # by the number of the run
        self._of_worker: dict[int, _Running] = {}
        self._of_trial: dict[int, _Running] = {}
        self._waiting: list[_Running] = []
        self._parked: deque[Start] = deque()
        self._woken = asyncio.Event()
        for worker in range(self.workers):
            self._push(time + self._rng.uniform(*self.startup), "join", worker)

    async def close(self) -> None:
        """Nothing runs when the clock stands."""

    def now(self) -> float:
        """The virtual clock, in seconds."""
        return self._now

    def free(self) -> int:
        """How many workers are idle."""
        return len(self._idle)

    def start(self, starts: Sequence[Start]) -> None:
        """Give each trial to an idle worker."""
        for start in starts:
            if not self._idle:
                # A trial that lost its worker waits for the next one to come free, ahead of new ones.
                self._parked.append(start)
                continue
            worker = self._idle.pop()
            recorder = _Recorder()
            end = run_trial(self._function, self._data, self._job, start, recorder, f"simulated-{worker}")
            due = Due(start.milestones, start.every)
            self._count += 1
            running = _Running(self._count, start, worker, self._now, recorder.records, end, due)
            self._running[running.number] = running
            self._of_worker[worker] = self._of_trial[start.trial] = running
            self._schedule(running)

    def _push(self, time: float, kind: str, subject: int) -> None:
        self._count += 1
        heapq.heappush(self._heap, (time, self._count, kind, subject))

    def _schedule(self, running: _Running) -> None:
        """Lay the trial's next report, or its end, on the heap."""
        reports = running.next < len(running.records)
        values: Mapping[str, Any]
        if reports:
            values = running.records[running.next].values
        else:
            values = {} if running.records else {**(running.end.values or {}), **running.end.metadata}
        took = self._took(running.start.config, values) if reports or not running.records else 0.0
        if self._slowness is not None:
            took *= float(self._slowness[running.worker])
        self._push(self._now + took, "next", running.number)

    def _took(self, config: Mapping[str, Any], values: Mapping[str, Any]) -> float:
        seconds = self.seconds(config, values) if callable(self.seconds) else values.get(self.seconds)
        if not isinstance(seconds, int | float) or not isfinite(seconds) or seconds < 0:
            if not values:  # a failure: it took no time that is known
                return 0.0
            raise SettingError(
                f"Simulated(seconds={self.seconds!r}) gives {seconds!r} for {dict(values)}: report how long each step "
                "took under that name, or give a function of the configuration and the values"
            )
        return float(seconds)

    async def events(self, timeout: float | None) -> list[Event]:
        """Advance the clock to what happens next, and tell it."""
        for running in self._waiting:
            if running.waiting:
                self._decide(running, Decision.CONTINUE)
        self._waiting.clear()
        if not self._heap and timeout is None:
            await self._woken.wait()
        self._woken.clear()
        await asyncio.sleep(0)
        limit = float("inf") if timeout is None else self._now + timeout
        if not self._heap or self._heap[0][0] > limit:
            self._now = limit if isfinite(limit) else self._now
            return []
        self._now = self._heap[0][0]
        events: list[Event] = []
        while self._heap and self._heap[0][0] == self._now:
            _, _, kind, subject = heapq.heappop(self._heap)
            events.extend(getattr(self, f"_{kind}")(subject))
        return events

    def _join(self, worker: int) -> list[Event]:
        self._come_free(worker)
        if self.deaths_per_hour:
            self._push(self._now + self._rng.exponential(3600.0 / self.deaths_per_hour), "death", worker)
        return []

    def _death(self, worker: int) -> list[Event]:
        self._push(self._now + self._rng.uniform(*self.startup), "join", worker)
        running = self._of_worker.get(worker)
        if running is None:
            self._idle.remove(worker)
            return []
        self._leave(running)
        name = f"simulated-{worker}-{self._now:.0f}"
        return [WorkerLost(self._now, running.start.trial, running.start.attempt, name)]

    def _next(self, number: int) -> list[Event]:
        running = self._running.get(number)
        if running is None:  # its worker died, or it was cancelled
            return []
        if running.next >= len(running.records):
            return [self._finish(running)] if running.end.kind != EndKind.ABANDONED else []
        record = running.records[running.next]
        running.next += 1
        if running.due.at(record.resource):
            running.waiting = record.index
            self._waiting.append(running)
        else:
            self._schedule(running)
        return [reported(record, self._now)]

    def _finish(self, running: _Running) -> Event:
        self._leave(running)
        self._come_free(running.worker)
        end, now = running.end, self._now
        if end.kind == EndKind.PAUSED:
            return TrialPaused(now, end.trial, end.attempt, running.began, now, end.worker)
        if end.kind == EndKind.FAILED:
            return TrialFailed(now, end.trial, end.attempt, end.error, end.traceback, running.began, now, end.worker)
        return TrialCompleted(
            now, end.trial, end.attempt, end.values, end.metadata, end.stopped, running.began, now, end.worker
        )

    def _leave(self, running: _Running) -> None:
        del self._running[running.number], self._of_worker[running.worker], self._of_trial[running.start.trial]
        self.busy_seconds += self._now - running.began

    def _come_free(self, worker: int) -> None:
        self._idle.append(worker)
        if self._parked:
            self.start([self._parked.popleft()])

    def _decide(self, running: _Running, decision: Decision) -> None:
        running.waiting = 0
        if decision is not Decision.CONTINUE:
            stopped = decision is Decision.STOP
            kind = EndKind.COMPLETED if stopped else EndKind.PAUSED
            running.end = running.end._replace(kind=kind.value, values=None, metadata={}, stopped=stopped)
            running.records = running.records[: running.next]
        self._schedule(running)

    def wake(self) -> None:
        """Let :meth:`events` return."""
        if hasattr(self, "_woken"):
            self._woken.set()

    def obey(self, command: Decide | Cancel) -> None:
        """Answer a report, or stop a trial."""
        running = self._of_trial.get(command.trial)
        if running is None or running.start.attempt != command.attempt:
            return
        if isinstance(command, Cancel):
            self._leave(running)
            self._come_free(running.worker)
        elif running.waiting == command.index:
            self._decide(running, command.decision)

    def want(self, trials: int) -> None:
        """The workers are given."""

    def end_by(self, horizon: Horizon) -> None:
        """Take note of the driver's end. The virtual clock knows nothing of it."""
        self._horizon = horizon

    def drained(self) -> bool:
        """Whether that end is there: what runs here need not be waited for."""
        return self._horizon is not None and not self._horizon.left(unix_time())

    def address(self) -> str | None:
        """There is nothing to watch."""
        return None

    def status(self) -> str | None:
        """There is nothing to wait for."""
        return None
