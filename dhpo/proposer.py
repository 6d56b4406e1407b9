"""The proposer: keeps the searcher out of the loop's way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

from dhpo.searcher_process import SearcherProcess
from dhpo.searchers.base import BoundSearcher
from dhpo.trial import Observation, Proposal


class Place(Enum):
    """Where a searcher computes once its proposals cost more than next to nothing."""

    HERE = "here"  # in the loop's thread: for a virtual clock, which stands still meanwhile
    THREAD = "thread"
    PROCESS = "process"


class Proposer:
    """Asks a searcher for proposals without making the loop wait for them.

    As long as the searcher says that proposals cost next to nothing (``cheap``), it is asked in the loop's thread. Then
    it moves to where ``place`` says; the loop goes on consuming events while it computes, and is woken when the
    proposals lie ready. What is observed meanwhile is told to it before its next turn.

    Args:
        searcher: the bound searcher.
        wake: called (from any thread) when proposals have become ready.
        place: where it computes.
    """

    def __init__(self, searcher: BoundSearcher, wake: Callable[[], None], place: Place = Place.THREAD) -> None:
        self._searcher = searcher
        self._wake = wake
        self._place = place
        self._observations: list[Observation] = []
        self._ready: list[Proposal] = []
        self._asked = 0
        self._turn: asyncio.Future[list[Proposal]] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._process: SearcherProcess | None = None
        self.exhausted = False

    def observe(self, observation: Observation) -> None:
        """Tell the searcher, at its next turn."""
        self._observations.append(observation)

    def next(self, wanted: int, first: int) -> list[Proposal]:
        """As many proposals as are ready now, at most ``wanted``, for the trials numbered from ``first``.

        Where fewer are ready, more are asked for, and ``wake`` is called once they are.
        """
        self._collect()
        # What lies ready is used, and so observed as pending, before the searcher is asked for more.
        if not self._ready and self._turn is None and not self.exhausted:
            self._ask(range(first, first + wanted))
            self._collect()
        taken, self._ready = self._ready[:wanted], self._ready[wanted:]
        return taken

    def _ask(self, numbers: range) -> None:
        observations, self._observations = self._observations, []
        self._asked = len(numbers)
        loop = asyncio.get_running_loop()
        if self._process is None and self._thread is None:
            if observations:
                self._searcher.observe(observations)
                observations = []
            if self._place is Place.HERE or self._searcher.cheap:
                self._turn = loop.create_future()
                self._turn.set_result(self._searcher.propose(numbers))
                return
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="dhpo-searcher")
            if self._place is Place.PROCESS:
                self._process = SearcherProcess(self._searcher)
        take_turn = self._here if self._process is None else self._process.turn
        self._turn = loop.run_in_executor(self._thread, take_turn, observations, numbers)
        self._turn.add_done_callback(lambda _: self._wake())

    def _here(self, observations: Sequence[Observation], numbers: range) -> list[Proposal]:
        if observations:
            self._searcher.observe(observations)
        return self._searcher.propose(numbers)

    def _collect(self) -> None:
        if self._turn is None or not self._turn.done():
            return
        proposals = self._turn.result()  # a searcher that raises ends the search, with its own traceback
        self._turn = None
        self.exhausted = len(proposals) < self._asked
        self._ready.extend(proposals)

    def close(self) -> None:
        """Let the thread and the process go; what they compute at this moment is dropped."""
        if self._turn is not None and self._turn.done() and not self._turn.cancelled():
            self._turn.exception()  # seen: nobody waits for it any more
        if self._process is not None:
            self._process.close()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
