"""Keep N workers: what to submit, cancel and retire, decided from what is known of the jobs. No clock, no commands.

dask-jobqueue never replaces a job that expired, died or could not be submitted, and its adaptive scaling ends workers
that are busy. This controller knows how many trials there are to run, how the jobs stand in the queue and which of them
have a worker, and says what to do next; :mod:`dhpo.clusters._pool` does it. Times are seconds of any clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import count

#: Seconds for which a surplus must last before jobs are given up for it.
GRACE = 10.0
#: Seconds that a running job may take until its worker is there: on a slow file system the imports alone take minutes.
PATIENCE = 600.0
#: Seconds that a running job may be without the worker that it had.
ABSENCE = 120.0
#: Seconds after which a job that is still there is cancelled once more.
REPEAT = 60.0
#: How often in a row jobs may die before their worker is there: until one ever came, and later on.
FIRST_DEATHS, LATER_DEATHS = 4, 10
_LONGEST_BACKOFF = 300.0
_LONGEST_AFTER_DEATH = 60.0


class Phase(Enum):
    """How the batch system sees a job that has not ended."""

    PENDING = "pending"
    RUNNING = "running"


@dataclass(slots=True)
class Job:
    """One worker's job, from before its submission to its end."""

    number: int
    id: str | None = None  # while it is being submitted
    since: float = 0.0  # when it was accepted
    phase: Phase = Phase.PENDING
    reason: str = ""  # why it is pending
    workers: int = 0  # connected now: two for a moment, where a node comes back from the dead
    met: bool = False  # a worker was connected once
    alone: float | None = None  # since when it runs without a worker
    leaving: float | None = None  # since when it is to end


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done now."""

    submit: int = 0
    #: Jobs to cancel only if they are still pending, by number.
    withdraw: tuple[int, ...] = ()
    #: Jobs to cancel, by number.
    cancel: tuple[int, ...] = ()
    #: How many idle workers to retire.
    retire: int = 0


@dataclass(slots=True)
class Controller:
    """Keeps as many jobs as are wanted.

    Args:
        n_workers: how many workers at most.
        opened: the time now.
        startup_timeout: seconds within which the first worker must come; None waits for ever.
        grace: seconds for which a surplus must last before jobs are given up for it.
        numbers: the jobs' numbers, from 1 unless they are shared with other controllers.
    """

    n_workers: int
    opened: float = 0.0
    startup_timeout: float | None = None
    grace: float = GRACE
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    jobs: dict[int, Job] = field(default_factory=dict, init=False)
    wanted: int = field(init=False)
    given_up: str | None = field(default=None, init=False)
    casualty: int | None = field(default=None, init=False)  # the last job that died before its worker came
    error: str = field(default="", init=False)  # of the last submission, if it failed
    not_before: float = field(default=float("-inf"), init=False)
    _failures: int = field(default=0, init=False)
    _deaths: int = field(default=0, init=False)
    _accepted: bool = field(default=False, init=False)
    _met: bool = field(default=False, init=False)
    _retiring: bool = field(default=False, init=False)
    _surplus_since: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.wanted = self.n_workers

    # What happens.

    def want(self, trials: int) -> None:
        """There are so many trials to run."""
        self.wanted = max(0, trials)

    def begin(self) -> int:
        """A submission begins; the number of the new job."""
        number = next(self.numbers)
        self.jobs[number] = Job(number)
        return number

    def accepted(self, number: int, id: str, now: float) -> None:
        """The batch system has taken a job."""
        job = self.jobs[number]
        job.id, job.since = id, now
        self._accepted = True
        self._failures, self.error = 0, ""

    def refused(self, number: int, error: str, now: float, *, lasting: bool = False) -> None:
        """A submission failed. ``lasting`` says that the same will never succeed."""
        self.jobs.pop(number, None)
        self.error = error
        if lasting and not self._accepted:
            self.given_up = error
        elif now >= self.not_before:  # else: of the same attempt as the last one
            self.not_before = now + min(2.0**self._failures, _LONGEST_BACKOFF)
            self._failures += 1

    def joined(self, number: int) -> None:
        """A job's worker has connected."""
        if (job := self.jobs.get(number)) is None:
            return
        job.workers += 1
        job.met = self._met = True
        job.alone = job.leaving = None
        self._deaths = 0

    def left(self, number: int, now: float) -> None:
        """A job's worker has gone."""
        if (job := self.jobs.get(number)) is not None and job.workers:
            job.workers -= 1
            if not job.workers:
                job.alone = now

    def retired(self, numbers: Iterable[int], now: float, *, answers: bool = True) -> None:
        """The scheduler has told these idle workers to leave; it need not have been asked to by this controller."""
        self._retiring = self._retiring and not answers
        for number in numbers:
            if (job := self.jobs.get(number)) is not None:
                job.leaving = now

    def polled(self, states: Mapping[str, tuple[Phase, str]], began: float, now: float) -> None:
        """The batch system has told how all jobs stand that have not ended; it was asked at ``began``."""
        for job in list(self.jobs.values()):
            if job.id is None or job.since >= began:
                continue
            if job.id not in states:
                self._ended(job, now)
                continue
            phase, job.reason = states[job.id]
            if phase is Phase.RUNNING and not job.workers and job.alone is None:
                job.alone = now
            elif phase is Phase.PENDING:
                job.alone = None  # requeued, perhaps: its time counts from its next start
            job.phase = phase

    def _ended(self, job: Job, now: float) -> None:
        del self.jobs[job.number]
        if not job.met and job.leaving is None:
            self._died_early(job, now)

    def _died_early(self, job: Job, now: float) -> None:
        self.casualty = job.number
        if now >= self.not_before:  # else: together with others, of the same cause
            self._deaths += 1
            self.not_before = now + min(2.0 ** (self._deaths - 1), _LONGEST_AFTER_DEATH)
        connected = any(each.workers for each in self.jobs.values())
        if self._deaths >= (LATER_DEATHS if self._met else FIRST_DEATHS) and not connected:
            self.given_up = f"{self._deaths} times in a row, jobs ended before their worker had connected"

    # What follows.

    @property
    def connected(self) -> int:
        """How many workers are connected, of those that are to stay."""
        return sum(1 for job in self.jobs.values() if job.workers and job.leaving is None)

    def decide(self, now: float) -> Decision:
        """What to do. The jobs to cancel are marked as leaving."""
        patience = None if self._met else self.startup_timeout
        if self.given_up is None and patience is not None and now - self.opened >= patience:
            self.given_up = f"no worker came within {patience:g} s ({self.state(now)})"
        if self.given_up is not None:
            return Decision()
        cancel = self._hopeless(now)
        staying = [job for job in self.jobs.values() if job.leaving is None]
        surplus = len(staying) - min(self.n_workers, self.wanted)
        if surplus <= 0:
            self._surplus_since = None
            return Decision(submit=-surplus if now >= self.not_before else 0, cancel=cancel)
        if self._surplus_since is None:
            self._surplus_since = now
        if now - self._surplus_since < self.grace:
            return Decision(cancel=cancel)
        waiting = [job for job in staying if job.id and job.phase is Phase.PENDING and not job.workers]
        withdrawn = waiting[::-1][:surplus]  # the newest have waited least
        for job in withdrawn:
            job.leaving = now
        if len(withdrawn) == surplus:
            self._surplus_since = None
        retire = 0
        if not self._retiring:
            retire = min(surplus - len(withdrawn), sum(1 for job in staying if job.workers))
            self._retiring = retire > 0
        return Decision(0, tuple(job.number for job in withdrawn), cancel, retire)

    def _hopeless(self, now: float) -> tuple[int, ...]:
        """Jobs whose worker does not come, does not come back, or that do not end as they were told to."""
        hopeless = []
        for job in self.jobs.values():
            if job.id is None or job.workers:
                continue
            if job.leaving is not None:
                late = now - job.leaving >= REPEAT
            else:
                late = job.alone is not None and now - job.alone >= (ABSENCE if job.met else PATIENCE)
                if late and not job.met:
                    self._died_early(job, now)
            if late:
                job.leaving = now
                hopeless.append(job.number)
        return tuple(hopeless)

    def due(self, now: float) -> float:
        """Seconds after which there may be something new to decide, without anything happening."""
        times = [self.not_before]
        if self._surplus_since is not None:
            times.append(self._surplus_since + self.grace)
        if self.startup_timeout is not None and not self._met:
            times.append(self.opened + self.startup_timeout)
        return min((time - now for time in times if time > now), default=float("inf"))

    def state(self, now: float) -> str:
        """How the jobs stand, in one line."""
        target = min(self.n_workers, self.wanted)
        staying = [job for job in self.jobs.values() if job.leaving is None]
        connected = self.connected
        starting = sum(1 for job in staying if not job.workers and job.phase is Phase.RUNNING)
        pending = [job for job in staying if not job.workers and job.phase is Phase.PENDING]
        parts = [f"{connected} of {target} workers" if connected or not pending else ""]
        if pending:
            reason, _ = Counter(job.reason for job in pending).most_common(1)[0]
            parts.append(
                f"{len(pending)} of {max(target, len(staying))} jobs pending" + (f": ({reason})" if reason else "")
            )
        if starting:
            parts.append(f"{starting} starting")
        if self.error:
            parts.append(f"{self.error.splitlines()[0]}; next try in {max(0.0, self.not_before - now):.0f} s")
        elif self._deaths:
            parts.append(f"jobs died early {self._deaths} times in a row")
        return ", ".join(part for part in parts if part)


def shares(wanted: int, limits: Sequence[int], connected: Sequence[int]) -> list[int]:
    """How many workers each of several pools is to have, for so many trials.

    The workers that are there count first. Each pool asks for all that are missing then: where the queue of one is
    stuck, another's is not, and what is not needed any more when the first have come is withdrawn. Where there are
    more workers than trials, the pools that were named first keep theirs.

    Args:
        wanted: how many trials could run now.
        limits: how many workers each pool may have.
        connected: how many workers of each pool are there.
    """
    missing = max(0, wanted - sum(connected))
    shared = []
    left = max(0, wanted)
    for limit, there in zip(limits, connected, strict=True):
        kept = min(there, left)
        left -= kept
        shared.append(min(limit, kept + missing))
    return shared
