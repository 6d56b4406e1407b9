"""The loop and the proposer, over an executor and a searcher that do as they are told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dhpo import loop
from dhpo.budget import Budget
from dhpo.events import (
    Cancel,
    Decide,
    Event,
    SearchFinished,
    SessionOpened,
    Start,
    TrialCompleted,
    TrialFailed,
    TrialProposed,
    TrialReported,
    WorkerLost,
)
from dhpo.objectives import Objectives
from dhpo.proposer import Place, Proposer
from dhpo.stopping.base import NeverStop
from dhpo.stopping.hyperband import Hyperband
from dhpo.study import Study
from dhpo.trial import Decision, Observation, Phase, Proposal, Status

OPENED = SessionOpened(0.0, 0.0, "host", 1, "0")


class Counting:
    """A searcher of ``size`` configurations."""

    def __init__(self, size: int = 10**6, *, cheap: bool = True) -> None:
        self.size = size
        self.cheap = cheap
        self.seen: list[Observation] = []
        self.asked: list[list[int]] = []
        self.may_go = threading.Event()
        self.may_go.set()

    def observe(self, observations: Sequence[Observation]) -> None:
        self.seen.extend(observations)

    def propose(self, numbers: Sequence[int]) -> list[Proposal]:
        assert self.may_go.wait(10)
        self.asked.append(list(numbers))
        return [Proposal({"x": n}, "random") for n in numbers if n < self.size]


class Scripted:
    """An executor of some workers: each trial yields its events, one batch at a time. The clock counts the batches."""

    def __init__(self, workers: int, script: Callable[[Start], list[Event]]) -> None:
        self.workers = workers
        self.script = script
        self.starts: list[Start] = []
        self.obeyed: list[Decide | Cancel] = []
        self.running: dict[int, list[Event]] = {}
        self.time = 0.0
        self.timeouts: list[float | None] = []
        self.woken = asyncio.Event()
        self.most = 0
        self.wanted: list[int] = []

    def now(self) -> float:
        return self.time

    def free(self) -> int:
        return self.workers - len(self.running)

    def start(self, starts: Sequence[Start]) -> None:
        self.starts.extend(starts)
        self.running.update((s.trial, self.script(s)) for s in starts)
        self.most = max(self.most, len(self.running))

    async def events(self, timeout: float | None) -> list[Event]:
        self.time += 1.0
        self.timeouts.append(timeout)
        if not self.running:
            await asyncio.wait_for(self.woken.wait(), 10)
            self.woken.clear()
            return []
        batch = [events.pop(0) for events in self.running.values() if events]
        for e in batch:
            if not isinstance(e, TrialReported):
                del self.running[e.trial]
        return batch

    def wake(self) -> None:
        asyncio.get_running_loop().call_soon_threadsafe(self.woken.set)

    def obey(self, command: Decide | Cancel) -> None:
        self.obeyed.append(command)

    def want(self, trials: int) -> None:
        self.wanted.append(trials)


class Memory:
    def __init__(self, study: Study) -> None:
        self.study = study
        self.events: list[Event] = []

    async def append(self, events: Sequence[Event]) -> None:
        # Durable before anyone acts on it: the study does not know these yet.
        assert not any(isinstance(e, TrialProposed) and e.trial < len(self.study.trials) for e in events)
        self.events.extend(events)


def completes(start: Start, value: float | None = None) -> list[Event]:
    value = float(start.trial) if value is None else value
    return [TrialCompleted(0.0, start.trial, start.attempt, {"objective": value}, {}, False, 0.0, 0.0, "w")]


def fails(start: Start) -> list[Event]:
    return [TrialFailed(0.0, start.trial, start.attempt, "oops", "", 0.0, 0.0, "w")]


class Outcome:
    def __init__(self, budget: Budget, script: Any = completes, **kwargs: Any) -> None:
        self.searcher = kwargs.pop("searcher", None) or Counting()
        stopper = kwargs.pop("stopper", NeverStop())
        self.study = kwargs.pop("study", None) or Study(Objectives.parse(), stopper.bind(1, max_t=None, seed=0), seed=0)
        self.batches: list[list[Event]] = []
        self.reason: str | None = ""
        workers = kwargs.pop("workers", 3)
        place = kwargs.pop("place", Place.THREAD)

        async def main() -> None:
            self.executor = Scripted(workers, script)
            self.log = Memory(self.study)
            loop_of = asyncio.get_running_loop()
            wake = lambda: loop_of.call_soon_threadsafe(self.executor.woken.set)  # noqa: E731
            proposer = Proposer(self.searcher, wake, place)
            self.study.aim(budget.goal)
            watchers = [lambda events, study: self.batches.append(list(events))]
            try:
                self.reason = await loop.run(
                    self.study, proposer, self.executor, self.log, budget, OPENED, watchers=watchers, **kwargs
                )
            finally:
                self.executor.proposer_exhausted = proposer.exhausted
                proposer.close()

        asyncio.run(main())


@pytest.mark.parametrize("workers", [1, 3, 50])
@pytest.mark.parametrize("script", [completes, fails])
def test_num_trials_is_exact(workers: int, script: Any) -> None:
    out = Outcome(Budget(num_trials=10), script, workers=workers)
    assert out.reason == "num_trials=10 reached"
    assert [s.trial for s in out.executor.starts] == list(range(10))
    assert out.study.n_ended == 10
    assert out.executor.most == min(workers, 10)
    assert out.log.events[0] == OPENED
    assert out.log.events[-1] == SearchFinished(out.executor.time, out.reason)
    assert [e for batch in out.batches for e in batch] == out.log.events  # watchers see all, in order


def test_the_executor_is_told_how_many_trials_could_run() -> None:
    assert Outcome(Budget(num_trials=5), workers=2).executor.wanted == [5, 3, 1]
    assert set(Outcome(Budget(time_limit=3.0), workers=1).executor.wanted) == {loop.UNLIMITED}
    assert Outcome(Budget(num_trials=100), workers=4, searcher=Counting(7)).executor.wanted[-1] == 3


def test_free_workers_are_filled_with_one_batch() -> None:
    out = Outcome(Budget(num_trials=9), workers=3)
    assert out.searcher.asked == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    proposals = [len(b) for b in out.batches if isinstance(b[0], TrialProposed)]
    assert proposals == [3, 3, 3]


def test_the_other_ends() -> None:
    assert Outcome(Budget(time_limit=4.0)).reason == "time_out reached"
    goal = Outcome(Budget(goal=(-5.0,)))
    assert goal.reason == "stop_at reached"
    assert goal.study.best_cost <= -5.0
    stale = Outcome(Budget(patience=4), lambda s: completes(s, 1.0), workers=1)
    assert stale.reason == "no improvement in 4 trials"
    assert len(stale.study.trials) == 5
    failed = Outcome(Budget(num_trials=100, max_failures=6), fails)
    assert failed.reason == "the last 6 trials failed"
    assert len(failed.study.trials) == 6


def test_a_time_limit_bounds_each_wait() -> None:
    out = Outcome(Budget(time_limit=3.0), workers=1)
    assert out.executor.timeouts == [3.0, 2.0, 1.0]


@pytest.mark.parametrize("cheap", [True, False])
@pytest.mark.parametrize("workers", [1, 4, 20])
def test_an_exhausted_space_ends_the_search(cheap: bool, workers: int) -> None:
    out = Outcome(Budget(num_trials=100), workers=workers, searcher=Counting(7, cheap=cheap))
    assert out.reason == "the space is exhausted"
    assert out.study.n_ended == 7
    assert [t.config["x"] for t in out.study.trials] == list(range(7))


def test_proposals_that_lie_ready_are_not_forgotten_when_the_space_is_exhausted() -> None:
    searcher = Counting(5, cheap=False)

    async def main() -> list[int]:
        woken = asyncio.Event()
        running = asyncio.get_running_loop()
        proposer = Proposer(searcher, lambda: running.call_soon_threadsafe(woken.set), Place.THREAD)
        assert proposer.next(10, 0) == []
        await asyncio.wait_for(woken.wait(), 10)
        taken = [len(proposer.next(2, 0))]  # fewer workers than there were
        while not proposer.exhausted:
            taken.append(len(proposer.next(2, 0)))
        proposer.close()
        return taken

    assert asyncio.run(main()) == [2, 2, 1]


def test_rungs_are_answered_and_a_stopped_trial_is_observed() -> None:
    def script(start: Start) -> list[Event]:
        value = float(-start.trial)
        report = TrialReported(0.0, start.trial, start.attempt, 1, 1.0, {"objective": value})
        end = TrialCompleted(0.0, start.trial, start.attempt, None, {}, True, 0.0, 0.0, "w")
        return [report, end]

    out = Outcome(Budget(num_trials=4), script, workers=1, stopper=Hyperband(max_t=9))
    decisions = [c.decision for c in out.executor.obeyed if isinstance(c, Decide)]
    assert decisions == [Decision.CONTINUE, Decision.STOP, Decision.STOP, Decision.STOP]
    assert [t.status for t in out.study.trials][1:] == [Status.STOPPED] * 3
    assert all(s.milestones == (1, 3) and s.max_t == 9 for s in out.executor.starts)


def test_lost_workers_restart_and_in_the_end_fail_their_trial() -> None:
    def script(start: Start) -> list[Event]:
        if start.trial == 1:
            return [WorkerLost(0.0, 1, start.attempt, f"w{start.attempt}")]
        return completes(start)

    out = Outcome(Budget(num_trials=3), script)
    assert out.study.trials[1].status is Status.FAILED
    assert [s.attempt for s in out.executor.starts if s.trial == 1] == [1, 2, 3]
    assert "3 workers died" in out.study.last_error
    assert any(isinstance(e, TrialFailed) and e.trial == 1 and e.attempt == 4 for e in out.log.events)


def test_a_second_run_starts_again_what_was_running() -> None:
    study = Study(Objectives.parse(), NeverStop(), seed=0)
    for e in study.admit([Proposal({"x": n}, "random") for n in range(2)], 0.0):
        study.apply(e)
    out = Outcome(Budget(num_trials=3), study=study)
    assert [(s.trial, s.attempt) for s in out.executor.starts] == [(0, 2), (1, 2), (2, 1)]


def test_an_interruption_ends_at_once_and_leaves_no_end_in_the_journal() -> None:
    seen = []

    def interrupted() -> bool:
        seen.append(1)
        return len(seen) > 3

    out = Outcome(Budget(num_trials=1000), interrupted=interrupted)
    assert out.reason is None
    assert not any(isinstance(e, SearchFinished) for e in out.log.events)


def test_a_failing_log_ends_the_search_before_anything_is_done() -> None:
    class Full(Memory):
        async def append(self, events: Sequence[Event]) -> None:
            if isinstance(events[0], TrialProposed):
                raise OSError("full")

    study = Study(Objectives.parse(), NeverStop(), seed=0)

    async def main() -> None:
        executor = Scripted(2, completes)
        proposer = Proposer(Counting(), executor.wake)
        try:
            with pytest.raises(OSError, match="full"):
                await loop.run(study, proposer, executor, Full(study), Budget(num_trials=2), OPENED)
        finally:
            assert executor.starts == []

    asyncio.run(main())
    assert study.trials == []


def test_the_loop_goes_on_while_the_searcher_thinks() -> None:
    """A trial's end is journalled while proposals are still being computed, and told before the next turn."""
    searcher = Counting(cheap=False)
    heard = []

    def watch(events: Sequence[Event], study: Study) -> None:
        heard.extend(type(e).__name__ for e in events)
        if isinstance(events[0], TrialProposed) and len(study.trials) == 2:
            searcher.may_go.clear()  # the third proposal takes as long as the second trial
        if sum(name == "TrialCompleted" for name in heard) == 2:
            searcher.may_go.set()

    async def main() -> Study:
        study = Study(Objectives.parse(), NeverStop(), seed=0)
        executor = Scripted(1, completes)
        running = asyncio.get_running_loop()
        proposer = Proposer(searcher, lambda: running.call_soon_threadsafe(executor.woken.set))
        await loop.run(study, proposer, executor, Memory(study), Budget(num_trials=4), OPENED, watchers=[watch])
        proposer.close()
        return study

    assert asyncio.run(main()).n_ended == 4
    phases = [(o.trial, o.phase) for o in searcher.seen]
    assert phases[:4] == [(0, Phase.PENDING), (0, Phase.ENDED), (1, Phase.PENDING), (1, Phase.ENDED)]


@pytest.mark.parametrize("cheap", [True, False])
def test_a_searcher_that_raises_ends_the_search_with_its_own_error(cheap: bool) -> None:
    class Broken(Counting):
        def propose(self, numbers: Sequence[int]) -> list[Proposal]:
            raise ZeroDivisionError("in the model")

    with pytest.raises(ZeroDivisionError, match="in the model"):
        Outcome(Budget(num_trials=3), searcher=Broken(cheap=cheap))


def test_closing_does_not_wait_for_a_searcher_that_computes(caplog: pytest.LogCaptureFixture) -> None:
    searcher = Counting(cheap=False)
    searcher.may_go.clear()
    threads: list[threading.Thread] = []

    async def main() -> None:
        running = asyncio.get_running_loop()
        proposer = Proposer(searcher, lambda: running.call_soon_threadsafe(lambda: None))
        assert proposer.next(1, 0) == []
        threads.extend(t for t in threading.enumerate() if t.name.startswith("dhpo-searcher"))
        proposer.close()

    asyncio.run(main())
    searcher.may_go.set()
    for thread in threads:
        thread.join(10)
    assert threads
    assert caplog.records == []  # such as "Event loop is closed"
