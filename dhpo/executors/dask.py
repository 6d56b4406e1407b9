"""Trials as tasks of a Dask cluster."""

from __future__ import annotations

import asyncio
import logging
import pickle
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from distributed import Client, Future

from dhpo import errors
from dhpo.clusters.base import Cluster
from dhpo.errors import ClusterError, RunFunctionError
from dhpo.events import Cancel, Decide, Event, Start, TrialFailed, WorkerLost
from dhpo.executors._link import Link
from dhpo.executors._outlook import Outlook
from dhpo.executors.base import Inbox, RunFunction, WallClock, ended, reported
from dhpo.executors.relay import Relay
from dhpo.proposer import Place
from dhpo.trial import Decision, Due
from dhpo.walltime import Horizon
from dhpo.worker.job import Job
from dhpo.worker.reporter import Record
from dhpo.worker.runner import End
from dhpo.worker.station import Errand, Station, run_task

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
            next trial waiting. Worth it for trials of milliseconds only: a trial that waits behind a long one could
            have been proposed later, from more results.
    """

    searcher_place = Place.PROCESS  # the Dask scheduler may live in this one

    def __init__(self, cluster: Cluster, resources: Mapping[str, float] | None = None, ahead: int = 0) -> None:
        self.cluster = cluster
        self.resources = dict(resources or {})
        self.ahead = ahead
        self._reset()

    def _reset(self) -> None:
        """Forget an earlier run: an executor may be opened again."""
        self.token = uuid.uuid4().hex[:8]
        self._futures: dict[str, Future] = {}
        self._keys: dict[int, str] = {}  # trial -> the key of its running attempt
        self._starts: dict[int, Start] = {}
        self._held: deque[Start] = deque()  # wait for a worker that has time for them
        self._n_bounced = 0
        self._delivered = 0
        self._asked: set[tuple[str, int]] = set()  # reports of the last batch that wait for a decision
        self._client: Client = None  # until it is open
        self._clock: WallClock
        self._inbox: Inbox | None = None
        self._link: Link | None = None
        self._due: dict[str, Due] = {}
        self._outlook = Outlook()
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
        self._watcher = asyncio.create_task(self._watch())

    async def _attach(self) -> None:
        self._client = await self.cluster.open()
        relay = Relay(self.token, self.resources, self._client.id, self._job.num_cpus)
        station = Station(self.token, self._job, self._packed.package)
        try:
            await asyncio.gather(self._client.register_plugin(relay), self._client.register_plugin(station))
        except Exception as error:
            raise ClusterError(
                f"dhpo could not be set up on the cluster {self._client.scheduler.address}: {error!r}. The scheduler "
                "and the workers need the same dhpo, installed where their Python finds it."
            ) from error
        self._link = Link(self._client, self.token, self._packed.read, self._tidings, self._arrivals)

    def _tidings(self) -> dict[str, float | None]:
        """What the relay has to know."""
        outlook = self._outlook
        return {"need": outlook.need, "unit": outlook.unit, "left": outlook.left}

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
        if self._futures:
            await self._client.cancel(list(self._futures.values()), force=True)
            self._futures.clear()
        await self._client.unregister_worker_plugin(f"dhpo-station-{self.token}")
        if self._link is not None:
            await self._link.call("detach")
        await self._client.unregister_scheduler_plugin(f"dhpo-relay-{self.token}")

    def now(self) -> float:
        """The search's clock."""
        return self._clock.now()

    def free(self) -> int:
        """Slots, and what is given ahead, less what is out and what has waited longer; 0 where time is too short."""
        return max(0, self._room() - len(self._held)) if self._outlook.fits() else 0

    def _room(self) -> int:
        slots = 0 if self._link is None else self._link.slots
        return slots + (self.ahead if slots else 0) - len(self._keys)

    def start(self, starts: Sequence[Start]) -> None:
        """Submit one batch. That for which there is no room, or no time before the driver's end, is kept back."""
        self._held.extend(starts)
        self._start_held()

    def _start_held(self) -> None:
        """Submit what was kept back, as far as there are room and time for it now."""
        room = self._room()
        if room <= 0 or not self._held:
            return
        ready: list[Start] = []
        kept: deque[Start] = deque()
        for start in self._held:
            (ready if len(ready) < room and self._outlook.fits(start) else kept).append(start)
        self._held = kept
        self._submit(ready)

    def _submit(self, starts: Sequence[Start]) -> None:
        if not starts:
            return
        keys = [self._key(start) for start in starts]
        for start, key in zip(starts, keys, strict=True):
            self._forget(start.trial)
            self._keys[start.trial] = key
            self._starts[start.trial] = start
            self._outlook.begun(start)
            if due := Due(start.milestones, start.every):
                self._due[key] = due
        if self._link is None or self._link.is_down:
            return  # events() tells them as lost, or raises
        futures = self._client.map(
            run_task,
            # As bytes, Dask has nothing to look into: no text of a configuration can pass for the key of a task.
            [pickle.dumps(self._errand(start)) for start in starts],
            key=keys,
            pure=False,
            resources=self.resources or None,
        )
        self._futures.update(zip(keys, futures, strict=True))

    def _errand(self, start: Start) -> Errand:
        plain = start._replace(config=dict(start.config))
        durations = self._outlook.durations
        return Errand(self.token, plain, durations.need(start), durations.unit, self._outlook.horizon)

    def _key(self, start: Start) -> str:
        """The key of a trial's attempt; the relay knows the search's tasks by its beginning."""
        again = f".{self._n_bounced}" if self._n_bounced else ""
        return f"trial-{self.token}-{start.trial}-{start.attempt}{again}"

    def _key_of(self, command: Decide | Cancel) -> str:
        """The key under which the command's attempt runs, if it does."""
        start = self._starts.get(command.trial)
        return self._keys[command.trial] if start is not None and start.attempt == command.attempt else ""

    def _forget(self, trial: int) -> None:
        """Drop a trial's task; Dask releases its key."""
        self._starts.pop(trial, None)
        key = self._keys.pop(trial, None)
        if key is not None:
            self._due.pop(key, None)
            if (future := self._futures.pop(key, None)) is not None:
                future.release()

    async def events(self, timeout: float | None) -> list[Event]:
        """What the cluster has told since the last call, which this call acknowledges."""
        self._open_link.acknowledged = self._delivered
        for key, index in self._asked:
            self._open_link.answer(key, index, Decision.CONTINUE)
        self._asked = set()
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
            if event := self._event(record, now):
                events.append(event)
                self._losses = 0
        return events

    def _event(self, record: Sequence[Any], now: float) -> Event | None:
        kind, *payload = record
        if kind == "report":
            report = Record(*payload)
            self._note_ask(report)
            self._outlook.reported(report)
            return reported(report, now)
        key = payload[0]
        trial, attempt = (int(part.partition(".")[0]) for part in key.rsplit("-", 2)[1:])
        if self._keys.get(trial) != key:
            return None
        start = self._starts[trial]
        self._forget(trial)
        now = round(now, 6)
        if kind == "end":
            return self._ended(start, payload[1], payload[2:], now)
        self._outlook.ended(trial)
        if kind == "lost":
            return WorkerLost(now, trial, attempt, payload[1])
        text, trace, worker = payload[1:]
        return TrialFailed(now, trial, attempt, text, trace, now, now, worker)

    def _ended(self, start: Start, what: str, fields: Sequence[Any], now: float) -> Event | None:
        if what == "unloadable":
            raise getattr(errors, fields[0], RunFunctionError)(fields[1])
        if what == "bounced":  # it has not begun: nobody needs to know
            self._n_bounced += 1
            self._held.append(start)
            return None
        end = End(*fields) if what == "end" else None
        self._outlook.ended(start.trial, end)
        event = None if end is None else ended(end, now, self._clock)
        # Else it left in time for an end, or its worker, which is closing, has let go of it.
        return event or WorkerLost(now, start.trial, start.attempt, fields[0] if what == "returned" else "")

    def _note_ask(self, report: Record) -> None:
        key = self._keys.get(report.trial)
        due = self._due.get(key) if key else None
        if key and due and due.at(report.resource):
            self._asked.add((key, report.index))

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
        lost = list(self._starts.values())
        await self._restart()
        for start in lost:
            self._outlook.ended(start.trial)
        now = round(self._clock.now(), 6)
        return [WorkerLost(now, start.trial, start.attempt, "") for start in lost]

    async def _restart(self) -> None:
        self._open_link.close()
        for trial in list(self._keys):
            self._futures.pop(self._keys[trial], None)
            self._forget(trial)
        self.token, self._delivered, self._wanted, wanted = uuid.uuid4().hex[:8], 0, None, self._wanted
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
        if not (key := self._key_of(command)):
            return
        if isinstance(command, Decide):
            self._open_link.answer(key, command.index, command.decision)
            self._asked.discard((key, command.index))
            return
        self._open_link.cancel(key)
        self._outlook.ended(command.trial)
        self._forget(command.trial)

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
        return self._outlook.drained(len(self._keys))

    def address(self) -> str | None:
        """The Dask dashboard."""
        link = self._client.dashboard_link
        return str(link) if link else None

    def status(self) -> str | None:
        """What the cluster waits for, while no worker is there."""
        if self._link is None or self._link.slots or self._keys:
            return None
        state = getattr(self.cluster, "state", None)
        return (state() if state is not None else None) or "waiting for workers"
