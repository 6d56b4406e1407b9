"""What the control channel of a real search costs, as single servers with queues in virtual time."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields

from dhpo.errors import SettingError


@dataclass(frozen=True, slots=True)
class Costs:
    """What the Dask scheduler, the driver and the searcher's process take for each thing they do.

    Each of the three does one thing at a time; what comes meanwhile waits. ``docs/scaling.md`` says where
    the defaults come from: most were measured, with distributed 2026.8. All but ``line`` and ``ahead`` are in seconds.

    Args:
        task: of the scheduler, for a trial's task from its submission to its release.
        task_pair: of the scheduler, for a task, for each worker that there is. Dask looks at all of them where trials
            take resources, about 2e-6; dhpo's own scheduler does not.
        message: of the scheduler, for one message of a worker, whatever is in it.
        report: of the scheduler, for each report in it.
        decision: of the scheduler, for a report that waits: its message and the answer.
        heartbeat: of the scheduler, for a worker's heartbeat; Dask has at most 200 of them in a second.
        registration: of the scheduler, for a worker that joins.
        registration_pair: of the scheduler, for each worker that is there already when another one joins. Dask compares
            the versions of all at each registration, about 1e-6; dhpo's own scheduler does not.
        removal: of the scheduler, for a worker that leaves.
        removal_pair: of the scheduler, for each worker that stays when another one leaves. Dask sends each of them a
            message, 15e-6 to 40e-6; dhpo's own scheduler does not.
        turn: of the driver, for a turn of the loop: the relay is asked for more.
        event: of the driver, for each event: read, journalled, folded.
        start: of the driver, for each trial that it starts.
        sync: of the journal, in each turn of the driver, to force what is new to the disk.
        byte: of the journal, for each byte.
        line: bytes of an event in the journal.
        proposal: of the searcher's process, for each proposal of the model, its share of the fits included.
        design: of the searcher, for each proposal before the first result.
        ahead: how many proposals the searcher keeps ready at most.
        gather: seconds, for each worker there is, for which reports without a decision are gathered (at least 0.1 s).
        latency: one way of a message between worker and scheduler, or scheduler and driver.
    """

    task: float = 650e-6
    task_pair: float = 0.0
    message: float = 150e-6
    report: float = 12e-6
    decision: float = 300e-6
    heartbeat: float = 250e-6
    registration: float = 2.4e-3
    registration_pair: float = 0.0
    removal: float = 2.8e-3
    removal_pair: float = 0.0
    turn: float = 1e-3
    event: float = 10e-6
    start: float = 700e-6
    sync: float = 5e-3
    byte: float = 3e-9
    line: float = 150.0
    proposal: float = 1.4e-3
    design: float = 30e-6
    ahead: int = 256
    gather: float = 2e-3
    latency: float = 0.5e-3

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            if not getattr(self, name) >= 0:
                raise SettingError(f"Costs({name}={getattr(self, name)!r}): give a number that is not negative")
        if self.ahead < 1:
            raise SettingError(f"Costs(ahead={self.ahead!r}): the searcher makes one proposal ahead at least")


#: A control channel that takes no time.
FREE = Costs(**{f.name: 0 for f in fields(Costs) if f.name != "ahead"})


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a server was.

    Args:
        share: of the time.
        served: how many things it did.
        mean_delay: seconds that something waited for it, in the mean.
        longest_delay: seconds.
    """

    share: float
    served: int
    mean_delay: float
    longest_delay: float


class Server:
    """Does one thing at a time, in the order in which they come.

    Args:
        time: when it begins.
    """

    def __init__(self, time: float) -> None:
        self.free_at = time
        self.background = 0.0  # the share of its time that goes to what nobody waits for
        self._busy = 0.0
        self._served = 0
        self._delay = 0.0
        self._longest = 0.0

    def serve(self, arrived: float, seconds: float) -> float:
        """Take ``seconds`` for what arrived at that time; return when it is done."""
        delay = max(0.0, self.free_at - arrived)
        self._note(seconds, delay)
        self.free_at = arrived + delay + seconds / max(0.01, 1.0 - self.background)
        return self.free_at

    def note(self, seconds: float) -> None:
        """Count something that another server waits for."""
        self._note(seconds, 0.0)

    def _note(self, seconds: float, delay: float) -> None:
        self._busy += seconds
        self._served += 1
        self._delay += delay
        self._longest = max(self._longest, delay)

    def load(self, elapsed: float) -> Load:
        """How busy it was in so many seconds."""
        share = min(1.0, self.background + self._busy / elapsed) if elapsed > 0 else 0.0
        return Load(share, self._served, self._delay / max(1, self._served), self._longest)


class Maker(Server):
    """The searcher: makes proposals as long as less than so many lie ready."""

    def __init__(self, time: float, ahead: int) -> None:
        super().__init__(time)
        self._taken: deque[float] = deque([time] * ahead, maxlen=ahead)  # when the last ``ahead`` ones were taken

    def take(self, now: float, seconds: float) -> float:
        """Take a proposal that takes ``seconds`` to make; return when it is there."""
        self.free_at = max(self.free_at, self._taken[0]) + seconds
        self._note(seconds, max(0.0, self.free_at - now))
        self._taken.append(max(now, self.free_at))
        return self._taken[-1]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What became of the workers' time, and how busy the control channel was.

    Args:
        elapsed: virtual seconds.
        available: worker-seconds, from each worker's first word to its end.
        busy: worker-seconds in which trials were trained.
        waiting: worker-seconds in which trials waited for decisions.
        lost: of the busy ones, those whose training has to be done again: of runs that were lost with a worker, or left
            one before its end, what was trained since the last report that came through, or all without checkpoints.
        trials: runs of trials that were begun.
        reports: that were made.
        decisions: of these, those that waited for one.
        joined: workers.
        gaps: seconds that workers waited for a trial, for the shares .5, .9 and .99 of all waits after the first.
        scheduler: how busy the Dask scheduler was.
        driver: how busy the driver was; its delays are those of an event, until its turn begins.
        journal: how busy the journal was; that is a part of the driver's time.
        searcher: how busy the searcher was; its delays are those of a trial that waits for a proposal.
    """

    elapsed: float
    available: float
    busy: float
    waiting: float
    lost: float
    trials: int
    reports: int
    decisions: int
    joined: int
    gaps: tuple[float, float, float]
    scheduler: Load
    driver: Load
    journal: Load
    searcher: Load

    @property
    def utilisation(self) -> float:
        """The busy share of the workers' time."""
        return self.busy / self.available if self.available else 0.0


def quantiles(values: array[float], shares: Sequence[float]) -> tuple[float, ...]:
    """The values below which these shares of all lie; 0 where there are none."""
    ordered = sorted(values)
    return tuple(ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0 for share in shares)
