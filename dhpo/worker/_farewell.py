"""A worker process that is told to end by SIGTERM, as batch systems do before they kill: its trials leave first."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

#: Seconds that the trials have for it. Batch systems wait for ten at least before they kill.
GRACE = 5.0
#: Seconds for the usual effect. Python would wait for the thread of a trial that does not report, until the batch
#: system kills all of the job, and what it has put on the node's disk would stay there.
LAST = 3.0

Leave = Callable[[], Awaitable[None]]

_leaves: dict[int, tuple[asyncio.AbstractEventLoop, Leave]] = {}
_numbers = iter(range(10**18))
_previous: Any = None
_tasks: set[asyncio.Task[None]] = set()


def hear_sigterm(leave: Leave) -> Callable[[], None]:
    """Have ``leave`` awaited when SIGTERM comes, before that has its usual effect; return what undoes it.

    Only in processes that are Dask workers and nothing else, and in their main thread; elsewhere nothing happens.
    """
    number = next(_numbers)
    if _is_ours():
        _install()
        _leaves[number] = (asyncio.get_running_loop(), leave)

    def undo() -> None:
        _leaves.pop(number, None)

    return undo


def end_within(seconds: float) -> None:
    """End this process by then, whatever still runs in it, if it is a Dask worker and nothing else.

    A worker that closes ends its process when the threads of its trials have ended, and no sooner.
    """
    if _is_ours():
        _exit_after(seconds)


def _exit_after(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()


def _is_ours() -> bool:
    if threading.current_thread() is not threading.main_thread():
        return False
    if signal.getsignal(signal.SIGTERM) is _on_sigterm:
        return True
    return _is_cli(signal.getsignal(signal.SIGTERM)) or _is_nannys_child()


def _is_cli(handler: Any) -> bool:
    """Whether this is the handler of ``dask worker``, without a nanny."""
    return getattr(handler, "__module__", None) == "distributed._signals"


def _is_nannys_child() -> bool:
    name = multiprocessing.current_process().name
    return multiprocessing.parent_process() is not None and name.startswith("Dask Worker process")


def _install() -> None:
    global _previous
    if signal.getsignal(signal.SIGTERM) is not _on_sigterm:
        _previous = signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # batch systems may send it twice
    loops = {loop for loop, _ in _leaves.values()}
    for loop in loops:
        loop.call_soon_threadsafe(_begin)
    if not loops:
        _end()


def _begin() -> None:
    task = asyncio.get_running_loop().create_task(_leave_all())
    _tasks.add(task)


async def _leave_all() -> None:
    leaves = [asyncio.ensure_future(leave()) for _, leave in _leaves.values()]
    if leaves:
        await asyncio.wait(leaves, timeout=GRACE)
    _end()


def _end() -> None:
    """Let the signal have the effect that it would have had without us, but not for long."""
    if callable(_previous):
        _exit_after(LAST)
        _previous(signal.SIGTERM, None)
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
