"""Trials as tasks of a Dask cluster."""

from __future__ import annotations

import asyncio
import logging
import pickle
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from distributed import Client, Future

from dhpo import errors
from dhpo.clusters.base import Cluster
from dhpo.errors import ClusterError, RunFunctionError
from dhpo.events import Cancel, Decide, Event, Start, TrialFailed, WorkerLost
from dhpo.executors.base import Inbox, RunFunction, WallClock, ended, reported
from dhpo.executors.relay import Relay
from dhpo.proposer import Place
from dhpo.trial import Decision, Due
from dhpo.worker.job import Job
from dhpo.worker.reporter import Record
from dhpo.worker.runner import End
from dhpo.worker.station import Station, run_task

logger = logging.getLogger(__name__)


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
        self._slots = 0
        self._received = 0
        self._acknowledged = 0
        self._delivered = 0
        self._asked: set[tuple[str, int]] = set()  # reports of the last batch that wait for a decision
        self._outbox: tuple[list[Any], list[str]] = ([], [])
        self._sender: asyncio.Task[None] | None = None
        self._puller: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: Client = None  # until it is open
        self._clock: WallClock
        self._inbox: Inbox | None = None
        self._due: dict[str, Due] = {}

    async def open(self, job: Job, function: RunFunction, time: float) -> None:
        """Connect, and put the relay on the scheduler and the run function on the workers."""
        self._reset()
        self._inbox = Inbox()
        self._packed = packed = await asyncio.to_thread(function.packed)
        self._client = await self.cluster.open()
        relay = Relay(self.token, self.resources, self._client.id)
        station = Station(self.token, job, packed.package)
        try:
            await asyncio.gather(self._client.register_plugin(relay), self._client.register_plugin(station))
        except Exception as error:
            raise ClusterError(
                f"dhpo could not be set up on the cluster {self._client.scheduler.address}: {error!r}. The scheduler "
                "and the workers need the same dhpo, installed where their Python finds it."
            ) from error
        self._clock = WallClock(time)
        self._puller = asyncio.create_task(self._pull())

    async def close(self) -> None:
        """Cancel what runs, take dhpo's parts off the cluster again, and leave it."""
        if self._puller is not None:
            self._puller.cancel()
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
        await self._call("detach")
        await self._client.unregister_scheduler_plugin(f"dhpo-relay-{self.token}")

    def now(self) -> float:
        """The search's clock."""
        return self._clock.now()

    def free(self) -> int:
        """Slots, and what is given ahead, less what is out."""
        return max(0, self._slots + (self.ahead if self._slots else 0) - len(self._keys))

    def start(self, starts: Sequence[Start]) -> None:
        """Submit one batch."""
        keys = [self._key(s) for s in starts]
        for start, key in zip(starts, keys, strict=True):
            self._forget(start.trial)
            self._keys[start.trial] = key
            if due := Due(start.milestones, start.every):
                self._due[key] = due
        futures = self._client.map(
            run_task,
            # As bytes, Dask has nothing to look into: no text of a configuration can pass for the key of a task.
            [pickle.dumps((self.token, s._replace(config=dict(s.config)))) for s in starts],
            key=keys,
            pure=False,
            resources=self.resources or None,
        )
        self._futures.update(zip(keys, futures, strict=True))

    def _key(self, command: Start | Decide | Cancel) -> str:
        """The key of a trial's attempt; the relay knows the search's tasks by its beginning."""
        return f"trial-{self.token}-{command.trial}-{command.attempt}"

    def _forget(self, trial: int) -> None:
        """Drop a trial's task; Dask releases its key."""
        key = self._keys.pop(trial, None)
        if key is not None:
            self._due.pop(key, None)
            if (future := self._futures.pop(key, None)) is not None:
                future.release()

    async def events(self, timeout: float | None) -> list[Event]:
        """What the cluster has told since the last call, which this call acknowledges."""
        self._acknowledged = self._delivered
        for key, index in self._asked:
            self._answer(key, index, Decision.CONTINUE)
        self._asked = set()
        if self._puller is not None and self._puller.done():
            self._puller.result()
        items = await self._arrivals.take(timeout)
        now = self._clock.now()
        events: list[Event] = []
        for number, record in items:
            self._delivered = max(self._delivered, number)
            if event := self._event(record, now):
                events.append(event)
        return events

    def _event(self, record: Sequence[Any], now: float) -> Event | None:
        kind, *payload = record
        if kind == "report":
            report = Record(*payload)
            self._note_ask(report)
            return reported(report, now)
        key = payload[0]
        trial, attempt = (int(part) for part in key.rsplit("-", 2)[1:])
        if self._keys.get(trial) != key:
            return None
        self._forget(trial)
        if kind == "end":
            what, *fields = payload[1:]
            if what == "unloadable":
                raise getattr(errors, fields[0], RunFunctionError)(fields[1])
            # A worker that is closing lets go of its trials.
            return ended(End(*fields), now, self._clock) or WorkerLost(round(now, 6), trial, attempt, "")
        if kind == "lost":
            return WorkerLost(round(now, 6), trial, attempt, payload[1])
        text, trace, worker = payload[1:]
        return TrialFailed(round(now, 6), trial, attempt, text, trace, round(now, 6), round(now, 6), worker)

    def _note_ask(self, report: Record) -> None:
        key = self._keys.get(report.trial)
        due = self._due.get(key) if key else None
        if key and due and due.at(report.resource):
            self._asked.add((key, report.index))

    def wake(self) -> None:
        """Let :meth:`events` return."""
        if self._inbox is not None:
            self._inbox.wake()

    @property
    def _arrivals(self) -> Inbox:
        assert self._inbox is not None
        return self._inbox

    def obey(self, command: Decide | Cancel) -> None:
        """Answer a report, or stop a trial."""
        key = self._key(command)
        if isinstance(command, Decide):
            self._answer(key, command.index, command.decision)
            self._asked.discard((key, command.index))
            return
        self._outbox[1].append(key)
        self._flush()
        if self._keys.get(command.trial) == key:
            self._forget(command.trial)

    def _answer(self, key: str, index: int, decision: Decision) -> None:
        self._outbox[0].append((key, index, decision.value))
        self._flush()

    def _flush(self) -> None:
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while any(self._outbox):
            (decisions, cancelled), self._outbox = self._outbox, ([], [])
            await self._call("obey", decisions=decisions, cancelled=cancelled)

    def _call(self, operation: str, **message: Any) -> Any:
        return getattr(self._client.scheduler, f"dhpo_{operation}_{self.token}")(**message)

    async def _pull(self) -> None:
        try:
            while True:
                answer = await self._call("exchange", after=self._received, acknowledged=self._acknowledged)
                if answer is None:
                    raise ClusterError("the scheduler no longer knows this search: was its plugin removed?")
                if answer["slots"] != self._slots:
                    self._slots = answer["slots"]
                    self._arrivals.wake()
                for number, record in answer["records"]:
                    self._received = number
                    if record[0] == "fetch":
                        self._spawn(self._serve(*record[1:]))
                    else:
                        self._arrivals.put((number, record))
        except OSError as error:
            raise ClusterError(
                f"the connection to the Dask scheduler was lost ({error}). Finished trials are safe in the journal: "
                "run the same search again to go on."
            ) from error
        finally:
            self.wake()

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, number: int, offset: int, length: int) -> None:
        data = await asyncio.to_thread(self._packed.read, offset, length)
        await self._call("chunk", number=number, data=data)

    def address(self) -> str | None:
        """The Dask dashboard."""
        link = self._client.dashboard_link
        return str(link) if link else None
