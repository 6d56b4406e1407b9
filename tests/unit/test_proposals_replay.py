"""Proposal k follows from the seed, k, the configurations 0 … k - 1, and the first n_k observations: nothing else.

n_k is journalled with the proposal, so a search is reproduced from its journal whatever the timing of its trials and of
the searcher's turns was.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo import CBO, HpProblem, Hyperband, NeverStop, RandomSearcher, RegularizedEvolution, Search
from dhpo.events import Event, Observe, TrialCompleted, TrialFailed, TrialProposed
from dhpo.executors.local import LocalExecutor
from dhpo.executors.simulated import Simulated
from dhpo.journal import read
from dhpo.objectives import Objectives
from dhpo.proposer import Pace, Place, Proposer
from dhpo.searchers.base import BoundSearcher, Searcher
from dhpo.stopping.base import Stopper
from dhpo.study import Study
from dhpo.trial import Observation, Phase, Proposal

SEED = 11
SEARCHERS: dict[str, Searcher] = {
    "random": RandomSearcher(initial_points=[{"x": 1.5, "rate": 0.01, "n": 3, "kind": "c"}]),
    "evolution": RegularizedEvolution(population_size=6, sample_size=3),
    "cbo": CBO(),
}
each_searcher = pytest.mark.parametrize("searcher", SEARCHERS.values(), ids=SEARCHERS)


def problem() -> HpProblem:
    return HpProblem({"x": (-5.0, 5.0), "rate": (1e-5, 1e-1, "log-uniform"), "n": (1, 40), "kind": ["a", "b", "c"]})


def cost(config: Mapping[str, Any]) -> float:
    return float(config["x"] ** 2 + math.log(config["rate"]) ** 2 + config["n"])


class State:
    """A searcher whose proposals are said to take time, so that they are made beside the loop."""

    cheap = False

    def __init__(self, state: BoundSearcher) -> None:
        self.state = state

    def observe(self, observations: Sequence[Observation]) -> None:
        self.state.observe(observations)

    def propose(self, numbers: Sequence[int]) -> list[Proposal]:
        for number in numbers:
            sum(range(20_000 + number))
        return self.state.propose(numbers)


@dataclass(frozen=True)
class Beside:
    searcher: Searcher

    def bind(self, problem: HpProblem, objectives: Objectives, **kwargs: Any) -> State:
        return State(self.searcher.bind(problem, objectives, **kwargs))

    def settings(self) -> dict[str, Any]:
        return self.searcher.settings()


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Equal, up to the rounding of numbers."""
    return a.keys() == b.keys() and all(
        math.isclose(a[name], b[name], rel_tol=1e-6) if isinstance(a[name], float) else a[name] == b[name] for name in a
    )


def check(events: Sequence[Event], searcher: Searcher, stopper: Stopper | None = None) -> None:
    """Every proposal of these events is what a fresh searcher, told what it must depend on alone, proposes."""
    objectives, stopper = Objectives.parse(), stopper or NeverStop()
    bound = stopper.bind(1, max_t=None, seed=SEED)
    study = Study(objectives, bound, SEED)
    given_out: list[Observation] = []
    happened: list[Observation] = []
    proposed: list[TrialProposed] = []
    for event in events:
        if isinstance(event, TrialProposed):
            proposed.append(event)
        for command in study.apply(event):
            if isinstance(command, Observe):
                o = command.observation
                if o.phase is not Phase.PENDING:
                    happened.append(o)
                elif o.trial == len(given_out):
                    given_out.append(o)
    assert [event.trial for event in proposed] == list(range(len(study.trials)))
    for event in proposed:
        fresh = searcher.bind(problem(), objectives, seed=SEED, max_t=bound.max_t)
        fresh.observe([*given_out[: event.trial], *happened[: event.n_observed]])
        (expected,) = fresh.propose([event.trial])
        assert (expected.origin, expected.n_observed) == (event.origin, event.n_observed)
        assert same(expected.config, event.config), f"proposal {event.trial}: {expected.config} is not {event.config}"


def journalled(directory: Path) -> list[Event]:
    return [event for batch in read(directory)[1] for event in batch]


def search(directory: Path, searcher: Searcher, function: Any, cluster: Any, **kwargs: Any) -> Search:
    return Search(
        problem(), function, cluster=cluster, searcher=searcher, random_state=SEED, log_dir=directory, **kwargs
    )


def epochs(config: Any, report: Any) -> None:
    for epoch in range(1, 10):
        if config.n == 7:
            raise ValueError("seven")
        report(epoch=epoch, objective=-cost(config) / epoch, seconds=1.0 + config.x**2)


def now_and_then(config: Any) -> float:
    """Trials that take any time at all."""
    sum(range(int(1000 * abs(config.x) ** 3)))
    return -cost(config)


@each_searcher
@pytest.mark.parametrize("kind", ["stopping", "promotion"])
def test_a_simulated_search_and_its_resumption(tmp_path: Path, searcher: Searcher, kind: str) -> None:
    stopper = Hyperband(time_attr="epoch", max_t=9, type=kind)
    for num_trials in (25, 50):
        cluster = Simulated(workers=5, deaths_per_hour=60.0, startup=(0.0, 30.0), spread=0.3, seed=num_trials)
        search(tmp_path, searcher, epochs, cluster, stopper=stopper).run(num_trials, progress=False)
    check(journalled(tmp_path), searcher, stopper)


@each_searcher
def test_a_search_in_threads_and_its_resumption(tmp_path: Path, searcher: Searcher) -> None:
    """The first run ends at a goal, with proposals that lie ready or are being computed; they leave no trace."""
    beside = Beside(searcher)
    found = search(tmp_path, beside, now_and_then, LocalExecutor(4))
    found.run(100, patience=15, progress=False)
    found.run(len(found.results) + 20, progress=False)  # by the same object
    n = len(found.results)
    search(tmp_path, beside, now_and_then, LocalExecutor(4)).run(n + 20, progress=False)  # and by another
    events = journalled(tmp_path)
    check(events, searcher)
    assert len({tuple(e.config.items()) for e in events if isinstance(e, TrialProposed)}) == n + 20


class Eager(Pace):
    """A pace by which some proposals always lie ready."""

    def ahead(self, slots: int, now: float) -> int:
        return 3


def by_hand(searcher: Searcher, slots: int, choices: Iterator[int], n: int) -> tuple[list[Event], int]:
    """A search whose trials end, and whose searcher's turns end, as it is chosen; and how old proposals became."""

    async def main() -> tuple[list[Event], int]:
        objectives = Objectives.parse()
        study = Study(objectives, NeverStop().bind(1, max_t=None, seed=SEED), SEED)
        state = State(searcher.bind(problem(), objectives, seed=SEED, max_t=None))
        woken = asyncio.Event()
        loop = asyncio.get_running_loop()
        proposer = Proposer(state, lambda: loop.call_soon_threadsafe(woken.set), Place.THREAD)
        proposer._pace = Eager(0.0)
        events: list[Event] = []
        oldest = 0

        def commit(fresh: Sequence[Event]) -> None:
            events.extend(fresh)
            for event in fresh:
                for command in study.apply(event):
                    if isinstance(command, Observe):
                        proposer.observe(command.observation)

        try:
            while len(study.trials) < n:
                free = min(slots - study.n_running, n - len(study.trials))
                if free:
                    room = n - len(study.trials)
                    fresh = proposer.next(free, len(study.trials), room=room, running=study.n_running)
                    oldest = max([oldest, *(study.n_ended - p.n_observed for p in fresh)])
                    commit(study.admit(fresh, 0.0))
                running = list(study.running())
                choice = next(choices)
                if not running or choice == 0:
                    await asyncio.wait_for(woken.wait(), 10)
                    woken.clear()
                else:
                    trial = running[choice % len(running)]
                    place = (0.0, trial.number, trial.attempt)
                    end = (
                        TrialFailed(*place, "oops", "", 0.0, 0.0, "w")
                        if choice % 5 == 0
                        else TrialCompleted(*place, {"objective": -cost(trial.config)}, {}, False, 0.0, 0.0, "w")
                    )
                    commit([end])
                if proposer._turn is None or proposer._turn.done():
                    woken.set()
            return events, oldest
        finally:
            proposer.close()

    return asyncio.run(main())


@each_searcher
@settings(deadline=None, max_examples=15)
@given(order=st.integers(0, 2**32), slots=st.integers(1, 6))
def test_any_order_of_ends_and_turns(searcher: Searcher, order: int, slots: int) -> None:
    draw = Random(order)
    events, _ = by_hand(searcher, slots, iter(lambda: draw.randrange(30), None), 25)
    check(events, searcher)


def test_the_orders_above_make_proposals_that_know_less_than_there_is_to_know() -> None:
    _, oldest = by_hand(RandomSearcher(), 3, iter([0] + [1, 2, 3] * 100), 25)
    assert oldest >= 3


def test_a_searcher_that_depends_on_more_is_found_out(tmp_path: Path) -> None:
    class Counts(State):
        cheap = True
        turns = 0

        def propose(self, numbers: Sequence[int]) -> list[Proposal]:
            self.turns += 1
            made = self.state.propose(numbers)
            return [p._replace(config={**p.config, "n": 1 + self.turns % 40}) for p in made]

    class Settings(Beside):
        def bind(self, problem: HpProblem, objectives: Objectives, **kwargs: Any) -> State:
            return Counts(self.searcher.bind(problem, objectives, **kwargs))

    searcher = Settings(RandomSearcher())
    search(tmp_path, searcher, now_and_then, "serial").run(5, progress=False)
    with pytest.raises(AssertionError, match="proposal 1"):
        check(journalled(tmp_path), searcher)
