"""One run of a search: the executor opened and closed, signals caught, the bar and ``results.csv`` kept."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dhpo import loop
from dhpo._ending import Ending
from dhpo.budget import Budget
from dhpo.errors import ExhaustedFailuresError
from dhpo.executors.base import Executor
from dhpo.function import UserFunction
from dhpo.progress import ProgressBar, log_events
from dhpo.proposer import Proposer
from dhpo.results_csv import LiveCsv
from dhpo.session import Session
from dhpo.worker.job import Job

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Driver:
    """Drives a session's search until its budget is reached or a signal comes."""

    session: Session
    executor: Executor
    function: UserFunction
    job: Job
    budget: Budget
    directory: Path | None
    progress: bool
    watchers: Sequence[loop.Watcher]
    interrupted: bool = field(default=False, init=False)

    def run(self) -> bool:
        """Run; return whether a signal ended it before its time.

        Raises:
            ExhaustedFailuresError: too many trials in a row failed.
        """
        _run_in_loop(self._main(), self.stop)
        study = self.session.study
        if self.budget.exhausted_failures(study):
            raise ExhaustedFailuresError(
                f"the last {study.failures_in_a_row} trials all failed, the last one with: {study.last_error}\n"
                "See results.failures() for the tracebacks; max_failures=None goes on for ever."
            )
        return self.interrupted

    def stop(self) -> None:
        """End the run cleanly, before its time. May be called from any thread."""
        self.interrupted = True
        self.executor.wake()

    async def _main(self) -> None:
        session, executor, study = self.session, self.executor, self.session.study
        study.aim(self.budget.goal)
        # A run begins with no failures behind it: what failed may have been mended.
        if replace(self.budget, max_failures=None).reached(study, study.time) is not None:
            return
        proposer = Proposer(session.searcher, executor.wake, executor.searcher_place, told=len(study.trials))
        ending = Ending(executor, self.stop)
        try:
            with ending.signals():
                await executor.open(self.job, self.function, study.time)
                ending.opened()
                with self._followers() as (watchers, show):
                    opened = session.opened(executor.now())
                    async with _beside(ending.watch(show)):
                        await loop.run(
                            study, proposer, executor, session, self.budget, opened, lambda: self.interrupted, watchers
                        )
        finally:
            proposer.close()
            await executor.close()

    @contextmanager
    def _followers(self) -> Iterator[tuple[list[loop.Watcher], Callable[[str | None], None]]]:
        """The watchers of this run: the log, the user's, ``results.csv`` and the bar; and what shows the status."""
        watchers: list[loop.Watcher] = [log_events, *self.watchers]
        table: LiveCsv | None = None
        bar: ProgressBar | None = None
        if self.directory is not None:
            names = self.session.setup.problem.hyperparameter_names
            replay = self.session.journal.replay()
            table = LiveCsv(self.directory / "results.csv", names, self.session.setup.objectives, replay)
            watchers.append(table)
        if self.progress:
            if address := self.executor.address():
                print(f"Dask dashboard: {address}", file=sys.stderr)
            bar = ProgressBar(self.budget.num_trials, self.session.study.n_ended)
            watchers.append(bar)
        try:
            yield watchers, _log_changes() if bar is None else bar.wait_for
        finally:
            if bar is not None:
                bar.close()
            if table is not None:
                table.close()


@asynccontextmanager
async def _beside(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine until this context is left."""
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()


def _log_changes() -> Callable[[str | None], None]:
    """What logs the status of the executor whenever it has become another one."""
    told: str | None = None

    def show(status: str | None) -> None:
        nonlocal told
        if status != told and status:
            logger.info("%s", status)
        told = status

    return show


def _run_in_loop(main: Coroutine[Any, Any, None], stop: Callable[[], None]) -> None:
    """Run a coroutine to its end, also where an event loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(main)
        return
    errors: list[BaseException] = []

    def target() -> None:
        try:
            asyncio.run(main)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target, name="dhpo-loop")
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:  # a notebook's stop button
        stop()
        thread.join()
    if errors:
        raise errors[0]
