"""How far ahead proposals are made, what the searcher is told of them, and that the loop is not held up."""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from dhpo import CBO, HpProblem
from dhpo.objectives import Objectives
from dhpo.proposer import LARGE, MOST_AHEAD, Pace, Place, Proposer
from dhpo.searchers.base import BoundSearcher
from dhpo.trial import Observation, Phase, Proposal


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Thinker:
    """A searcher whose turns begin and end when the test says so."""

    def __init__(self, *, cheap: bool = False) -> None:
        self.cheap = cheap
        self.asked: list[list[int]] = []
        self.told: list[Observation] = []
        self.n_observed = 0
        self.started = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def observe(self, observations: Sequence[Observation]) -> None:
        self.told.extend(observations)
        self.n_observed += sum(o.phase is not Phase.PENDING for o in observations)

    def propose(self, numbers: Sequence[int]) -> list[Proposal]:
        self.asked.append(list(numbers))
        self.started.release()
        assert self.may_end.acquire(timeout=10)
        return [Proposal({"x": n}, "model", self.n_observed) for n in numbers]


class Run(NamedTuple):
    asked: list[int]  # by the turn
    waited: list[bool]  # by the trial: whether its slot was free before there was a proposal
    unknown: list[int]  # by the trial: how many results its proposal knew nothing of
    told: list[Observation]


def drive(slots: int, lasts: float, n: int, *, fixed: float, each: float, room: float = inf) -> Run:
    """Trials that all last equally long, begun one after the other, under a clock of the test's."""

    async def main() -> Run:
        clock, searcher = Clock(), Thinker()
        proposer = Proposer(searcher, lambda: None, clock=clock)
        running: list[tuple[float, int]] = []
        free = [0.0] * slots  # since when
        waited, unknown, ended, due = [], [], 0, inf
        while ended < n:
            while free:
                fresh = proposer.next(
                    int(min(len(free), n - len(waited))), len(waited), room=room - len(waited), running=len(running)
                ) if n > len(waited) else []  # fmt: skip
                if proposer._turn is not None and due == inf:
                    assert await asyncio.to_thread(searcher.started.acquire, timeout=10)
                    due = clock.now + fixed + each * len(searcher.asked[-1])
                for proposal in fresh:
                    waited.append(free.pop(0) < clock.now)
                    unknown.append(ended - proposal.n_observed)
                    number = len(waited) - 1
                    proposer.observe(Observation(number, proposal.config, Phase.PENDING))
                    # The first round is staggered: trials do not all end at once.
                    last = lasts * (number + 1) / slots if number < slots else lasts
                    heapq.heappush(running, (clock.now + last, number))
                if not fresh:
                    break
            if running and running[0][0] <= due:
                clock.now, number = heapq.heappop(running)
                proposer.observe(Observation(number, {"x": number}, Phase.ENDED, None, (0.0,)))
                free.append(clock.now)
                ended += 1
            else:
                clock.now, due = due, inf
                assert proposer._turn is not None
                searcher.may_end.release()
                await asyncio.wait([proposer._turn])
        searcher.may_end.release()
        proposer.close()
        return Run([len(numbers) for numbers in searcher.asked], waited, unknown, searcher.told)

    return asyncio.run(main())


def test_short_trials_find_their_proposals_ready() -> None:
    """20 trials a second, turns of about 0.25 s: five at least are used up while one runs."""
    run = drive(10, 0.5, 400, fixed=0.2, each=0.005)
    assert sum(run.waited[100:]) < 15
    assert 6 <= max(run.asked[20:]) <= 40
    assert max(run.unknown[100:]) <= 10 + 2 * max(run.asked[20:])  # at most about two turns old


@pytest.mark.parametrize("slots", [2, 8])
def test_where_trials_are_long_each_proposal_knows_all_results(slots: int) -> None:
    run = drive(slots, 60.0, 6 * slots, fixed=0.5, each=0.05)
    assert run.asked == [slots] + [1] * (5 * slots)
    assert run.unknown == [0] * (6 * slots)


def test_one_trial_at_a_time_is_never_proposed_ahead() -> None:
    run = drive(1, 0.01, 50, fixed=0.2, each=0.02)
    assert run.asked == [1] * 50
    assert run.unknown == [0] * 50


def test_the_first_trials_of_all_slots_are_one_batch() -> None:
    run = drive(200, 50.0, 300, fixed=0.1, each=0.001)
    assert run.asked[0] == 200


def test_turns_for_many_slots_are_long_where_proposals_are_made_ahead() -> None:
    """64 trials a second, 0.05 s for the least turn: three or four would do, at which the searcher is always busy."""
    run = drive(320, 5.0, 1600, fixed=0.05, each=0.001, room=1600)
    later = run.asked[len(run.asked) // 2 :]
    assert sum(later) / len(later) >= 15
    assert max(run.unknown[640:]) <= 320 + 80


def test_no_more_is_made_than_there_is_room_for() -> None:
    run = drive(10, 0.5, 100, fixed=0.2, each=0.005, room=100)
    assert sum(run.asked) == 100


def test_a_searcher_that_cannot_keep_up_is_not_asked_for_what_it_could_never_make() -> None:
    run = drive(8, 0.1, 100, fixed=0.01, each=0.1)
    assert max(run.asked) <= 20
    assert sum(run.asked) <= 120


def test_each_proposal_is_told_as_pending_once_and_before_it_could_matter() -> None:
    run = drive(10, 0.5, 200, fixed=0.2, each=0.005)
    pending = [o.trial for o in run.told if o.phase is Phase.PENDING]
    assert pending == list(range(len(pending)))
    assert len(pending) >= sum(run.asked[:-2])
    seen: set[int] = set()
    for o in run.told:
        assert o.phase is Phase.PENDING or o.trial in seen
        seen.add(o.trial)


def test_a_trial_that_goes_on_is_told_as_pending_again() -> None:
    async def main() -> list[Observation]:
        searcher = Thinker(cheap=True)
        searcher.may_end.release(2)
        proposer = Proposer(searcher, lambda: None)
        (proposal,) = proposer.next(1, 0)
        pending = Observation(0, proposal.config, Phase.PENDING)
        for o in (pending, Observation(0, proposal.config, Phase.ENDED, 1.0, (0.0,)), pending):
            proposer.observe(o)
        proposer.next(1, 1)
        proposer.close()
        return searcher.told

    assert [o.phase for o in asyncio.run(main())] == [Phase.PENDING, Phase.ENDED, Phase.PENDING]


class Quick:
    """A cheap searcher, each of whose proposals takes a tenth of a millisecond by the clock."""

    cheap = True

    def __init__(self, clock: Clock, size: float = inf) -> None:
        self.clock = clock
        self.size = size
        self.asked: list[int] = []
        self.told: list[int] = []

    def observe(self, observations: Sequence[Observation]) -> None:
        self.told.extend(o.trial for o in observations)

    def propose(self, numbers: Sequence[int]) -> list[Proposal]:
        self.asked.append(len(numbers))
        self.clock.now += 1e-4 * len(numbers)
        return [Proposal({"x": n}, "random") for n in numbers if n < self.size]


@pytest.mark.parametrize("size", [inf, 500])
def test_many_cheap_proposals_are_made_in_slices_that_others_run_between(size: float) -> None:
    async def main() -> None:
        clock = Clock()
        searcher = Quick(clock, size)
        woken = asyncio.Event()
        proposer = Proposer(searcher, woken.set, clock=clock)
        assert proposer.next(1000, 0) == []
        others, longest, before = 0, 0.0, clock.now
        while not woken.is_set():
            await asyncio.sleep(0)
            longest, before = max(longest, clock.now - before), clock.now
            others += 1
        made = proposer.next(1000, 0)
        assert [p.config["x"] for p in made] == list(range(min(1000, int(min(size, 1000)))))
        assert longest <= 0.002 + 1e-9
        assert others > 20
        for number, proposal in enumerate(made):
            proposer.observe(Observation(number, proposal.config, Phase.PENDING))
        assert proposer.exhausted is (size < 1000)
        if not proposer.exhausted:
            assert len(proposer.next(1, 1000)) == 1  # a few are made at once
            assert searcher.asked[-1] == 1
            assert searcher.told == list(range(1000))
        proposer.close()

    asyncio.run(main())


def test_under_a_virtual_clock_all_is_made_at_once_and_nothing_ahead() -> None:
    async def main() -> None:
        clock = Clock()
        searcher = Quick(clock)
        proposer = Proposer(searcher, lambda: None, Place.HERE, clock=clock)
        n = 0
        for wanted in (1000, 1, 3, 50):
            made = proposer.next(wanted, n, running=1000)
            assert [p.config["x"] for p in made] == list(range(n, n + wanted))
            for number in range(n, n + wanted):
                proposer.observe(Observation(number, {"x": number}, Phase.PENDING))
                proposer.observe(Observation(number, {"x": number}, Phase.ENDED, None, (0.0,)))
            n += wanted
        assert searcher.asked == [1000, 1, 3, 50]
        proposer.close()

    asyncio.run(main())


class Threads(Thinker):
    """A searcher that notes how many threads its matrices would be multiplied by."""

    seen: set[int]

    def propose(self, numbers: Sequence[int]) -> list[Proposal]:
        self.seen = blas_threads()
        return [Proposal({"x": n}, "model", self.n_observed) for n in numbers]


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.mark.parametrize("place", [Place.HERE, Place.THREAD])
def test_a_model_computes_with_one_thread(place: Place) -> None:
    async def main() -> set[int]:
        woken, loop, searcher = asyncio.Event(), asyncio.get_running_loop(), Threads()
        proposer = Proposer(searcher, lambda: loop.call_soon_threadsafe(woken.set), place)
        if not proposer.next(1, 0):
            await asyncio.wait_for(woken.wait(), 60)
        proposer.close()
        return searcher.seen

    before = blas_threads()
    assert asyncio.run(main()) == {1}
    assert blas_threads() == before


def test_a_searcher_that_knows_many_trials_is_in_its_process_from_the_start() -> None:
    def modelled() -> BoundSearcher:
        problem = HpProblem({"x": (-5.0, 5.0)})
        searcher: BoundSearcher = CBO().bind(problem, Objectives.parse(), seed=3, max_t=None)
        values = [0.01 * n - 4.0 for n in range(20)]
        searcher.observe([Observation(n, {"x": x}, Phase.ENDED, None, (x * x,)) for n, x in enumerate(values)])
        return searcher

    async def main() -> list[Proposal]:
        woken, loop = asyncio.Event(), asyncio.get_running_loop()
        here = modelled()
        proposer = Proposer(here, lambda: loop.call_soon_threadsafe(woken.set), Place.PROCESS, told=LARGE)
        try:
            assert proposer._process is not None
            assert proposer.next(2, 20) == []
            await asyncio.wait_for(woken.wait(), 60)
            return proposer.next(2, 20)
        finally:
            proposer.close()

    assert asyncio.run(main()) == modelled().propose([20, 21])
    small = Proposer(modelled(), lambda: None, Place.PROCESS, told=20)
    assert small._process is None
    cheap = CBO().bind(HpProblem({"x": (0.0, 1.0)}), Objectives.parse(), seed=3, max_t=None)
    assert Proposer(cheap, lambda: None, Place.PROCESS, told=LARGE)._process is None


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(0.0, 10.0), st.floats(1e-6, 5.0))),
    st.integers(1, 60),
)
def test_a_pace_is_bounded_whatever_happens(steps: list[tuple[int, int, float, float]], slots: int) -> None:
    now, pace = 0.0, Pace(0.0)
    for ended, taken, passed, took in steps:
        for _ in range(ended):
            pace.ended()
        now += passed
        pace.taken(taken, slots, now)
        pace.turned(took, max(1, taken))
        ahead = pace.ahead(slots, now)
        assert 0 <= ahead <= max(MOST_AHEAD, slots) // 2
        assert ahead == 0 or (slots > 1 and ended + taken + len(steps) > 0)


def test_first_trials_say_nothing_of_the_pace() -> None:
    pace = Pace(0.0)
    pace.turned(2.0, 1000)
    pace.taken(1000, 1000, 2.0)
    assert pace.ahead(1000, 2.0) == 0


@pytest.mark.parametrize("lasts", [5.0, 3600.0])
def test_trials_that_begin_and_end_together_are_taken_as_what_they_are_in_the_mean(lasts: float) -> None:
    pace = Pace(0.0)
    for wave in range(5):
        for _ in range(100 if wave else 0):
            pace.ended()
        for k in range(100):
            pace.taken(1, 100, wave * lasts + 1e-4 * k)
        pace.turned(0.1, 1)
    assert pace.ahead(100, 4 * lasts + 0.01) == pytest.approx(1.5 * 2 * 0.1 * 100 / lasts, rel=1.0, abs=0.5)


def test_what_was_long_once_is_forgotten() -> None:
    pace = Pace(0.0)
    pace.turned(0.01, 1)
    pace.turned(3.0, 1)
    aheads = []
    for k in range(1, 400):
        pace.ended()
        pace.taken(1, 4, 0.1 * k)
        pace.turned(0.01, 1)
        aheads.append(pace.ahead(4, 0.1 * k))
    assert max(aheads) > 10
    assert aheads[-1] == 0
