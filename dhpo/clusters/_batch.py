"""Workers that are jobs of a batch system: the controller's eyes and hands."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from distributed import Client, Security

from dhpo.clusters._controller import GRACE, Controller, Phase
from dhpo.clusters._jobscript import Site
from dhpo.clusters._scheduler_process import SchedulerProcess, tail
from dhpo.clusters._settings import JobSettings, check_security
from dhpo.clusters.base import Cluster
from dhpo.clusters.security import temporary_security
from dhpo.errors import ClusterError, SettingError

logger = logging.getLogger(__name__)

#: Submissions at once.
_SUBMISSIONS = 4
#: Seconds between two looks at the queue, at least.
_BREATH = 1.0
#: Seconds for the workers to end by themselves before their jobs are cancelled.
_FAREWELL = 5.0


class Refused(ClusterError):
    """A job was not accepted. ``lasting`` says that the same will never be."""

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class BatchQueue(Protocol):
    """A batch system's commands."""

    #: What submits, to be named in messages.
    command: str

    def script(self, settings: JobSettings, site: Site, number: int) -> str:
        """The script of one worker's job."""

    async def submit(self, script: Path) -> str:
        """Submit a script; the job's identity.

        Raises:
            Refused: the batch system does not take it.
        """

    async def poll(self, site: Site, ids: Sequence[str]) -> Mapping[str, tuple[Phase, str]]:
        """The phase of those jobs that have not ended, and why they are pending, by one command.

        Raises:
            ClusterError: the batch system does not answer.
        """

    async def cancel(self, ids: Sequence[str], *, pending: bool) -> None:
        """Cancel jobs; ``pending`` spares those that have begun, where the batch system can do that.

        Raises:
            ClusterError: the batch system does not answer.
        """


class BatchCluster(Cluster):
    """A Dask scheduler beside the driver, and a job for each worker, kept in number by a controller.

    Args:
        queue: the batch system.
        settings: the jobs.
        startup_timeout: seconds within which the first worker must come; None waits for ever.
        security: True for TLS with credentials of its own, False for none, or a ``distributed.Security`` of files.
        dashboard_address: where the Dask dashboard listens; None for no dashboard.
        poll_interval: seconds between two looks at the queue while nothing happens.
    """

    #: After the scheduler's death :meth:`open` makes everything anew.
    restartable = True

    def __init__(
        self,
        queue: BatchQueue,
        settings: JobSettings,
        *,
        startup_timeout: float | None,
        security: bool | Security,
        dashboard_address: str | None,
        poll_interval: float,
    ) -> None:
        check_security(security)
        if startup_timeout is not None and startup_timeout <= 0:
            raise SettingError(f"startup_timeout={startup_timeout!r}: give seconds, or None to wait for ever")
        if not poll_interval > 0:
            raise SettingError(f"poll_interval={poll_interval!r}: give seconds")
        self.settings = settings
        self.startup_timeout = startup_timeout
        self.security = security
        self.dashboard_address = dashboard_address
        self.poll_interval = poll_interval
        self._queue = queue
        self._wanted: int | None = None
        self._reset()

    def _reset(self) -> None:
        self._controller: Controller | None = None
        self._scheduler: SchedulerProcess | None = None
        self._client: Client | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._polled = float("-inf")
        self._poll_now = False
        self._failure: str | None = None

    def job_script(self) -> str:
        """A job's script as it would be submitted, with example values for what is known only then."""
        folder = self.settings.log_directory / "dhpo-0"
        return self._queue.script(self.settings, Site("dhpo-0", folder, Path.cwd(), "tcp://scheduler:8786", None), 1)

    async def open(self) -> Client:
        """Start the scheduler, and begin to submit. The client is there before the first worker.

        Raises:
            ClusterError: the batch system's commands are not there, or the scheduler does not start.
        """
        if shutil.which(self._queue.command) is None:
            raise ClusterError(
                f"there is no {self._queue.command!r} on this machine: run the search where jobs can be submitted"
            )
        self._reset()
        try:
            self._site = await self._start_scheduler()
            assert self._scheduler is not None
            self._client = await self._scheduler.connect()
        except BaseException:
            await self.close()
            raise
        self._changed = asyncio.Event()
        self._submissions = asyncio.Semaphore(_SUBMISSIONS)
        self._controller = Controller(self.settings.n_workers, time.monotonic(), self.startup_timeout, grace=GRACE)
        if self._wanted is not None:
            self._controller.want(self._wanted)
        logger.info("workers by %s: %s; logs in %s", self._queue.command, self.settings, self._site.folder)
        self._keeper = asyncio.create_task(self._run())
        return self._client

    async def _start_scheduler(self) -> Site:
        name = f"dhpo-{uuid.uuid4().hex[:8]}"
        folder = self.settings.log_directory / name
        try:
            folder.mkdir(mode=0o700, parents=True)
            site = Site(name, folder, _directory(), "", None)
            site.alive.touch(mode=0o600)
        except OSError as error:
            raise ClusterError(
                f"log_directory: {folder} cannot be written ({error.strerror}): choose a directory that the nodes see"
            ) from error
        security: Security | None = None
        if self.security is True:
            security = await asyncio.to_thread(temporary_security, site.credentials)
        elif self.security is not False:
            security = self.security
        self._scheduler = SchedulerProcess(
            folder / "scheduler.log",
            security=security,
            interface=self.settings.interface,
            dashboard_address=self.dashboard_address,
            transient=[site.alive, site.credentials],
            heard=self._heard,
        )
        await self._scheduler.start()
        return Site(name, folder, site.directory, self._scheduler.address, security)

    async def close(self) -> None:
        """End the scheduler and all jobs, pending and running."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            # Submissions are waited for: a job whose number is not known could not be cancelled.
            await asyncio.gather(*self._tasks, return_exceptions=True)
        controller, self._controller = self._controller, None
        ids = [job.id for job in controller.jobs.values() if job.id is not None] if controller is not None else []
        if ids:
            await self._cancel(ids, pending=True)
        if self._client is not None:
            await self._client.close()
        if self._scheduler is not None:
            await self._scheduler.close()  # the workers then end, and clean up, by themselves
        if ids:
            await self._end_jobs(ids)
        self._keeper = self._client = self._scheduler = None

    async def _end_jobs(self, ids: Sequence[str]) -> None:
        """Give the jobs a moment to end; cancel those that have not."""
        end = time.monotonic() + _FAREWELL
        left = list(ids)
        try:
            while left and time.monotonic() < end:
                states = await self._queue.poll(self._site, left)
                if left := [id for id in left if id in states]:
                    await asyncio.sleep(_BREATH)
        except ClusterError as error:
            logger.debug("at the end: %s", error)
        if left:
            await self._cancel(left, pending=False)

    def want(self, trials: int) -> None:
        """Keep no more workers than there are trials for them."""
        self._wanted = trials
        if self._controller is not None and self._controller.wanted != trials:
            self._controller.want(trials)
            self._changed.set()

    def state(self) -> str:
        """How many workers are there, and what the other jobs wait for."""
        return "" if self._controller is None else self._controller.state(time.monotonic())

    def failed(self) -> str | None:
        """Why no worker will come any more, with the end of a job's log."""
        return self._failure

    # The thin shell around the controller.

    def _heard(self, news: dict[str, Any]) -> None:
        controller, now = self._controller, time.monotonic()
        if controller is None:
            return
        if "joined" in news:
            if (number := _number(news["joined"])) is not None:
                controller.joined(number)
        elif "left" in news:
            if (number := _number(news["left"])) is not None:
                controller.left(number, now)
                self._poll_now = True  # its job has ended, most likely
        elif "retired" in news:
            numbers = (_number(name) for name in news["retired"])
            controller.retired((number for number in numbers if number is not None), now)
        elif "ended" in news and self._keeper is not None:
            self._keeper.cancel()  # the driver notices by its client
        self._changed.set()

    async def _run(self) -> None:
        try:
            await self._keep()
        except Exception as error:  # nobody awaits this task while the search runs: it must not die in silence
            logger.exception("the controller of the jobs has failed")
            self._failure = f"dhpo's control of the jobs has failed: {error!r}"

    async def _keep(self) -> None:
        controller = self._controller
        assert controller is not None
        assert self._scheduler is not None
        while True:
            self._changed.clear()
            if self._poll_due(time.monotonic()) <= 0:
                await self._poll(controller)
            now = time.monotonic()
            decision = controller.decide(now)
            if controller.given_up is not None:
                self._failure = self._explain(controller)
                return
            for _ in range(decision.submit):
                self._spawn(self._submit(controller, controller.begin()))
            if ids := self._ids(controller, decision.withdraw):
                self._spawn(self._cancel(ids, pending=True))
            if ids := self._ids(controller, decision.cancel):
                self._spawn(self._cancel(ids, pending=False))
            if decision.retire:
                self._scheduler.retire(decision.retire)
            timeout = min(controller.due(now), self._poll_due(now))
            try:
                await asyncio.wait_for(self._changed.wait(), max(timeout, 0.01))
            except TimeoutError:
                continue

    def _poll_due(self, now: float) -> float:
        interval = min(_BREATH, self.poll_interval) if self._poll_now else self.poll_interval
        return self._polled + interval - now

    async def _poll(self, controller: Controller) -> None:
        began = time.monotonic()
        # A job that was accepted in the middle of a poll is judged by the next.
        ids = [job.id for job in controller.jobs.values() if job.id is not None]
        self._poll_now = False
        if ids:
            try:
                states = await self._queue.poll(self._site, ids)
            except ClusterError as error:  # what is known of the jobs stays as it is
                logger.warning("the state of the queue is not known: %s", error)
            else:
                controller.polled(states, began, time.monotonic())
        self._polled = time.monotonic()

    async def _submit(self, controller: Controller, number: int) -> None:
        script = self._site.folder / f"{number}.sh"
        async with self._submissions:
            try:
                script.write_text(self._queue.script(self.settings, self._site, number), encoding="utf-8")
                id = await self._queue.submit(script)
            except (ClusterError, OSError) as error:
                message = f"{self._queue.command} failed: {error}"
                logger.warning("%s", message)
                controller.refused(number, message, time.monotonic(), lasting=getattr(error, "lasting", False))
            except BaseException:
                controller.refused(number, "interrupted", time.monotonic())
                raise
            else:
                controller.accepted(number, id, time.monotonic())
                logger.debug("job %s is worker %d", id, number)
        self._changed.set()

    def _ids(self, controller: Controller, numbers: Sequence[int]) -> list[str]:
        return [id for number in numbers if (id := controller.jobs[number].id) is not None]

    async def _cancel(self, ids: Sequence[str], *, pending: bool) -> None:
        try:
            await self._queue.cancel(ids, pending=pending)
        except ClusterError as error:
            logger.warning("jobs %s could not be cancelled, their workers end by themselves: %s", ", ".join(ids), error)
        self._poll_now = True
        self._changed.set()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _explain(self, controller: Controller) -> str:
        lines = [f"dhpo has given up submitting jobs: {controller.given_up}."]
        if controller.casualty is not None:
            script, log = (self._site.folder / f"{controller.casualty}.{end}" for end in ("sh", "log"))
            last = tail(log) or tail(log.with_suffix(".pbs"))
            said = f"The end of the last job's output ({log}):\n{last}" if last else f"It left no output in {log}."
            lines += [f"The last job was submitted by: {self._queue.command} {script}", said]
        else:
            lines.append(f"The jobs are submitted by: {self._queue.command} {self._site.folder}/1.sh")
        return "\n".join(lines)


def _number(worker: str) -> int | None:
    """Which job's a worker is: its name begins with it."""
    first = worker.partition("-")[0]
    return int(first) if first.isdecimal() else None


def _directory() -> Path:
    """The driver's directory by the name by which the user came to it: automounters' own names are of one node only."""
    named = Path(os.environ.get("PWD", ""))
    here = Path.cwd()
    return named if named.is_absolute() and named.exists() and named.samefile(here) else here
