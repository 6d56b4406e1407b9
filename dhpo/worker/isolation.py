"""Trials in processes of their own (``isolation="process"``).

Each trial that runs at once has a *trial process*, which loads the run function once and is used again for trial after
trial: what a run function imports is paid for once, not per trial. It is replaced where it had to be killed, or died,
and after a trial that raised what may come from an accelerator, from a library or from too little memory: these can be
in any state then.

The trial's ``report`` works inside the trial process; what it reports goes through a socket to the worker, which passes
it on by the trial's true channel, and decisions come back the same way.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, Protocol

from dhpo.errors import AbandonedTrial
from dhpo.events import Start
from dhpo.trial import Decision
from dhpo.worker._process import Death, TrialProcess
from dhpo.worker._warden import DEAF
from dhpo.worker.job import Job
from dhpo.worker.mount import Fetch
from dhpo.worker.package import Package
from dhpo.worker.reporter import Channel, Record
from dhpo.worker.runner import End, EndKind

#: Seconds between looks at whether the trial still counts and when the worker ends.
_GLANCE = 0.2
#: Seconds that pass between the end of a trial process by a signal from elsewhere and its being told: what kills all
#: processes of a job kills this one in a moment, too, and then it is no failure of the trial.
_DOUBT = 1.0
_OF_JOBS = (signal.SIGKILL, *DEAF)
#: Exceptions of Python code that met a configuration that it was not made for. A process is used again after them.
_HARMLESS = {
    *("ArithmeticError", "AssertionError", "AttributeError", "FloatingPointError", "IndexError", "KeyError"),
    *("LinAlgError", "NameError", "NotImplementedError", "OverflowError", "ReportError", "TypeError", "ValueError"),
    *("ZeroDivisionError",),
}
#: Seconds to wait at the end for trial processes to be gone.
_FAREWELL = 15.0


class WatchedChannel(Channel, Protocol):
    """The true channel of a trial, on the worker."""

    def grace(self) -> float | None:
        """None while this run of the trial counts; else how many more seconds it may take to end by itself."""


class Processes:
    """The trial processes of one search in this process. :meth:`run` may be called from several threads at once.

    Args:
        job: what the trials have in common.
        package: the run function and its data.
        fetch: gives the data to nodes that do not see its file.
        environments: what the environment of each slot's process has of its own: thread counts, the GPUs. A slot
            beyond the last one takes the last one's.
    """

    def __init__(
        self, job: Job, package: Package, fetch: Fetch, environments: Sequence[Mapping[str, str]] = ({},)
    ) -> None:
        self._job = job
        self._package = package
        self._fetch = fetch
        self._environments = environments
        self._idle: list[tuple[int, TrialProcess]] = []
        self._busy: set[int] = set()  # slots
        self._changed = threading.Condition()
        self._closes_at = inf  # monotonic

    def run(self, start: Start, channel: WatchedChannel, worker: str) -> End:
        """Run one trial to its end, whatever happens in the user's code and to its process.

        Raises:
            RunFunctionError: the run function or its data cannot be loaded.
            DataError: likewise.
            ClusterError: no process can be started.
        """
        slot, process = self._take()
        is_fit = False
        try:
            while True:
                is_used = process is not None
                process = process or self._start(slot)
                conversation = _Conversation(process, self._job, start, channel, worker, self._fetch)
                end = conversation.run(lambda: self._closes_at)
                if not (is_used and conversation.died and not conversation.has_begun and not process.was_killed):
                    break
                process.join()  # it had died since its last trial
                process = None
            is_harmless = not end.traceback or end.error.partition(":")[0] in _HARMLESS
            is_fit = is_harmless and not conversation.died and not process.was_killed
            return end
        finally:
            self._give_back(slot, process, is_fit)

    def _take(self) -> tuple[int, TrialProcess | None]:
        with self._changed:
            if self._idle:
                slot, process = self._idle.pop()
                self._busy.add(slot)
                return slot, process
            taken = self._busy | {slot for slot, _ in self._idle}
            slot = next(i for i in range(len(taken) + 1) if i not in taken)
            self._busy.add(slot)
            return slot, None

    def _start(self, slot: int) -> TrialProcess:
        process = TrialProcess(self._environments[min(slot, len(self._environments) - 1)])
        process.send(self._job, self._package)
        return process

    def _give_back(self, slot: int, process: TrialProcess | None, is_fit: bool) -> None:
        with self._changed:
            if process is not None and is_fit and self._closes_at == inf:
                self._idle.append((slot, process))
                self._busy.discard(slot)
                return
        if process is not None:
            process.kill()
            process.join()
        with self._changed:
            self._busy.discard(slot)
            self._changed.notify_all()

    def close(self, patience: float = 0.0) -> None:
        """End all trial processes, and wait until they are gone.

        Args:
            patience: seconds that trials which still run are left to end by themselves; these are not waited for.
        """
        with self._changed:
            self._closes_at = time.monotonic() + patience
            idle, self._idle = self._idle, []
        for _, process in idle:
            process.end()
        for _, process in idle:
            process.join(_FAREWELL)
        with self._changed:
            self._changed.wait_for(lambda: patience > 0 or not self._busy, _FAREWELL)


class _Conversation:
    """One trial, as its worker follows it."""

    def __init__(
        self, process: TrialProcess, job: Job, start: Start, channel: WatchedChannel, worker: str, fetch: Fetch
    ) -> None:
        self.died = False
        self.has_begun = False  # the run function, not its loading
        self._process = process
        self._start = start
        self._channel = channel
        self._worker = worker
        self._fetch = fetch
        self._limit = job.trial_timeout
        self._began = time.time()
        self._kill_at = inf  # monotonic
        self._timeout_at = inf
        self._index = 0
        self._error = ""
        self._told: tuple[EndKind, bool] | None = None  # the end that the trial was told, and whether by a decision
        self._horizon = channel.horizon

    def run(self, closes_at: Callable[[], float]) -> End:
        """Follow the trial to its end."""
        if self._process.is_ready:
            self._send_start()
        while True:
            self._look(closes_at())
            now = time.monotonic()
            if min(self._kill_at, self._timeout_at) <= now and not self._process.was_killed:
                if self._told is None:
                    self._told = (EndKind.TIMED_OUT if self._timeout_at <= self._kill_at else EndKind.ABANDONED), False
                self._kill_at = self._timeout_at = inf
                self._process.kill()
            message = self._process.receive(max(0.0, min(_GLANCE, self._timeout_at - now)))
            if isinstance(message, Death):
                self.died = True
                return self._died(message)
            if message is not None and (end := self._take(*message)) is not None:
                return end

    def _look(self, closes_at: float) -> None:
        grace = self._channel.grace()
        self._kill_at = min(self._kill_at, closes_at, inf if grace is None else time.monotonic() + grace)
        if (horizon := self._channel.horizon) != self._horizon:
            self._horizon = horizon
            if self._process.is_ready:
                self._process.send("horizon", horizon)

    def _send_start(self) -> None:
        self._process.send("start", self._start, self._worker, self._horizon, self._channel.unit)

    def _take(self, kind: str, *content: Any) -> End | None:
        match kind:
            case "report" | "ask":
                self._pass_on(content[0], kind == "ask")
            case "end":
                end: End = content[0]
                return end if self._told != (EndKind.ABANDONED, False) else self._end(EndKind.ABANDONED)
            case "began":
                self.has_begun = True
                self._began = time.time()
                self._timeout_at = time.monotonic() + self._limit if self._limit is not None else inf
            case "ready":
                self._process.is_ready = True
                self._send_start()
            case "fetch":
                self._send_data(*content)
            case "unloadable":
                raise content[0]
            case _:
                self._error = (
                    f"the worker cannot read what the trial's process sends it ({content[0]}): the run function writes "
                    "to a file descriptor that is not its own"
                )
                self._process.kill()
        return None

    def _send_data(self, offset: int, length: int) -> None:
        self._process.send_bytes(self._fetch(offset, length))

    def _pass_on(self, record: Record, waits: bool) -> None:
        if self._told is not None:
            return
        self._index = record.index
        try:
            if not waits:
                self._channel.send(record)
                if self._start.max_t is not None and record.resource >= self._start.max_t:
                    self._told = EndKind.COMPLETED, False
                return
            decision = self._channel.ask(record)
        except AbandonedTrial:
            self._told = EndKind.ABANDONED, False
            self._process.send("abandoned", None)
            return
        if decision is not Decision.CONTINUE:
            self._told = EndKind.PAUSED if decision is Decision.PAUSE else EndKind.COMPLETED, decision is Decision.STOP
        self._process.send("decision", decision.value)

    def _died(self, death: Death) -> End:
        if self._told is None and not self._process.was_killed and death.signal in _OF_JOBS and self._is_ending():
            self._told = EndKind.ABANDONED, False
        if self._told is not None:
            return self._end(*self._told)
        where = "" if self.has_begun else ", as it loaded the run function and its data"
        return self._end(EndKind.FAILED, error=self._error or f"{death}{where}", trace=death.dump)

    def _is_ending(self) -> bool:
        """Whether the worker, too, turns out to be ending."""
        end = time.monotonic() + _DOUBT
        while (grace := self._channel.grace()) is None and time.monotonic() < end:
            time.sleep(0.05)
        return grace is not None

    def _end(self, kind: EndKind, stopped: bool = False, error: str = "", trace: str = "") -> End:
        start = self._start
        return End(
            start.trial, start.attempt, kind.value, None, {}, stopped,
            error, trace, self._began, time.time(), self._worker, self._index,
        )  # fmt: skip
