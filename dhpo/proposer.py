"""The proposer: keeps the searcher out of the loop's way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

from threadpoolctl import threadpool_limits

from dhpo.searcher_process import SearcherProcess
from dhpo.searchers.base import BoundSearcher
from dhpo.trial import Observation, Proposal


class Place(Enum):
    """Where a searcher computes once its proposals cost more than next to nothing."""

    HERE = "here"  # in the loop's thread: for a virtual clock, which stands still meanwhile
    THREAD = "thread"
    PROCESS = "process"  # where turns are long


class Proposer:
    """Asks a searcher for proposals without making the loop wait for them.

    As long as the searcher says that proposals cost next to nothing (``cheap``), it is asked in the loop's thread. Then
    it moves to a thread of its own; the loop goes on consuming events while it computes, and is woken when the
    proposals lie ready. What is observed meanwhile is told to it before its next turn. Once its turns have become long,
    it moves on to another process, where ``place`` says so: the process is started beside the search, and takes over
    when it has imported what it needs. Where it computes changes nothing about what it proposes.

    Args:
        searcher: the bound searcher.
        wake: called (from any thread) when proposals have become ready.
        place: where it may compute.
        long: seconds that a turn takes when it is worth another process.
    """

    def __init__(
        self, searcher: BoundSearcher, wake: Callable[[], None], place: Place = Place.THREAD, *, long: float = 0.1
    ) -> None:
        self._searcher = searcher
        self._wake = wake
        self._place = place
        self._long = long
        self._took = 0.0  # seconds, the last turn
        self._observations: list[Observation] = []
        self._ready: list[Proposal] = []
        self._asked = 0
        self._turn: asyncio.Future[list[Proposal]] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._process: SearcherProcess | None = None
        self._exhausted = False

    @property
    def exhausted(self) -> bool:
        """Whether the searcher has nothing more to propose, and all that it proposed was taken."""
        return self._exhausted and not self._ready

    def observe(self, observation: Observation) -> None:
        """Tell the searcher, at its next turn."""
        self._observations.append(observation)

    def next(self, wanted: int, first: int) -> list[Proposal]:
        """As many proposals as are ready now, at most ``wanted``, for the trials numbered from ``first``.

        Where fewer are ready, more are asked for, and ``wake`` is called once they are.
        """
        self._collect()
        # What lies ready is used, and so observed as pending, before the searcher is asked for more.
        if not self._ready and self._turn is None and not self._exhausted:
            self._ask(range(first, first + wanted))
            self._collect()
        taken, self._ready = self._ready[:wanted], self._ready[wanted:]
        return taken

    def _ask(self, numbers: range) -> None:
        observations, self._observations = self._observations, []
        self._asked = len(numbers)
        loop = asyncio.get_running_loop()
        if self._thread is None:
            if observations:
                self._searcher.observe(observations)
                observations = []
            if self._place is Place.HERE or self._searcher.cheap:
                self._turn = loop.create_future()
                self._turn.set_result(self._searcher.propose(numbers))
                return
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="dhpo-searcher")
        if self._place is Place.PROCESS and self._process is None and self._took > self._long:
            self._process = SearcherProcess()
        process = self._process
        take_turn = process.turn if process is not None and process.takes_over(self._searcher) else self._here
        self._turn = loop.run_in_executor(self._thread, take_turn, observations, numbers)
        self._turn.add_done_callback(lambda _: self._wake())

    def _here(self, observations: Sequence[Observation], numbers: range) -> list[Proposal]:
        began = time.monotonic()
        if observations:
            self._searcher.observe(observations)
        # A model's matrices are small: threads that spin while they wait for each other would hold up the trials.
        with threadpool_limits(limits=1, user_api="blas"):
            proposals = self._searcher.propose(numbers)
        self._took = time.monotonic() - began
        return proposals

    def _collect(self) -> None:
        if self._turn is None or not self._turn.done():
            return
        proposals = self._turn.result()  # a searcher that raises ends the search, with its own traceback
        self._turn = None
        self._exhausted = len(proposals) < self._asked
        self._ready.extend(proposals)

    def close(self) -> None:
        """Let the thread and the process go; what they compute at this moment is dropped."""
        if self._turn is not None and self._turn.done() and not self._turn.cancelled():
            self._turn.exception()  # seen: nobody waits for it any more
        if self._process is not None:
            self._process.close()
        if self._turn is not None:
            self._turn.cancel()  # else the thread would call into an event loop that may be closed by then
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
