"""The cluster's side of a simulation: trials are given to workers, report, wait, and come to their ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import numpy as np

from dhpo.events import Start
from dhpo.executors._outbox import INTERVAL
from dhpo.executors._simulated_costs import Costs, Server, Statistics, quantiles
from dhpo.executors._simulated_runs import Forecast, News, Play, Run
from dhpo.executors._simulated_workers import Agenda, Fleet, Worker, Workers
from dhpo.trial import Decision
from dhpo.walltime import Stint
from dhpo.worker.reporter import Record
from dhpo.worker.runner import EndKind

#: Seconds before the known end of a worker from which on its death is taken for that end.
_NEAR = 10.0


@dataclass(slots=True)
class Tally:
    """What is counted."""

    busy: float = 0.0
    waiting: float = 0.0
    lost: float = 0.0
    trials: int = 0
    reports: int = 0
    decisions: int = 0


class Mail:
    """The way of the workers' messages, over the scheduler to the driver.

    Args:
        costs: what the scheduler takes for them.
        n_workers: how many workers there are: the more, the longer their reports are gathered.
        agenda: what happens when.
        scheduler: takes them in.
        deliver: called with the time at which news reach the driver, and the news.
    """

    def __init__(
        self, costs: Costs, n_workers: int, agenda: Agenda, scheduler: Server, deliver: Callable[[float, News], None]
    ) -> None:
        self._costs = costs
        self._agenda = agenda
        self._scheduler = scheduler
        self._deliver = deliver
        self._interval = max(INTERVAL, costs.gather * n_workers) if costs.gather else 0.0

    def gather(self, run: Run, record: Record) -> None:
        """Keep a report that nobody waits for, for a while."""
        assert run.worker is not None
        if not self._interval:
            self.send(run, 0.0, record)
            return
        outgoing = run.worker.outgoing
        outgoing.append(record)
        if len(outgoing) == 1:
            self._agenda.push(self._agenda.time + self._interval, self._flush, (run, record))

    def _flush(self, oldest: tuple[Run, Record]) -> None:
        run, record = oldest
        worker = run.worker
        assert worker is not None
        if worker.here and worker.run is run and worker.outgoing and worker.outgoing[0] is record:
            self.send(run, self._costs.message)

    def send(
        self,
        run: Run,
        seconds: float,
        *records: Record,
        asks: bool = False,
        ended: bool = False,
        lost: str | None = None,
    ) -> None:
        """Have the scheduler take in a message of the run's worker, with what was gathered there before."""
        assert run.worker is not None
        outgoing, run.worker.outgoing = run.worker.outgoing, []
        if gathered := (*outgoing, *records):
            run.kept = run.spent
        taken = self._scheduler.serve(self._agenda.time, seconds + self._costs.report * len(gathered))
        at_leisure = not (asks or ended or lost is not None) and self._interval
        arrives = taken + self._costs.latency + (INTERVAL if at_leisure else 0.0)
        self._deliver(arrives, News(run, gathered, asks, ended, lost))


class Trials:
    """The scheduler and the workers.

    Args:
        play: what is run.
        fleet: the workers.
        costs: what the scheduler takes for what it does.
        agenda: what happens when.
        rng: for all that is random.
        deliver: called with the time at which news reach the driver, and the news.
    """

    def __init__(
        self,
        play: Play,
        fleet: Fleet,
        costs: Costs,
        agenda: Agenda,
        rng: np.random.Generator,
        deliver: Callable[[float, News], None],
    ) -> None:
        self.scheduler = Server(agenda.time)
        self.tally = Tally()
        self._play = play
        self._costs = costs
        self._agenda = agenda
        self._deliver = deliver
        self._forecast = Forecast() if fleet.walltime is not None else None
        self._queue: deque[Run] = deque()  # submitted, and without a worker
        self._mail = Mail(costs, fleet.workers, agenda, self.scheduler, deliver)
        self.workers = Workers(fleet, agenda, rng, self.scheduler, costs, self._came, self._went)

    # From the driver.

    def submit(self, run: Run) -> None:
        """The scheduler is given a trial."""
        if not run.over:
            seconds = self._costs.task + self._costs.task_pair * len(self.workers)
            done = self.scheduler.serve(self._agenda.time, seconds)
            self._agenda.push(done + self._costs.latency, self._queue_run, run)

    def answer(self, answer: tuple[Run, int, Decision]) -> None:
        """A report that waits gets its decision."""
        run, index, decision = answer
        if run.over or run.waiting != index:
            return
        self.tally.waiting += self._agenda.time - run.since
        run.waiting = 0
        if decision is Decision.CONTINUE:
            self._go_on(run, at_rung=True)
        else:
            stopped = decision is Decision.STOP
            self._cut(run, EndKind.COMPLETED if stopped else EndKind.PAUSED, stopped=stopped)

    def cancel(self, run: Run) -> None:
        """A trial no longer counts."""
        if run.over:
            return
        self._stop_clock(run)
        run.over = True
        if run.worker is not None:
            run.worker.outgoing.clear()
            self._free(run.worker)

    def statistics(self, began: float, now: float, driver: Server, journal: Server, maker: Server) -> Statistics:
        """What became of the workers' time from ``began`` to ``now``, and how busy the control channel was."""
        tally, workers, elapsed = self.tally, self.workers, now - began
        training = waiting = 0.0  # of those that run
        for worker in workers.here:
            run = worker.run
            if run is not None and not run.over:
                training += 0.0 if run.waiting else now - run.since
                waiting += now - run.since if run.waiting else 0.0
        median, most, nearly_all = quantiles(workers.gaps, (0.5, 0.9, 0.99))
        return Statistics(
            elapsed, workers.available(now), tally.busy + training, tally.waiting + waiting, tally.lost,
            tally.trials, tally.reports, tally.decisions, workers.joined, (median, most, nearly_all),
            self.scheduler.load(elapsed), driver.load(elapsed), journal.load(elapsed), maker.load(elapsed),
        )  # fmt: skip

    # On the workers.

    def _queue_run(self, run: Run) -> None:
        self._queue.append(run)
        self._assign()

    def _assign(self) -> None:
        while self._queue and (worker := self.workers.idle()) is not None:
            run = self._queue[0]
            if run.over:
                self._queue.popleft()
            elif self._has_time(worker, run.start):
                self._queue.popleft()
                self._begin(run, worker)
            else:
                self.workers.dismiss(worker)

    def _has_time(self, worker: Worker, start: Start | None = None) -> bool:
        return self._forecast is None or self._forecast.has_time(worker, start, self._agenda.time)

    def _begin(self, run: Run, worker: Worker) -> None:
        self.workers.put(run, worker)
        run.worker, run.began = worker, self._agenda.time
        self.tally.trials += 1
        self._play.record(run, f"simulated-{worker.number}")
        if self._forecast is not None:
            run.stint = Stint(run.start, self._forecast.unit)
            self._forecast.begun(run.start)
        self._lay(run)

    def _lay(self, run: Run) -> None:
        """Put the run's next report, or its end, on the agenda."""
        assert run.worker is not None
        run.since = self._agenda.time
        time = run.since + self._play.took(run) * run.worker.slowness
        limit = self._play.job.trial_timeout
        if limit is not None and self._play.job.isolation == "process" and time > run.began + limit:
            self._agenda.push(run.began + limit, self._expire, run)
        else:
            self._agenda.push(time, self._step, run)

    def _expire(self, run: Run) -> None:
        if not run.over:
            self._stop_clock(run)
            self._cut(run, EndKind.TIMED_OUT)

    def _step(self, run: Run) -> None:
        if run.over:  # its worker died, or it was cancelled
            return
        self._stop_clock(run)
        if run.next >= len(run.records):
            self._finish(run)
            return
        record = run.records[run.next]
        run.next += 1
        self.tally.reports += 1
        self._learn(run, record)
        assert run.due is not None
        if run.due.at(record.resource):
            run.waiting, run.since = record.index, self._agenda.time
            self.tally.decisions += 1
            self._mail.send(run, self._costs.decision, record, asks=True)
        else:
            self._mail.gather(run, record)
            self._go_on(run, at_rung=False)

    def _learn(self, run: Run, record: Record) -> None:
        """Note how fast the run is, for what still fits before its worker's end."""
        if run.stint is not None and self._forecast is not None:
            first = run.next == 1
            units = run.stint.reported(record.resource, self._agenda.time - run.since, first=first)
            seconds = self._agenda.time - run.since
            self._forecast.reported(record._replace(index=1 if first else 2, seconds=seconds, units=units))

    def _stop_clock(self, run: Run) -> None:
        if run.worker is None:
            return
        took = self._agenda.time - run.since
        if run.waiting:
            self.tally.waiting += took
        else:
            self.tally.busy += took
            run.spent += took

    def _go_on(self, run: Run, *, at_rung: bool) -> None:
        """After a report: end the run, where its time is up, or have it train on."""
        limit, now, worker = self._play.job.trial_timeout, self._agenda.time, run.worker
        assert worker is not None
        assert run.end is not None
        if run.next >= len(run.records) and run.end.kind == EndKind.COMPLETED:
            self._lay(run)  # nothing follows
        elif limit is not None and now - run.began > limit:
            self._cut(run, EndKind.TIMED_OUT)
        elif run.stint is not None and not run.stint.goes_on(worker.ends_at - now, worker.life, at_rung=at_rung):
            self._cut(run, EndKind.ABANDONED)
        else:
            self._lay(run)

    def _cut(self, run: Run, kind: EndKind, *, stopped: bool = False) -> None:
        """The run ends before its time."""
        assert run.end is not None
        run.end = run.end._replace(kind=kind.value, values=None, metadata={}, stopped=stopped)
        run.records = run.records[: run.next]
        self._finish(run)

    def _finish(self, run: Run) -> None:
        assert run.worker is not None
        assert run.end is not None
        run.over = True
        run.end = run.end._replace(started=run.began, ended=self._agenda.time)
        if self._forecast is not None:
            self._forecast.ended(run.end)
        if run.end.kind == EndKind.ABANDONED:
            self._mail.send(run, self._costs.message, lost=self._blame(run, run.worker))
            self._count_lost(run)
        else:
            self._mail.send(run, self._costs.message, ended=True)
        self._free(run.worker)

    def _free(self, worker: Worker) -> None:
        self.workers.come_free(worker)
        if not self._has_time(worker):
            self.workers.dismiss(worker)
        self._assign()

    def _came(self, worker: Worker) -> None:
        self._deliver(self._agenda.time, News(slots=1))
        self.workers.come_free(worker, anew=True)
        self._assign()

    def _went(self, worker: Worker, run: Run | None) -> None:
        self._deliver(self._agenda.time + self._costs.latency, News(slots=-1))
        if run is not None and not run.over:
            self._stop_clock(run)
            run.over = True
            self._count_lost(run)
            lost = self._blame(run, worker)
            self._deliver(self._agenda.time + self._costs.latency, News(run, lost=lost))

    def _count_lost(self, run: Run) -> None:
        self.tally.lost += run.spent - (run.kept if self._play.checkpoints else 0.0)

    def _blame(self, run: Run, worker: Worker) -> str:
        """The worker's name, where its loss is held against the trial, which a known end is not."""
        now = self._agenda.time
        if now >= worker.ends_at - _NEAR or worker.here:
            had_better_part = worker.ends_at < inf and now - run.began > worker.life / 2
            if not (had_better_part and not run.next):
                return ""
        return f"simulated-{worker.number}-{now:.0f}"
