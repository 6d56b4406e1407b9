"""The searcher in a process of its own, and the proposer's move to it."""

from __future__ import annotations

import asyncio
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def process(searcher: BoundSearcher) -> Iterator[SearcherProcess]:
    child = SearcherProcess(searcher)
    try:
        yield child
    finally:
        child.close()


def wait_for(child: SearcherProcess) -> None:
    assert select.select([child._child.stdout], [], [], 60)[0], "the child does not come up"
    assert child.ready


def test_it_proposes_what_the_searcher_would_have_proposed_here() -> None:
    here = bound()
    with process(here) as child:  # whose turns need not wait until it is ready
        news: list[Observation] = []
        for number in range(8):
            here.observe(news)
            (expected,) = here.propose([number])
            assert child.turn(news, range(number, number + 1)) == [expected]
            news = [ended(number, expected)]
        assert child.ready


def test_it_goes_on_from_what_the_searcher_knew() -> None:
    searcher = bound(RandomSearcher())
    first = searcher.propose(range(3))
    searcher.observe([ended(number, proposal) for number, proposal in enumerate(first)])
    with process(searcher) as child:
        assert child.turn([], range(3, 6)) == searcher.propose(range(3, 6))
        assert child.turn([], range(3, 4))[0].n_observed == 3


def test_what_the_searcher_raises_is_raised_here() -> None:
    failures = [Observation(n, {"x": float(n), "y": "a"}, Phase.FAILED) for n in range(2)]
    with process(bound(CBO(max_failures=2))) as child, pytest.raises(ExhaustedFailuresError, match="2 trials failed"):
        child.turn(failures, range(2, 3))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_what_tells_all_processes_of_a_job_to_end_is_for_the_driver(number: int) -> None:
    with process(bound()) as child:
        wait_for(child)
        child._child.send_signal(number)
        assert len(child.turn([], range(2))) == 2


def test_a_process_that_was_killed_is_an_error_that_says_so() -> None:
    with process(bound(RandomSearcher())) as child:
        child.turn([], range(1))
        child._child.kill()
        child._child.wait()
        with pytest.raises(DhpoError, match="exit code -9"):
            child.turn([], range(1, 2))


def test_a_child_that_nobody_needs_any_more_ends_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    with process(bound(RandomSearcher())) as child:
        wait_for(child)
        assert child._child.stdin is not None
        child._child.stdin.close()
        assert child._child.wait(60) == 0
    assert capfd.readouterr().err == ""


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
                wait_for(proposer._process)
        moved = proposer._moved
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
