"""The searcher in a process of its own, and the proposer's move to it."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Iterator
from typing import Any

import pytest

from dhpo import CBO, HpProblem, RandomSearcher
from dhpo.errors import DhpoError, ExhaustedFailuresError
from dhpo.objectives import Objectives
from dhpo.proposer import Place, Proposer
from dhpo.searcher_process import SearcherProcess
from dhpo.searchers.base import BoundSearcher
from dhpo.trial import Observation, Phase, Proposal


def positive(config: Any) -> bool:
    return bool(config["x"] > -4)


def bound(settings: Any = None) -> BoundSearcher:
    problem = HpProblem({"x": (-5.0, 5.0), "y": ["a", "b", "c"]})
    problem.add_constraint(positive)
    searcher: BoundSearcher = (settings or CBO()).bind(problem, Objectives.parse(), seed=3, max_t=None)
    return searcher


def ended(number: int, proposal: Proposal) -> Observation:
    return Observation(number, proposal.config, Phase.ENDED, None, (proposal.config["x"] ** 2,))


@pytest.fixture
def process() -> Iterator[SearcherProcess]:
    child = SearcherProcess()
    yield child
    child.close()


def wait_for(process: SearcherProcess, searcher: BoundSearcher) -> None:
    assert select.select([process._child.stdout], [], [], 60)[0], "the child does not come up"
    assert process.takes_over(searcher)


def test_it_proposes_what_the_searcher_would_have_proposed_here(process: SearcherProcess) -> None:
    here = bound()
    wait_for(process, bound())
    news: list[Observation] = []
    for number in range(8):
        here.observe(news)
        (expected,) = here.propose([number])
        assert process.turn(news, range(number, number + 1)) == [expected]
        news = [ended(number, expected)]


def test_what_the_searcher_raises_is_raised_here(process: SearcherProcess) -> None:
    searcher = bound(CBO(max_failures=2))
    wait_for(process, searcher)
    failures = [Observation(n, {"x": float(n), "y": "a"}, Phase.FAILED) for n in range(2)]
    with pytest.raises(ExhaustedFailuresError, match="2 trials failed"):
        process.turn(failures, range(2, 3))


def test_a_process_that_was_killed_is_an_error_that_says_so(process: SearcherProcess) -> None:
    searcher = bound(RandomSearcher())
    wait_for(process, searcher)
    process.turn([], range(1))
    process._child.kill()
    process._child.wait()
    with pytest.raises(DhpoError, match="exit code -9"):
        process.turn([], range(1, 2))


def proposals(place: Place, n: int) -> tuple[list[Proposal], bool]:
    """Serial proposals by a proposer, which moves to another process as soon as it is ready."""

    async def main() -> tuple[list[Proposal], bool]:
        running, woken = asyncio.get_running_loop(), asyncio.Event()
        proposer = Proposer(bound(), lambda: running.call_soon_threadsafe(woken.set), place, long=0.0)
        made: list[Proposal] = []
        while len(made) < n:
            woken.clear()
            fresh = proposer.next(1, len(made))
            if not fresh:
                await asyncio.wait_for(woken.wait(), 60)
                continue
            proposer.observe(ended(len(made), fresh[0]))
            made += fresh
            if place is Place.PROCESS and proposer._process is not None and len(made) == n // 2:
                wait_for(proposer._process, proposer._searcher)
        moved = proposer._process is not None
        proposer.close()
        return made, moved

    return asyncio.run(main())


def test_where_the_searcher_computes_changes_nothing() -> None:
    there, moved = proposals(Place.PROCESS, 16)
    here, _ = proposals(Place.HERE, 16)
    thread, stayed = proposals(Place.THREAD, 16)
    assert moved
    assert not stayed
    assert there == here == thread
