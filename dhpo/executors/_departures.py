"""The workers whose end is known, as the relay sees them: no trial is sent to one that has no time for it."""

from __future__ import annotations

import asyncio
import logging
from math import inf
from typing import Any

from distributed import Scheduler, Status

from dhpo.walltime import fits

logger = logging.getLogger(__name__)

#: Seconds before the known end of a worker from which on its death is taken for that end.
_NEAR = 10.0
#: A worker that has to end this many seconds before the driver, or more, makes room for another one.
_LEEWAY = 60.0


class Departures:
    """Keeps the ends of one scheduler's workers, and lets those go that are of no more use.

    A worker is *drained* when a new trial would not fit into what it has left: it is paused, which keeps Dask from
    sending it anything. When it is idle it is retired, so that its batch job ends and another one may come.

    Args:
        scheduler: the Dask scheduler.
        name: of the search, for Dask's log.
    """

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self._scheduler = scheduler
        self._name = name
        self._lives: dict[str, tuple[float, float]] = {}  # worker -> (end by the loop's clock, life in seconds)
        self._drained: set[str] = set()
        self._leaving: set[str] = set()  # of these, those that go already
        self._need = self._unit = 0.0
        self._driver_end = inf
        self._tasks: set[asyncio.Task[None]] = set()

    @staticmethod
    def now() -> float:
        """Seconds, by the clock of the event loop."""
        return asyncio.get_running_loop().time()

    def expect(self, need: float, unit: float, left: float | None) -> None:
        """Learn how long a new trial takes, and when the driver ends (seconds)."""
        self._need, self._unit = need, unit
        self._driver_end = inf if left is None else self.now() + left

    def joined(self, worker: str, left: float, life: float) -> None:
        """Learn how many seconds a worker has left, of how many in all."""
        self._lives[worker] = (self.now() + left, life)

    def left(self, worker: str) -> None:
        """Forget a worker that has gone."""
        self._lives.pop(worker, None)
        self._drained.discard(worker)
        self._leaving.discard(worker)

    def told_to_end(self, worker: str) -> None:
        """Learn that a worker goes by itself."""
        self._leaving.add(worker)
        self.drain(worker)

    def is_drained(self, worker: str) -> bool:
        """Whether a worker gets no more trials; one that has no time left for any is drained now."""
        if worker not in self._drained and (known := self._lives.get(worker)) is not None:
            end, life = known
            if not fits(self._need, self._unit, end - self.now(), life):
                self.drain(worker)
        return worker in self._drained

    def drain(self, worker: str) -> None:
        """Have a worker get no more trials."""
        ws = self._scheduler.workers.get(worker)
        if ws is None:
            return
        self._drained.add(worker)
        if ws.status == Status.running:  # for the first time, or because something has set it going again
            self._scheduler.handle_worker_status_change(Status.paused, ws, f"drain-{self._name}")

    def drained(self) -> list[str]:
        """The workers that get no more trials. Those of them that are idle are sent away."""
        present = [worker for worker in self._drained if worker in self._scheduler.workers]
        for worker in present:
            ws = self._scheduler.workers[worker]
            if ws.status == Status.running:
                self.drain(worker)
            if not ws.processing and worker not in self._leaving and self._makes_room(worker):
                self._leaving.add(worker)
                task = asyncio.ensure_future(self._retire(worker))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return present

    def _makes_room(self, worker: str) -> bool:
        end, _ = self._lives.get(worker, (inf, inf))
        return end + _LEEWAY <= self._driver_end

    async def _retire(self, worker: str) -> None:
        logger.debug("%s has no time for another trial, and leaves", worker)
        try:
            await self._scheduler.retire_workers(workers=[worker], close_workers=True, remove=True)
        finally:
            if worker in self._scheduler.workers:  # it has data that nobody else can take: try again
                self._leaving.discard(worker)

    def excuses(self, run: Any) -> bool:
        """Whether the loss of a worker is not held against the trial that it ran, since it had to end.

        It is held against one that had the better part of the worker's life and did not report: one that does so again
        and again would never come to an end.
        """
        if run.worker in self._leaving:
            return True
        end, life = self._lives.get(run.worker, (inf, inf))
        return self.now() >= end - _NEAR and (run.has_reported or self.now() - run.began <= life / 2)
