"""Trials on this machine, without Dask: ``cluster="serial"`` (one at a time) and ``cluster="threads"`` (several)."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from dhpo.errors import AbandonedTrial, DhpoError, SettingError
from dhpo.events import Cancel, Decide, Event, Start, WorkerLost
from dhpo.executors._outlook import Outlook
from dhpo.executors.base import Inbox, RunFunction, WallClock, ended, reported
from dhpo.proposer import Place
from dhpo.trial import Decision
from dhpo.walltime import Horizon
from dhpo.worker.isolation import Processes, WatchedChannel
from dhpo.worker.job import Job
from dhpo.worker.reporter import Record
from dhpo.worker.resources import Pins
from dhpo.worker.runner import End, EndKind, run_trial


class _Channel:
    """One run's way between the trials' threads and the loop."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.todo: queue.SimpleQueue[Start | None] = queue.SimpleQueue()
        self.asks: dict[tuple[int, int, int], Future[Decision]] = {}
        self.cancelled: set[tuple[int, int]] = set()
        self.closed = False
        self.horizon: Horizon | None = None  # the driver's end
        self.unit = 0.0  # seconds that a unit of resource takes

    def answer(self, key: tuple[int, int, int], decision: Decision) -> None:
        """Let a report that waits go on."""
        if (future := self.asks.pop(key, None)) is not None and not future.done():
            future.set_result(decision)

    def serve(self, run: _Run, name: str) -> None:
        """Run trials in this thread until the run is over."""
        while (start := self.todo.get()) is not None and not self.closed:
            try:
                end: End | DhpoError = run(start, _Line(self, start), name)
            except DhpoError as error:  # the run function cannot be loaded
                end = error
            if not self.closed:
                self.inbox.put(end)

    def close(self, threads: int) -> None:
        """Let idle threads end, and waiting trials give up."""
        self.closed = True
        for _ in range(threads):
            self.todo.put(None)
        for future in list(self.asks.values()):
            if not future.done():
                future.set_exception(AbandonedTrial())


class _Line:
    """One trial's channel. It is called from the trial's thread."""

    def __init__(self, channel: _Channel, start: Start) -> None:
        self._channel = channel
        self._run = (start.trial, start.attempt)

    @property
    def horizon(self) -> Horizon | None:
        """When the trial has to have ended."""
        return self._channel.horizon

    @property
    def unit(self) -> float:
        """Seconds that a unit of resource takes."""
        return self._channel.unit

    def send(self, record: Record) -> None:
        """Pass a report on."""
        if self.grace() is not None:
            raise AbandonedTrial
        self._channel.inbox.put(record)

    def ask(self, record: Record) -> Decision:
        """Pass a report on and wait for the decision."""
        future: Future[Decision] = Future()
        # Before the look at ``closed`` in send: close() sees the one or send the other.
        self._channel.asks[record[:3]] = future
        self.send(record)
        return future.result()

    def grace(self) -> float | None:
        """Given up, a trial in a process of its own is killed at once."""
        return 0.0 if self._channel.closed or self._run in self._channel.cancelled else None


_Run = Callable[[Start, WatchedChannel, str], End]


class LocalExecutor:
    """Runs trials in daemon threads, which share the run function, its data and the interpreter's lock.

    With ``isolation="process"`` each of these threads only follows a trial that runs in a process of its own.

    Args:
        threads: how many trials run at once; None takes as many as the processors allow at ``num_cpus`` each.
    """

    searcher_place = Place.THREAD

    def __init__(self, threads: int | None = 1) -> None:
        if threads is not None and (not isinstance(threads, int) or threads < 1):
            raise SettingError(f"threads={threads!r}: give a positive whole number, or None for one per processor")
        self.threads = threads or _processors()
        self._adapts = threads is None
        self._processes: Processes | None = None
        self._pins: Pins | None = None
        self._delivered: list[tuple[int, int, int]] = []
        self._busy = 0
        self._outlook = Outlook()
        self._clock: WallClock
        self._channel: _Channel | None = None

    async def open(self, job: Job, function: RunFunction, time: float) -> None:
        """Start the threads."""
        self._clock = WallClock(time)
        self._busy, self._delivered, self._outlook = 0, [], Outlook()
        if self._adapts:
            self.threads = max(1, int(_processors() // max(job.num_cpus, 1)))
        self._pins = Pins(job, self.threads, f"process {os.getpid()}")
        run = await (self._isolated if job.isolation == "process" else self._shared)(job, function, self._pins)
        self._channel = channel = _Channel()
        for i in range(self.threads):
            args = (run, f"{job.isolation}-{i}")
            threading.Thread(target=channel.serve, args=args, name=f"dhpo-{i}", daemon=True).start()

    async def _isolated(self, job: Job, function: RunFunction, pins: Pins) -> _Run:
        packed = await asyncio.to_thread(function.packed)
        self._processes = Processes(job, packed.package, packed.read, pins.slots())
        return self._processes.run

    async def _shared(self, job: Job, function: RunFunction, pins: Pins) -> _Run:
        run, data = function.here()
        if not (self.threads > 1 or job.num_cpus > 1 or job.num_gpus):
            return lambda start, line, name: run_trial(run, data, job, start, line, name)
        pins.apply()

        def limited(start: Start, line: WatchedChannel, name: str) -> End:
            pins.limit_threads()
            return run_trial(run, data, job, start, line, name)

        return limited

    async def close(self) -> None:
        """Let idle threads end; running trials end at their next report, or with the process, or (isolated) at once."""
        if self._channel is not None:
            self._channel.close(self.threads)
        if self._processes is not None:
            await asyncio.to_thread(self._processes.close)
            self._processes = None
        if self._pins is not None:
            self._pins.close()
            self._pins = None

    def now(self) -> float:
        """The search's clock."""
        return self._clock.now()

    def free(self) -> int:
        """How many threads are idle, if a new trial still fits in."""
        return self.threads - self._busy if self._outlook.fits() else 0

    def start(self, starts: Sequence[Start]) -> None:
        """Queue the trials for the threads. Those that do not fit before the driver's end wait for another run."""
        self._open_channel.unit = self._outlook.unit
        for start in starts:
            if self._outlook.fits(start):
                self._outlook.begun(start)
                self._busy += 1
                self._open_channel.todo.put(start)

    async def events(self, timeout: float | None) -> list[Event]:
        """What the trials have told since the last call."""
        channel = self._open_channel
        for key in self._delivered:
            channel.answer(key, Decision.CONTINUE)
        items = await channel.inbox.take(timeout)
        self._delivered = [item[:3] for item in items if type(item) is Record and item[:3] in channel.asks]
        now = self._clock.now()
        events: list[Event] = []
        for item in items:
            if type(item) is Record:
                self._outlook.reported(item)
                events.append(reported(item, now))
                continue
            self._busy -= 1
            if isinstance(item, DhpoError):
                raise item
            self._outlook.ended(item.trial, item)
            if event := self._ended(item, now):
                events.append(event)
        return events

    def _ended(self, end: End, now: float) -> Event | None:
        channel = self._open_channel
        if end.kind == EndKind.ABANDONED and (end.trial, end.attempt) not in channel.cancelled:
            return WorkerLost(round(now, 6), end.trial, end.attempt, "")  # it left in time for the driver's end
        return ended(end, now, self._clock)

    def wake(self) -> None:
        """Let :meth:`events` return."""
        if self._channel is not None:
            self._channel.inbox.wake()

    def obey(self, command: Decide | Cancel) -> None:
        """Answer a waiting report, or have a trial end at its next one."""
        if isinstance(command, Decide):
            self._open_channel.answer((command.trial, command.attempt, command.index), command.decision)
        else:
            self._open_channel.cancelled.add((command.trial, command.attempt))

    def want(self, trials: int) -> None:
        """There are as many threads as there are."""

    def end_by(self, horizon: Horizon) -> None:
        """Have the trials leave, at their reports, in time for the driver's end."""
        self._outlook.horizon = self._open_channel.horizon = horizon
        self.wake()

    def drained(self) -> bool:
        """Whether the driver's end leaves nothing to wait for."""
        return self._outlook.drained(self._busy)

    def address(self) -> str | None:
        """There is nothing to watch."""
        return None

    def status(self) -> str | None:
        """There is nothing to wait for."""
        return None

    @property
    def _open_channel(self) -> _Channel:
        assert self._channel is not None
        return self._channel


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
