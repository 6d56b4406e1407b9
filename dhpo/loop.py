"""The loop: proposals become trials, events become decisions, and everything is journalled before it is acted upon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol

from dhpo.budget import Budget
from dhpo.events import (
    Cancel,
    Conclude,
    Decide,
    Event,
    GiveUp,
    Observe,
    SearchFinished,
    SessionOpened,
    Start,
)
from dhpo.executors.base import Executor
from dhpo.proposer import Proposer
from dhpo.study import Study, follow_up


class Log(Protocol):
    """Where events become durable."""

    async def append(self, events: Sequence[Event]) -> None:
        """Return when the events are safe."""


class Listener(Protocol):
    """Who is told of decisions, and may want the search to end."""

    def decided(self, command: Decide) -> None:
        """Take in the answer to a report of the batch that the watchers see next."""

    def wants_end(self) -> str | None:
        """Why the search is to end now; None while it is not."""


class Control(Protocol):
    """What a person wants of a running search."""

    @property
    def paused(self) -> bool:
        """Whether no more trials are to start."""

    def cancellations(self, study: Study, time: float) -> Sequence[Event]:
        """The events that end the trials that are to end, which have not been asked for before."""


#: So many trials are wanted where the budget sets no number.
UNLIMITED = 10**6
_EXHAUSTED = "the space is exhausted"
_COUNTED = 1024  # so many of the trials that may be promoted are counted

Watcher = Callable[[Sequence[Event], Study], None]


def over(study: Study, proposer: Proposer) -> bool:
    """Whether nothing would ever come any more."""
    return proposer.exhausted and not study.n_running and next(study.promotable(), None) is None


def next_trials(study: Study, proposer: Proposer, executor: Executor, budget: Budget) -> Sequence[Event]:
    """What the free slots are to run next: paused trials that may go on, else new ones, as many as are ready."""
    free = max(0, executor.free())
    if promoted := study.promote(free, round(executor.now(), 6)):
        return promoted
    room = budget.room(study)
    wanted = int(min(free, room))
    proposals = proposer.next(wanted, len(study.trials), room=room, running=study.n_running) if wanted > 0 else []
    return study.admit(proposals, round(executor.now(), 6))


def could_run(study: Study, proposer: Proposer, budget: Budget) -> int:
    """How many trials could run at once, if there were workers for them: those that do, and those that may come."""
    room = 0 if proposer.exhausted else int(min(budget.room(study), UNLIMITED))
    promotable = 0 if room == UNLIMITED else sum(1 for _ in islice(study.promotable(), _COUNTED))
    return min(study.n_running + room + promotable, UNLIMITED)


async def run(
    study: Study,
    proposer: Proposer,
    executor: Executor,
    log: Log,
    budget: Budget,
    opened: SessionOpened,
    interrupted: Callable[[], bool] = lambda: False,
    watchers: Sequence[Watcher] = (),
    listener: Listener | None = None,
    control: Control | None = None,
) -> str | None:
    """Run a search until its budget is reached or it is interrupted; return the reason, None when interrupted.

    The executor is open. Trials that still run at the end are left as they are in the journal: the next run of the
    search starts them again.
    """

    async def commit(events: Sequence[Event]) -> None:
        if not events:
            return
        await log.append(events)
        starts: list[Start] = []
        derived: list[Event] = []
        for event in events:
            for command in study.apply(event):
                match command:
                    case Start():
                        starts.append(command)
                    case Observe():
                        proposer.observe(command.observation)
                    case Decide() | Cancel():
                        executor.obey(command)
                        if listener is not None and isinstance(command, Decide):
                            listener.decided(command)
                    case GiveUp() | Conclude():
                        derived.append(follow_up(command, round(executor.now(), 6)))
        for watch in watchers:
            watch(events, study)
        if starts:
            executor.start(starts)
        await commit(derived)

    await commit([opened])
    while not interrupted():
        now = executor.now()
        asked = None if listener is None else listener.wants_end()
        if reason := asked or budget.reached(study, now) or (_EXHAUSTED if over(study, proposer) else None):
            await commit([SearchFinished(round(now, 6), reason)])
            return reason
        if control is not None:
            await commit(control.cancellations(study, round(now, 6)))
        paused = control is not None and control.paused
        while not paused and (fresh := next_trials(study, proposer, executor, budget)):
            await commit(fresh)
        executor.want(study.n_running if paused else could_run(study, proposer, budget))
        if not over(study, proposer):
            left = None if budget.time_limit is None else max(0.0, budget.time_limit - executor.now())
            await commit(await executor.events(left))
    return None
