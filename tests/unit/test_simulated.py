"""Trials under a virtual clock."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dhpo import HpProblem, Hyperband, Search
from dhpo.errors import SettingError
from dhpo.events import TrialCompleted, TrialProposed, TrialReported, WorkerLost
from dhpo.executors.simulated import Simulated


def epochs(config: Any, report: Any) -> None:
    for epoch in range(1, 10):
        report(epoch=epoch, objective=config.x * epoch, seconds=10.0)


def once(config: Any) -> dict[str, float]:
    return {"objective": config.x, "seconds": 60.0}


def search(
    problem: HpProblem, function: Any, cluster: Any, num_trials: int = 20, **kwargs: Any
) -> tuple[Any, list[Any]]:
    events: list[Any] = []
    made = Search(problem, function, cluster=cluster, searcher="random", random_state=1, **kwargs)
    results = made.run(num_trials=num_trials, progress=False, watchers=[lambda batch, study: events.extend(batch)])
    return results, events


def test_time_is_what_the_trials_say(problem: HpProblem) -> None:
    results, events = search(problem, once, Simulated(workers=5))
    ends = sorted(e.time for e in events if isinstance(e, TrialCompleted))
    assert ends == [60.0] * 5 + [120.0] * 5 + [180.0] * 5 + [240.0] * 5
    assert results.to_frame()["m:timestamp_end"].max() == 240.0


def test_a_function_may_give_the_seconds(problem: HpProblem) -> None:
    cluster = Simulated(workers=1, seconds=lambda config, values: 100.0 * config["x"])
    _, events = search(problem, lambda config: config.x, cluster, 5)
    total = sum(100.0 * e.config["x"] for e in events if isinstance(e, TrialProposed))
    assert events[-1].time == pytest.approx(total, abs=1e-3)
    assert cluster.busy_seconds == pytest.approx(total, abs=1e-3)


def test_rungs_stop_trials_and_save_their_time(problem: HpProblem) -> None:
    whole, _ = search(problem, epochs, Simulated(workers=4), 30)
    stopped, events = search(problem, epochs, Simulated(workers=4), 30, stopper=Hyperband(max_t=9))
    assert Counter(s.value for s in stopped.statuses().values()).keys() == {"COMPLETED", "STOPPED"}
    assert stopped.last_time < 0.7 * whole.last_time
    reports = Counter(e.trial for e in events if isinstance(e, TrialReported))
    for trial, status in stopped.statuses().items():
        assert reports[trial] in ((9,) if status == "COMPLETED" else (1, 3))


def test_the_same_seed_gives_the_same_history(problem: HpProblem) -> None:
    cluster = {"startup": (0.0, 100.0), "deaths_per_hour": 5.0, "spread": 0.3, "seed": 3}
    runs = [
        search(problem, epochs, Simulated(workers=8, **cluster), 40, stopper=Hyperband(max_t=9))[1] for _ in range(2)
    ]
    assert [repr(e) for e in runs[0][1:] if not isinstance(e, TrialCompleted)] == [
        repr(e) for e in runs[1][1:] if not isinstance(e, TrialCompleted)
    ]


def test_deaths_lose_no_trial(problem: HpProblem) -> None:
    cluster = Simulated(workers=6, deaths_per_hour=20.0, startup=(5.0, 50.0), seed=1)
    results, events = search(problem, epochs, cluster, 40)
    assert len(results) == 40
    assert any(isinstance(e, WorkerLost) for e in events)
    ended = Counter(e.trial for e in events if isinstance(e, TrialCompleted))
    assert set(ended.values()) == {1}
    assert set(results.statuses().values()) <= {"COMPLETED", "FAILED"}


def test_a_trial_that_lost_its_worker_goes_before_new_ones(problem: HpProblem) -> None:
    cluster = Simulated(workers=3, deaths_per_hour=10.0, startup=1000.0, seed=2)
    _, events = search(problem, epochs, cluster, 30)
    lost = [(i, e) for i, e in enumerate(events) if isinstance(e, WorkerLost)]
    assert lost
    for place, loss in lost:
        again = [
            i for i, e in enumerate(events) if isinstance(e, TrialReported) and e[1:3] == (loss.trial, loss.attempt + 1)
        ]
        first = again[0] if again else len(events)
        between = [e for e in events[place:first] if isinstance(e, TrialProposed)]
        assert len(between) <= 2  # no more than were free in that very moment


def test_failures_take_their_place(problem: HpProblem) -> None:
    def fails(config: Any, report: Any) -> None:
        report(objective=1.0, seconds=5.0)
        raise ValueError("no")

    results, _ = search(problem, fails, Simulated(workers=2), 6)
    assert set(results.statuses().values()) == {"FAILED"}
    assert results.failures()["traceback"].str.contains("ValueError: no").all()
    instantly, _ = search(problem, lambda config: 1 / 0, Simulated(workers=2), 6)
    assert len(instantly) == 6


def test_a_time_limit_is_virtual(problem: HpProblem) -> None:
    made = Search(problem, once, cluster=Simulated(workers=2), searcher="random", random_state=1)
    results = made.run(time_out="1h30m", progress=False)
    assert 2 * 90 <= sum(s == "COMPLETED" for s in results.statuses().values()) <= 2 * 90
    more = made.run(time_out="1h", progress=False)  # the clock goes on; what ran then starts again
    assert more.last_time == pytest.approx(150 * 60.0)


@pytest.mark.parametrize("settings", [{"workers": 0}, {"workers": 1.5}, {"deaths_per_hour": -1.0}, {"spread": -0.1}])
def test_unusable_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        Simulated(**settings)


def test_a_step_without_seconds_is_refused(problem: HpProblem) -> None:
    with pytest.raises(SettingError, match="'seconds'"):
        search(problem, lambda config: config.x, Simulated(workers=2))
