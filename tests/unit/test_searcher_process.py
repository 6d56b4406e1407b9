"""The searcher in a process of its own, and the proposer's move to it."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dhpo import CBO, HpProblem, RandomSearcher
from dhpo.errors import DhpoError, ExhaustedFailuresError
from dhpo.objectives import Objectives
from dhpo.proposer import LARGE, MANY_SLOTS, Place, Proposer
from dhpo.searcher_process import PART, SearcherProcess
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
    child = SearcherProcess()
    child.give(searcher)
    try:
        yield child
    finally:
        child.close()


def turn(child: SearcherProcess, observations: Sequence[Observation], numbers: range) -> list[Proposal]:
    return [proposal for part in child.turn(observations, numbers) for proposal in part]


def wait_for(child: SearcherProcess) -> None:
    assert select.select([child._child.stdout], [], [], 60)[0], "the child does not come up"
    assert child.ready


def test_modules_of_the_working_directory_do_not_get_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise RuntimeError('not this one')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with process(bound()) as child:
        assert len(turn(child, [], range(3))) == 3


def test_it_proposes_what_the_searcher_would_have_proposed_here() -> None:
    here = bound()
    with process(here) as child:  # whose turns need not wait until it is ready
        news: list[Observation] = []
        for number in range(8):
            here.observe(news)
            (expected,) = here.propose([number])
            assert turn(child, news, range(number, number + 1)) == [expected]
            news = [ended(number, expected)]
        assert child.ready


def test_it_goes_on_from_what_the_searcher_knew() -> None:
    searcher = bound(RandomSearcher())
    first = searcher.propose(range(3))
    searcher.observe([ended(number, proposal) for number, proposal in enumerate(first)])
    with process(searcher) as child:
        assert turn(child, [], range(3, 6)) == searcher.propose(range(3, 6))
        assert turn(child, [], range(6, 7))[0].n_observed == 3


def test_what_the_searcher_raises_is_raised_here() -> None:
    failures = [Observation(n, {"x": float(n), "y": "a"}, Phase.FAILED) for n in range(2)]
    with process(bound(CBO(max_failures=2))) as child, pytest.raises(ExhaustedFailuresError, match="2 trials failed"):
        turn(child, failures, range(2, 3))


class Gated:
    """A searcher that makes its first proposals at once, and the others when somebody has opened a pipe for writing."""

    cheap = False

    def __init__(self, gate: Path) -> None:
        self.gate = gate
        self.pending: list[int] = []

    def observe(self, observations: Sequence[Observation]) -> None:
        self.pending += [o.trial for o in observations]

    def propose(self, numbers: Sequence[int]) -> list[Proposal]:
        assert self.pending == list(range(numbers[0]))
        if numbers[0] == PART:
            self.gate.read_text()
        return [Proposal({"x": n}, "model", 0) for n in numbers if n < 2 * PART + 5]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def test_the_first_proposals_come_while_the_others_are_made(gate: Path) -> None:
    with process(Gated(gate)) as child:
        parts = child.turn([], range(4 * PART))
        assert [p.config["x"] for p in next(parts)] == list(range(PART))
        gate.write_text("")
        assert [len(part) for part in parts] == [PART, 5]  # and no more, the space is exhausted
        assert turn(child, [], range(2 * PART + 5, 2 * PART + 6)) == []


def test_what_is_ready_can_be_taken_while_the_turn_goes_on(gate: Path) -> None:
    async def main() -> None:
        running, woken = asyncio.get_running_loop(), asyncio.Event()
        proposer = Proposer(Gated(gate), lambda: running.call_soon_threadsafe(woken.set), Place.PROCESS, told=LARGE)
        try:
            assert proposer.next(4 * PART, 0) == []
            await asyncio.wait_for(woken.wait(), 60)
            made = proposer.next(4 * PART, 0)
            assert [p.config["x"] for p in made] == list(range(PART))
            for number, proposal in enumerate(made):  # the searcher knows: it must not be told again
                proposer.observe(Observation(number, proposal.config, Phase.PENDING))
            assert proposer.next(3 * PART, PART) == []
            assert not proposer.exhausted
            gate.write_text("")
            while not proposer.exhausted:
                woken.clear()
                made += proposer.next(4 * PART - len(made), len(made))
                if not proposer.exhausted:
                    await asyncio.wait_for(woken.wait(), 60)
            assert [p.config["x"] for p in made] == list(range(2 * PART + 5))
        finally:
            proposer.close()

    asyncio.run(main())


def test_for_many_slots_the_process_starts_at_once_and_no_slot_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the process is up the searcher is told of no results, so that its proposals stay cheap."""
    up = SearcherProcess.ready
    monkeypatch.setattr(SearcherProcess, "ready", False)

    async def main() -> list[Proposal]:
        running, woken = asyncio.get_running_loop(), asyncio.Event()
        proposer = Proposer(bound(), lambda: running.call_soon_threadsafe(woken.set), Place.PROCESS)

        async def more(made: list[Proposal]) -> list[Proposal]:
            while not (fresh := proposer.next(MANY_SLOTS, len(made))):
                woken.clear()
                await asyncio.wait_for(woken.wait(), 60)
            for number, proposal in enumerate(fresh, len(made)):
                proposer.observe(Observation(number, proposal.config, Phase.PENDING))
                proposer.observe(ended(number, proposal))
            return made + fresh

        try:
            made = await more([])
            assert proposer._process is not None
            made = await more(made)
            assert {p.n_observed for p in made} == {0}
            monkeypatch.setattr(SearcherProcess, "ready", up)
            await asyncio.to_thread(wait_for, proposer._process)
            n = len(made)
            made = await more(made)
            assert {p.n_observed for p in made[n:]} == {n}
            assert proposer._moved
            return made
        finally:
            proposer.close()

    made = asyncio.run(main())
    here = bound()
    known = next(k for k, p in enumerate(made) if p.n_observed)
    here.observe([Observation(k, p.config, Phase.PENDING) for k, p in enumerate(made[:known])])
    here.observe([ended(k, p) for k, p in enumerate(made[:known])])
    assert here.propose(range(known, known + PART)) == made[known : known + PART]


def test_for_few_slots_and_where_no_model_is_used_no_process_is_started() -> None:
    async def started(searcher: BoundSearcher, slots: int) -> bool:
        proposer = Proposer(searcher, lambda: None, Place.PROCESS)
        proposer.next(slots, 0)
        proposer.close()
        return proposer._process is not None

    assert not asyncio.run(started(bound(), MANY_SLOTS - 1))
    assert not asyncio.run(started(bound(RandomSearcher()), MANY_SLOTS))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_what_tells_all_processes_of_a_job_to_end_is_for_the_driver(number: int) -> None:
    with process(bound()) as child:
        wait_for(child)
        child._child.send_signal(number)
        assert len(turn(child, [], range(2))) == 2


def test_a_process_that_was_killed_is_an_error_that_says_so() -> None:
    with process(bound(RandomSearcher())) as child:
        turn(child, [], range(1))
        child._child.kill()
        child._child.wait()
        with pytest.raises(DhpoError, match="exit code -9"):
            turn(child, [], range(1, 2))


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
