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
        self._todo: queue.SimpleQueue[Start | None] = queue.SimpleQueue()
        self._asks: dict[tuple[int, int, int], Future[Decision]] = {}
        self._delivered: list[tuple[int, int, int]] = []
        self._cancelled: set[tuple[int, int]] = set()
        self._busy = 0
        self._closed = False
        self._clock: WallClock
        self._inbox: Inbox

    async def open(self, job: Job, function: RunFunction, time: float) -> None:
        """Start the threads."""
        self._clock = WallClock(time)
        self._inbox = Inbox()
        run, data = function.here()
        for i in range(self.threads):
            args = (run, data, job, f"thread-{i}")
            threading.Thread(target=self._serve, args=args, name=f"dhpo-{i}", daemon=True).start()

    async def close(self) -> None:
        """Let idle threads end; running trials end at their next report, or with the process."""
        self._closed = True
        for _ in range(self.threads):
            self._todo.put(None)
        for future in list(self._asks.values()):
            if not future.done():
                future.set_exception(AbandonedTrial())

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
            self._todo.put(start)

    async def events(self, timeout: float | None) -> list[Event]:
        """What the trials have told since the last call."""
        for key in self._delivered:
            self._answer(key, Decision.CONTINUE)
        items = await self._inbox.take(timeout)
        self._delivered = [item[:3] for item in items if type(item) is Record and item[:3] in self._asks]
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
        self._inbox.wake()

    def obey(self, command: Decide | Cancel) -> None:
        """Answer a waiting report, or have a trial end at its next one."""
        if isinstance(command, Decide):
            self._answer((command.trial, command.attempt, command.index), command.decision)
        else:
            self._cancelled.add((command.trial, command.attempt))

    def address(self) -> str | None:
        """There is nothing to watch."""
        return None

    def _answer(self, key: tuple[int, int, int], decision: Decision) -> None:
        if (future := self._asks.pop(key, None)) is not None and not future.done():
            future.set_result(decision)

    # What follows runs in the trials' threads.

    def _serve(self, function: Callable[..., Any], data: Any, job: Job, name: str) -> None:
        while (start := self._todo.get()) is not None and not self._closed:
            end: End = run_trial(function, data, job, start, self, name)
            if not self._closed:
                self._inbox.put(end)

    def send(self, record: Record) -> None:
        """Pass a report on."""
        if self._closed or record[:2] in self._cancelled:
            raise AbandonedTrial
        self._inbox.put(record)

    def ask(self, record: Record) -> Decision:
        """Pass a report on and wait for the decision."""
        future: Future[Decision] = Future()
        self._asks[record[:3]] = future
        self.send(record)
        return future.result()
