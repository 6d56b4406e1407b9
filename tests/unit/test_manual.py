"""Searches driven by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dhpo import HpProblem, Hyperband, Search
from dhpo.errors import ReportError, SettingError
from dhpo.trial import Decision, Status


def make(problem: HpProblem, directory: Path | None = None, **kwargs: Any) -> Search:
    return Search(problem, searcher="random", random_state=3, log_dir=directory, **kwargs)


def test_asked_trials_are_distinct_and_numbered(problem: HpProblem) -> None:
    search = make(problem)
    trials = [*search.ask(3), *search.ask(2)]
    assert [t.number for t in trials] == [0, 1, 2, 3, 4]
    assert len({(t.config.x, t.config.n) for t in trials}) == 5


def test_results_reports_and_failures_are_told(problem: HpProblem) -> None:
    search = make(problem, objectives={"a": "MAX", "b": "MIN"})
    done, failed, reporting, told_off = search.ask(4)
    assert search.tell(done, {"a": 1.0, "b": 2.0, "note": "n"}) is Decision.STOP
    assert search.tell(failed, error="broken") is Decision.STOP
    assert search.tell(told_off, "F_reason") is Decision.STOP
    assert search.tell(reporting, (0.5, 1.0), resource=1) is Decision.CONTINUE
    assert search.tell(reporting.number, {"a": 0.6, "b": 1.0}, resource=2) is Decision.CONTINUE
    assert search.tell(reporting) is Decision.STOP
    assert [s.value for s in search.results.statuses().values()] == ["COMPLETED", "FAILED", "COMPLETED", "FAILED"]
    assert search.results.training_history["2"][-1]["a"] == 0.6
    assert len(search.results.pareto_front()) == 3


def test_the_same_rules_stop_trials(problem: HpProblem) -> None:
    search = make(problem, stopper=Hyperband(max_t=9))
    good, bad, whole = search.ask(3)
    assert search.tell(good, 1.0, resource=1) is Decision.CONTINUE
    assert search.tell(bad, 0.0, resource=1) is Decision.STOP
    assert search.tell(whole, 2.0, resource=1) is Decision.CONTINUE
    assert search.tell(whole, 2.0, resource=9) is Decision.STOP
    statuses = search.results.statuses()
    assert (statuses[1], statuses[2], statuses[0]) == (Status.STOPPED, Status.COMPLETED, Status.RUNNING)
    assert search.results.training_history["0"] == [{"objective": 1.0, "epoch": 1, "bracket": 0}]


def test_what_cannot_be_told_changes_nothing(problem: HpProblem) -> None:
    search = make(problem)
    (trial,) = search.ask()
    for values, kwargs, error in (
        (float("nan"), {}, ReportError),
        (None, {}, SettingError),
        (1.0, {"resource": 0}, SettingError),
        (1.0, {"resource": float("inf")}, SettingError),
        ({"other": 1}, {"resource": 1}, ReportError),
    ):
        with pytest.raises(error):
            search.tell(trial, values, **kwargs)
    search.tell(trial, 1.0, resource=2)
    with pytest.raises(SettingError, match="grow"):
        search.tell(trial, 1.0, resource=2)
    search.tell(trial, 1.0)
    with pytest.raises(SettingError, match="not running"):
        search.tell(trial, 1.0)
    with pytest.raises(SettingError, match="not running"):
        search.tell(99, 1.0)


def test_a_finite_space_is_exhausted() -> None:
    search = make(HpProblem({"c": ["a", "b", "c"]}))
    assert len(search.ask(10)) == 3
    assert search.ask(1) == []


def test_by_hand_goes_on_in_another_process(problem: HpProblem, tmp_path: Path) -> None:
    first = make(problem, tmp_path)
    one, two = first.ask(2)
    first.tell(one, 1.0)
    first.close()
    second = make(problem, tmp_path)
    (three,) = second.ask(1)
    assert three.number == 2
    assert three.config not in (one.config, two.config)
    second.tell(two.number, 2.0)
    assert [s.value for s in second.results.statuses().values()] == ["COMPLETED", "COMPLETED", "RUNNING"]


def test_a_stop_whose_end_was_lost_is_made_good(problem: HpProblem, tmp_path: Path) -> None:
    first = make(problem, tmp_path, stopper=Hyperband(max_t=9))
    good, bad = first.ask(2)
    first.tell(good, 1.0, resource=1)
    first.tell(bad, 0.0, resource=1)
    del first
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert b"completed" in lines[-1]
    journal.write_bytes(b"".join(lines[:-1]))  # the driver died between the decision and the end
    second = make(problem, tmp_path, stopper=Hyperband(max_t=9))
    second.ask(1)
    assert second.results.statuses()[bad.number] is Status.STOPPED


def test_by_hand_and_then_by_the_loop(problem: HpProblem, tmp_path: Path) -> None:
    for directory in (None, tmp_path):
        search = Search(
            problem, lambda config: config.x, searcher="random", random_state=3, log_dir=directory, cluster="serial"
        )
        one, two = search.ask(2)
        search.tell(one, 0.5)
        results = search.run(num_trials=4, progress=False)  # trial 1 was never told: the loop runs it
        assert [s.value for s in results.statuses().values()] == ["COMPLETED"] * 4
        assert results.to_frame().set_index("job_id")["objective"][1] == two.config.x
        (five,) = search.ask()
        search.tell(five, 2.0)
        assert search.results.best().values == {"objective": 2.0}
