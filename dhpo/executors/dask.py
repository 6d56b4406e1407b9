"""Trials as tasks of a Dask cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import time as unix_time

from distributed import Client

from dhpo.clusters.base import Cluster
from dhpo.errors import ClusterError
from dhpo.events import Cancel, Decide, Event, Start, WorkerLost
from dhpo.executors._link import Link
from dhpo.executors._outlook import Outlook
from dhpo.executors._pacing import Pacing
from dhpo.executors._reading import Reader
from dhpo.executors._tasks import Tasks
from dhpo.executors.base import Inbox, RunFunction, WallClock
from dhpo.executors.relay import Relay
from dhpo.proposer import Place
from dhpo.trial import Decision
from dhpo.walltime import Horizon
from dhpo.worker.job import Job
from dhpo.worker.station import Errand, Station

logger = logging.getLogger(__name__)

#: Seconds between looks at how the cluster gets on.
_GLANCE = 1.0
#: A scheduler that is lost so many times with nothing heard of any trial in between is not started again.
_RESTARTS = 5


class DaskExecutor:
    """Runs each trial as one task, submitted in batches as workers come free.

    Args:
        cluster: where the workers come from.
        resources: what one trial takes of a worker's Dask resources, such as ``{"GPU": 1}``.
        ahead: how many trials more than there are slots are given out, so that a worker that comes free finds its
            next trial waiting. Worth it for short trials only: a trial that waits behind a long one could have been
            proposed later, from more results. None measures what trials take: short ones that are alike are given
            out ahead, and those of milliseconds several to a task.
    """

    searcher_place = Place.PROCESS  # the Dask scheduler may live in this one

    def __init__(self, cluster: Cluster, resources: Mapping[str, float] | None = None, ahead: int | None = 0) -> None:
        self.cluster = cluster
        self.resources = dict(resources or {})
        self.ahead = ahead
        self._reset()

    def _reset(self) -> None:
        """Forget an earlier run: an executor may be opened again."""
        self._tasks = Tasks(self.resources)
        self._outlook = Outlook()
        self._pacing = Pacing(self.ahead)
        self._delivered = 0
        self._client: Client = None  # until it is open
        self._clock: WallClock
        self._reader: Reader
        self._inbox: Inbox | None = None
        self._link: Link | None = None
        self._wanted: int | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._failure: str | None = None  # why the cluster has given up
        self._losses = 0  # of the scheduler, since anything was heard of a trial

    async def open(self, job: Job, function: RunFunction, time: float) -> None:
        """Connect, and put the relay on the scheduler and the run function on the workers."""
        self._reset()
        self._inbox = Inbox()
        self._job = job
        self._packed = await asyncio.to_thread(function.packed)
        await self._attach()
        self._clock = WallClock(time)
        self._reader = Reader(self._tasks, self._outlook, self._pacing, self._clock)
        self._watcher = asyncio.create_task(self._watch())

    async def _attach(self) -> None:
        self._client = await self.cluster.open()
        token = self._tasks.token
        relay = Relay(token, self.resources, self._client.id, self._job.num_cpus)
        station = Station(token, self._job, self._packed.package)
        try:
            await asyncio.gather(self._client.register_plugin(relay), self._client.register_plugin(station))
        except Exception as error:
            raise ClusterError(
                f"dhpo could not be set up on the cluster {self._client.scheduler.address}: {error!r}. The scheduler "
                "and the workers need the same dhpo, installed where their Python finds it."
            ) from error
        self._link = Link(self._client, token, self._packed.read, self._outlook.tidings, self._arrivals)

    async def close(self) -> None:
        """Cancel what runs, take dhpo's parts off the cluster again, and leave it."""
        if self._watcher is not None:
            self._watcher.cancel()
        if self._link is not None:
            self._link.close()
        try:
            await asyncio.wait_for(self._detach(), 10)
        except Exception as error:  # the cluster is gone already, or going
            logger.debug("leaving the cluster: %r", error)
        await self.cluster.close()

    async def _detach(self) -> None:
        if self._client is None or self._client.status != "running":
            return
        await self._tasks.cancel(self._client)
        await self._client.unregister_worker_plugin(f"dhpo-station-{self._tasks.token}")
        if self._link is not None:
            await self._link.call("detach")
        await self._client.unregister_scheduler_plugin(f"dhpo-relay-{self._tasks.token}")

    @property
    def client(self) -> Client:
        """The Dask client; None while this is not open."""
        return self._client

    @property
    def token(self) -> str:
        """What names the search's session at the scheduler: the keys of its tasks begin with ``trial-<token>-``."""
        return self._tasks.token

    def now(self) -> float:
        """The search's clock."""
        return self._clock.now()

    def free(self) -> int:
        """Room in slots and ahead of them, less what is out and what has waited longer; 0 where time is too short."""
        return max(0, self._room() * self._pacing.size - len(self._tasks.held)) if self._outlook.fits() else 0

    def _room(self) -> int:
        """For how many more tasks there is room."""
        slots = 0 if self._link is None else self._link.slots
        return max(0, slots + self._pacing.ahead(slots) - self._tasks.n_tasks)

    def start(self, starts: Sequence[Start]) -> None:
        """Submit one batch. That for which there is no room, or no time before the driver's end, is kept back."""
        self._tasks.held.extend(starts)
        self._start_held()

    def _start_held(self) -> None:
        """Submit what was kept back, as far as there are room and time for it now."""
        batch = self._tasks.ready(self._room(), self._outlook.fits, self._pacing.size)
        for starts in batch:
            self._tasks.begin(*starts)
            for start in starts:
                self._outlook.begun(start)
        if not batch or self._link is None or self._link.is_down:
            return  # events() tells of those that nobody has got, or raises
        self._tasks.submit(self._client, [list(map(self._errand, starts)) for starts in batch])
        self._pacing.submitted(unix_time())

    def _errand(self, start: Start) -> Errand:
        plain = start._replace(config=dict(start.config))
        durations = self._outlook.durations
        return Errand(self._tasks.token, plain, durations.need(start), durations.unit, self._outlook.horizon)

    async def events(self, timeout: float | None) -> list[Event]:
        """What the cluster has told since the last call, which this call acknowledges."""
        self._open_link.acknowledged = self._delivered
        for key, index in self._reader.asked:
            self._open_link.answer(key, index, Decision.CONTINUE)
        self._reader.asked.clear()
        if self._failure is not None:
            raise ClusterError(self._failure)
        if self._open_link.is_down and not self._arrivals:
            return await self._recover()
        self._start_held()
        items = await self._arrivals.take(timeout)
        now = self._clock.now()
        events: list[Event] = []
        for number, record in items:
            self._delivered = max(self._delivered, number)
            if event := self._reader.event(record, now):
                events.append(event)
                self._losses = 0
        return events

    async def _recover(self) -> list[Event]:
        """The scheduler is lost. Start it again, where it is dhpo's own; what ran on its workers starts anew.

        Raises:
            ClusterError: it is somebody else's, or is lost again and again.
        """
        try:
            self._open_link.check()
        except ClusterError:
            if not getattr(self.cluster, "restartable", False):
                raise
            self._losses += 1
            if self._losses > _RESTARTS:
                raise
        logger.warning("the Dask scheduler was lost: it is started again, and so are the trials that were running")
        lost = self._tasks.running
        await self._restart()
        for start in lost:
            self._outlook.ended(start.trial)
        now = round(self._clock.now(), 6)
        return [WorkerLost(now, start.trial, start.attempt, "") for start in lost]

    async def _restart(self) -> None:
        self._open_link.close()
        self._tasks.renew()
        self._delivered, self._wanted, wanted = 0, None, self._wanted
        with suppress(OSError, TimeoutError):
            await self.cluster.close()
        await self._attach()
        if wanted is not None:
            self.want(wanted)

    async def _watch(self) -> None:
        """Look whether the cluster has given up."""
        failed = getattr(self.cluster, "failed", lambda: None)
        while (message := failed()) is None:
            await asyncio.sleep(_GLANCE)
        self._failure = message
        self.wake()

    def wake(self) -> None:
        """Let :meth:`events` return."""
        if self._inbox is not None:
            self._inbox.wake()

    @property
    def _arrivals(self) -> Inbox:
        assert self._inbox is not None
        return self._inbox

    @property
    def _open_link(self) -> Link:
        assert self._link is not None
        return self._link

    def obey(self, command: Decide | Cancel) -> None:
        """Answer a report, or stop a trial."""
        if isinstance(command, Cancel):
            self._tasks.withdraw(command)
        if not (key := self._tasks.key_of(command)):
            return
        if isinstance(command, Decide):
            self._open_link.answer(key, command.index, command.decision)
            self._reader.asked.discard((key, command.index))
            return
        self._open_link.cancel(key)
        self._outlook.ended(command.trial)
        self._tasks.forget(command.trial)

    def want(self, trials: int) -> None:
        """Tell the cluster how many trials could run now, when that has changed."""
        if trials != self._wanted:
            self._wanted = trials
            if (want := getattr(self.cluster, "want", None)) is not None:
                want(trials)

    def end_by(self, horizon: Horizon) -> None:
        """Have the trials leave in time for the driver's end, and start none that does not fit before it."""
        self._outlook.horizon = horizon
        if not self._outlook.left and self._link is not None:
            self._link.recall()
        self.wake()

    def drained(self) -> bool:
        """Whether the driver's end leaves nothing to wait for."""
        return self._outlook.drained(len(self._tasks))

    def address(self) -> str | None:
        """The Dask dashboard."""
        link = self._client.dashboard_link
        return str(link) if link else None

    def status(self) -> str | None:
        """What the cluster waits for, while no worker is there."""
        if self._link is None or self._link.slots or self._tasks:
            return None
        state = getattr(self.cluster, "state", None)
        return (state() if state is not None else None) or "waiting for workers"
