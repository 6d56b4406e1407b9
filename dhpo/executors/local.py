"""Trials in threads of this process: ``cluster="serial"`` (one) and ``cluster="threads"`` (several)."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from dhpo.errors import AbandonedTrial, SettingError
from dhpo.events import Cancel, Decide, Event, Start
from dhpo.executors.base import Inbox, RunFunction, WallClock, ended, reported
from dhpo.proposer import Place
from dhpo.trial import Decision
from dhpo.worker.job import Job
from dhpo.worker.reporter import Record
from dhpo.worker.runner import End, run_trial


class _Channel:
    """One run's way between the trials' threads and the loop. ``send`` and ``ask`` are called from the threads."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.todo: queue.SimpleQueue[Start | None] = queue.SimpleQueue()
        self.asks: dict[tuple[int, int, int], Future[Decision]] = {}
        self.cancelled: set[tuple[int, int]] = set()
        self.closed = False

    def send(self, record: Record) -> None:
        """Pass a report on."""
        if self.closed or record[:2] in self.cancelled:
            raise AbandonedTrial
        self.inbox.put(record)

    def ask(self, record: Record) -> Decision:
        """Pass a report on and wait for the decision."""
        future: Future[Decision] = Future()
        self.asks[record[:3]] = future  # before the look at ``closed`` in send: close() sees the one or send the other
        self.send(record)
        return future.result()

    def answer(self, key: tuple[int, int, int], decision: Decision) -> None:
        """Let a report that waits go on."""
        if (future := self.asks.pop(key, None)) is not None and not future.done():
            future.set_result(decision)

    def serve(self, function: Callable[..., Any], data: Any, job: Job, name: str) -> None:
        """Run trials in this thread until the run is over."""
        while (start := self.todo.get()) is not None and not self.closed:
            end: End = run_trial(function, data, job, start, self, name)
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


class LocalExecutor:
    """Runs trials in daemon threads, which share the run function, its data and the interpreter's lock.

    Args:
        threads: how many trials run at once; None takes one per processor.
    """

    searcher_place = Place.THREAD

    def __init__(self, threads: int | None = 1) -> None:
        if threads is not None and (not isinstance(threads, int) or threads < 1):
            raise SettingError(f"threads={threads!r}: give a positive whole number, or None for one per processor")
        self.threads = threads or os.cpu_count() or 1
        self._delivered: list[tuple[int, int, int]] = []
        self._busy = 0
        self._clock: WallClock
        self._channel: _Channel | None = None

    async def open(self, job: Job, function: RunFunction, time: float) -> None:
        """Start the threads."""
        self._clock = WallClock(time)
        self._busy, self._delivered = 0, []
        run, data = function.here()
        self._channel = channel = _Channel()
        for i in range(self.threads):
            args = (run, data, job, f"thread-{i}")
            threading.Thread(target=channel.serve, args=args, name=f"dhpo-{i}", daemon=True).start()

    async def close(self) -> None:
        """Let idle threads end; running trials end at their next report, or with the process."""
        if self._channel is not None:
            self._channel.close(self.threads)

    def now(self) -> float:
        """The search's clock."""
        return self._clock.now()

    def free(self) -> int:
        """How many threads are idle."""
        return self.threads - self._busy

    def start(self, starts: Sequence[Start]) -> None:
        """Queue the trials for the threads."""
        self._busy += len(starts)
        for start in starts:
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
                events.append(reported(item, now))
                continue
            self._busy -= 1
            if event := ended(item, now, self._clock):
                events.append(event)
        return events

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

    def address(self) -> str | None:
        """There is nothing to watch."""
        return None

    @property
    def _open_channel(self) -> _Channel:
        assert self._channel is not None
        return self._channel
