"""``Search`` on this process's threads: budgets, failures, input errors, and what a run leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhpo import CBO, HpProblem, Hyperband, LocalExecutor, NeverStop, Search
from dhpo.driver import _run_in_loop
from dhpo.errors import (
    DataError,
    DhpoError,
    ExhaustedFailuresError,
    JournalLockedError,
    ObjectiveError,
    ResumeError,
    RunFunctionError,
    SettingError,
    SpaceError,
)
from dhpo.trial import Observation, Proposal
from dhpo.worker.loader import Loader

BACKENDS = ["serial", "threads"]


def value(config: Any) -> float:
    return float(config.x)


def make(problem: Any, function: Any = value, **kwargs: Any) -> Search:
    settings = {"searcher": "random", "random_state": 1, "cluster": "serial", **kwargs}
    return Search(problem, function, **settings)


def run(problem: Any, function: Any = value, n: int = 8, *, budget: Any = None, **kwargs: Any) -> Any:
    return make(problem, function, **kwargs).run(progress=False, **(budget or {"num_trials": n}))


# Budgets.


@pytest.mark.parametrize("cluster", BACKENDS)
@pytest.mark.parametrize("argument", ["num_trials", "max_evals"])
def test_num_trials_is_exact(problem: HpProblem, cluster: str, argument: str) -> None:
    called = []

    def counted(config: Any) -> float:
        called.append(1)
        return value(config)

    results = run(problem, counted, budget={argument: 17}, cluster=cluster)
    assert len(results) == len(called) == 17
    assert set(results.statuses().values()) == {"COMPLETED"}
    assert len({tuple(c.items()) for c in results.config_history.values()}) == 17


@pytest.mark.parametrize("on_disk", [True, False])
@pytest.mark.parametrize("searcher", ["random", CBO(n_initial_points=4)])
def test_a_second_run_goes_on(problem: HpProblem, tmp_path: Path, on_disk: bool, searcher: Any) -> None:
    search = make(problem, log_dir=tmp_path if on_disk else None, searcher=searcher)
    first = search.run(5, progress=False)
    assert len(first) == 5
    second = search.run(10, progress=False)
    assert len(second) == 10
    assert list(second.config_history.values())[:5] == list(first.config_history.values())
    assert len(search.run(10, progress=False)) == 10  # nothing left to do
    assert len({tuple(c.items()) for c in second.config_history.values()}) == 10


def test_what_was_observed_last_is_known_to_the_next_run() -> None:
    told: list[Observation] = []

    class Spy:
        cheap = True

        def bind(self, *args: Any, **kwargs: Any) -> Spy:
            told.clear()
            return self

        def settings(self) -> dict[str, Any]:
            return {}

        def observe(self, observations: Sequence[Observation]) -> None:
            told.extend(observations)

        def propose(self, numbers: Sequence[int]) -> list[Proposal]:
            return [Proposal({"x": n / 100}, "random") for n in numbers]

    search = make({"x": (0.0, 1.0)}, searcher=Spy())
    search.run(3, progress=False)
    search.run(4, progress=False)
    ended = [o.trial for o in told if o.phase == "ENDED"]
    assert ended == [0, 1, 2]  # the last one of the first run included


def test_an_executor_can_be_used_twice(problem: HpProblem) -> None:
    search = make(problem, cluster=LocalExecutor(2))
    assert len(search.run(3, progress=False)) == 3
    assert len(search.run(6, progress=False)) == 6


def test_a_time_out_ends_the_run_and_the_rest_is_run_next_time(problem: HpProblem, tmp_path: Path) -> None:
    go = threading.Event()

    def waits(config: Any) -> float:
        go.wait(20)
        return value(config)

    search = make(problem, waits, log_dir=tmp_path)
    results = search.run(time_out=0.3, progress=False)
    assert [s.value for s in results.statuses().values()] == ["RUNNING"]
    assert not search.interrupted
    go.set()
    assert set(search.run(2, progress=False).statuses().values()) == {"COMPLETED"}


def test_stop_at_and_patience(problem: HpProblem) -> None:
    results = run(problem, budget={"stop_at": 0.9})
    values = list(results.to_frame()["objective"])
    assert [v >= 0.9 for v in values] == [False] * (len(values) - 1) + [True]
    patient = run(problem, lambda config: 1.0, budget={"patience": 4})
    assert len(patient) == 5


def test_the_default_searcher_finds_something(problem: HpProblem) -> None:
    results = run(problem, lambda c: -((c.x - 0.3) ** 2), 25, searcher="cbo")
    assert len(results) == 25
    assert results.best().values["objective"] > -0.01


@pytest.mark.parametrize("cluster", BACKENDS)
def test_a_finite_space_ends_the_search(cluster: str) -> None:
    space = {"a": ["p", "q", "r"], "b": [1, 2]}
    for searcher in ("random", CBO(n_initial_points=3)):
        results = run(space, lambda c: float(c.b), 100, cluster=cluster, searcher=searcher)
        assert len(results) == 6
        assert len({tuple(sorted(c.items())) for c in results.config_history.values()}) == 6


# Stopping.


def curve(config: Any, report: Any) -> None:
    for epoch in range(1, 1000):
        report(epoch=epoch, objective=config.x * epoch)


@pytest.mark.parametrize("cluster", BACKENDS)
def test_a_stopped_trial_runs_no_epoch_too_many(problem: HpProblem, cluster: str) -> None:
    results = run(problem, curve, 30, cluster=cluster, stopper=Hyperband(max_t=9))
    statuses = Counter(results.statuses().values())
    assert statuses["STOPPED"] > 3
    assert statuses["STOPPED"] + statuses["COMPLETED"] == 30
    for trial, entries in results.training_history.items():
        stopped = results.statuses()[int(trial)] == "STOPPED"
        assert len(entries) in ((1, 3) if stopped else (9,))
        assert ("terminated" in entries[-1]) == stopped


def test_max_t_comes_from_a_constant_of_the_space() -> None:
    results = run({"x": (0.0, 1.0), "epochs": 4}, curve, 3, stopper=Hyperband())
    assert max(len(entries) for entries in results.training_history.values()) == 4


# Failures.


def exits(config: Any) -> None:
    sys.exit(3)


def raises(config: Any, report: Any) -> None:
    report(epoch=1, objective=1.0)
    raise ValueError("the user's own")


def generator_raises(config: Any) -> Any:
    yield {"epoch": 1, "objective": 1.0}
    raise ValueError("the user's own")


FAILURES: dict[str, tuple[Callable[..., Any], str]] = {
    "raise": (raises, "the user's own"),
    "generator": (generator_raises, "the user's own"),
    "exit": (exits, "SystemExit"),
    "text": (lambda config: "F_oom", "F_oom"),
    "nan": (lambda config: float("nan"), "not finite"),
    "nan report": (lambda config, report: report(epoch=1, objective=float("nan")), "not finite"),
    "no objective": (lambda config, report: report(epoch=1), "lacks the objective"),
    "no time_attr": (lambda config, report: report(objective=1.0), "lacks 'epoch'"),
    "resource of 0": (lambda config, report: report(epoch=0, objective=1.0), "positive"),
    "resource that stays": (lambda c, report: [report(epoch=2, objective=1.0) for _ in range(2)], "grow"),
    "nothing": (lambda config: None, "without having reported"),
    "too many": (lambda config: (1.0, 2.0), "2 values"),
    "memory": (lambda config: np.zeros(2**50), "MemoryError"),
}


@pytest.mark.parametrize("cluster", BACKENDS)
@pytest.mark.parametrize("name", list(FAILURES))
def test_no_failure_hangs_or_ends_the_search(problem: HpProblem, cluster: str, name: str) -> None:
    function, error = FAILURES[name]
    results = run(problem, function, 5, cluster=cluster, stopper=Hyperband(max_t=9))
    assert list(results.statuses().values()) == ["FAILED"] * 5
    failures = results.failures()
    assert failures["error"].str.contains(error).all()
    assert name == "text" or failures["traceback"].str.contains("Traceback").all()


def test_some_failures_leave_the_others_alone(problem: HpProblem) -> None:
    def sometimes(config: Any) -> float:
        if config.x > 0.5:
            raise ValueError(f"x is {config.x}")
        return value(config)

    results = run(problem, sometimes, 20)
    assert len(results) == 20
    for trial, config in results.config_history.items():
        assert (results.statuses()[int(trial)] == "FAILED") == (config["x"] > 0.5)
    assert results.best().values["objective"] <= 0.5


def test_an_early_return_completes_with_the_last_report(problem: HpProblem) -> None:
    def early(config: Any, report: Any) -> None:
        report(epoch=1, objective=0.5)

    results = run(problem, early, 4, stopper=Hyperband(max_t=9))
    assert set(results.statuses().values()) == {"COMPLETED"}
    assert set(results.to_frame()["objective"]) == {0.5}


def test_a_trial_that_takes_too_long_is_timed_out(problem: HpProblem) -> None:
    results = run(problem, curve, 3, trial_timeout=1e-6)
    assert set(results.statuses().values()) == {"TIMED_OUT"}


def test_too_many_failures_give_the_search_up_and_a_new_run_tries_again(problem: HpProblem, tmp_path: Path) -> None:
    broken = [True]

    def function(config: Any) -> float:
        if broken[0]:
            raise ValueError("no such file")
        return 1.0

    search = make(problem, function, log_dir=tmp_path, max_failures=3)
    with pytest.raises(ExhaustedFailuresError, match="no such file"):
        search.run(20, progress=False)
    assert len(search.results.failures()) == 3
    broken[0] = False
    assert len(search.run(6, progress=False)) == 6
    assert len(run(problem, lambda c: 1 / 0, 7, max_failures=None)) == 7


# Errors of input.


@pytest.mark.parametrize(
    ("kwargs", "error", "names"),
    [
        ({"objectives": {"a": "best"}}, ObjectiveError, "best"),
        ({"problem": {}}, SettingError, "no hyperparameters"),
        ({"problem": {"x": object()}}, SpaceError, "x"),
        ({"stopper": Hyperband()}, SettingError, "max_t"),
        ({"cluster": "nonsense"}, SettingError, "nonsense"),
        ({"cluster": 5}, SettingError, "cluster=5"),
        ({"searcher": "magic"}, SettingError, "magic"),
        ({"searcher": CBO}, SettingError, "CBO"),
        ({"resources": {"cores": 3}}, SettingError, "cores"),
        ({"resources": {"num_cpus": -1}}, SettingError, "num_cpus"),
        ({"random_state": -1}, SettingError, "random_state"),
        ({"random_state": 1.5}, SettingError, "random_state"),
        ({"trial_timeout": "soon"}, SettingError, "trial_timeout"),
        ({"max_failures": 0}, SettingError, "max_failures"),
        ({"ahead": -1}, SettingError, "ahead"),
        ({"function": 3}, RunFunctionError, "3"),
        ({"function": lambda config, report, data: 1.0}, SettingError, "data="),
        ({"data": {"X": 1}}, SettingError, "no parameter"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    problem: HpProblem, tmp_path: Path, kwargs: dict[str, Any], error: type[DhpoError], names: str
) -> None:
    given = {"problem": problem, "function": value, **kwargs}
    with pytest.raises(error, match=names):
        make(given.pop("problem"), given.pop("function"), log_dir=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_stopper_checks_itself() -> None:
    with pytest.raises(SettingError, match="max_t=1 is below grace_period=5"):
        Hyperband(max_t=1, grace_period=5)


@pytest.mark.parametrize(
    ("budget", "names"),
    [
        ({}, "needs an end"),
        ({"num_trials": 0}, "num_trials=0"),
        ({"num_trials": 1.5}, "num_trials=1.5"),
        ({"num_trials": True}, "num_trials=True"),
        ({"num_trials": 3, "max_evals": 4}, "differ"),
        ({"time_out": "later"}, "later"),
        ({"stop_at": "good"}, "stop_at"),
        ({"patience": -1}, "patience"),
    ],
)
def test_bad_budgets_are_refused_before_anything_is_written(
    problem: HpProblem, tmp_path: Path, budget: dict[str, Any], names: str
) -> None:
    with pytest.raises(SettingError, match=names):
        make(problem, log_dir=tmp_path / "run").run(progress=False, **budget)
    assert not (tmp_path / "run").exists()


def test_a_search_without_a_function_is_driven_by_hand(problem: HpProblem) -> None:
    with pytest.raises(SettingError, match="no run function"):
        make(problem, None).run(1)


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"problem": {"x": (0.0, 2.0)}}, "search space"),
        ({"objectives": {"objective": "MIN"}}, "objectives"),
        ({"stopper": Hyperband(max_t=9)}, "stopper"),
        ({"random_state": 2}, "random_state=1"),
    ],
)
def test_a_directory_of_another_search_is_refused(tmp_path: Path, changed: dict[str, Any], names: str) -> None:
    given = {"problem": {"x": (0.0, 1.0)}, "log_dir": tmp_path, "objectives": None, "stopper": NeverStop()}
    run(n=2, **given)
    before = (tmp_path / "journal.jsonl").read_bytes()
    with pytest.raises(ResumeError, match=names):
        run(n=4, **{**given, **changed})
    assert (tmp_path / "journal.jsonl").read_bytes() == before
    assert len(run(n=4, **{**given, "random_state": None})) == 4  # and it is not locked


def test_a_directory_has_one_driver_at_a_time(problem: HpProblem, tmp_path: Path) -> None:
    seen = []

    def watch(events: Any, study: Any) -> None:
        if not seen:
            with pytest.raises(JournalLockedError) as caught:
                run(problem, n=2, log_dir=tmp_path)
            seen.append(caught)

    make(problem, log_dir=tmp_path).run(3, progress=False, watchers=[watch])
    assert seen


# What a run leaves behind, and where it runs.


def test_no_thread_is_left(problem: HpProblem) -> None:
    before = set(threading.enumerate())
    run(problem, n=12, cluster=LocalExecutor(4), searcher=CBO(n_initial_points=4))
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive(), thread


def test_a_trial_that_waits_at_a_rung_is_let_go_when_the_search_ends(problem: HpProblem) -> None:
    ends = []
    last = threading.Event()

    def waits(config: Any, report: Any) -> None:
        try:
            for epoch in range(1, 10**9):
                report(epoch=epoch, objective=float(config.x))
        except BaseException as error:
            ends.append(type(error).__name__)
            raise
        finally:
            last.set()

    run(problem, waits, budget={"time_out": 0.2}, stopper=Hyperband(max_t=10**9))
    assert last.wait(10)
    assert ends[-1] in ("AbandonedTrial", "StopTrial")


def test_a_search_runs_inside_a_running_event_loop(problem: HpProblem) -> None:
    async def main() -> Any:
        return run(problem, n=6)

    assert len(asyncio.run(main())) == 6

    async def broken() -> Any:
        return run(problem, lambda c: 1 / 0, 6, max_failures=2)

    with pytest.raises(ExhaustedFailuresError):
        asyncio.run(broken())


def test_a_notebooks_stop_button_ends_the_search_cleanly() -> None:
    stopped = threading.Event()
    waiting = threading.Event()

    async def main() -> None:
        waiting.set()
        await asyncio.to_thread(stopped.wait, 10)

    class Thread(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            assert waiting.wait(10)
            if not stopped.is_set():
                raise KeyboardInterrupt
            super().join(timeout)

    async def notebook() -> None:
        original, threading.Thread = threading.Thread, Thread
        try:
            _run_in_loop(main(), stopped.set)
        finally:
            threading.Thread = original

    asyncio.run(notebook())
    assert stopped.is_set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_cleanly(problem: HpProblem, tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)
    sent = []

    def watch(events: Any, study: Any) -> None:
        if study.n_ended == 3 and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    search = make(problem, log_dir=tmp_path)
    results = search.run(1000, progress=False, watchers=[watch])
    assert search.interrupted
    assert 3 <= len(results) < 1000
    assert signal.getsignal(number) is before
    assert len(search.run(len(results) + 3, progress=False)) == len(results) + 3
    assert not search.interrupted


def test_data_and_loaders_reach_the_function(problem: HpProblem, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(4.0))

    def train(config: Any, report: Any, data: Any) -> float:
        return float(data.sum())

    assert run(problem, train, 2, data=np.arange(3.0)).best().values["objective"] == 3.0
    assert run(problem, train, 2, data=Loader(tmp_path / "a.npy")).best().values["objective"] == 6.0
    with pytest.raises(DataError, match=r"b\.npy"):
        run(problem, train, 2, data=Loader(tmp_path / "b.npy"))


def test_tuples_among_the_choices_survive_a_resume(tmp_path: Path) -> None:
    space = HpProblem()
    space.add_hyperparameter([(16,), (32, 32), (64, 32, 16), (8, 8)], "layers")
    space.add_hyperparameter([1, 2], "seed")
    seen: list[Any] = []
    resumed = threading.Event()

    def train(config: Any) -> float:
        assert isinstance(config.layers, tuple)
        if len(seen) == 3 and not resumed.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
            resumed.wait(10)  # this trial is running when the driver ends
            raise AssertionError("the first driver has ended")
        seen.append((config.layers, config.seed))
        return float(sum(config.layers))

    for searcher in ("random", CBO(n_initial_points=3)):
        seen.clear()
        resumed.clear()
        directory = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        search = make(space, train, searcher=searcher, log_dir=directory)
        assert "RUNNING" in search.run(100, progress=False).statuses().values()
        resumed.set()
        results = make(space, train, searcher=searcher, log_dir=directory).run(100, progress=False)
        assert len(results) == 8
        assert set(results.statuses().values()) == {"COMPLETED"}
        assert len(set(seen)) == 8


def test_progress_is_shown_on_request(problem: HpProblem, capsys: pytest.CaptureFixture[str]) -> None:
    make(problem).run(3, progress=True)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "objective=" in shown
    make(problem).run(3, progress=False)
    assert capsys.readouterr().err == ""


def test_a_prior_search_starts_this_one_ahead(problem: HpProblem) -> None:
    earlier = run(problem, lambda c: -((c.x - 0.3) ** 2), 30)
    search = make(problem, lambda c: -((c.x - 0.3) ** 2), searcher=CBO(n_initial_points=5))
    search.fit_generative_model(earlier, q=0.5)
    assert "prior" in {e["origin"] for e in _origins(search)}
    with pytest.raises(SettingError, match="RandomSearcher"):
        make(problem).fit_generative_model(earlier)


def _origins(search: Search) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    search.run(5, progress=False, watchers=[lambda events, study: found.extend(e._asdict() for e in events)])
    return [e for e in found if "origin" in e]
