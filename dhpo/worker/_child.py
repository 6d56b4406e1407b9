"""A trial process, from the inside: it loads the run function once and runs one trial after another."""

from __future__ import annotations

import faulthandler
import io
import os
import select
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from dhpo.errors import AbandonedTrial, DhpoError
from dhpo.trial import Decision
from dhpo.walltime import Horizon
from dhpo.worker._warden import DEAF
from dhpo.worker.job import Job
from dhpo.worker.mount import mount
from dhpo.worker.package import Package
from dhpo.worker.reporter import Record
from dhpo.worker.runner import run_trial


class ChildChannel:
    """A trial's channel: what it is told is passed on to the worker, where the true one is.

    ``unit`` is that of the worker's channel as the trial begins.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLIN)
        self._lock = threading.Lock()  # a run function may report from a thread of its own
        self._owner = os.getpid()
        self._abandoned = False
        self._horizon: Horizon | None = None
        self.unit = 0.0

    def begin(self, horizon: Horizon | None, unit: float) -> None:
        """Make ready for the next trial."""
        self._abandoned, self._horizon, self.unit = False, horizon, unit

    @property
    def horizon(self) -> Horizon | None:
        """When the trial has to have ended, as known by now."""
        with self._lock:
            self._look()
        return self._horizon

    def send(self, record: Record) -> None:
        """Pass a report on."""
        with self._lock:
            self._look()
            self._pass_on("report", record)

    def ask(self, record: Record) -> Decision:
        """Pass a report on and wait for the decision."""
        with self._lock:
            self._look()
            self._pass_on("ask", record)
            while (decision := self._take_in()) is None:
                self._check()
            return decision

    def _pass_on(self, *message: Any) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError("report was called in a forked process: only the run function's own process can report")
        self._check()
        try:
            self._connection.send(message)
        except OSError:  # the worker has gone, and this process will in a moment
            raise AbandonedTrial from None

    def _check(self) -> None:
        if self._abandoned:
            raise AbandonedTrial

    def _look(self) -> None:
        """Take in what the worker has said meanwhile."""
        while not self._abandoned and os.getpid() == self._owner and self._poll.poll(0):
            self._take_in()

    def _take_in(self) -> Decision | None:
        try:
            kind, value = self._connection.recv()
        except (EOFError, OSError):
            kind, value = "abandoned", None
        if kind == "decision":
            return Decision(value)
        if kind == "horizon":
            self._horizon = value
        else:
            self._abandoned = True
        return None


def main(descriptor: int, dump: int) -> None:
    """Load what the worker says, then run trials until it says no more."""
    _settle(dump)
    connection = Connection(descriptor)
    job: Job
    package: Package
    job, package = connection.recv()

    def fetch(offset: int, length: int) -> bytes:
        connection.send(("fetch", offset, length))
        piece: bytes = connection.recv_bytes()
        return piece

    try:
        mounted = mount(package, fetch)
    except DhpoError as error:
        connection.send(("unloadable", error))
        return
    channel = ChildChannel(connection)
    connection.send(("ready",))
    while True:
        try:
            kind, *message = connection.recv()
        except (EOFError, OSError):
            break
        if kind != "start":  # meant for the trial that has just ended
            continue
        start, worker, *known = message
        channel.begin(*known)
        connection.send(("began",))
        end = run_trial(mounted.function, mounted.data, job, start, channel, worker)
        _flush()
        connection.send(("end", end))


def _settle(dump: int) -> None:
    faulthandler.enable(dump)
    for number in DEAF:
        signal.signal(number, _ignore)
    os.register_at_fork(before=_Fork.before, after_in_parent=_Fork.after, after_in_child=_Fork.listen)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # what was printed before a sudden end is not lost


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # a stream that the run function has closed or replaced, or that nobody reads
            stream.flush()


def _ignore(*_: object) -> None:
    """What ends the worker reaches the trial by its next report, or by its warden."""


class _Fork:
    """What the run function forks must be able to be ended by it, from its first moment."""

    _masks = threading.local()

    @classmethod
    def before(cls) -> None:
        """Hold signals back, which would be lost on a handler that does nothing."""
        cls._masks.old = signal.pthread_sigmask(signal.SIG_BLOCK, DEAF)

    @classmethod
    def after(cls) -> None:
        """Let them come."""
        signal.pthread_sigmask(signal.SIG_SETMASK, cls._masks.old)

    @classmethod
    def listen(cls) -> None:
        """In the new process: let them come, and act."""
        for number in DEAF:
            if signal.getsignal(number) is _ignore:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        cls.after()
