"""What an event costs the driver by the number of trials in the past: nothing may grow with it.

    python benchmarks/growth.py [--trials 1000 10000 100000] [--measured 500] [--searcher cbo]

The real loop with a durable journal, ``results.csv`` and Hyperband, of one objective and of two; only the trials are
made up: 100 run at a time, at once, of up to 50 reports each. The history is made by random search. Then the search is
opened again with the searcher that is measured, which computes in a process of its own, and goes on for some more
trials. Times are processor time of the loop's thread, in microseconds per event of this part.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _common import parser, scratch, table, verdict

from dhpo import HpProblem, Hyperband, loop
from dhpo.budget import Budget
from dhpo.events import Decide, Event, Start, TrialCompleted, TrialReported
from dhpo.objectives import Objectives
from dhpo.proposer import Place, Proposer
from dhpo.results_csv import LiveCsv
from dhpo.searchers import resolve
from dhpo.session import Session, Setup
from dhpo.trial import Decision

RUNNING, EPOCHS = 100, 50
WORKER = "tcp://10.0.0.1:40000"
GOALS = ({"score": "MAX"}, {"score": "MAX", "latency": "MIN"})
PARTS = ("study", "journal", "csv", "proposals", "all")


class Instant:
    """An executor whose trials take no time: in each round, every one that runs reports its next epoch."""

    searcher_place = Place.PROCESS

    def __init__(self, start: float) -> None:
        self._now = start
        self._running: dict[int, tuple[Start, int, Any]] = {}  # with the last epoch, and the place in the plane
        self._stopped: set[int] = set()
        self._woken = asyncio.Event()

    def now(self) -> float:
        return self._now

    def free(self) -> int:
        return RUNNING - len(self._running)

    def start(self, starts: Sequence[Start]) -> None:
        for start in starts:
            rng = np.random.default_rng(start.trial)
            self._running[start.trial] = start, 0, rng.random(2).tolist()

    def obey(self, command: Decide) -> None:
        if command.decision is Decision.STOP:
            self._stopped.add(command.trial)

    def want(self, trials: int) -> None:
        pass

    def wake(self) -> None:
        self._woken.set()

    async def events(self, timeout: float | None) -> list[Event]:
        if not self._running:
            await self._woken.wait()
        await asyncio.sleep(0)
        self._woken.clear()
        self._now = round(self._now + 0.37, 6)
        return [self._next(trial) for trial in list(self._running)]

    def _next(self, trial: int) -> Event:
        start, epoch, (x, y) = self._running.pop(trial)
        if trial in self._stopped or epoch == EPOCHS:
            stopped = trial in self._stopped
            self._stopped.discard(trial)
            return TrialCompleted(self._now, trial, start.attempt, None, {}, stopped, 0.0, self._now, WORKER)
        epoch += 1
        self._running[trial] = start, epoch, (x, y)
        values = {"epoch": epoch, "score": round(x - 0.5 / epoch, 6), "latency": y}
        return TrialReported(self._now, trial, start.attempt, epoch, epoch, values)


class Log:
    """The journal, in the loop's thread."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def append(self, events: Sequence[Event]) -> None:
        self._session.journal.append(events)


class Clock:
    """Adds up the processor time of calls."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.events = 0

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timing(*arguments: Any, **options: Any) -> Any:
            began = time.thread_time()
            try:
                return call(*arguments, **options)
            finally:
                self.seconds[part] += time.thread_time() - began

        return timing


def go_on(directory: Path, goals: dict[str, str], searcher: str, trials: int, place: Place) -> Clock:
    """Open the search and run it until it has so many trials."""
    space = HpProblem({"lr": (1e-5, 1e-1, "log-uniform"), "dropout": (0.0, 0.9), "width": (16, 1024), "depth": (1, 12)})
    stopper = Hyperband(time_attr="epoch", max_t=EPOCHS + 1)
    session = Session(Setup(space, Objectives.parse(goals), stopper, resolve(searcher), 1, None), directory)
    clock = Clock()

    async def run() -> None:
        study, executor = session.study, Instant(session.study.time)
        proposer = Proposer(session.searcher, executor.wake, place, told=len(study.trials))
        csv = LiveCsv(directory / "results.csv", space.hyperparameter_names, study.objectives, session.journal.blocks())
        log: Any = Log(session)

        def count(events: Sequence[Event], _: object) -> None:
            clock.events += len(events)

        study.apply = clock.timed("study", study.apply)  # type: ignore[method-assign]
        session.journal.append = clock.timed("journal", session.journal.append)  # type: ignore[method-assign]
        for name in ("observe", "next"):
            setattr(proposer, name, clock.timed("proposals", getattr(proposer, name)))
        opened, began = session.opened(executor.now()), time.thread_time()
        try:
            await loop.run(
                study, proposer, executor, log, Budget(num_trials=trials), opened,
                watchers=[clock.timed("csv", csv), count],
            )  # fmt: skip
            clock.seconds["all"] = time.thread_time() - began
        finally:
            proposer.close()
            csv.close()

    asyncio.run(run())
    session.close()
    return clock


def main() -> None:
    arguments = parser(__doc__, repeats=None)
    arguments.add_argument("--trials", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="of the history")
    arguments.add_argument("--measured", type=int, default=500, help="trials that follow")
    arguments.add_argument("--searcher", default="cbo")
    args = arguments.parse_args()
    rows: list[tuple[object, ...]] = []
    for goals in GOALS:
        first: float | None = None
        with scratch() as directory:
            for trials in args.trials:
                go_on(directory, goals, "random", trials, Place.HERE)
                found = go_on(directory, goals, args.searcher, trials + args.measured, Place.PROCESS)
                each = {part: 1e6 * found.seconds[part] / found.events for part in PARTS}
                first = first or each["all"]
                ratio = each["all"] / first
                shown = [f"{each[part]:.1f}" for part in PARTS]
                good = verdict(ratio, most=1.5)
                rows.append((len(goals), f"{trials:,}", f"{found.events:,}", *shown, f"{ratio:.2f}", "<= 1.5", good))
    header = ("objectives", "trials before", "events", *PARTS, "of the first", "target", "")
    table("Processor time of the driver, microseconds per event", header, rows)


if __name__ == "__main__":
    main()
