"""How a run of a search ends before its time: on a signal, or ahead of the end of the driver's own batch job."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

from dhpo.executors.base import Executor
from dhpo.walltime import Horizon
from dhpo.worker.walltime import own_horizon, process_began, told_by_slurm

#: Seconds before the end of its own job from which on a driver runs no trials: it still has to leave the cluster.
LEAD = 10.0
#: Of these, seconds in which the last word of trials that have left may come.
_LAST_WORD = 2.0
#: Seconds, at least and at most, that a driver that was told to end waits for its trials to leave. One that does not
#: know when it will be killed waits for the least.
_DRAIN = (5.0, 60.0)
_GLANCE = 0.25
#: Seconds within which being told to end again is the same word, once by the job's script and once by the batch system
#: itself. That tells all processes of a job when it is about to kill them, and only the script ahead of the walltime.
_ECHO = 1.0


class Ending:
    """Sees to it that a run is left in time, and that its trials have saved what they can.

    Args:
        executor: runs the trials.
        stop: ends the run, cleanly and at once.
    """

    def __init__(self, executor: Executor, stop: Callable[[], None]) -> None:
        self._executor = executor
        self._stop = stop
        self._is_open = False
        self._is_over = False
        self._own: Horizon | None = None  # the end of this process's job
        self._deadline = inf  # unix time at which to stop, whatever still runs
        self._draining = False
        self._told = -inf  # when it was told to drain

    def opened(self) -> None:
        """The executor is open. Trials have to leave ahead of the end of this process's job, if it has a known one."""
        self._is_open = True
        if (own := own_horizon()) is not None:
            self._heed(own)

    def over(self) -> None:
        """The run is over, and has to be cleared away: batch jobs above all. Who wants it to end comes too late."""
        self._is_over = True

    def _heed(self, own: Horizon) -> None:
        self._own = own
        latest = own.ends_at - LEAD
        self._deadline = min(self._deadline, latest + _LAST_WORD)
        if not self._draining:
            self._executor.end_by(Horizon(latest, max(0.0, own.life - LEAD)))

    def drain(self) -> None:
        """Have the trials leave at their next reports, and end then; a second call, a moment later, ends at once."""
        if self._is_over:
            return
        now, (least, most) = time.time(), _DRAIN
        if self._draining and now - self._told < _ECHO:
            self._deadline = min(self._deadline, self._told + least)
            return
        if self._draining or not self._is_open:
            self._stop()
            return
        self._draining = True
        self._told = now
        known = least if self._own is None else self._own.ends_at - LEAD - now
        self._deadline = min(self._deadline, now + min(max(known, least), most))
        self._executor.end_by(Horizon(now))
        if self._executor.drained():
            self._stop()

    async def watch(self, show: Callable[[str | None], None]) -> None:
        """End the run in time; show meanwhile what the executor waits for."""
        if self._own is None and (end := await asyncio.to_thread(told_by_slurm, os.environ)) is not None:
            self._heed(Horizon(end, end - process_began()))
        while time.time() < self._deadline and not self._executor.drained():
            show(self._executor.status())
            await asyncio.sleep(_GLANCE)
        self._stop()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGUSR1 drain the run, and Ctrl-C end it at once, all of them cleanly.

        A second Ctrl-C has its usual effect. SIGUSR1, which batch systems can be asked to send ahead of the end, is
        left to a program that uses it for something else.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        running = asyncio.get_running_loop()

        def interrupt() -> None:
            if not self._is_over:
                self._stop()
            running.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, signal.default_int_handler)

        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
        if previous[signal.SIGUSR1] is not signal.SIG_DFL:
            del previous[signal.SIGUSR1]
        for number in previous:
            running.add_signal_handler(number, interrupt if number == signal.SIGINT else self.drain)
        try:
            yield
        finally:
            for number, handler in previous.items():
                running.remove_signal_handler(number)
                signal.signal(number, handler)
