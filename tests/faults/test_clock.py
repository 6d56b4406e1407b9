"""Clocks that jump by hours, in the driver and in all workers, while a search runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Harness, count, reported

#: Loaded by every Python process before anything else: ``time.time`` jumps every second. (Not more often: a jump back
#: within the 5 ms for which Dask gathers messages has it wait for those hours, or for the next message.)
JUMPING = """
import os, time
_time, _steady = time.time, time.monotonic
_JUMPS = (0, 7200, -10800, 18000, -3600, 90000)

def jumping():
    return _time() + _JUMPS[(int(_steady()) + os.getpid()) % len(_JUMPS)]

time.time = jumping
"""


@pytest.fixture(name="search")
def search_fixture(tmp_path: Path) -> Iterator[Harness]:
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(JUMPING)
    harness = Harness(tmp_path, n_trials=8, epochs=6, seconds=0.15)
    yield harness
    harness.close()


def test_jumps_lose_nothing_and_end_nothing(search: Harness) -> None:
    clock = {"PYTHONPATH": str(search.directory / "clock")}
    search.start("--time-out", "10min", **clock)
    search.wait(reported(8))
    assert search.driver is not None
    os.kill(search.driver.pid, signal.SIGTERM)  # its trials leave, and nobody waits for hours
    assert search.await_end() == 99
    search.await_nobody()
    search.start("--time-out", "10min", **clock)
    assert search.await_end() == 0, search.told()
    rows = search.check()
    assert count(rows, "timed_out") == 0
    # The order of events, and the search's own clock, are not concerned.
    times = [row[1] for row in rows]
    assert times == sorted(times)
    assert times[-1] < 300
