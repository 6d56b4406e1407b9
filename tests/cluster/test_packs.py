"""Several short trials to a task: each keeps its own events, failure and loss."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, LocalCluster, Scheduler

from dhpo import HpProblem, Hyperband, Results, Search
from dhpo.events import TrialCompleted, TrialFailed, TrialProposed, WorkerLost
from dhpo.executors._runs import Run
from dhpo.executors.relay import Relay
from dhpo.journal import read
from dhpo.searchers.random import RandomSearcher
from dhpo.worker.keys import ENDING

N = 1_000


@pytest.fixture
def own_client() -> Iterator[Client]:
    """Two workers with nannies, which start them again."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(2, timeout=60)
        yield client


def search(problem: HpProblem, function: Any, cluster: Any, directory: Path, **kwargs: Any) -> Results:
    made = Search(
        problem, function, cluster=cluster, searcher="random", random_state=1, log_dir=directory, max_failures=None,
        **kwargs,
    )  # fmt: skip
    return made.run(N, progress=False)


def events(directory: Path) -> list[Any]:
    return [event for batch in read(directory)[1] for event in batch]


def of_kind(directory: Path, kind: type[Any]) -> list[Any]:
    return [event for event in events(directory) if isinstance(event, kind)]


def test_a_thousand_short_trials_of_which_some_fail(problem: HpProblem, client: Client, tmp_path: Path) -> None:
    def train(config: Any, report: Any) -> dict[str, Any]:
        from distributed.worker import thread_state

        if report.trial % 10 == 3:
            raise ValueError(f"trial {report.trial}")
        return {"objective": config.x, "task": thread_state.key}

    results = search(problem, train, client, tmp_path)
    statuses = results.statuses()
    assert len(statuses) == N
    assert {n for n, status in statuses.items() if status == "FAILED"} == set(range(3, N, 10))
    assert set(statuses.values()) == {"COMPLETED", "FAILED"}
    failed = of_kind(tmp_path, TrialFailed)
    assert all(event.error == f"ValueError: trial {event.trial}" for event in failed)
    ended = Counter(event.trial for event in [*failed, *of_kind(tmp_path, TrialCompleted)])
    assert ended == dict.fromkeys(range(N), 1)
    frame = results.to_frame()
    done = frame[frame["m:task"].notna()]
    assert (done["objective"] == done["p:x"]).all()
    assert done["m:task"].str.contains("+", regex=False).sum() > N / 2
    assert done["m:task"].nunique() < N / 2


def test_reports_of_packed_trials_come_in_their_order(problem: HpProblem, client: Client, tmp_path: Path) -> None:
    def train(config: Any, report: Any) -> None:
        for epoch in range(1, 4):
            report(epoch=epoch, objective=config.x * epoch)

    results = search(problem, train, client, tmp_path)
    assert len(results.training_history) == N
    for history in results.training_history.values():
        assert [entry["epoch"] for entry in history] == [1, 2, 3]


def test_trials_at_rungs_are_never_packed(problem: HpProblem, client: Client, tmp_path: Path) -> None:
    def train(config: Any, report: Any) -> dict[str, Any]:
        from distributed.worker import thread_state

        for epoch in range(1, 3):
            report(epoch=epoch, objective=config.x, task=thread_state.key)
        return {"objective": config.x}

    made = Search(
        problem, train, cluster=client, searcher="random", stopper=Hyperband(max_t=3), log_dir=tmp_path, random_state=1
    )
    results = made.run(150, progress=False)
    assert not any("+" in entry["task"] for history in results.training_history.values() for entry in history)


def test_a_worker_that_dies_within_a_pack_loses_only_what_was_not_told(
    problem: HpProblem, own_client: Client, tmp_path: Path
) -> None:
    marker = tmp_path / "died"

    def train(config: Any, report: Any) -> float:
        from distributed.worker import thread_state

        if report.trial >= 500 and "+" in thread_state.key:
            try:
                marker.touch(exist_ok=False)
            except FileExistsError:
                return float(config.x)
            os.kill(os.getpid(), signal.SIGKILL)
        return float(config.x)

    results = search(problem, train, own_client, tmp_path / "search")
    assert marker.exists()
    assert set(results.statuses().values()) == {"COMPLETED"}
    completed = of_kind(tmp_path / "search", TrialCompleted)
    assert Counter(event.trial for event in completed) == dict.fromkeys(range(N), 1)
    lost = of_kind(tmp_path / "search", WorkerLost)
    assert 1 <= len(lost) <= 3 * 64
    blamed = [event for event in lost if event.worker]
    assert 1 <= len(blamed) <= 3  # the first trial of each task that was there, not those behind it
    assert {event.trial for event in lost} == {event.trial for event in completed if event.attempt == 2}
    assert len(of_kind(tmp_path / "search", TrialProposed)) == N


def test_trials_behind_one_that_is_long_after_all_go_elsewhere(
    problem: HpProblem, client: Client, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    ran.mkdir()

    def train(config: Any, report: Any) -> dict[str, Any]:
        from distributed.worker import thread_state

        (ran / str(report.trial)).touch(exist_ok=False)  # each trial runs once
        if report.trial == 400:
            time.sleep(1.0)
        return {"objective": config.x, "task": thread_state.key}

    results = search(problem, train, client, tmp_path / "search")
    assert set(results.statuses().values()) == {"COMPLETED"}
    assert {event.attempt for event in of_kind(tmp_path / "search", TrialCompleted)} == {1}
    tasks = results.to_frame().set_index("job_id")["m:task"]
    mates = [n for n in range(401, 465) if tasks[n] == tasks[400]]
    assert not mates
    assert "+" in tasks[400]


def test_only_searchers_that_do_not_learn_are_given_more_than_the_slots(problem: HpProblem) -> None:
    def ahead(searcher: Any, **kwargs: Any) -> int | None:
        return Search(problem, lambda config: config.x, searcher=searcher, **kwargs).ahead

    assert ahead("random") is None
    assert ahead(RandomSearcher(), ahead=4) == 4
    assert ahead("sobol") is None
    assert ahead("cbo") == 0
    assert ahead("cbo", ahead=3) == 3


# Piece by piece.


def test_the_relay_tells_the_ends_of_a_pack_one_by_one_and_the_last_with_its_slot() -> None:
    async def main() -> None:
        async with Scheduler(dashboard_address=":0", port=0) as scheduler:
            relay = Relay("t", {}, "client")
            await relay.start(scheduler)
            task = "trial-t-7-1+3"
            run = Run(task, 5, "tcp://w:1")
            relay.runs.by_trial.update(dict.fromkeys(run.left, run))
            scheduler.tasks[task] = SimpleNamespace(run_id=5, metadata=None)  # type: ignore[assignment]
            keys = list(run.left)
            assert keys == ["trial-t-7-1", "trial-t-8-1", "trial-t-9-1"]
            ends = [["end", key, 5, "end", i] for i, key in enumerate(keys)]
            assert not (await relay.report("tcp://w:1", ends[:2]))["stale"]
            assert (await relay.report("tcp://w:1", ends[:1]))["stale"] == keys[:1]  # told twice
            assert [r for _, r in (await relay.exchange(0, 0))["records"]] == [
                ["end", key, "end", i] for i, key in enumerate(keys[:2])
            ]
            await relay.report("tcp://w:1", ends[2:])
            assert len(relay.outbox) == 2
            relay.transition(task, "processing", "memory", worker="tcp://w:1")
            assert (await relay.exchange(2, 2))["records"] == [(3, ["end", keys[2], "end", 2])]
            assert relay.runs.by_trial == {}
            assert relay.runs.void == set(keys)
            relay.transition(task, "released", "forgotten")
            assert relay.runs.void == set()

    asyncio.run(main())


def test_the_end_of_a_trial_comes_with_that_of_its_task_where_it_counts() -> None:
    async def main() -> None:
        async with Scheduler(dashboard_address=":0", port=0) as scheduler:
            relay = Relay("t", {}, "client")
            await relay.start(scheduler)
            for number, sent_by in enumerate((5, 4)):  # the second one by an earlier run of the task
                task = f"trial-t-{number}-1"
                run = Run(task, 5, "tcp://w:1")
                relay.runs.by_trial[task] = run
                told = [["report", task, sent_by, number, 1, 1, 1.0, {"objective": 1.0}], ["end", task, sent_by, "end"]]
                scheduler.tasks[task] = SimpleNamespace(  # type: ignore[assignment]
                    run_id=5, metadata={ENDING: told}, processing_on=None
                )
                relay.transition(task, "processing", "memory", worker="tcp://w:1")
            records = [record for _, record in (await relay.exchange(0, 0))["records"]]
            assert records == [["report", 0, 1, 1, 1.0, {"objective": 1.0}], ["end", "trial-t-0-1", "end"]]
            assert list(relay.runs.by_trial) == ["trial-t-1-1"]

    asyncio.run(main())


def test_the_death_of_a_worker_is_held_against_the_trial_that_ran() -> None:
    async def main() -> None:
        async with Scheduler(dashboard_address=":0", port=0) as scheduler:
            relay = Relay("t", {}, "client")
            await relay.start(scheduler)
            run = Run("trial-t-7-1+3", 5, "tcp://w:1")
            relay.runs.by_trial.update(dict.fromkeys(run.left, run))
            await relay.report("tcp://w:1", [["end", "trial-t-7-1", 5, "end"]])
            relay.transition("trial-t-7-1+3", "processing", "erred")
            assert [r for _, r in (await relay.exchange(0, 0))["records"]] == [
                ["end", "trial-t-7-1", "end"],
                ["lost", "trial-t-8-1", "tcp://w:1"],
                ["lost", "trial-t-9-1", ""],
            ]

    asyncio.run(main())
