"""The controller that keeps N workers, against a made-up batch system. No clock, no processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dhpo.clusters._controller import (
    ABSENCE,
    FIRST_DEATHS,
    GRACE,
    LATER_DEATHS,
    PATIENCE,
    REPEAT,
    Controller,
    Decision,
    Phase,
)


@dataclass
class Batch:
    """A batch system, and the shell around a controller."""

    controller: Controller
    now: float = 0.0
    queue: dict[str, Phase] = field(default_factory=dict)
    workers: dict[int, int] = field(default_factory=dict)  # number -> workers connected
    unheard: list[int] = field(default_factory=list)  # submissions under way

    def step(self, seconds: float = 1.0, *, accept: bool = True) -> Decision:
        """Let time pass, look at the queue, and do what is decided."""
        self.now += seconds
        self.poll()
        decision = self.controller.decide(self.now)
        for number in decision.withdraw:
            id = self.id(number)
            if self.queue.get(id) is Phase.PENDING:  # as `scancel --state=PENDING` does
                self.end(id)
        for number in decision.cancel:
            self.end(self.id(number))
        for _ in range(decision.submit):
            self.unheard.append(self.controller.begin())
        self.answer(accept)
        if decision.retire:
            numbers = [number for number, n in self.workers.items() if n][: decision.retire]
            self.controller.retired(numbers, self.now)
            for number in numbers:
                self.leave(number)
                self.end(self.id(number))
        return decision

    def answer(self, accept: bool) -> None:
        for number in self.unheard:
            if accept:
                self.queue[self.id(number)] = Phase.PENDING
                self.controller.accepted(number, self.id(number), self.now)
            else:
                self.controller.refused(number, "sbatch failed: no", self.now)
        self.unheard = []

    def poll(self) -> None:
        states = {id: (phase, "Resources") for id, phase in self.queue.items()}
        self.controller.polled(states, self.now, self.now)

    def id(self, number: int) -> str:
        return f"{1000 + number}"

    def run(self, *, join: bool = True) -> None:
        """Start what is pending."""
        for id, phase in self.queue.items():
            if phase is Phase.PENDING:
                self.queue[id] = Phase.RUNNING
                if join:
                    self.join(int(id) - 1000)

    def join(self, number: int) -> None:
        self.workers[number] = self.workers.get(number, 0) + 1
        self.controller.joined(number)

    def leave(self, number: int) -> None:
        while self.workers.get(number, 0):
            self.workers[number] -= 1
            self.controller.left(number, self.now)

    def end(self, id: str) -> None:
        self.queue.pop(id, None)
        self.leave(int(id) - 1000)

    @property
    def connected(self) -> int:
        return sum(1 for n in self.workers.values() if n)


def make(n_workers: int = 4, **arguments: float) -> Batch:
    return Batch(Controller(n_workers, **arguments))  # type: ignore[arg-type]


def test_it_submits_as_many_as_are_wanted_and_then_waits() -> None:
    batch = make(4)
    assert batch.step() == Decision(submit=4)
    assert batch.step() == Decision()
    assert batch.controller.state(batch.now) == "4 of 4 jobs pending: (Resources)"
    batch.run(join=False)
    batch.step()
    assert batch.controller.state(batch.now) == "0 of 4 workers, 4 starting"
    for number in range(1, 4):
        batch.join(number)
    assert batch.controller.state(batch.now) == "3 of 4 workers, 1 starting"


def test_it_never_submits_for_more_trials_than_there_are() -> None:
    batch = make(4)
    batch.controller.want(2)
    assert batch.step().submit == 2
    batch.controller.want(100)
    assert batch.step().submit == 2


def test_a_lost_job_is_replaced_at_once() -> None:
    batch = make(4)
    batch.step()
    batch.run()
    batch.step()
    batch.end(batch.id(2))
    assert batch.step(0.1).submit == 1
    assert sorted(batch.controller.jobs) == [1, 3, 4, 5]


def test_failing_submissions_are_tried_again_after_longer_and_longer_pauses() -> None:
    batch = make(3)
    times = []
    for _ in range(400):
        if batch.step(1.0, accept=False).submit:
            times.append(batch.now)
    pauses = [b - a for a, b in pairwise(times)]
    assert pauses[:6] == [1, 2, 4, 8, 16, 32]
    assert batch.controller.given_up is None
    assert "sbatch failed: no; next try in" in batch.controller.state(batch.now)
    batch.step(300.0)
    assert len(batch.queue) == 3
    assert "sbatch" not in batch.controller.state(batch.now)


def test_an_error_that_will_last_is_told_at_once_unless_jobs_were_accepted_before() -> None:
    batch = make(1)
    batch.controller.refused(batch.controller.begin(), "invalid partition", 0.0, lasting=True)
    assert batch.controller.given_up == "invalid partition"
    batch = make(1)
    batch.step()
    batch.end(batch.id(1))
    batch.controller.refused(batch.controller.begin(), "not available", 2.0, lasting=True)
    assert batch.controller.given_up is None


def test_it_gives_up_after_immediate_deaths_in_a_row() -> None:
    batch = make(4)
    rounds = 0
    for _ in range(100):
        rounds += batch.step().submit > 0
        batch.run(join=False)
        for id in list(batch.queue):
            batch.end(id)
    assert rounds == FIRST_DEATHS  # four jobs that die together died of one cause
    assert "before their worker had connected" in (batch.controller.given_up or "")
    assert batch.controller.casualty in range(4 * FIRST_DEATHS - 3, 4 * FIRST_DEATHS + 1)
    assert batch.controller.decide(1e9) == Decision()


def test_once_a_worker_has_come_it_is_more_patient() -> None:
    batch = make(1)
    batch.step()
    batch.run()
    batch.end(batch.id(1))
    rounds = 0
    for _ in range(1000):
        rounds += batch.step().submit > 0
        batch.run(join=False)
        for id in list(batch.queue):
            batch.end(id)
    assert rounds == LATER_DEATHS


def test_a_node_that_eats_jobs_does_not_end_a_search_with_workers() -> None:
    batch = make(2)
    batch.step()
    batch.queue[batch.id(1)] = Phase.RUNNING
    batch.join(1)
    for _ in range(2000):
        batch.step()
        for id in [id for id in batch.queue if id != batch.id(1)]:
            batch.end(id)
    assert batch.controller.given_up is None
    assert batch.connected == 1
    assert "died early" in batch.controller.state(batch.now)
    batch.step(100.0)
    batch.run()
    assert "died early" not in batch.controller.state(batch.now)


def test_a_surplus_is_withdrawn_from_the_queue_first_the_newest_jobs_first() -> None:
    batch = make(4)
    batch.step()
    for number in (1, 2):
        batch.queue[batch.id(number)] = Phase.RUNNING
        batch.join(number)
    batch.controller.want(3)
    assert batch.step() == Decision()  # it may pass
    assert batch.step(GRACE).withdraw == (4,)
    batch.controller.want(1)
    batch.step()
    decision = batch.step(GRACE)
    assert (decision.withdraw, decision.retire) == ((3,), 1)


def test_workers_are_retired_by_the_scheduler_and_asked_for_once() -> None:
    batch = make(3)
    batch.step()
    batch.run()
    batch.controller.want(1)
    controller = batch.controller
    controller.decide(batch.now)
    assert controller.decide(batch.now + GRACE).retire == 2
    assert controller.decide(batch.now + GRACE + 1).retire == 0  # no answer yet
    controller.retired([3], batch.now + GRACE + 1)  # the others are busy
    assert controller.decide(batch.now + GRACE + 2).retire == 1


def test_a_withdrawn_job_that_began_meanwhile_stays() -> None:
    batch = make(1)
    batch.step()
    batch.controller.want(0)
    controller = batch.controller
    controller.decide(batch.now)
    assert controller.decide(batch.now + GRACE).withdraw == (1,)
    controller.want(1)
    batch.join(1)
    assert controller.decide(batch.now + GRACE + 1).submit == 0


def test_a_job_without_its_worker_is_cancelled_after_a_while() -> None:
    batch = make(2)
    batch.step()
    batch.run(join=False)
    batch.join(1)
    batch.step()
    batch.leave(1)
    assert batch.step(ABSENCE - 1).cancel == ()
    assert batch.step(1.0).cancel == (1,)
    assert batch.step(PATIENCE - ABSENCE - 1).cancel == ()
    assert batch.step(2.0).cancel == (2,)


def test_a_job_that_does_not_end_is_cancelled_again() -> None:
    batch = make(1)
    batch.step()
    batch.run(join=False)
    batch.step()
    controller = batch.controller
    batch.now += PATIENCE
    assert controller.decide(batch.now).cancel == (1,)
    batch.poll()  # still there
    assert controller.decide(batch.now + REPEAT - 1).cancel == ()
    assert controller.decide(batch.now + REPEAT).cancel == (1,)


def test_a_requeued_job_gets_its_time_anew() -> None:
    batch = make(1)
    batch.step()
    batch.run()
    batch.step()
    batch.queue[batch.id(1)] = Phase.PENDING
    batch.leave(1)
    assert batch.step(10 * PATIENCE) == Decision()
    batch.run()
    assert batch.controller.state(batch.now) == "1 of 1 workers"


def test_a_job_that_was_accepted_during_a_poll_is_judged_by_the_next() -> None:
    controller = Controller(1)
    controller.accepted(controller.begin(), "7", 5.0)
    controller.polled({}, began=4.0, now=6.0)
    assert controller.decide(6.0).submit == 0
    controller.polled({}, began=7.0, now=7.1)
    assert 1 not in controller.jobs


def test_news_of_unknown_workers_change_nothing() -> None:
    controller = Controller(1)
    controller.joined(9)
    controller.left(9, 1.0)
    controller.retired([9], 1.0)
    assert controller.jobs == {}
    assert controller.decide(1.0).submit == 1


@pytest.mark.parametrize("late", [False, True])
def test_the_startup_timeout_is_for_the_first_worker(late: bool) -> None:
    batch = make(1, startup_timeout=30.0)
    batch.step()
    assert batch.controller.due(batch.now) == 29.0
    if not late:
        batch.run()
        batch.end(batch.id(1))
    batch.step(30.0)
    assert ("within 30 s" in (batch.controller.given_up or "")) == late


class Storm(RuleBasedStateMachine):
    """Whatever happens: never too many, never a busy one, and back to N when the storm is over."""

    @initialize(n=st.integers(1, 5))
    def begin(self, n: int) -> None:
        self.batch = make(n)

    def some(self, data: st.DataObject, phase: Phase) -> str:
        return data.draw(st.sampled_from([id for id, p in self.batch.queue.items() if p is phase]))

    @rule(seconds=st.sampled_from([0.1, 1.0, 15.0, 200.0]), accept=st.booleans())
    def step(self, seconds: float, accept: bool) -> None:
        batch, controller = self.batch, self.batch.controller
        busy = {number for number, n in batch.workers.items() if n}
        decision = batch.step(seconds, accept=accept)
        if controller.given_up is not None:
            assert decision == Decision()
            return
        assert not busy & {*decision.withdraw, *decision.cancel}
        assert not set(decision.withdraw) & set(decision.cancel)
        staying = [job for job in controller.jobs.values() if job.leaving is None]
        if decision.submit:
            assert len(staying) <= min(controller.n_workers, controller.wanted)

    @rule(wanted=st.integers(0, 8))
    def want(self, wanted: int) -> None:
        self.batch.controller.want(wanted)

    @precondition(lambda self: Phase.PENDING in self.batch.queue.values())
    @rule(data=st.data(), join=st.booleans())
    def start(self, data: st.DataObject, join: bool) -> None:
        id = self.some(data, Phase.PENDING)
        self.batch.queue[id] = Phase.RUNNING
        if join:
            self.batch.join(int(id) - 1000)

    @precondition(lambda self: Phase.RUNNING in self.batch.queue.values())
    @rule(data=st.data(), what=st.sampled_from(["end", "leave", "join", "requeue"]))
    def change(self, data: st.DataObject, what: str) -> None:
        id = self.some(data, Phase.RUNNING)
        number = int(id) - 1000
        if what == "end":
            self.batch.end(id)
        elif what == "leave":
            self.batch.leave(number)
        elif what == "join":
            self.batch.join(number)
        else:
            self.batch.queue[id] = Phase.PENDING

    @precondition(lambda self: Phase.PENDING in self.batch.queue.values())
    @rule(data=st.data())
    def scancel(self, data: st.DataObject) -> None:
        self.batch.end(self.some(data, Phase.PENDING))

    @invariant()
    def the_state_can_be_told(self) -> None:
        if hasattr(self, "batch"):
            assert isinstance(self.batch.controller.state(self.batch.now), str)
            assert self.batch.controller.due(self.batch.now) > 0

    def teardown(self) -> None:
        if not hasattr(self, "batch") or self.batch.controller.given_up is not None:
            return
        target = min(self.batch.controller.n_workers, self.batch.controller.wanted)
        for _ in range(12):
            self.batch.step(301.0)
            for id, phase in list(self.batch.queue.items()):
                number = int(id) - 1000
                if phase is Phase.PENDING or not self.batch.workers.get(number):
                    self.batch.queue[id] = Phase.RUNNING
                    self.batch.join(number)
        assert self.batch.connected == len(self.batch.queue) == target


TestStorm = Storm.TestCase
TestStorm.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
