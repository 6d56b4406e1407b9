"""What fits before a known end: the pure rules, and how ``report`` follows them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dhpo.events import Start
from dhpo.executors._outlook import Outlook
from dhpo.objectives import Objectives
from dhpo.trial import Decision
from dhpo.walltime import MARGIN, Durations, Horizon, Stint, fits, margin, next_stop
from dhpo.worker.job import CallForm, Job
from dhpo.worker.reporter import Record, Reporter
from dhpo.worker.runner import End, EndKind, run_trial
from dhpo.worker.walltime import clock_seconds, own_horizon, process_began, told_by_slurm, worker_end

quick = settings(deadline=None, max_examples=100)
seconds = st.floats(0, 1e5)
lives = st.floats(1, 1e5)


def start(
    *, milestones: tuple[float, ...] = (), max_t: float | None = None, every: float = inf, resume_from: float = 0
) -> Start:
    return Start(0, 1, {}, milestones, max_t, every, resume_from)


# What fits.


@quick
@given(seconds, seconds, lives)
def test_a_whole_life_is_enough_for_anything(need: float, unit: float, life: float) -> None:
    """Nothing waits for ever: whatever is asked for is begun where a life begins."""
    assert fits(need, unit, life, life)
    assert fits(need, unit, inf)


@quick
@given(seconds, seconds, seconds, seconds, lives)
def test_what_fits_into_a_rest_fits_into_a_longer_one(
    need: float, unit: float, left: float, more: float, life: float
) -> None:
    assert fits(need, unit, left + more, life) >= fits(need, unit, left, life)


@quick
@given(seconds, seconds, seconds, lives)
def test_what_is_begun_comes_to_its_end_or_gets_on_by_a_unit(
    need: float, unit: float, left: float, life: float
) -> None:
    assume(left <= life)
    possible = [s for s in (need, unit) if s + margin(unit) <= life]
    assume(possible)
    assert fits(need, unit, left, life) == (possible[0] + margin(unit) <= left)


def test_the_margin() -> None:
    assert margin(0.1) == MARGIN
    assert margin(600) == 300
    assert fits(10, 1, 10 + MARGIN)
    assert not fits(10, 1, 9.9 + MARGIN)
    assert fits(100, 100, 31, 60)  # not even a unit fits into any life: in the first half
    assert not fits(100, 100, 29, 60)


def test_the_next_stop() -> None:
    rungs = start(milestones=(1, 3, 9), max_t=27)
    assert [next_stop(rungs, r, 1) for r in (0, 1, 2, 3, 9, 26, 27, 30)] == [1, 3, 3, 9, 27, 27, 27, 30]
    assert next_stop(start(), 5, 1) is None
    each = start(every=4, max_t=9)
    assert [next_stop(each, r, 1) for r in (0, 3, 4, 8)] == [4, 4, 5, 9]


# How long things take.


def test_nothing_is_known_at_first_and_everything_is_tried() -> None:
    durations = Durations()
    assert durations.unit == durations.need(start(milestones=(9,), max_t=81)) == 0.0
    assert fits(durations.need(start(max_t=81)), durations.unit, MARGIN)


@quick
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=150))
def test_the_estimate_is_an_upper_quartile(paces: list[float]) -> None:
    durations = Durations()
    for pace in paces:
        durations.reported(2 * pace, 2, first=False)
    below = sum(pace <= durations.unit * (1 + 1e-9) for pace in paces)
    above = sum(pace >= durations.unit * (1 - 1e-9) for pace in paces)
    assert below >= 0.75 * len(paces)
    assert above >= 0.25 * len(paces)


def test_a_trial_needs_time_to_get_ready_and_for_each_unit_until_its_next_rung() -> None:
    durations = Durations()
    durations.reported(12.0, 1, first=True)
    assert durations.unit == 12.0  # nothing better is known
    durations.reported(2.0, 1, first=False)
    assert durations.unit == 2.0
    assert durations.need(start(milestones=(3, 9), max_t=27)) == 10 + 3 * 2
    assert durations.need(start(milestones=(9,), max_t=27, resume_from=3)) == 10 + 6 * 2
    assert durations.need(start(max_t=27)) == 10 + 27 * 2
    assert durations.need(start()) == 2.0  # nobody knows how far it goes
    durations.ran(80.0)
    assert durations.need(start()) == 80.0
    assert durations.need(start(resume_from=10)) == 60.0


def test_a_trial_that_does_not_report_takes_as_long_as_the_others_did() -> None:
    durations = Durations()
    for took in (1.0, 2.0, 3.0, 4.0):
        durations.ran(took)
    assert durations.need(start(milestones=(3,), max_t=9)) == 3.0


def test_only_the_last_trials_count() -> None:
    durations = Durations()
    for _ in range(500):
        durations.reported(100.0, 1, first=False)
    for _ in range(200):
        durations.reported(1.0, 1, first=False)
    assert durations.unit == 1.0


# One run of a trial.


def stint(resource: float, pace: float, **where: Any) -> Stint:
    made = Stint(start(**where))
    for r in range(1, int(resource) + 1):
        made.reported(r, pace, first=r == 1)
    return made


@quick
@given(st.integers(1, 8), st.floats(0.01, 50), st.floats(0, 1000))
def test_a_rung_is_begun_only_when_the_way_to_the_next_one_fits(at: int, pace: float, left: float) -> None:
    run = stint(at, pace, milestones=(9,), max_t=27)
    assert run.goes_on(left, inf, at_rung=True) == ((9 - at) * pace + margin(pace) <= left + 1e-9)
    assert run.goes_on(left, inf, at_rung=False) == (pace + margin(pace) <= left + 1e-9)


@quick
@given(st.integers(1, 12), st.floats(0.01, 50), st.floats(0, 1000), st.sampled_from([inf, 100.0, 400.0]))
def test_who_has_to_leave_at_the_next_report_is_told_before(at: int, pace: float, left: float, life: float) -> None:
    """What ``should_checkpoint`` says right before a report is what that report does right after."""
    assume(left <= life)
    run = stint(at, pace, milestones=(3, 9), max_t=27)
    told = run.ends_soon(left, life, since=pace)
    run.reported(at + 1, pace, first=False)
    assert told == (not run.goes_on(left, life, at_rung=at + 1 in (3, 9)))


def test_a_trial_at_its_end_need_not_leave() -> None:
    run = stint(26, 1.0, milestones=(9,), max_t=27)
    assert not run.ends_soon(1.0 + MARGIN, inf, since=0.0)


def test_resumed_and_begun_anew() -> None:
    resumed = Stint(start(resume_from=5))
    assert resumed.reported(6, 2.0, first=True) == 1
    anew = Stint(start(resume_from=5))
    assert anew.reported(2, 2.0, first=True) == 2
    assert (resumed.step, anew.step) == (2.0, 2.0)


def test_the_first_report_tells_nothing_of_the_pace_where_that_is_known() -> None:
    run = Stint(start(), unit=0.5)
    run.reported(1, 60.0, first=True)  # it got ready
    assert run.step == 0.5
    run.reported(2, 0.7, first=False)
    assert run.step == 0.7


# ``report``.


class Channel:
    """A channel whose end is as far as the test says, by a clock that stands still."""

    def __init__(self, left: Callable[[int], float] | None, unit: float = 0.0) -> None:
        self.sent: list[Record] = []
        self.unit = unit
        self._left = left

    @property
    def horizon(self) -> Horizon | None:
        return None if self._left is None else Horizon(time.time() + self._left(len(self.sent)), 1000.0)

    def send(self, record: Record) -> None:
        self.sent.append(record)

    def ask(self, record: Record) -> Decision:
        self.sent.append(record)
        return Decision.CONTINUE


def run(function: Callable[..., Any], channel: Channel, **where: Any) -> End:
    job = Job("id", Objectives.parse(None), CallForm.of(function, has_data=False), "epoch")
    return run_trial(function, None, job, start(**where), channel, "worker")


def counting(asks: bool = False) -> tuple[Callable[..., None], list[int]]:
    saved: list[int] = []

    def train(config: Any, report: Any) -> None:
        for epoch in range(1, 10):
            if asks and report.should_checkpoint:
                saved.append(epoch)
            report(epoch=epoch, objective=1.0)

    return train, saved


def test_without_a_known_end_nothing_changes() -> None:
    seen: list[Any] = []

    def train(config: Any, report: Any) -> float:
        seen.extend([report.time_left, report.should_checkpoint, report.ends_at])
        return 1.0

    assert run(train, Channel(None)).kind == EndKind.COMPLETED
    assert seen == [None, False, None]


def test_time_left() -> None:
    seen: list[float] = []

    def train(config: Any, report: Any) -> float:
        seen.append(report.time_left)
        return 1.0

    run(train, Channel(lambda n: 77.0))
    run(train, Channel(lambda n: -5.0))
    assert 76 < seen[0] <= 77
    assert seen[1] == 0.0


@pytest.mark.parametrize("asks", [False, True])
def test_a_trial_leaves_at_a_report_when_nothing_more_fits(asks: bool) -> None:
    train, saved = counting(asks)
    channel = Channel(lambda n: 100.0 if n < 4 else 1.0)
    end = run(train, channel)
    assert end.kind == EndKind.ABANDONED
    # Whoever asks is told first, and leaves with the report of what it has saved then.
    assert [r.resource for r in channel.sent] == [1, 2, 3, 4, 5][: 4 + asks]
    assert saved == ([5] if asks else [])


def test_whoever_asks_is_told_ahead_of_a_rung_that_does_not_fit() -> None:
    saved: list[int] = []

    def train(config: Any, report: Any) -> None:
        for epoch in range(1, 10):
            report._last = time.monotonic() - 10.0  # as if it had taken so long
            if report.should_checkpoint:
                saved.append(epoch)
            report(epoch=epoch, objective=1.0)

    channel = Channel(lambda n: 20.0)  # enough for an epoch, but from 3 on to 9 takes a minute
    assert run(train, channel, milestones=(3, 9)).kind == EndKind.ABANDONED
    assert saved == [3]
    assert [r.resource for r in channel.sent] == [1, 2, 3]


def test_the_searchs_pace_counts_until_a_trial_knows_its_own() -> None:
    train, _ = counting()
    channel = Channel(lambda n: 12.0, unit=10.0)
    assert run(train, channel).kind == EndKind.ABANDONED
    assert len(channel.sent) == 1
    assert run(train, Channel(lambda n: 12.0, unit=1.0)).kind == EndKind.COMPLETED


def test_reports_tell_how_long_they_took() -> None:
    channel = Channel(None)

    def train(config: Any, report: Reporter) -> None:
        for epoch in (2, 4, 5):
            report._last = time.monotonic() - epoch
            report(epoch=epoch, objective=1.0)

    run(train, channel)
    assert [round(record.seconds) for record in channel.sent] == [2, 4, 5]
    assert [record.units for record in channel.sent] == [2, 2, 1]


# The end of a process.

environments = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(st.sampled_from(["", "x", "nan", "inf", "-5"]), st.integers(1, 10_000).map(str))
        for name in ("DHPO_WORKER_END", "SLURM_JOB_END_TIME", "PBS_WALLTIME")
    },
)


@quick
@given(environments, st.none() | st.floats(1, 10_000), st.integers(0, 9_000))
def test_the_earliest_end_counts(environ: dict[str, str], lifetime: float | None, began: int) -> None:
    def ends() -> Iterator[float]:
        for name, base in (("DHPO_WORKER_END", 0), ("SLURM_JOB_END_TIME", 0), ("PBS_WALLTIME", began)):
            if environ.get(name, "").isdecimal():
                yield base + int(environ[name])
        if lifetime is not None:
            yield began + lifetime

    assert worker_end(environ, lifetime, began) == min((end for end in ends() if end > began), default=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4:59", 299), ("1:00:00", 3600), ("2-03:00:01", 2 * 86400 + 3 * 3600 + 1), ("30", 30), ("0:00", 0)]
    + [(text, None) for text in ("UNLIMITED", "NOT_SET", "INVALID", "")],
)
def test_slurms_durations(text: str, expected: float | None) -> None:
    assert clock_seconds(text) == expected


def test_what_slurm_tells_of_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text('#!/bin/sh\n[ "$3" = 7 ] && echo 1:40\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert told_by_slurm({"SLURM_JOB_ID": "7"}) == pytest.approx(time.time() + 100, abs=5)
    assert told_by_slurm({"SLURM_JOB_ID": "8"}) is None  # it fails
    assert told_by_slurm({}) is None
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert told_by_slurm({"SLURM_JOB_ID": "7"}) is None


def test_this_processs_own_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DHPO_WORKER_END", "SLURM_JOB_END_TIME", "PBS_WALLTIME"):
        monkeypatch.delenv(name, raising=False)
    assert own_horizon() is None
    began = process_began()
    assert 0 <= time.time() - began < 24 * 3600
    assert abs(process_began() - began) < 1.0
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(began) + 5000))
    horizon = own_horizon()
    assert horizon is not None
    assert horizon.ends_at == int(began) + 5000
    assert 4998 < horizon.life <= 5000
    assert own_horizon(lifetime=60.0) == pytest.approx(Horizon(began + 60, 60), abs=1)
    assert horizon.left(horizon.ends_at + 1) == 0


# What an executor makes of it.


def ended(trial: int, took: float, kind: EndKind = EndKind.COMPLETED, stopped: bool = False) -> End:
    return End(trial, 1, kind.value, {"objective": 1.0}, {}, stopped, "", "", 0.0, took, "w", 0)


def test_an_executor_starts_nothing_that_does_not_fit_before_the_drivers_end() -> None:
    outlook = Outlook()
    assert outlook.fits()
    assert not outlook.drained(0)
    assert outlook.left is None
    outlook.begun(start())
    outlook.ended(0, ended(0, 100.0))
    outlook.ended(1, ended(1, 9000.0, stopped=True))  # stopped, failed: nobody knows what it would have taken
    outlook.ended(2, ended(2, 9000.0, EndKind.FAILED))
    assert outlook.need == 100.0
    outlook.horizon = Horizon(time.time() + 200, 1000.0)
    assert outlook.fits()
    outlook.horizon = Horizon(time.time() + 90, 1000.0)
    assert not outlook.fits()
    assert not outlook.drained(1)  # it may still come to its end
    assert outlook.drained(0)


def test_at_the_drivers_end_only_trials_that_report_are_waited_for() -> None:
    outlook = Outlook()
    outlook.horizon = Horizon(time.time())
    assert outlook.drained(3)
    outlook.reported(Record(1, 1, 1, 1.0, {}, 0.1, 1.0))
    assert not outlook.drained(3)
    outlook.ended(1)
    assert outlook.drained(2)
