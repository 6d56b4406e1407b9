"""What a fork server imports, and nothing else does: all that worker processes have in common."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType

import distributed

import dhpo.worker.station

__all__ = ["dhpo", "distributed"]

#: What a batch system tells all processes of a job: workers may go on until the driver ends them, for which their
#: nannies need the server.
_DEAF = (signal.SIGTERM, signal.SIGUSR1)


def _ignore(number: int, frame: FrameType | None) -> None:
    del number, frame


def _after_fork() -> None:
    """A worker hears signals again, and has random numbers of its own."""
    for number, handler in _handlers.items():
        signal.signal(number, handler)
    if (random := sys.modules.get("numpy.random")) is not None:
        random.seed()


_handlers = {number: signal.signal(number, _ignore) for number in _DEAF}
os.register_at_fork(after_in_child=_after_fork)
gc.freeze()  # the collector would write to the pages that the workers share
