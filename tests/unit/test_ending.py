"""A driver that is told to end: once, twice at the same moment, and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from dhpo import _ending
from dhpo._ending import Ending
from dhpo.walltime import Horizon


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now


class Executor:
    """Runs a trial that does not report."""

    def __init__(self) -> None:
        self.horizons: list[Horizon] = []

    def end_by(self, horizon: Horizon) -> None:
        self.horizons.append(horizon)

    def drained(self) -> bool:
        return False

    def status(self) -> str | None:
        return None


class Told:
    """An ending, and how often it has stopped the run."""

    def __init__(self, clock: Clock, end: float | None) -> None:
        self.clock = clock
        self.stops = 0
        self.executor = Executor()
        self.ending = Ending(self.executor, self.stop)  # type: ignore[arg-type]
        self.ending._own = None if end is None else Horizon(end)
        self.ending._is_open = True

    def stop(self) -> None:
        self.stops += 1

    async def stops_at(self, step: float = 1.0) -> float:
        """When the run is stopped though its trial does not leave."""

        def show(_: str | None) -> None:
            self.clock.now += step

        await self.ending.watch(show)
        return self.clock.now


@pytest.fixture(name="told")
def told_fixture(monkeypatch: pytest.MonkeyPatch) -> Callable[[float | None], Told]:
    clock = Clock()
    monkeypatch.setattr(_ending, "time", clock)
    monkeypatch.setattr(_ending, "_GLANCE", 0.0)
    monkeypatch.setattr(_ending, "told_by_slurm", lambda environ: None)
    return lambda end: Told(clock, end)


def test_trials_have_a_moment_to_leave_and_more_where_the_end_is_known(told: Callable[[float | None], Told]) -> None:
    for end, stop in ((None, 1005), (1032.0, 1022), (1e9, 1060), (1001.0, 1005)):
        run = told(end)
        run.clock.now = 1000.0
        run.ending.drain()
        assert run.stops == 0
        assert asyncio.run(run.stops_at()) == stop
        assert run.executor.horizons == [Horizon(1000.0)]


def test_an_echo_is_no_second_word_but_says_that_the_job_is_about_to_be_killed(
    told: Callable[[float | None], Told],
) -> None:
    """All processes of a job are told by the batch system, and the driver by the job's script once more."""
    run = told(1e9)
    run.ending.drain()
    run.clock.now += 0.01
    run.ending.drain()
    assert run.stops == 0
    run.clock.now = 1000.0
    assert asyncio.run(run.stops_at()) == 1005


def test_a_second_word_ends_the_run_at_once(told: Callable[[float | None], Told]) -> None:
    run = told(1e9)
    run.ending.drain()
    run.clock.now += 1.5
    run.ending.drain()
    assert run.stops == 1
