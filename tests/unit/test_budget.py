"""Durations, goals, and when a run is at its end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo.budget import Budget, parse_duration, parse_goal
from dhpo.errors import SettingError
from dhpo.events import SessionOpened, TrialAdded, TrialCompleted, TrialFailed
from dhpo.objectives import Objectives
from dhpo.stopping.base import NeverStop
from dhpo.study import Study
from dhpo.trial import Proposal


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, None),
        (90, 90.0),
        (0.5, 0.5),
        ("90", 90.0),
        ("1.5", 1.5),
        ("90 s", 90.0),
        ("45min", 2700.0),
        ("2h30m", 9000.0),
        ("2 H 30 M", 9000.0),
        ("1d", 86400.0),
        ("1.5h", 5400.0),
        ("02:30:00", 9000.0),
        ("1-00:00:10", 86410.0),
    ],
)
def test_durations(given: object, seconds: float | None) -> None:
    assert parse_duration(given) == seconds


@pytest.mark.parametrize(
    "given", [0, -1, "", "2x", "h", "1..5", True, float("nan"), float("inf"), [1], "2h banana", "0s"]
)
def test_what_is_no_duration_is_refused(given: object) -> None:
    with pytest.raises(SettingError, match="time_out="):
        parse_duration(given)


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(0, 59), st.integers(1, 59))
def test_a_clock_and_its_parts_agree(h: int, m: int, s: int) -> None:
    assert parse_duration(f"{h}:{m:02}:{s:02}") == parse_duration(f"{h}h{m}m{s}s") == h * 3600 + m * 60 + s


def test_goals_become_costs() -> None:
    one, two = Objectives.parse(), Objectives.parse({"a": "MAX", "b": "MIN"})
    assert parse_goal(None, one) is None
    assert parse_goal(0.9, one) == (-0.9,)
    assert parse_goal({"a": 0.9}, two) == (-0.9, float("inf"))
    assert parse_goal({"b": 3, "a": 1}, two) == (-1, 3)
    for value, objectives in ((0.9, two), ({"c": 1}, two), ({"a": "x"}, two), ({"a": float("nan")}, two), (True, one)):
        with pytest.raises(SettingError, match="stop_at"):
            parse_goal(value, objectives)


def study_with(*values: float | None) -> Study:
    """A study of ended trials with these values; None is a failure."""
    study = Study(Objectives.parse(), NeverStop(), seed=0)
    for number, value in enumerate(values):
        for event in study.admit([Proposal({}, "random")], 0.0):
            study.apply(event)
        if value is None:
            study.apply(TrialFailed(1.0, number, 1, "oops", "", 0.0, 1.0, "w"))
        else:
            study.apply(TrialCompleted(1.0, number, 1, {"objective": value}, {}, False, 0.0, 1.0, "w"))
    return study


@pytest.mark.parametrize(
    ("budget", "values", "reason"),
    [
        (Budget(num_trials=2), (1.0,), None),
        (Budget(num_trials=2), (1.0, None), "num_trials=2 reached"),
        (Budget(num_trials=1), (1.0, 2.0), "num_trials=1 reached"),
        (Budget(patience=2), (5.0, 6.0, 1.0), None),
        (Budget(patience=2), (5.0, 6.0, 1.0, None), "no improvement in 2 trials"),
        (Budget(max_failures=2), (None, 1.0, None), None),
        (Budget(max_failures=2), (1.0, None, None), "the last 2 trials failed"),
        (Budget(time_limit=5.0), (1.0,), None),
    ],
)
def test_reasons(budget: Budget, values: tuple[float | None, ...], reason: str | None) -> None:
    assert budget.reached(study_with(*values), 4.0) == reason


def test_time_goal_and_room() -> None:
    study = study_with(1.0, 2.0)
    assert Budget(time_limit=5.0).reached(study, 5.0) == "time_out reached"
    study.aim((-2.0,))
    assert Budget(goal=(-2.0,)).reached(study, 0.0) == "stop_at reached"
    assert Budget(num_trials=5).room(study) == 3
    assert Budget(num_trials=1).room(study) == 0
    assert Budget(time_limit=1.0).room(study) == float("inf")


def test_num_trials_is_not_reached_while_one_runs() -> None:
    study = study_with(1.0)
    for event in study.admit([Proposal({}, "random")], 0.0):
        study.apply(event)
    assert Budget(num_trials=2).room(study) == 0
    assert Budget(num_trials=1).reached(study, 0.0) is None


def test_a_new_session_begins_with_no_failures_behind_it() -> None:
    study = study_with(None, None)
    assert Budget(max_failures=2).exhausted_failures(study)
    study.apply(SessionOpened(2.0, 0.0, "h", 1, "0"))
    assert not Budget(max_failures=2).exhausted_failures(study)


def test_known_trials_are_not_run_and_so_use_up_no_budget() -> None:
    study = study_with(1.0, None)

    def add(value: float | None) -> None:
        values = None if value is None else {"objective": value}
        study.apply(TrialAdded(2.0, len(study.trials), {}, values, "F", None, "known"))

    for value in (0.5, None, None):
        add(value)
    assert Budget(num_trials=5).room(study) == 3
    assert Budget(num_trials=3).reached(study, 2.0) is None
    assert Budget(num_trials=2).reached(study, 2.0) == "num_trials=2 reached"
    assert Budget(max_failures=2).reached(study, 2.0) is None
    assert Budget(patience=1).reached(study, 2.0) == "no improvement in 1 trials"
    add(3.0)  # a better one is an improvement
    assert Budget(patience=1).reached(study, 2.0) is None
    study.aim((-3.0,))
    assert Budget(goal=(-3.0,)).reached(study, 2.0) == "stop_at reached"
