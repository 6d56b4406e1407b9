"""What dhpo keeps on every Dask worker: the run function, its data, and the way its trials' records take."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, NamedTuple

from distributed import Status, Worker, WorkerPlugin, get_worker
from distributed.worker import thread_state

from dhpo.errors import AbandonedTrial, DhpoError
from dhpo.events import Start
from dhpo.trial import Decision
from dhpo.walltime import Horizon, fits
from dhpo.worker._farewell import end_within, hear_sigterm
from dhpo.worker._outgoing import Items, Outgoing
from dhpo.worker.isolation import Processes
from dhpo.worker.job import Job
from dhpo.worker.keys import ENDING, trial_keys
from dhpo.worker.mount import Mounted, mount
from dhpo.worker.package import Package
from dhpo.worker.reporter import Record
from dhpo.worker.resources import Pins, filling
from dhpo.worker.runner import End, EndKind, run_trial
from dhpo.worker.walltime import own_horizon

#: Seconds after which a report that waits for a decision goes on without one: a broken link never stops a trial.
_PATIENCE = 120.0
_RETRY = 1.0
#: A worker in another state is closing.
_AT_WORK = (Status.running, Status.paused)
#: Seconds that trials get then to come to their next report. Dask waits for 30.
_CLOSING = 25.0
#: A pack of short trials that has lasted so many seconds begins no more of them: they were not short after all.
_PACK = 0.5
#: Seconds that a word to the scheduler may take when the worker ends.
_FAREWELL = 2.0


class Errand(NamedTuple):
    """What a task gets: a trial, and what the driver knows of the time that it takes."""

    token: str
    start: Start
    need: float = 0.0  # seconds until its next rung, or its end
    unit: float = 0.0  # seconds per unit of resource
    horizon: Horizon | None = None  # the driver's end


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
        self._outgoing = Outgoing()
        self._flushing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._mount_lock = threading.Lock()
        self._mounted: Mounted | None = None
        self._processes: Processes | None = None
        self._pins: Pins | None = None
        self.running: set[str] = set()  # the keys of trials that run here
        self.recalled: Horizon | None = None  # when its trials were told to leave
        self.horizon = own_horizon(worker.lifetime)
        if self.horizon is not None:
            self._spawn(self._announce(self.horizon))
        worker.handlers[f"dhpo_recall_{self.token}"] = self.recall
        self._stop_hearing = hear_sigterm(self.leave)

    async def teardown(self, worker: Worker) -> None:
        """Called when the search, or the worker, ends."""
        self._stop_hearing()
        worker.handlers.pop(f"dhpo_recall_{self.token}", None)
        if worker.status != Status.running:
            await self._say_goodbye()
        if worker.status not in _AT_WORK and self.running:  # a trial that does not report must not keep its job
            end_within(_CLOSING)
        self.stale.add("*")
        if self._mounted is not None:
            self._mounted.close()
        if self._processes is not None:
            patience = 0.0 if worker.status in _AT_WORK else _CLOSING
            await asyncio.to_thread(self._processes.close, patience)
        if self._pins is not None:
            self._pins.close()

    # The end of the worker's job.

    async def _announce(self, horizon: Horizon) -> None:
        """Tell the relay, which may come a little later than this, how long this worker lives."""
        while "*" not in self.stale:
            with suppress(Exception):
                message = {"worker": self.worker.address, "left": horizon.left(time.time()), "life": horizon.life}
                if await self._call("join", **message):
                    return
            await asyncio.sleep(_RETRY)

    async def recall(self, **_: Any) -> str:
        """Have the trials leave at their next reports."""
        self.recalled = Horizon(time.time())
        return "OK"

    async def leave(self) -> None:
        """The worker was told to end: have its trials leave; return when they have, and have told what they have to."""
        await self.recall()
        await self._say_goodbye()
        while self.running or self._outgoing:
            await asyncio.sleep(0.02)

    async def _say_goodbye(self) -> None:
        """Tell the relay that what is lost with this worker is no death that a trial has caused."""
        with suppress(Exception):
            await asyncio.wait_for(self._call("leave", worker=self.worker.address), _FAREWELL)

    def horizon_of(self, errand: Errand) -> Horizon | None:
        """The first of the ends that are known: this worker's, the driver's, that by recall."""
        ends = [end for end in (self.recalled, self.horizon, errand.horizon) if end is not None]
        return min(ends, default=None)

    def has_time_for(self, errand: Errand) -> bool:
        """Whether to begin a trial in what is left."""
        horizon = self.horizon_of(errand)
        return horizon is None or fits(errand.need, errand.unit, horizon.left(time.time()), horizon.life)

    # In the trials' threads.

    def mounted(self) -> Mounted:
        """The run function and its data, loaded on first use."""
        with self._mount_lock:
            if self._mounted is None:
                self._mounted = mount(self.package, self._fetch)
            return self._mounted

    def processes(self) -> Processes:
        """The processes for trials that are not to run in this one, which then never loads the run function."""
        pins = self._pinned()
        with self._mount_lock:
            if self._processes is None:
                self._processes = Processes(self.job, self.package, self._fetch, pins.slots())
            return self._processes

    def _pinned(self) -> Pins:
        """What this worker's trials may use of its machine: settled at the first one, before anything is loaded."""
        with self._mount_lock:
            if self._pins is None:
                state = self.worker.state
                slots = int(state.nthreads // max(1, self.job.num_cpus))
                if self.job.num_gpus:
                    slots = min(slots, int(state.total_resources.get("GPU", 0) // self.job.num_gpus))
                job = self.job if slots > 1 else filling(self.job, state.total_resources)
                self._pins = Pins(job, max(1, slots), self.worker.scheduler.address)
                if self.job.isolation == "thread":
                    self._pins.apply()
            return self._pins

    def run(self, start: Start, channel: TaskChannel) -> End:
        """Run a trial, where the search wants it to run."""
        if self.job.isolation == "process":
            return self.processes().run(start, channel, self.worker.address)
        pins, mounted = self._pinned(), self.mounted()
        pins.limit_threads()
        return run_trial(mounted.function, mounted.data, self.job, start, channel, self.worker.address)

    def _fetch(self, offset: int, length: int) -> bytes:
        data: bytes = self._sync(self._call("fetch", offset=offset, length=length), None)
        return data

    def _sync(self, coroutine: Any, timeout: float | None) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.worker.loop.asyncio_loop).result(timeout)

    def put(self, item: list[Any], *, urgent: bool = False) -> None:
        """Have a record sent with the next flush; an urgent one is not waited for, but sent at once."""
        if self._outgoing.put(item, urgent=urgent):
            delay = 0.0 if urgent else self.interval
            self.worker.loop.asyncio_loop.call_soon_threadsafe(self._schedule, delay)

    def finish(self, item: list[Any], task: str) -> None:
        """Have the end of a task's last trial, and what it told before, travel with Dask's own word of the task's end.

        That spares the scheduler a message for each trial. The end goes by itself where it might come before reports
        that are on their way, or where this worker may be gone before Dask has said its word.
        """
        metadata = self.worker.state.tasks[task].metadata
        metadata.pop(ENDING, None)
        stays = self.recalled is None and self.worker.status == Status.running
        if stays and (items := self._outgoing.take_away(set(trial_keys(task)), item)) is not None:
            metadata[ENDING] = items
        else:
            self.put(item, urgent=True)

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
        self._spawn(self._flush())

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flush(self) -> None:
        async with self._flushing:  # one at a time: the order of a trial's records is kept
            if not (items := self._outgoing.take()):
                return
            try:
                answer = await self._call("report", worker=self.worker.address, items=items)
            except Exception:  # the link is broken, whatever the connection pool calls it
                self._put_back(items)
                return
            self._outgoing.arrived(items)
            if answer is None:  # the scheduler knows the operation no longer: the search is over
                self.stale.add("*")
            else:
                self.stale.update(answer["stale"])
                self.interval = answer["interval"]

    def _put_back(self, items: Items) -> None:
        goes_on = self.worker.status == Status.running and "*" not in self.stale
        self._outgoing.put_back(items, due=goes_on)
        if goes_on:
            self._schedule(_RETRY)

    async def _ask(self, item: list[Any], key: str, index: int) -> str:
        async with self._flushing:
            items = self._outgoing.take_of(key, item)
        try:
            decision = await self._call("ask", worker=self.worker.address, items=items, key=key, index=index)
        except Exception:  # a broken link never stops a trial, and its reports still count
            self._put_back(items)
            return Decision.CONTINUE.value
        self._outgoing.arrived(items)
        return decision or "STALE"  # None: the scheduler knows the operation no longer


class TaskChannel:
    """The channel of one trial in a task: it knows its key, and whether it still counts.

    Args:
        station: of the worker.
        task: the key of the task.
        errand: the trial.
        key: that of the trial, where it is not alone in its task.
    """

    def __init__(self, station: Station, task: str, errand: Errand, key: str = "") -> None:
        self._station = station
        self._key = key or task
        self._errand = errand
        self.unit = errand.unit
        self.reached: float = 0  # the resource of the last report
        self._task = station.worker.state.tasks[task]
        self._run_id = self._task.run_id

    @property
    def horizon(self) -> Horizon | None:
        """When the trial has to have ended."""
        return self._station.horizon_of(self._errand)

    def _check(self) -> None:
        station = self._station
        if (
            self._key in station.stale
            or "*" in station.stale
            or self._task.state in ("cancelled", "resumed")
            or station.worker.status not in _AT_WORK
        ):
            raise AbandonedTrial

    def grace(self) -> float | None:
        """None while the task counts; else how many seconds a process of its own may take to end by itself."""
        try:
            self._check()
        except AbandonedTrial:
            return 0.0 if self._station.worker.status in _AT_WORK else _CLOSING
        return None

    def item(self, kind: str, payload: tuple[Any, ...]) -> list[Any]:
        """A record as it travels."""
        return [kind, self._key, self._run_id, *payload]

    def send(self, record: Record) -> None:
        """Pass a report on at leisure."""
        self._check()
        self.reached = record.resource
        self._station.put(self.item("report", record))

    def ask(self, record: Record) -> Decision:
        """Pass a report on and wait for the decision."""
        self._check()
        self.reached = record.resource
        answer = self._station.ask(self.item("report", record), self._key, record.index)
        if answer == "STALE":
            raise AbandonedTrial
        return Decision(answer)


def run_task(payload: bytes) -> None:
    """The task that Dask runs: one trial, or a pack of short ones, one after the other.

    The end of each travels as a record, so that nothing is lost with the worker.
    """
    errands: list[Errand] = pickle.loads(payload)
    worker = get_worker()
    station: Station = worker.plugins[f"dhpo-station-{errands[0].token}"]
    task = thread_state.key
    ends = time.monotonic() + _PACK
    station.running.add(task)
    try:
        for key, errand in zip(trial_keys(task), errands, strict=True):
            channel = TaskChannel(station, task, errand, key)
            if not station.has_time_for(errand):
                item: tuple[Any, ...] = ("bounced",)
            elif errand is errands[0] or (time.monotonic() < ends and channel.grace() is None):
                item = _run(station, errand, channel)
            else:
                item = ("unbegun",)
            told = channel.item("end", item)
            if errand is not errands[-1]:
                station.put(told)
            elif item[0] == "bounced":  # at this word the relay pauses the worker: not while Dask ends the task
                station.put(told, urgent=True)
            else:
                station.finish(told, task)
    finally:
        station.running.discard(task)


def _run(station: Station, errand: Errand, channel: TaskChannel) -> tuple[Any, ...]:
    """Run a trial; return what is to be told of its end."""
    start, address = errand.start, station.worker.address
    try:
        end = station.run(start, channel)
    except DhpoError as error:
        return ("unloadable", type(error).__name__, str(error))
    if end.kind == EndKind.ABANDONED:
        return ("returned", address if _is_too_long(end, start, channel) else "")
    return ("end", *end)


def _is_too_long(end: End, start: Start, channel: TaskChannel) -> bool:
    """Whether a trial that had to leave had the better part of the worker's life, and got no further in it.

    One that does so again and again would never come to an end.
    """
    horizon = channel.horizon
    took = end.ended - end.started
    return horizon is not None and took > horizon.life / 2 and channel.reached <= start.resume_from
