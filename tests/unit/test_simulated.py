"""Trials under a virtual clock."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dhpo import HpProblem, Hyperband, Search
from dhpo.errors import SettingError
from dhpo.events import TrialCompleted, TrialProposed, TrialReported, TrialTimedOut, WorkerLost
from dhpo.executors.simulated import Costs, Simulated


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


def test_workers_end_with_their_walltime_and_others_come(problem: HpProblem) -> None:
    cluster = Simulated(workers=3, walltime=(100.0, 200.0), startup=(0.0, 10.0), seed=1)
    results, events = search(problem, epochs, cluster, 20)
    assert set(results.statuses().values()) == {"COMPLETED"}
    statistics = cluster.statistics()
    assert statistics.joined > 3
    assert statistics.available <= 3 * statistics.elapsed
    assert all(not e.worker for e in events if isinstance(e, WorkerLost))  # nobody is to blame for a known end


@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_trial_longer_than_any_job_ends_only_with_checkpoints(problem: HpProblem, checkpoints: bool) -> None:
    cluster = Simulated(workers=2, walltime=50.0, checkpoints=checkpoints)  # an epoch takes 10 s, and there are 9
    made = Search(problem, epochs, cluster=cluster, searcher="random", random_state=1)
    events: list[Any] = []
    made.run(time_out=600.0, num_trials=4, progress=False, watchers=[lambda batch, study: events.extend(batch)])
    ended = sum(isinstance(e, TrialCompleted) for e in events)
    assert (ended == 4) is checkpoints
    assert any(isinstance(e, WorkerLost) for e in events)
    assert (cluster.statistics().lost == 0) is checkpoints


def test_after_a_death_a_checkpoint_spares_the_time(problem: HpProblem) -> None:
    ends = {}
    for checkpoints in (True, False):
        cluster = Simulated(workers=4, deaths_per_hour=40.0, startup=5.0, checkpoints=checkpoints, seed=3)
        results, _ = search(problem, epochs, cluster, 40)
        ends[checkpoints] = results.last_time
    assert ends[True] < ends[False]


def test_what_was_lost_is_what_has_to_be_trained_again(problem: HpProblem) -> None:
    lost = {}
    for checkpoints in (True, False):
        cluster = Simulated(workers=6, deaths_per_hour=10.0, startup=5.0, checkpoints=checkpoints, seed=3)
        results, events = search(problem, epochs, cluster, 60)
        assert set(results.statuses().values()) == {"COMPLETED"}
        losses = sum(isinstance(e, WorkerLost) for e in events)
        needed = 60 * 90.0  # seconds of training
        lost[checkpoints] = cluster.statistics().lost
        assert cluster.busy_seconds == pytest.approx(needed + lost[checkpoints])
        assert losses
        if checkpoints:
            assert 0 < lost[True] <= 10.0 * losses  # an epoch each at most
    assert lost[True] < lost[False]


def test_the_journal_takes_a_part_of_the_drivers_time(problem: HpProblem) -> None:
    shares = []
    for sync in (0.0, 5.0):
        cluster = Simulated(workers=4, costs=Costs(sync=sync, turn=0.0, event=0.0, start=0.0, byte=0.0))
        search(problem, epochs, cluster, 20)
        statistics = cluster.statistics()
        assert statistics.driver.share == pytest.approx(statistics.journal.share, rel=0.05)
        shares.append(statistics.journal.share)
    assert shares[0] == 0.0
    assert shares[1] > 0.1


@pytest.mark.parametrize("pair", ["task_pair", "removal_pair", "registration_pair"])
def test_some_costs_grow_with_the_workers(problem: HpProblem, pair: str) -> None:
    shares = []
    for workers in (5, 20):
        cluster = Simulated(workers, walltime=(300.0, 400.0), costs=Costs(**{pair: 1e-3}), seed=1)
        search(problem, epochs, cluster, 10 * workers)
        plain = Simulated(workers, walltime=(300.0, 400.0), costs=Costs(), seed=1)
        search(problem, epochs, plain, 10 * workers)
        shares.append(cluster.statistics().scheduler.share - plain.statistics().scheduler.share)
    assert shares[1] > 8 * shares[0] > 0


def test_heartbeats_take_a_share_of_the_scheduler_that_has_a_bound(problem: HpProblem) -> None:
    shares = []
    for workers in (2, 200):
        cluster = Simulated(
            workers, costs=Costs(heartbeat=1e-3, task=0, message=0, report=0, decision=0, registration=0)
        )
        search(problem, once, cluster, workers)
        shares.append(cluster.statistics().scheduler.share)
    assert shares == pytest.approx([2e-3 / 1.01, 0.1])


def test_stragglers_take_longer(problem: HpProblem) -> None:
    _, events = search(problem, once, Simulated(workers=40, stragglers=(0.5, 3.0), seed=1), 40)
    took = Counter(e.ended - e.started for e in events if isinstance(e, TrialCompleted))
    assert set(took) == {60.0, 180.0}


def test_trials_that_run_too_long_are_ended(problem: HpProblem) -> None:
    results, events = search(problem, epochs, Simulated(workers=2), 4, trial_timeout=35.0)
    assert set(results.statuses().values()) == {"TIMED_OUT"}
    assert {e.ended - e.started for e in events if isinstance(e, TrialTimedOut)} == {40.0}  # at a report
    results, events = search(problem, epochs, Simulated(workers=2), 4, trial_timeout=35.0, isolation="process")
    assert {e.ended - e.started for e in events if isinstance(e, TrialTimedOut)} == {35.0}  # at once


def test_without_costs_nobody_waits(problem: HpProblem) -> None:
    cluster = Simulated(workers=5)
    search(problem, epochs, cluster, 20, stopper=Hyperband(max_t=9))
    statistics = cluster.statistics()
    assert statistics.waiting == 0.0
    assert statistics.gaps == (0.0, 0.0, 0.0)
    assert statistics.scheduler.share == statistics.driver.share == statistics.searcher.share == 0.0
    assert statistics.busy == cluster.busy_seconds


def test_a_slow_driver_is_what_workers_wait_for(problem: HpProblem) -> None:
    shares = []
    for start in (0.0, 20.0):  # one trial each 20 s, where 10 workers would end one each 6 s
        cluster = Simulated(workers=10, costs=Costs(start=start))
        search(problem, once, cluster, 60)
        shares.append(cluster.statistics())
    fast, slow = shares
    assert fast.utilisation > 0.99
    assert slow.driver.share > 0.9
    assert slow.utilisation < 0.5
    assert slow.driver.longest_delay > 60.0


@pytest.mark.parametrize("slow", ["task", "proposal"])
def test_the_slowest_server_is_the_limit(problem: HpProblem, slow: str) -> None:
    cluster = Simulated(workers=10, costs=Costs(**{slow: 12.0}, ahead=2))
    search(problem, once, cluster, 80)
    statistics = cluster.statistics()
    server = {"task": statistics.scheduler, "proposal": statistics.searcher}[slow]
    assert server.share > 0.8
    assert statistics.utilisation < 0.7
    # One trial of 60 s each 12 s keeps five workers busy.
    assert statistics.busy / statistics.elapsed == pytest.approx(5.0, rel=0.2)


def test_decisions_wait_for_the_scheduler(problem: HpProblem) -> None:
    cluster = Simulated(workers=10, costs=Costs(decision=5.0))
    search(problem, epochs, cluster, 40, stopper=Hyperband(max_t=9))
    assert cluster.statistics().waiting > 40 * 5.0


def test_costs_change_times_and_not_results(problem: HpProblem) -> None:
    """Without rungs a proposal of random search depends on its number only."""
    values = []
    for costs in (None, Costs()):
        cluster = Simulated(workers=7, deaths_per_hour=5.0, startup=(0.0, 60.0), costs=costs, seed=4)
        results, events = search(problem, epochs, cluster, 50)
        assert [e.time for e in events] == sorted(e.time for e in events)
        reports = Counter((e.trial, e.index) for e in events if isinstance(e, TrialReported) and e.attempt == 1)
        assert set(reports.values()) == {1}
        frame = results.to_frame().sort_values("job_id")
        values.append([round(v, 9) for v in frame["objective"]])
    assert values[0] == values[1]


def test_a_worker_that_dies_takes_what_it_has_gathered_with_it(problem: HpProblem) -> None:
    cluster = Simulated(workers=2, deaths_per_hour=100.0, startup=1.0, costs=Costs(gather=20.0), seed=1)
    results, events = search(problem, epochs, cluster, 6)
    assert len(results) == 6
    told = sum(isinstance(e, TrialReported) for e in events)
    assert told < cluster.statistics().reports


@pytest.mark.parametrize("settings", [{"task": -1.0}, {"latency": float("nan")}, {"ahead": 0}])
def test_unusable_costs(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        Costs(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"workers": 0},
        {"workers": 1.5},
        {"deaths_per_hour": -1.0},
        {"spread": -0.1},
        {"walltime": 0.0},
        {"walltime": (9.0, 3.0)},
        {"startup": "soon"},
        {"stragglers": (2.0, 3.0)},
    ],
)
def test_unusable_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        Simulated(**settings)


def test_a_step_without_seconds_is_refused(problem: HpProblem) -> None:
    with pytest.raises(SettingError, match="'seconds'"):
        search(problem, lambda config: config.x, Simulated(workers=2))
