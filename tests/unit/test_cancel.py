"""Trials that a person cancels: what the study, the records and a resumed search make of them."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo._codec import decode, encode
from dhpo._trials import TrialFold
from dhpo.events import (
    Cancel,
    Event,
    Observe,
    Start,
    TrialCancelled,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialProposed,
    TrialReported,
    WorkerLost,
)
from dhpo.objectives import Objectives
from dhpo.stopping.base import NeverStop
from dhpo.stopping.hyperband import Hyperband
from dhpo.study import Study
from dhpo.trial import Phase, Status

ONE = Objectives.parse({"a": "MIN"})


def new_study(stopper: Any = None) -> Study:
    stopper = Hyperband(max_t=9) if stopper is None else stopper
    return Study(ONE, stopper.bind(1, max_t=None, seed=1), seed=1)


def proposed(trial: int, time: float = 0.0) -> TrialProposed:
    return TrialProposed(time, trial, {"x": float(trial)}, 0, "random", 0)


def reported(trial: int, index: int, value: float, attempt: int = 1) -> TrialReported:
    return TrialReported(1.0, trial, attempt, index, float(index), {"a": value})


def test_a_trial_that_has_reported_keeps_its_result_and_is_no_failure() -> None:
    study = new_study()
    for event in (proposed(0), reported(0, 1, 0.5), reported(0, 2, 0.25)):
        study.apply(event)
    (event,) = study.cancel([0], 2.0)
    cancel, observe = study.apply(event)
    assert cancel == Cancel(0, 1)
    assert isinstance(observe, Observe)
    assert observe.observation[2:] == (Phase.ENDED, 2.0, (0.25,))
    assert (study.trials[0].status, study.n_running, study.n_ended, study.n_failed) == (Status.CANCELLED, 0, 1, 0)
    assert study.best_cost == 0.25


def test_one_that_has_not_has_none() -> None:
    study = new_study()
    study.apply(proposed(0))
    cancel, observe = study.apply(*study.cancel([0], 2.0))
    assert cancel == Cancel(0, 1)
    assert isinstance(observe, Observe)
    assert observe.observation.phase is Phase.FAILED
    assert (study.n_failed, study.failures_in_a_row, study.best_cost) == (0, 0, None)


def test_only_what_runs_or_rests_can_be_cancelled_and_once() -> None:
    study = new_study()
    study.apply(proposed(0))
    study.apply(proposed(1))
    study.apply(TrialCompleted(1.0, 1, 1, {"a": 1.0}, {}, False, 0.0, 1.0, "w"))
    events = study.cancel([0, 0, 1, 2, -1], 2.0)
    assert events == [TrialCancelled(2.0, 0, 1)]
    assert study.apply(events[0])
    assert study.apply(events[0]) == []
    assert study.n_running == 0
    assert study.apply(TrialFailed(3.0, 0, 1, "late", "", 0.0, 1.0, "w")) == []
    assert study.n_failed == 0


def test_a_trial_that_rests_is_never_promoted() -> None:
    study = new_study(Hyperband(max_t=9, type="promotion"))
    for trial in range(3):
        study.apply(proposed(trial))
        study.apply(reported(trial, 1, float(trial)))
        study.apply(TrialPaused(1.0, trial, 1, 0.0, 1.0, "w"))
    assert [trial.number for trial in study.promotable()] == [0]
    study.apply(*study.cancel([0], 2.0))
    assert study.trials[0].status is Status.CANCELLED
    assert (list(study.promotable()), study.n_running, study.n_ended) == ([], 0, 3)


def event_of(kind: int, trial: int, attempt: int, value: float) -> Event:
    match kind:
        case 0:
            return proposed(trial)
        case 1 | 2:
            return reported(trial, round(value * 9) + 1, value, attempt)
        case 3:
            return TrialCompleted(1.0, trial, attempt, None, {}, False, 0.0, 1.0, "w")
        case 4:
            return WorkerLost(1.0, trial, attempt, "")
        case 5:
            return TrialPaused(1.0, trial, attempt, 0.0, 1.0, "w")
    return TrialCancelled(1.0, trial, attempt)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(1, 3), st.floats(0, 1)), max_size=60))
@settings(deadline=None, max_examples=200)
def test_study_and_records_agree_and_replay(given_events: list[tuple[int, int, int, float]]) -> None:
    """Without a stopper the records see what the study sees, whatever comes in whatever order."""
    events: list[Event] = []
    for kind, trial, attempt, value in given_events:
        n_trials = sum(isinstance(event, TrialProposed) for event in events)
        if kind != 0 or trial == n_trials:
            events.append(event_of(kind, trial, attempt, value))
    study, again, fold = new_study(NeverStop()), new_study(NeverStop()), TrialFold(ONE)
    starts: list[Start] = []
    ended = {}
    for event in events:
        starts += [command for command in study.apply(event) if isinstance(command, Start)]
        if (record := fold.apply(event)) is not None:
            assert record.number not in ended
            ended[record.number] = record
    for event in decode(encode(events)):
        again.apply(event)
    assert [t.status for t in again.trials] == [t.status for t in study.trials]
    for trial in study.trials:
        record = ended.get(trial.number) or fold.running[trial.number]
        assert record.status is trial.status
        assert record.attempt == trial.attempt
        if trial.status is Status.CANCELLED:
            assert record.failed == (trial.costs is None)
    assert study.n_running == sum(t.status is Status.RUNNING for t in study.trials)
    assert study.n_failed == sum(t.status is Status.FAILED for t in study.trials)
