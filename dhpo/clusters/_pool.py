"""A pool of workers, each a job of its own: a controller's eyes and hands."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dhpo.clusters._controller import GRACE, Controller
from dhpo.clusters._jobscript import Site
from dhpo.clusters._queue import BatchQueue
from dhpo.clusters._scheduler_process import tail
from dhpo.clusters._settings import JobSettings
from dhpo.errors import ClusterError, SettingError

logger = logging.getLogger(__name__)

#: Submissions at once.
_SUBMISSIONS = 4
#: Seconds between two looks at the queue, at least.
_BREATH = 1.0
#: Seconds for the workers to end by themselves before their jobs are cancelled.
_FAREWELL = 5.0


class Pool:
    """Jobs that are all alike, kept in number by a controller.

    Args:
        name: of the pool, for people.
        queue: the batch system.
        settings: the jobs.
        startup_timeout: seconds within which the first worker must come; None waits for ever.
        poll_interval: seconds between two looks at the queue while nothing happens.

    Raises:
        SettingError: a number is not usable.
    """

    def __init__(
        self,
        name: str,
        queue: BatchQueue,
        settings: JobSettings,
        *,
        startup_timeout: float | None,
        poll_interval: float,
    ) -> None:
        if startup_timeout is not None and startup_timeout <= 0:
            raise SettingError(f"startup_timeout={startup_timeout!r}: give seconds, or None to wait for ever")
        if not poll_interval > 0:
            raise SettingError(f"poll_interval={poll_interval!r}: give seconds")
        self.name = name
        self.queue = queue
        self.settings = settings
        self._startup_timeout = startup_timeout
        self._poll_interval = poll_interval
        self._has_warned = False  # of what was assumed
        self.reset()

    def reset(self) -> None:
        """Forget an earlier run."""
        self.failure: str | None = None  # why it has given up
        self._controller: Controller | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._polled = float("-inf")
        self._poll_now = False
        self._script: Path | None = None  # of the last job

    def check(self) -> None:
        """Make sure that jobs can be submitted from here.

        Raises:
            ClusterError: they cannot.
        """
        if shutil.which(self.queue.command) is None:
            raise ClusterError(
                f"there is no {self.queue.command!r} on this machine: run the search where jobs can be submitted"
            )

    def start(
        self, site: Site, numbers: Iterator[int], share: Callable[[], int], retire: Callable[[int], None]
    ) -> None:
        """Begin to submit.

        Args:
            site: what the jobs have in common.
            numbers: the jobs' numbers; no other pool of the same scheduler uses them.
            share: tells how many workers this pool is to have.
            retire: has idle workers leave.
        """
        self._site, self._share, self._retire = site, share, retire
        self._changed = asyncio.Event()
        self._submissions = asyncio.Semaphore(_SUBMISSIONS)
        now = time.monotonic()
        self._controller = Controller(self.settings.n_workers, now, self._startup_timeout, GRACE, numbers)
        if self.settings.is_walltime_assumed and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "no walltime was given: each job asks for dask-jobqueue's %s, after which its worker is replaced. "
                "Give walltime=\"04:00:00\", or set jobqueue.%s.walltime in jobqueue.yaml",
                self.settings.walltime, self.settings.section,
            )  # fmt: skip
        logger.info("workers by %s: %s; logs in %s", self.queue.command, self.settings, site.folder)
        self._keeper = asyncio.create_task(self._run())

    @property
    def connected(self) -> int:
        """How many workers are there to stay."""
        return 0 if self._controller is None else self._controller.connected

    def state(self) -> str:
        """How many workers are there, and what the other jobs wait for."""
        if self._controller is None:
            return ""
        return self._controller.state(time.monotonic()) if self.failure is None else "given up"

    def hear(self, kind: str, numbers: Sequence[int], *, answers: bool = False) -> None:
        """Learn of workers, by their jobs' numbers, which may be another pool's.

        Args:
            kind: "joined", "left" or "retired": told to leave.
            numbers: of the jobs.
            answers: whether it was this pool that had asked for workers to leave.
        """
        controller, now = self._controller, time.monotonic()
        if controller is None:
            return
        if kind == "retired":
            controller.retired(numbers, now, answers=answers)
        else:
            for number in numbers:
                if kind == "joined":
                    controller.joined(number)
                elif number in controller.jobs:
                    controller.left(number, now)
                    self._poll_now = True  # its job has ended, most likely
        self.wake()

    def wake(self) -> None:
        """Have the pool think again of how many workers it is to have."""
        if self._controller is not None:
            self._changed.set()

    def rest(self) -> None:
        """Submit nothing more."""
        if self._keeper is not None:
            self._keeper.cancel()

    async def withdraw(self) -> None:
        """Submit nothing more, and cancel what is pending."""
        self.rest()
        if self._keeper is not None:
            await asyncio.gather(self._keeper, return_exceptions=True)
            # Submissions are waited for: a job whose number is not known could not be cancelled.
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if ids := self._ids():
            await self._cancel(ids, pending=True)

    async def end(self) -> None:
        """Give the jobs a moment to end, now that the scheduler has; cancel those that have not."""
        end = time.monotonic() + _FAREWELL
        left = self._ids()
        self._controller = self._keeper = None
        try:
            while left and time.monotonic() < end:
                states = await self.queue.poll(self._site, left)
                if left := [id for id in left if id in states]:
                    await asyncio.sleep(_BREATH)
        except ClusterError as error:
            logger.debug("at the end: %s", error)
        if left:
            await self._cancel(left, pending=False)

    # The thin shell around the controller.

    async def _run(self) -> None:
        controller = self._controller
        assert controller is not None
        try:
            await self._keep(controller)
            folder, command = self._site.folder, self.queue.command
            self._give_up(_explanation(self.name, controller, command, folder, self._script))
        except Exception as error:  # nobody awaits this task while the search runs: it must not die in silence
            logger.exception("the controller of the jobs has failed")
            self._give_up(f"dhpo's control of the jobs has failed: {error!r}")

    def _give_up(self, why: str) -> None:
        self.failure = why
        if self.name:  # there are others, and the search goes on
            logger.error("%s", why)
        if ids := self._ids():
            self._spawn(self._cancel(ids, pending=False))

    async def _keep(self, controller: Controller) -> None:
        """Do what the controller decides, until it gives up."""
        while True:
            self._changed.clear()
            if self._poll_due(time.monotonic()) <= 0:
                await self._poll(controller)
            now = time.monotonic()
            controller.want(self._share())
            decision = controller.decide(now)
            if controller.given_up is not None:
                return
            for _ in range(decision.submit):
                self._spawn(self._submit(controller, controller.begin()))
            if ids := self._ids(decision.withdraw):
                self._spawn(self._cancel(ids, pending=True))
            if ids := self._ids(decision.cancel):
                self._spawn(self._cancel(ids, pending=False))
            if decision.retire:
                self._retire(decision.retire)
            # Not by wait_for, which in Python 3.11 forgets that it was cancelled where something happens just then.
            with suppress(TimeoutError):
                async with asyncio.timeout(max(min(controller.due(now), self._poll_due(now)), 0.01)):
                    await self._changed.wait()

    def _poll_due(self, now: float) -> float:
        interval = min(_BREATH, self._poll_interval) if self._poll_now else self._poll_interval
        return self._polled + interval - now

    async def _poll(self, controller: Controller) -> None:
        began = time.monotonic()
        ids = self._ids()  # a job that is accepted in the middle of a poll is judged by the next
        self._poll_now = False
        if ids:
            try:
                states = await self.queue.poll(self._site, ids)
            except ClusterError as error:  # what is known of the jobs stays as it is
                logger.warning("the state of the queue is not known: %s", error)
            else:
                controller.polled(states, began, time.monotonic())
        self._polled = time.monotonic()

    async def _submit(self, controller: Controller, number: int) -> None:
        self._script = script = self._site.folder / f"{number}.sh"
        async with self._submissions:
            try:
                script.write_text(self.queue.script(self.settings, self._site, number), encoding="utf-8")
                id = await self.queue.submit(script)
            except (ClusterError, OSError) as error:
                message = f"{self.queue.command} failed: {error}"
                logger.warning("%s", message)
                controller.refused(number, message, time.monotonic(), lasting=getattr(error, "lasting", False))
            except Exception as error:  # nobody awaits this task: it must not die in silence, time and again
                logger.exception("the script of a job could not be made or submitted")
                controller.refused(number, f"the job {script} failed: {error!r}", time.monotonic(), lasting=True)
            except BaseException:
                controller.refused(number, "interrupted", time.monotonic())
                raise
            else:
                controller.accepted(number, id, time.monotonic())
                logger.debug("job %s is worker %d", id, number)
        self._changed.set()

    def _ids(self, numbers: Sequence[int] | None = None) -> list[str]:
        """The identities of these jobs, or of all, as far as they are known."""
        jobs = {} if self._controller is None else self._controller.jobs
        return [id for number in (jobs if numbers is None else numbers) if (id := jobs[number].id) is not None]

    async def _cancel(self, ids: Sequence[str], *, pending: bool) -> None:
        try:
            await self.queue.cancel(ids, pending=pending)
        except ClusterError as error:
            logger.warning("jobs %s could not be cancelled, their workers end by themselves: %s", ", ".join(ids), error)
        self._poll_now = True
        self._changed.set()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _explanation(name: str, controller: Controller, command: str, folder: Path, script: Path | None) -> str:
    """Why a pool has given up, with the end of the last job's output."""
    lines = [f"dhpo has given up submitting jobs{f' for {name}' if name else ''}: {controller.given_up}."]
    if controller.casualty is not None:
        script, log = (folder / f"{controller.casualty}.{end}" for end in ("sh", "log"))
        last = tail(log) or tail(log.with_suffix(".pbs"))
        said = f"The end of the last job's output ({log}):\n{last}" if last else f"It left no output in {log}."
        lines += [f"The last job was submitted by: {command} {script}", said]
    elif script is not None:
        lines.append(f"The jobs are submitted by: {command} {script}")
    return "\n".join(lines)
