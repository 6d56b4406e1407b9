"""One run of a search: the executor opened and closed, signals caught, the bar and ``results.csv`` kept."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

from dhpo import loop
from dhpo._desk import Desk
from dhpo._ending import Ending
from dhpo.budget import Budget
from dhpo.callbacks.base import Callback
from dhpo.callbacks.dispatch import Dispatcher
from dhpo.callbacks.live_front import LiveFrontCallback, in_notebook
from dhpo.dashboard.feed import Feed, followed
from dhpo.errors import ExhaustedFailuresError
from dhpo.executors.base import Executor
from dhpo.function import UserFunction
from dhpo.progress import ProgressBar, log_events
from dhpo.proposer import Proposer
from dhpo.results_csv import LiveCsv
from dhpo.session import Session
from dhpo.worker.job import CallForm, Job

logger = logging.getLogger(__name__)

#: Seconds between two lines in the log of what the executor waits for: at first, and at most.
_LOG_EVERY = (5.0, 600.0)


@dataclass(slots=True)
class Driver:
    """Drives a session's search until its budget is reached or a signal comes.

    Args:
        session: the search.
        executor: runs its trials.
        function: the run function and its data.
        form: how the run function wants to be called.
        resources: what one trial takes, ``{"num_cpus": …, "num_gpus": …}``.
        trial_timeout: seconds after which a trial is ended.
        isolation: where the run function is called, one of :data:`dhpo.worker.job.ISOLATIONS`.
        budget: when this run ends.
        directory: the search's; None where it is kept in memory.
        progress: whether to show a bar.
        watchers: called after each journalled batch.
        callbacks: told of what happens.
    """

    session: Session
    executor: Executor
    function: UserFunction
    form: CallForm
    resources: Mapping[str, float]
    trial_timeout: float | None
    isolation: str
    budget: Budget
    directory: Path | None
    progress: bool
    watchers: Sequence[loop.Watcher]
    callbacks: Sequence[Callback] = ()
    interrupted: bool = field(default=False, init=False)

    def run(self) -> bool:
        """Run; return whether a signal ended it before its time.

        Raises:
            ExhaustedFailuresError: too many trials in a row failed.
        """
        _run_in_loop(self._main(), self.stop)
        study = self.session.study
        if self.budget.exhausted_failures(study):
            where = "" if self.directory is None else f"`dhpo trials {self.directory} --failed` lists them, and "
            raise ExhaustedFailuresError(
                f"the last {study.failures_in_a_row} trials all failed, the last one with: {study.last_error}\n"
                f"{where}results.failures() has the tracebacks. Mend the run function and run it again; "
                "max_failures=None goes on for ever."
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
        desk = Desk(self.directory, ending.drain, self.stop, executor.wake)
        with ending.signals():
            async with desk.attended():
                try:
                    await executor.open(self._job(), self.function, study.time)
                    ending.opened()
                    name = "" if self.directory is None else self.directory.name
                    feed = Feed(executor, session.journal, name, self.budget.num_trials, self.budget.time_limit)
                    async with followed(feed):
                        await self._search(proposer, ending, feed, desk)
                finally:
                    ending.over()
                    proposer.close()
                    await executor.close()

    async def _search(self, proposer: Proposer, ending: Ending, feed: Feed, desk: Desk) -> None:
        """The loop, with what follows it."""
        session, executor = self.session, self.executor
        with self._followers(feed) as (watchers, show), self._told() as told:
            opened = session.opened(executor.now())
            if told is not None:
                watchers.append(told)
            watchers.append(desk)
            async with _beside(ending.watch(lambda status: show(desk.status() or status))):
                await loop.run(
                    session.study, proposer, executor, session, self.budget, opened,
                    lambda: self.interrupted, watchers, told, desk,
                )  # fmt: skip

    @contextmanager
    def _told(self) -> Iterator[Dispatcher | None]:
        """What tells the callbacks; None where there are none."""
        callbacks = [*self.callbacks]
        if self.progress and in_notebook() and not any(isinstance(c, LiveFrontCallback) for c in callbacks):
            callbacks.append(LiveFrontCallback())
        if not callbacks:
            yield None
            return
        header, count = self.session.journal.header, self.budget.num_trials
        dispatcher = Dispatcher(callbacks, header.search_id, header.settings, self.directory, count, self.executor.wake)
        try:
            yield dispatcher
        finally:
            dispatcher.finish(self.session.study)

    def _job(self) -> Job:
        """What the workers need to know of every trial."""
        setup = self.session.setup
        return Job(
            self.session.journal.header.search_id,
            setup.objectives,
            self.form,
            setup.stopper.time_attr,
            None if self.directory is None else str(self.directory / "checkpoints"),
            self.trial_timeout,
            self.isolation,
            **self.resources,
        )

    @contextmanager
    def _followers(self, feed: Feed) -> Iterator[tuple[list[loop.Watcher], Callable[[str | None], None]]]:
        """The watchers of this run: the log, the user's, ``results.csv`` and the bar; and what shows the status."""
        watchers: list[loop.Watcher] = [log_events, *feed.watchers, *self.watchers]
        table: LiveCsv | None = None
        bar: ProgressBar | None = None
        if self.directory is not None:
            names = self.session.setup.problem.hyperparameter_names
            blocks = self.session.journal.blocks()
            table = LiveCsv(self.directory / "results.csv", names, self.session.setup.objectives, blocks)
            watchers.append(table)
        if self.progress:
            if address := self.executor.address():
                print(f"Dask dashboard: {address}", file=sys.stderr)
            if feed.url is not None:
                print(f"dhpo dashboard: {feed.url}", file=sys.stderr)
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
    """What logs the status of the executor when it has become another one, more and more seldom."""
    told: str | None = None
    pause, longest = _LOG_EVERY
    due = -inf

    def show(status: str | None) -> None:
        nonlocal told, due, pause
        now = time.monotonic()
        if status and status != told and now >= due:
            logger.info("%s", status)
            told, due, pause = status, now + pause, min(2 * pause, longest)

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
