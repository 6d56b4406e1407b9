"""The workers of a simulation: they queue up, join, die, and come to the ends of their jobs."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np

from dhpo.errors import SettingError
from dhpo.executors._simulated_costs import Costs, Server

#: Heartbeats per second that Dask does not exceed, however many workers there are.
_BEATS = 200.0

Span = float | tuple[float, float]


def span(value: Any, name: str) -> tuple[float, float]:
    """Read a number of seconds, or (least, most) of a uniform distribution.

    Raises:
        SettingError: it is neither.
    """
    least, most = value if isinstance(value, tuple) and len(value) == 2 else (value, value)
    if not all(isinstance(v, int | float) for v in (least, most)) or not 0 <= least <= most:
        raise SettingError(f"{name}={value!r}: give seconds, or (least, most) of them")
    return float(least), float(most)


class Agenda:
    """What happens when, under a virtual clock."""

    def __init__(self, time: float) -> None:
        self.time = time
        self._heap: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._count = 0

    def push(self, time: float, action: Callable[[Any], None], subject: Any) -> None:
        """Have something happen at a time."""
        self._count += 1
        heapq.heappush(self._heap, (time, self._count, action, subject))

    @property
    def next(self) -> float:
        """When the next thing happens; infinite where nothing does."""
        return self._heap[0][0] if self._heap else inf

    def step(self) -> None:
        """Let the next thing happen."""
        time, _, action, subject = heapq.heappop(self._heap)
        self.time = max(self.time, time)
        action(subject)


@dataclass(slots=True, eq=False)
class Worker:
    """One worker, from its first word to its end; then another one takes its number."""

    number: int
    slowness: float
    joined: float
    ends_at: float = inf  # of its job
    here: bool = True
    run: Any = None  # the trial on it
    free_since: float | None = None  # since its last trial's end
    outgoing: list[Any] = field(default_factory=list)  # reports that are being gathered

    @property
    def life(self) -> float:
        """Seconds from its beginning to the known end."""
        return self.ends_at - self.joined


@dataclass(frozen=True, slots=True)
class Fleet:
    """The settings of :class:`dhpo.executors.simulated.Simulated` that are about workers."""

    workers: int
    startup: tuple[float, float]
    walltime: tuple[float, float] | None
    deaths_per_hour: float
    spread: float
    stragglers: tuple[float, float]

    def slowness(self, rng: np.random.Generator) -> list[float]:
        """How many times longer each worker takes."""
        slow = np.ones(self.workers)
        if self.spread:
            slow *= np.exp(rng.normal(0.0, self.spread, self.workers))
        share, factor = self.stragglers
        if share:
            slow[rng.random(self.workers) < share] *= factor
        return [float(s) for s in slow]


class Workers:
    """All workers, those that queue up included.

    Args:
        fleet: the settings.
        agenda: what happens when.
        rng: for all that is random.
        scheduler: takes its time for those that come and go.
        costs: how much.
        came: called with each worker that is ready for a trial for the first time.
        went: called with each worker that has gone, and the trial that it ran, None where it ran none.
    """

    def __init__(
        self,
        fleet: Fleet,
        agenda: Agenda,
        rng: np.random.Generator,
        scheduler: Server,
        costs: Costs,
        came: Callable[[Worker], None],
        went: Callable[[Worker, Any], None],
    ) -> None:
        self._fleet = fleet
        self._agenda = agenda
        self._rng = rng
        self._scheduler = scheduler
        self._costs = costs
        self._came = came
        self._went = went
        self._slowness = fleet.slowness(rng)
        self._idle: dict[Worker, None] = {}  # the one that came free last is given the next trial
        self.here: set[Worker] = set()
        self._available = 0.0  # worker-seconds of those that have gone
        self.gaps = array("d")
        self.joined = 0
        for number in range(fleet.workers):
            self._queue_up(number)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.here)

    def available(self, now: float) -> float:
        """Worker-seconds up to now."""
        return self._available + sum(now - worker.joined for worker in self.here)

    def _queue_up(self, number: int) -> None:
        self._agenda.push(self._agenda.time + self._rng.uniform(*self._fleet.startup), self._join, number)

    def _join(self, number: int) -> None:
        now, costs = self._agenda.time, self._costs
        worker = Worker(number, self._slowness[number], now)
        if self._fleet.walltime is not None:
            worker.ends_at = now + self._rng.uniform(*self._fleet.walltime)
            self._agenda.push(worker.ends_at, self._leave, worker)
        if rate := self._fleet.deaths_per_hour:
            self._agenda.push(now + self._rng.exponential(3600.0 / rate), self._leave, worker)
        self.here.add(worker)
        self.joined += 1
        self._beat()
        registered = self._scheduler.serve(now, costs.registration + costs.registration_pair * len(self))
        self._agenda.push(registered + costs.latency, self._register, worker)

    def _beat(self) -> None:
        """Count the heartbeats, of which Dask has the fewer from each the more workers there are."""
        self._scheduler.background = self._costs.heartbeat * len(self) / (len(self) / _BEATS + 1.0)

    def _register(self, worker: Worker) -> None:
        if worker.here:
            self._came(worker)

    def _leave(self, worker: Worker) -> None:
        if worker.here:
            self.dismiss(worker)

    def dismiss(self, worker: Worker) -> None:
        """The worker ends, with what it runs; another one queues up."""
        worker.here = False
        self._idle.pop(worker, None)
        self.here.discard(worker)
        self._available += self._agenda.time - worker.joined
        self._beat()
        self._scheduler.serve(self._agenda.time, self._costs.removal + self._costs.removal_pair * len(self))
        self._queue_up(worker.number)
        run, worker.run = worker.run, None
        self._went(worker, run)

    def idle(self) -> Worker | None:
        """The worker that came free last, of those that are."""
        return next(reversed(self._idle), None)

    def put(self, run: Any, worker: Worker) -> None:
        """Give a trial to an idle worker."""
        del self._idle[worker]
        worker.run = run
        if worker.free_since is not None:
            self.gaps.append(self._agenda.time - worker.free_since)

    def come_free(self, worker: Worker, *, anew: bool = False) -> None:
        """A worker has no trial, or no trial any more."""
        worker.run = None
        if not anew:
            worker.free_since = self._agenda.time
        self._idle[worker] = None
