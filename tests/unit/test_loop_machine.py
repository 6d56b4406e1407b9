"""The loop over an executor that does whatever may happen, on a log that fails, interrupted and resumed at any point.

Hypothesis draws the outcomes. What must hold: the budget is exact, no trial is lost and none ends twice, no decision
that was given differs from that of a replay, nothing is done before it is in the log, and no worker is idle while there
is something to run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo import loop
from dhpo._codec import decode, encode
from dhpo.budget import Budget
from dhpo.errors import JournalError
from dhpo.events import (
    Cancel,
    Decide,
    Event,
    SearchFinished,
    SessionOpened,
    Start,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialPromoted,
    TrialProposed,
    TrialReported,
    TrialTimedOut,
    WorkerLost,
)
from dhpo.objectives import Objectives
from dhpo.proposer import Place, Proposer
from dhpo.stopping.base import NeverStop
from dhpo.stopping.combine import AnyOf
from dhpo.stopping.hyperband import Hyperband
from dhpo.stopping.patience import Patience
from dhpo.study import Study
from dhpo.trial import Decision, Due, Observation, Proposal, Status

MAX_T = 9
STOPPERS = [
    NeverStop(),
    Hyperband(max_t=MAX_T),
    Hyperband(max_t=MAX_T, brackets=3, adaptive=True),
    Hyperband(max_t=MAX_T, type="promotion"),
    AnyOf(Hyperband(max_t=MAX_T, type="promotion"), Patience(patience=2)),
]
ENDS = TrialCompleted | TrialFailed | TrialTimedOut


class Endless:
    """A searcher of ``size`` configurations."""

    cheap = True

    def __init__(self, size: int) -> None:
        self.size = size

    def observe(self, observations: Sequence[Observation]) -> None:
        """It learns nothing."""

    def propose(self, numbers: Sequence[int]) -> list[Proposal]:
        return [Proposal({"x": n}, "random") for n in numbers if n < self.size]


class Kept:
    """The log: what outlives a driver. It fails when it is told to, before or after the events are there."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.bodies: list[bytes] = []
        self.failures = 0
        self.proposed: set[int] = set()

    def events(self) -> list[Event]:
        return [event for body in self.bodies for event in decode(body)]

    async def append(self, events: Sequence[Event]) -> None:
        assert events
        fails = self.failures and self.random.random() < 0.05
        written = self.random.random() < 0.5  # as where the driver dies between the write and what follows
        if not fails or written:
            self.bodies.append(encode(events))
            self.proposed.update(e.trial for e in events if isinstance(e, TrialProposed))
        if fails:
            self.failures -= 1
            raise JournalError("the disk is full")


class Running:
    """A trial on a worker: how far it is, and whether it waits for an answer."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.due = Due(start.milestones, start.every)
        self.index = 0
        self.resource = float(start.skip_to)
        self.waits: int | None = None
        self.ended_by: Decision | None = None


class Fickle:
    """An executor of which everything may be expected: reports late and twice, failures, losses, late workers."""

    def __init__(self, workers: int, random: Random, log: Kept, more: Any) -> None:
        self.workers, self.random, self.log, self.more = workers, random, log, more
        self.running: dict[int, Running] = {}
        self.parked: list[Start] = []
        self.old: list[Event] = []  # that were told before, and may come again
        self.given: list[Decide] = []
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def free(self) -> int:
        return max(0, self.workers - len(self.running) - len(self.parked))

    def wake(self) -> None:
        """Nobody sleeps here."""

    def want(self, trials: int) -> None:
        assert trials >= len(self.running)

    def start(self, starts: Sequence[Start]) -> None:
        assert {start.trial for start in starts} <= self.log.proposed  # nothing is done before it is in the log
        self.parked.extend(starts)
        self._fill()

    def _fill(self) -> None:
        while self.parked and len(self.running) < self.workers:
            start = self.parked.pop(0)
            assert start.trial not in self.running
            self.running[start.trial] = Running(start)

    def obey(self, command: Decide | Cancel) -> None:
        run = self.running.get(command.trial)
        if isinstance(command, Cancel):
            self.running.pop(command.trial, None)
            return
        self.given.append(command)
        if run is not None and run.start.attempt == command.attempt and run.waits == command.index:
            run.waits = None
            run.ended_by = None if command.decision is Decision.CONTINUE else command.decision

    async def events(self, timeout: float | None) -> list[Event]:
        assert self.free() == 0 or not self.more()
        for run in self.running.values():
            run.waits = None  # the last batch is acted upon: who got no answer goes on
        self.time += self.random.choice([0.0, 1.0, 2.5])
        self.workers = max(1, self.workers + self.random.choice([0, 0, 0, 1, -1]))
        batch: list[Event] = []
        for run in self.random.sample(list(self.running.values()), self.random.randint(0, len(self.running))):
            batch.append(self._next(run))
        if self.old and self.random.random() < 0.3:
            batch.append(self.random.choice(self.old))
        self.old.extend(batch)
        self._fill()
        return batch

    def _next(self, run: Running) -> Event:
        now, (trial, attempt) = self.time, run.start[:2]
        chance = self.random.random()
        if chance < 0.06:
            del self.running[trial]
            return WorkerLost(now, trial, attempt, self.random.choice(["", "a", "b", "c"]))
        if run.ended_by is not None or run.resource >= MAX_T:
            del self.running[trial]
            if run.ended_by is Decision.PAUSE:
                return TrialPaused(now, trial, attempt, now, now, "w")
            return TrialCompleted(now, trial, attempt, None, {}, run.ended_by is not None, now, now, "w")
        if chance < 0.1:
            del self.running[trial]
            return TrialFailed(now, trial, attempt, "oops", "", now, now, "w")
        if chance < 0.12:
            del self.running[trial]
            return TrialTimedOut(now, trial, attempt, 1.0, now, now, "w")
        run.resource += self.random.choice([0.5, 1, 1, 1, 2, 4])
        run.index += 1
        if run.due.at(run.resource):
            run.waits = run.index
        score = float(self.random.randint(0, 5))
        return TrialReported(now, trial, attempt, run.index, run.resource, {"objective": score})


def new_study(stopper: Any, events: Sequence[Event]) -> tuple[Study, list[Decide]]:
    """The fold of the log, and the decisions in it."""
    study = Study(Objectives.parse(), stopper.bind(1, max_t=None, seed=3), seed=3)
    return study, [c for event in events for c in study.apply(event) if isinstance(c, Decide)]


async def session(
    stopper: Any, log: Kept, budget: Budget, random: Random, size: int
) -> tuple[str | None, list[Decide]]:
    """One driver's run: to its end, to an interruption, or to a failure of the log."""
    study, _ = new_study(stopper, log.events())
    proposer = Proposer(Endless(size), lambda: None, Place.HERE)

    def more() -> bool:
        return (budget.room(study) > 0 and not proposer.exhausted) or next(study.promotable(), None) is not None

    executor = Fickle(random.randint(1, 6), random, log, more)
    executor.time = study.time
    opened = SessionOpened(study.time, 0.0, "host", 1, "0")
    calm = random.random() < 0.5
    try:
        reason = await loop.run(
            study, proposer, executor, log, budget, opened, lambda: not calm and random.random() < 0.04
        )
    except JournalError:
        reason = None
    finally:
        proposer.close()
    return reason, executor.given


async def sessions(stopper: Any, log: Kept, budget: Budget, random: Random, size: int, failures: int) -> str | None:
    """Drivers on one log, one after another, until one comes to the search's end."""
    for _ in range(400):
        log.failures = failures
        begun = len(log.events())
        reason, given = await session(stopper, log, budget, random, size)

        # A replay decides the same: what was given is what the log says, in its order; only the last may be lacking.
        _, before = new_study(stopper, log.events()[:begun])
        _, decisions = new_study(stopper, log.events())
        assert given == decisions[len(before) :][: len(given)]
        if reason is not None:
            assert len(given) == len(decisions) - len(before)
            return reason
    return None


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(STOPPERS), st.integers(1, 24), st.integers(0, 30), st.integers(0, 3), st.integers(0, 2**32))
def test_whatever_happens(stopper: Any, num_trials: int, size: int, failures: int, seed: int) -> None:
    random = Random(seed)
    log = Kept(random)
    reason = asyncio.run(sessions(stopper, log, Budget(num_trials=num_trials), random, size, failures))
    events = log.events()
    study, _ = new_study(stopper, events)
    assert reason is not None

    wanted = min(num_trials, size)
    assert reason == ("the space is exhausted" if size < num_trials else f"num_trials={num_trials} reached")
    assert isinstance(events[-1], SearchFinished)
    assert [e.trial for e in events if isinstance(e, TrialProposed)] == list(range(wanted))
    assert [t.status for t in study.trials if t.status is Status.RUNNING] == []
    assert study.n_ended == wanted
    check_lives(events, study)


def check_lives(events: Sequence[Event], study: Study) -> None:
    """Each trial's events that count are those of one life: attempts in order, one end, nothing after it."""
    attempts: dict[int, int] = {}
    states: dict[int, str] = {}
    for event in events:
        if isinstance(event, SessionOpened):
            attempts = {n: a + (states[n] == "running") for n, a in attempts.items()}
        elif isinstance(event, TrialProposed):
            attempts[event.trial], states[event.trial] = 1, "running"
        elif isinstance(event, TrialPromoted):
            assert (states[event.trial], event.attempt) == ("paused", attempts[event.trial] + 1)
            attempts[event.trial], states[event.trial] = event.attempt, "running"
        elif not isinstance(event, SearchFinished):
            if states[event.trial] != "running" or event.attempt != attempts[event.trial]:
                assert event.attempt <= attempts[event.trial]
            elif isinstance(event, WorkerLost):
                attempts[event.trial] += 1
            elif isinstance(event, TrialPaused):
                states[event.trial] = "paused"
            elif isinstance(event, ENDS):
                states[event.trial] = "ended"
    assert attempts == {t.number: t.attempt for t in study.trials}
    assert {n for n, s in states.items() if s == "paused"} == {
        t.number for t in study.trials if t.status is Status.PAUSED
    }


def test_the_machine_can_fail() -> None:
    """A loop that acts before it writes would be noticed: the executor looks into the log."""
    executor = Fickle(1, Random(1), Kept(Random(1)), lambda: False)
    with pytest.raises(AssertionError):
        executor.start([Start(0, 1, {}, (), None)])
