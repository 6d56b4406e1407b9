"""What dhpo keeps on every Dask worker: the run function, its data, and the way its trials' records take."""

from __future__ import annotations

import asyncio
import pickle
import threading
from concurrent.futures import CancelledError
from typing import Any

from distributed import Status, Worker, WorkerPlugin, get_worker
from distributed.worker import thread_state

from dhpo.errors import AbandonedTrial, DhpoError
from dhpo.events import Start
from dhpo.trial import Decision
from dhpo.worker.job import Job
from dhpo.worker.mount import Mounted, mount
from dhpo.worker.package import Package
from dhpo.worker.reporter import Record
from dhpo.worker.runner import run_trial

#: Seconds after which a report that waits for a decision goes on without one: a broken link never stops a trial.
_PATIENCE = 120.0
_RETRY = 1.0


class Station(WorkerPlugin):  # type: ignore[misc]
    """One search's part of one worker. It reaches the worker once, and every worker that joins later."""

    def __init__(self, token: str, job: Job, package: Package) -> None:
        self.token = token
        self.name = f"dhpo-station-{token}"
        self.job = job
        self.package = package

    async def setup(self, worker: Worker) -> None:
        """Called by the worker. The run function is loaded at the first trial, not here: an error is the trial's."""
        self.worker = worker
        self.interval = 0.1
        self.stale: set[str] = set()
        self._buffer: list[list[Any]] = []
        self._lock = threading.Lock()
        self._flushing = asyncio.Lock()
        self._scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._mount_lock = threading.Lock()
        self._mounted: Mounted | None = None

    def teardown(self, worker: Worker) -> None:
        """Called when the search, or the worker, ends."""
        self.stale.add("*")
        if self._mounted is not None:
            self._mounted.close()

    # In the trials' threads.

    def mounted(self) -> Mounted:
        """The run function and its data, loaded on first use."""
        with self._mount_lock:
            if self._mounted is None:
                self._mounted = mount(self.package, self._fetch)
            return self._mounted

    def _fetch(self, offset: int, length: int) -> bytes:
        data: bytes = self._sync(self._call("fetch", offset=offset, length=length), None)
        return data

    def _sync(self, coroutine: Any, timeout: float | None) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.worker.loop.asyncio_loop).result(timeout)

    def put(self, item: list[Any], *, urgent: bool = False) -> None:
        """Have a record sent with the next flush; an urgent one is not waited for, but sent at once."""
        with self._lock:
            self._buffer.append(item)
            if self._scheduled and not urgent:
                return
            self._scheduled = True
        self.worker.loop.asyncio_loop.call_soon_threadsafe(self._schedule, 0.0 if urgent else self.interval)

    def ask(self, item: list[Any], key: str, index: int) -> str:
        """Send a record, after whatever the same trial sent before, and wait for the decision."""
        try:
            return str(self._sync(self._ask(item, key, index), _PATIENCE))
        except TimeoutError:  # the report is on its way; only the decision did not come
            return Decision.CONTINUE.value
        except (CancelledError, RuntimeError):  # the worker's event loop has ended
            return "STALE"

    # In the worker's event loop.

    def _call(self, operation: str, **message: Any) -> Any:
        return getattr(self.worker.scheduler, f"dhpo_{operation}_{self.token}")(**message)

    def _schedule(self, delay: float) -> None:
        asyncio.get_running_loop().call_later(delay, self._begin_flush)

    def _begin_flush(self) -> None:
        task = asyncio.get_running_loop().create_task(self._flush())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flush(self) -> None:
        async with self._flushing:  # one at a time: the order of a trial's records is kept
            with self._lock:
                items, self._buffer = self._buffer, []
                self._scheduled = False
            if not items:
                return
            try:
                answer = await self._call("report", worker=self.worker.address, items=items)
            except Exception:  # the link is broken, whatever the connection pool calls it
                self._put_back(items)
                return
            if answer is None:  # the scheduler knows the operation no longer: the search is over
                self.stale.add("*")
            else:
                self.stale.update(answer["stale"])
                self.interval = answer["interval"]

    def _put_back(self, items: list[list[Any]]) -> None:
        with self._lock:
            self._buffer[:0] = items
            self._scheduled = self.worker.status == Status.running and "*" not in self.stale
        if self._scheduled:
            self._schedule(_RETRY)

    async def _ask(self, item: list[Any], key: str, index: int) -> str:
        async with self._flushing:
            with self._lock:
                items = [i for i in self._buffer if i[1] == key]
                self._buffer = [i for i in self._buffer if i[1] != key]
        items.append(item)
        try:
            decision = await self._call("ask", worker=self.worker.address, items=items, key=key, index=index)
        except Exception:  # a broken link never stops a trial, and its reports still count
            self._put_back(items)
            return Decision.CONTINUE.value
        return decision or "STALE"  # None: the scheduler knows the operation no longer


class TaskChannel:
    """The channel of one task: it knows its key, and whether the task still counts."""

    def __init__(self, station: Station, key: str) -> None:
        self._station = station
        self._key = key
        self._task = station.worker.state.tasks[key]
        self._run_id = self._task.run_id

    def _check(self) -> None:
        station = self._station
        if (
            self._key in station.stale
            or "*" in station.stale
            or self._task.state in ("cancelled", "resumed")
            or station.worker.status not in (Status.running, Status.paused)
        ):
            raise AbandonedTrial

    def item(self, kind: str, payload: tuple[Any, ...]) -> list[Any]:
        """A record as it travels."""
        return [kind, self._key, self._run_id, *payload]

    def send(self, record: Record) -> None:
        """Pass a report on at leisure."""
        self._check()
        self._station.put(self.item("report", record))

    def ask(self, record: Record) -> Decision:
        """Pass a report on and wait for the decision."""
        self._check()
        answer = self._station.ask(self.item("report", record), self._key, record.index)
        if answer == "STALE":
            raise AbandonedTrial
        return Decision(answer)


def run_task(payload: bytes) -> None:
    """The task that Dask runs: one trial. Its end travels as a record, so that nothing is lost with the worker."""
    start: Start
    token, start = pickle.loads(payload)
    worker = get_worker()
    station: Station = worker.plugins[f"dhpo-station-{token}"]
    channel = TaskChannel(station, thread_state.key)
    try:
        mounted = station.mounted()
    except DhpoError as error:
        station.put(channel.item("end", ("unloadable", type(error).__name__, str(error))), urgent=True)
        return
    end = run_trial(mounted.function, mounted.data, station.job, start, channel, worker.address)
    station.put(channel.item("end", ("end", *end)), urgent=True)
