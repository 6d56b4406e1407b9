"""Trials under a virtual clock: hours of ten thousand workers in minutes, through the same loop and the same study."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Sequence
from math import isfinite
from time import time as unix_time

import numpy as np

from dhpo.errors import SettingError
from dhpo.events import (
    Cancel,
    Decide,
    Event,
    Start,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialTimedOut,
    WorkerLost,
)
from dhpo.executors._simulated_costs import FREE, Costs, Load, Maker, Server, Statistics
from dhpo.executors._simulated_runs import News, Play, Run, Seconds
from dhpo.executors._simulated_trials import Trials
from dhpo.executors._simulated_workers import Agenda, Fleet, Span, span
from dhpo.executors.base import RunFunction, reported
from dhpo.proposer import Place
from dhpo.trial import Decision
from dhpo.walltime import Horizon
from dhpo.worker.job import Job
from dhpo.worker.runner import EndKind


class Simulated:
    """An executor with a virtual clock.

    A trial's run function is called when the trial starts, and its reports are then delivered at the virtual times
    that ``seconds`` says. A trial that was paused and goes on takes no time for what it reports up to its rung, as if
    it had gone on from a checkpoint.

    Without ``costs`` the workers never wait for Dask, the driver or the searcher. With them, what these take is put in:
    each is a single server with a queue, and :meth:`statistics` tells which of them is the limit.

    Args:
        workers: how many workers there are.
        seconds: how long a report took since the one before it: the name of a reported (or returned) value, or a
            function of the configuration and the values.
        startup: seconds until the workers come, as in a batch system's queue: a number, or (least, most) of a
            uniform distribution, drawn per worker.
        deaths_per_hour: the rate at which each worker dies, with its trial; a new one comes after ``startup``.
        spread: the standard deviation of the logarithm of the workers' slowness (0: all alike).
        seed: seeds whatever is random in the cluster.
        walltime: seconds that each worker's job lasts, a number or (least, most); None for ever. A new job comes after
            ``startup``. Trials leave in time, at a report, as with real batch jobs, and no trial is begun that would
            not come to its next rung.
        stragglers: the share of workers that are slower, and how many times.
        checkpoints: whether a trial that lost its worker, or had to leave it, goes on from its last report; else it
            begins anew.
        costs: what the control channel costs; None for nothing.

    Raises:
        SettingError: one of these cannot be used.
    """

    searcher_place = Place.HERE

    def __init__(
        self,
        workers: int = 100,
        seconds: str | Seconds = "seconds",
        *,
        startup: Span = 0.0,
        deaths_per_hour: float = 0.0,
        spread: float = 0.0,
        seed: int = 0,
        walltime: Span | None = None,
        stragglers: tuple[float, float] = (0.0, 1.0),
        checkpoints: bool = False,
        costs: Costs | None = None,
    ) -> None:
        if not isinstance(workers, int) or workers < 1:
            raise SettingError(f"workers={workers!r}: give a positive whole number")
        if deaths_per_hour < 0 or spread < 0:
            raise SettingError(f"deaths_per_hour={deaths_per_hour!r} and spread={spread!r} must not be negative")
        share, factor = stragglers
        if not 0 <= share <= 1 or factor <= 0:
            raise SettingError(
                f"stragglers={stragglers!r}: give a share from 0 to 1, and how many times slower they are"
            )
        lives = None if walltime is None else span(walltime, "walltime")
        if lives is not None and lives[0] <= 0:
            raise SettingError(f"walltime={walltime!r}: a worker's job lasts more than 0 seconds")
        self.workers = workers
        self.seconds = seconds
        self.seed = seed
        self.checkpoints = checkpoints
        self.costs = FREE if costs is None else costs
        self._fleet = Fleet(workers, span(startup, "startup"), lives, deaths_per_hour, spread, stragglers)
        self._horizon: Horizon | None = None

    async def open(self, job: Job, function: RunFunction, time: float) -> None:
        """Let the workers queue up."""
        run, data = function.here()
        self._horizon = None
        self._began = self._now = self._arrived = time
        self._agenda = Agenda(time)
        self._arrivals: list[tuple[float, int, News]] = []
        self._n_arrivals = 0
        self._slots = 0
        self._out: dict[int, Run] = {}  # by trial
        self._held: deque[Start] = deque()
        self._asked: dict[int, tuple[Run, int]] = {}
        self._woken = asyncio.Event()
        self._driver = Server(time)
        self._journal = Server(time)
        self._turn = 0.0  # seconds that the driver's present turn has taken
        self._maker = Maker(time, self.costs.ahead)
        self._has_results = False
        play = Play(job, run, data, self.seconds, self.checkpoints)
        rng = np.random.default_rng(self.seed)
        self._trials = Trials(play, self._fleet, self.costs, self._agenda, rng, self._deliver)

    async def close(self) -> None:
        """Nothing runs when the clock stands."""

    def now(self) -> float:
        """The virtual clock, in seconds."""
        return self._now

    def free(self) -> int:
        """How many workers are idle, as far as the driver knows, and not to be given to a trial that has waited."""
        return max(0, self._slots - len(self._out) - len(self._held))

    def start(self, starts: Sequence[Start]) -> None:
        """Submit the trials. A trial that lost its worker waits for the next one to come free, ahead of new ones."""
        self._held.extend(starts)
        self._start_held()

    def _start_held(self) -> None:
        costs = self.costs
        while self._held and len(self._out) < self._slots:
            start = self._held.popleft()
            self._turn += costs.start
            self._out[start.trial] = run = Run(start)
            leaves = self._now + self._turn
            if start.attempt == 1:
                leaves = self._maker.take(leaves, costs.proposal if self._has_results else costs.design)
            self._agenda.push(leaves + costs.latency, self._trials.submit, run)

    def _deliver(self, time: float, news: News) -> None:
        self._n_arrivals += 1
        heapq.heappush(self._arrivals, (time, self._n_arrivals, news))

    async def events(self, timeout: float | None) -> list[Event]:
        """Advance the clock to what happens next, and tell it."""
        for run, index in self._asked.values():
            self._answer(run, index, Decision.CONTINUE)
        self._asked.clear()
        self._start_held()
        if self._turn:
            self._driver.serve(self._arrived, self._turn)
            self._turn = 0.0
        if not self._arrivals and not isfinite(self._agenda.next) and timeout is None:
            await self._woken.wait()
        self._woken.clear()
        await asyncio.sleep(0)
        return self._advance(float("inf") if timeout is None else self._now + timeout)

    def _advance(self, limit: float) -> list[Event]:
        """Let things happen until the driver has time for what has come by then; tell that."""
        arrivals, agenda, free_at = self._arrivals, self._agenda, self._driver.free_at
        while (time := agenda.next) <= limit and isfinite(time):
            if arrivals and time > free_at and time > arrivals[0][0]:
                break
            agenda.step()
        turn = max(free_at, arrivals[0][0]) if arrivals else float("inf")
        if turn > limit or not arrivals:
            self._now = self._arrived = limit if isfinite(limit) else self._now
            return []
        self._now, self._arrived = turn, arrivals[0][0]
        events: list[Event] = []
        while arrivals and arrivals[0][0] <= turn:
            events += self._take(heapq.heappop(arrivals)[2])
        costs = self.costs
        written = costs.sync + costs.byte * costs.line * len(events)
        self._journal.note(written)
        self._turn = costs.turn + written + costs.event * len(events)
        return events

    def _take(self, news: News) -> list[Event]:
        """The events that news are, and what they change here."""
        self._slots += news.slots
        run, now = news.run, round(self._now, 6)
        if run is None:
            return []
        events: list[Event] = [reported(record, now) for record in news.records]
        trial, attempt = run.start.trial, run.start.attempt
        if news.asks:
            self._asked[trial] = (run, news.records[-1].index)
            self._has_results = True
        if (news.ended or news.lost is not None) and self._out.get(trial) is run:
            del self._out[trial]
        if news.lost is not None:
            events.append(WorkerLost(now, trial, attempt, news.lost))
        elif news.ended:
            self._has_results = True
            events.append(self._ended(run))
        return events

    def _ended(self, run: Run) -> Event:
        end, now = run.end, round(self._now, 6)
        assert end is not None
        began, ended = round(end.started, 6), round(end.ended, 6)
        match end.kind:
            case EndKind.PAUSED:
                return TrialPaused(now, end.trial, end.attempt, began, ended, end.worker)
            case EndKind.FAILED:
                return TrialFailed(now, end.trial, end.attempt, end.error, end.traceback, began, ended, end.worker)
            case EndKind.TIMED_OUT:
                limit = round(ended - began, 3)
                return TrialTimedOut(now, end.trial, end.attempt, limit, began, ended, end.worker)
        return TrialCompleted(
            now, end.trial, end.attempt, end.values, end.metadata, end.stopped, began, ended, end.worker
        )

    def _answer(self, run: Run, index: int, decision: Decision) -> None:
        costs = self.costs
        self._agenda.push(self._now + self._turn + 2 * costs.latency, self._trials.answer, (run, index, decision))

    def wake(self) -> None:
        """Let :meth:`events` return."""
        if hasattr(self, "_woken"):
            self._woken.set()

    def obey(self, command: Decide | Cancel) -> None:
        """Answer a report, or stop a trial."""
        if isinstance(command, Cancel):
            self._held = deque(start for start in self._held if start[:2] != command)
        run = self._out.get(command.trial)
        if run is None or run.start.attempt != command.attempt:
            return
        if isinstance(command, Cancel):
            del self._out[command.trial]
            self._asked.pop(command.trial, None)
            self._agenda.push(self._now + self._turn + 2 * self.costs.latency, self._trials.cancel, run)
        elif self._asked.get(command.trial) == (run, command.index):
            del self._asked[command.trial]
            self._answer(run, command.index, command.decision)

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

    @property
    def busy_seconds(self) -> float:
        """Worker-seconds in which trials were trained."""
        return self._trials.tally.busy

    def statistics(self) -> Statistics:
        """What became of the workers' time in the last run, and how busy the control channel was."""
        return self._trials.statistics(self._began, self._now, self._driver, self._journal, self._maker)


__all__ = ["Costs", "Load", "Seconds", "Simulated", "Statistics"]
