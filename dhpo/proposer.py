"""The proposer: keeps the searcher out of the loop's way, and as far ahead of it as it must be."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from enum import Enum
from importlib import import_module
from math import ceil, inf

from threadpoolctl import ThreadpoolController

from dhpo.searcher_process import SearcherProcess
from dhpo.searchers.base import BoundSearcher, Models
from dhpo.trial import Observation, Phase, Proposal

#: At most so many proposals lie ready, or as many as there are slots: a model with more to count in as pending learns
#: little from the results.
MOST_AHEAD = 256
_MARGIN = 1.5  # trials do not end evenly, nor do turns all take as long
#: Where the searcher is behind, one in so many slots may wait for its proposal to be made ahead: of many trials that
#: run, that few more without their results teach next to nothing, and a long turn costs less than many short ones.
_OF_SLOTS = 16
_WINDOW = 16  # so many proposals at least tell how fast they are used up
#: The loop's thread is given back after so many seconds of cheap proposals.
_SLICE = 0.002
_FIRST_SLICE = 8
#: A searcher that was told of so many trials before the run begins takes its turns in a process from the first on: a
#: first fit is long, and the state of a searcher that knows many trials is too large to be moved while the loop runs.
LARGE = 1_000
#: For so many slots the process of a searcher that will use a model is started at once: by the time that the model can
#: be fitted, trials end faster than it could be imported.
MANY_SLOTS = 64


class Place(Enum):
    """Where a searcher computes once its proposals cost more than next to nothing."""

    HERE = "here"  # in the loop's thread: for a virtual clock, which stands still meanwhile
    THREAD = "thread"
    PROCESS = "process"  # where turns are long


class Pace:
    """How fast proposals are used up, and how long the searcher takes to make them.

    Only a proposal that takes the place of an ended trial counts as used up: those that fill slots for the first time
    say nothing of how long trials take. The rate is the mean over two rounds of all slots, since trials that began
    together end together.

    Args:
        began: when the run began, seconds on the clock that all other times are on.
    """

    def __init__(self, began: float) -> None:
        self._ended = 0  # trials whose place was not taken yet
        self._times: deque[float] = deque([began])
        self._each = inf  # seconds per proposal, in the fastest of the last turns
        self._fixed = 0.0  # seconds that the longest of the last turns took beyond that, as when it had to fit

    def ended(self) -> None:
        """A trial has come to its end."""
        self._ended += 1

    def taken(self, n: int, slots: int, now: float) -> None:
        """``n`` proposals go to ``slots`` slots, most of which are busy."""
        again = min(n, self._ended)
        self._ended = min(self._ended - again, slots)  # a place that a promoted trial took stays without a proposal
        self._times.extend([now] * again)
        while len(self._times) > max(_WINDOW, 2 * slots) + 1:
            self._times.popleft()

    def turned(self, seconds: float, n: int) -> None:
        """The searcher took a turn of ``n`` proposals."""
        self._each = min(1.1 * self._each, seconds / n)
        self._fixed = max(0.95 * self._fixed, seconds - n * self._each)

    def ahead(self, slots: int, now: float) -> int:
        """How many proposals are used up while the searcher makes them.

        None where these are less than about half a one, so that each proposal knows all results; nor where trials run
        one at a time, which makes such a search the same every time.
        """
        if slots < 2 or self._each == inf:
            return 0
        rate = (len(self._times) - 1) / max(now - self._times[0], 1e-3)
        used = rate * (self._fixed + self._each)  # within a turn of one
        if used < 0.5:
            return 0
        # Those that are made ahead make the turn longer; up to twice as many are made for that, and no more where the
        # searcher cannot keep up.
        enough = max(_MARGIN * used / (1 - min(0.5, _MARGIN * rate * self._each)), slots // _OF_SLOTS)
        return ceil(min(max(MOST_AHEAD, slots) / 2, enough))


class OneThread:
    """Has a model compute with one thread in this process.

    Its matrices are small: threads that spin while they wait for each other take ten times as long on a busy machine,
    and hold up the trials.
    """

    def __init__(self) -> None:
        self._libraries: ThreadpoolController | None = None

    def prepare(self, imports: Sequence[str]) -> None:
        """Import what the model needs, and look for the libraries that are loaded then; once."""
        if self._libraries is None:
            for name in imports:
                import_module(name)
            self._libraries = ThreadpoolController()

    def limit(self) -> AbstractContextManager[object]:
        """The time in which it computes."""
        assert self._libraries is not None
        limited: AbstractContextManager[object] = self._libraries.limit(limits=1, user_api="blas")
        return limited


class Proposer:
    """Asks a searcher for proposals without making the loop wait for them.

    As long as the searcher says that proposals cost next to nothing (``cheap``), it is asked in the loop's thread, in
    slices of a few milliseconds. Then it moves to a thread of its own; the loop goes on consuming events while it
    computes, and is woken when the proposals lie ready. What is observed meanwhile is told to it before its next turn.
    Once its turns have taken long, it moves on to another process, where ``place`` says so: the process is started
    beside the search, and takes over when it has imported what it needs. For many slots it is started at the beginning;
    a searcher that is cheap as long as it knows no results is told of them when the process is up. From there proposals
    come in parts, so that the first of many are used while the others are made.

    Where trials end faster than a turn takes, turns begin while proposals still lie ready, as many as are used up
    meanwhile. What lies ready counts as pending: the searcher is told so before its next turn, and not again when it
    becomes a trial. So a proposal follows from the seed, its number, the configurations of all earlier numbers, and the
    first ``n_observed`` observations; where and when it was computed changes nothing. What lies ready when the run
    ends is forgotten together with the searcher that was told of it: whoever goes on makes the searcher anew, from
    the journal, in which there is nothing of it.

    Args:
        searcher: the bound searcher; nobody else may use it any more.
        wake: called (from any thread) when proposals have become ready.
        place: where it may compute.
        long: seconds that turns take in all when another process is worth it.
        told: of how many trials the searcher knows.
        clock: tells seconds.
    """

    def __init__(
        self,
        searcher: BoundSearcher,
        wake: Callable[[], None],
        place: Place = Place.THREAD,
        *,
        long: float = 0.25,
        told: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._searcher = searcher
        self._wake = wake
        self._place = place
        self._long = long
        self._clock = clock
        self._pace = Pace(clock())
        self._observations: list[Observation] = []
        self._ready: deque[Proposal] = deque()
        self._pending: set[int] = set()  # told as pending, and no trials yet
        self._numbers = range(0)  # of the present turn
        self._turn: asyncio.Future[list[Proposal]] | None = None
        self._made = 0  # proposals of the present turn that lie ready already
        self._took = 0.0  # seconds, the last turn that was not cheap
        self._spent = 0.0  # seconds, all such turns
        self._slice = _FIRST_SLICE
        self._one_thread = OneThread()
        self._thread: ThreadPoolExecutor | None = None
        self._process: SearcherProcess | None = None
        self._moved = False  # to the process
        self._loop: asyncio.AbstractEventLoop | None = None
        self._exhausted = False
        self._closed = False
        if place is Place.PROCESS and told >= LARGE and not searcher.cheap:
            self._process = SearcherProcess(self._imports)
            self._process.give(searcher)
            self._moved = True

    @property
    def exhausted(self) -> bool:
        """Whether the searcher has nothing more to propose, and all that it proposed was taken."""
        return self._exhausted and not self._ready

    def observe(self, observation: Observation) -> None:
        """Tell the searcher, at its next turn."""
        if observation.phase is Phase.PENDING and observation.trial in self._pending:
            self._pending.discard(observation.trial)
            return
        self._observations.append(observation)
        if observation.phase in (Phase.ENDED, Phase.FAILED):
            self._pace.ended()

    def next(self, wanted: int, first: int, *, room: float = inf, running: int = 0) -> list[Proposal]:
        """As many proposals as are ready now, at most ``wanted``, for the trials numbered from ``first``.

        Where fewer are ready, or fewer will be than the next turn takes, more are asked for, and ``wake`` is called
        once they are.

        Args:
            wanted: how many slots are free, at most ``room``.
            first: the number of the next trial.
            room: how many more trials there may be.
            running: how many slots are busy.
        """
        self._collect()
        now, slots = self._clock(), wanted + running
        if self._place is Place.PROCESS and self._process is None and slots >= MANY_SLOTS and self._models:
            self._process = SearcherProcess(self._imports)
        if self._turn is None and not self._exhausted:
            ahead = self._pace.ahead(slots, now)
            left = len(self._ready) - wanted
            if left < ahead:
                self._ask(first, int(min(2 * ahead - left, room - len(self._ready))))
        taken = [self._ready.popleft() for _ in range(min(wanted, len(self._ready)))]
        self._pace.taken(len(taken), slots, now)
        return taken

    def _ask(self, first: int, n: int) -> None:
        """Begin a turn of ``n`` more proposals, beside those that lie ready from number ``first`` on."""
        if n <= 0:
            return
        start = first + len(self._ready)
        self._numbers = range(start, start + n)
        loop = self._loop = asyncio.get_running_loop()
        here = self._thread is None and not self._moved
        observations = self._due() if here else self._take_all()
        if here:
            self._searcher.observe(observations)
            observations = []
            if self._place is Place.HERE or (self._searcher.cheap and n <= self._slice):
                self._turn = loop.create_future()
                self._turn.set_result(self._at_once(self._numbers))
                self._collect()
                return
        if here and self._searcher.cheap:
            self._turn = loop.create_task(self._in_slices(self._numbers))
        else:
            self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="dhpo-searcher")
            self._turn = loop.run_in_executor(self._thread, self._beside, observations, self._numbers)
        self._turn.add_done_callback(lambda _: self._wake())

    def _due(self) -> list[Observation]:
        """What the searcher is told now, in the loop's thread: as long as a process starts, no results.

        With them the searcher could stop being cheap, and slots would wait for the process.
        """
        if self._process is None or self._process.ready:
            return self._take_all()
        due: list[Observation] = []
        later: list[Observation] = []
        shown: set[int] = set()
        for o in self._observations:
            if o.phase is not Phase.PENDING:
                shown.add(o.trial)
            (later if o.trial in shown else due).append(o)
        self._observations = later
        return due

    def _take_all(self) -> list[Observation]:
        observations, self._observations = self._observations, []
        return observations

    def _at_once(self, numbers: range) -> list[Proposal]:
        """Propose in the loop's thread, and find out how many proposals make a slice."""
        began = self._clock()
        proposals = self._searcher.propose(numbers) if self._searcher.cheap else self._modelled(numbers)
        took = self._clock() - began
        fitting = _SLICE / took * len(numbers) if took > 0 else inf
        self._slice = int(max(1, min(fitting, 2 * self._slice)))
        return proposals

    async def _in_slices(self, numbers: range) -> list[Proposal]:
        """Propose in the loop's thread, and let others have it every few milliseconds."""
        made: list[Proposal] = []
        while numbers:
            part, numbers = numbers[: self._slice], numbers[self._slice :]
            fresh = self._at_once(part)
            made += fresh
            if len(fresh) < len(part):
                break
            self._searcher.observe(self._as_pending(part, fresh))
            await asyncio.sleep(0)
        return made

    def _as_pending(self, numbers: range, proposals: Sequence[Proposal]) -> list[Observation]:
        """What the searcher is told of its proposals; the study's own words for it are then dropped."""
        new = [(k, p) for k, p in zip(numbers, proposals, strict=False) if k not in self._pending]
        self._pending.update(k for k, _ in new)
        return [Observation(k, p.config, Phase.PENDING) for k, p in new]

    def _beside(self, observations: Sequence[Observation], numbers: range) -> list[Proposal]:
        """Take a turn in the searcher's thread, or wait in it for the process, whose proposals lie ready at once."""
        began = self._clock()
        process = self._process
        if process is not None and not self._moved and process.ready:
            process.give(self._searcher)
            self._moved = True
        proposals: list[Proposal] = []
        if process is not None and self._moved:
            for part in process.turn(observations, numbers):
                self._hand_over(numbers[len(proposals) :], part)
                proposals += part
        else:
            self._one_thread.prepare(self._imports)
            began = self._clock()  # imports say nothing of the turns that follow
            self._searcher.observe(observations)
            proposals = self._modelled(numbers)
        self._took = self._clock() - began
        self._spent += self._took
        if self._place is Place.PROCESS and process is None and self._spent > self._long:
            self._process = process = SearcherProcess(self._imports)
            if self._closed:  # meanwhile, by the loop's thread, which may have seen no process yet
                process.close()
        return proposals

    def _modelled(self, numbers: range) -> list[Proposal]:
        self._one_thread.prepare(self._imports)
        with self._one_thread.limit():
            return self._searcher.propose(numbers)

    def _hand_over(self, numbers: range, proposals: Sequence[Proposal]) -> None:
        """From the searcher's thread: these are ready."""
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed: nobody waits for them
            self._loop.call_soon_threadsafe(self._arrived, numbers, proposals)

    def _arrived(self, numbers: range, proposals: Sequence[Proposal]) -> None:
        """A part of the present turn is ready; the searcher has told itself of it."""
        if self._closed:
            return
        self._as_pending(numbers, proposals)
        self._ready.extend(proposals)
        self._made += len(proposals)
        self._wake()

    def _collect(self) -> None:
        if self._turn is None or not self._turn.done():
            return
        proposals = self._turn.result()  # a searcher that raises ends the search, with its own traceback
        made, self._turn, self._made = self._made, None, 0
        if self._thread is not None:
            self._pace.turned(self._took, len(self._numbers))
        self._exhausted = len(proposals) < len(self._numbers)
        self._observations += self._as_pending(self._numbers[made:], proposals[made:])
        self._ready.extend(proposals[made:])

    @property
    def _models(self) -> bool:
        return isinstance(self._searcher, Models)

    @property
    def _imports(self) -> Sequence[str]:
        return self._searcher.imports if isinstance(self._searcher, Models) else ()

    def close(self) -> None:
        """Let the thread and the process go; what they compute at this moment is dropped."""
        self._closed = True
        if self._turn is not None and self._turn.done() and not self._turn.cancelled():
            self._turn.exception()  # seen: nobody waits for it any more
        if self._process is not None:
            self._process.close()
        if self._turn is not None:
            self._turn.cancel()  # else the thread would call into an event loop that may be closed by then
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
