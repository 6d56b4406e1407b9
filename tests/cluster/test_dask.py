"""Searches on real Dask clusters: worker processes that live, join, die and leave."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster, Scheduler, SchedulerPlugin, Worker, WorkerPlugin, wait

from dhpo import HpProblem, Hyperband, Search
from dhpo.clusters.local import Local
from dhpo.errors import AbandonedTrial, ClusterError, RunFunctionError
from dhpo.events import Cancel, Start, WorkerLost
from dhpo.executors._outlook import Outlook
from dhpo.executors._pacing import Pacing
from dhpo.executors._reading import Reader
from dhpo.executors._runs import Run
from dhpo.executors._tasks import Tasks
from dhpo.executors.base import WallClock
from dhpo.executors.dask import DaskExecutor
from dhpo.executors.relay import Relay
from dhpo.objectives import Objectives
from dhpo.trial import Decision
from dhpo.worker.job import CallForm, Job
from dhpo.worker.package import pack
from dhpo.worker.reporter import Record
from dhpo.worker.station import Errand, Station, TaskChannel


def make(problem: Any, function: Any, cluster: Any, **kwargs: Any) -> Search:
    return Search(problem, function, cluster=cluster, **{"searcher": "random", "random_state": 1, **kwargs})


def run(problem: Any, function: Any, cluster: Any, n: int = 8, *, budget: Any = None, **kwargs: Any) -> Any:
    return make(problem, function, cluster, **kwargs).run(progress=False, **(budget or {"num_trials": n}))


def on_scheduler(dask_scheduler: Any = None) -> dict[str, Any]:
    state = dask_scheduler
    return {
        "plugins": [name for name in state.plugins if "dhpo" in name],
        "worker_plugins": [name for name in state.worker_plugins if "dhpo" in name],
        "handlers": [name for name in state.handlers if "dhpo" in name],
        "tasks": [key for key in state.tasks if "trial" in str(key)],
    }


def on_worker(dask_worker: Any = None) -> list[str]:
    return [name for name in dask_worker.plugins if "dhpo" in name]


@pytest.fixture
def clean(client: Client) -> Iterator[Client]:
    """The shared client; afterwards nothing of dhpo is left on its cluster."""
    client.wait_for_workers(2, timeout=30)
    yield client
    deadline = time.monotonic() + 10
    while (left := client.run_on_scheduler(on_scheduler)) and any(left.values()) and time.monotonic() < deadline:
        client.sync(asyncio.sleep, 0.05)
    assert left == {"plugins": [], "worker_plugins": [], "handlers": [], "tasks": []}
    assert not any(client.run(on_worker).values())


def local_function() -> Callable[..., Any]:
    def train(config: Any, report: Any) -> None:
        for epoch in range(1, 10):
            report(epoch=epoch, objective=config.x * epoch)

    return train


# What a search is.


@pytest.mark.parametrize("ahead", [0, 4])
def test_num_trials_is_exact_and_all_are_distinct(problem: HpProblem, clean: Client, ahead: int) -> None:
    results = run(problem, lambda config: config.x, clean, 41, ahead=ahead)
    assert list(results.statuses().values()) == ["COMPLETED"] * 41
    assert len({tuple(c.items()) for c in results.config_history.values()}) == 41
    assert results.to_frame()["m:worker"].nunique() == 2
    for _, row in results.to_frame().iterrows():
        assert row["objective"] == row["p:x"]


def test_a_cluster_may_be_given_in_every_way(problem: HpProblem, clean: Client, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": clean.scheduler.address}))
    for target in (clean.cluster, clean.scheduler.address, file):
        assert len(run(problem, lambda config: config.x, target, 4)) == 4


@pytest.mark.parametrize("target", ["tcp://127.0.0.1:9", "nosuch.json"])
def test_a_scheduler_that_does_not_answer_is_an_error(problem: HpProblem, tmp_path: Path, target: str) -> None:
    from dhpo.clusters.existing import Existing

    target = target if ":" in target else str(tmp_path / target)
    with pytest.raises(ClusterError, match="no Dask scheduler answers"):
        run(problem, lambda config: config.x, Existing(target, connect_timeout=0.5))


def test_rungs_are_decided_and_no_epoch_is_run_too_many(problem: HpProblem, clean: Client) -> None:
    results = run(problem, local_function(), clean, 24, stopper=Hyperband(max_t=9))
    statuses = results.statuses()
    assert Counter(statuses.values()).keys() == {"COMPLETED", "STOPPED"}
    for trial, entries in results.training_history.items():
        assert [e["epoch"] for e in entries] == list(range(1, len(entries) + 1))
        assert len(entries) in ((1, 3) if statuses[int(trial)] == "STOPPED" else (9,))


def test_trials_are_paused_and_go_on_wherever_there_is_room(problem: HpProblem, clean: Client, tmp_path: Path) -> None:
    def train(config: Any, report: Any) -> None:
        saved = report.checkpoint_dir / "epoch"
        first = int(saved.read_text()) + 1 if saved.exists() else 1
        for epoch in range(first, 10):
            saved.write_text(str(epoch))
            report(epoch=epoch, objective=config.x * epoch, first=first, resume_from=report.resume_from)

    stopper = Hyperband(max_t=9, type="promotion")
    results = run(problem, train, clean, 24, stopper=stopper, log_dir=tmp_path)
    counts = Counter(status.value for status in results.statuses().values())
    assert counts.keys() == {"PAUSED", "COMPLETED"}
    assert counts.total() == 24
    resources = results.to_frame().set_index("job_id")["m:resource"]
    for trial, history in results.training_history.items():
        assert [e["epoch"] for e in history] == list(range(1, int(resources[int(trial)]) + 1))
        assert {(e["first"], e["resume_from"]) for e in history} <= {(1, 0), (2, 1), (4, 3)}
    assert sum(resources > 1) >= 8


def test_a_model_based_search(problem: HpProblem, clean: Client) -> None:
    from dhpo import CBO

    results = run(problem, lambda c: -abs(c.x - 0.3), clean, 20, searcher=CBO(n_initial_points=5))
    assert len(results) == 20
    assert set(results.statuses().values()) == {"COMPLETED"}


def test_a_finite_space_ends_the_search(clean: Client) -> None:
    results = run({"a": [1, 2, 3], "b": ["p", "q"]}, lambda c: float(c.a), clean, 50)
    assert len({tuple(sorted(c.items())) for c in results.config_history.values()}) == len(results) == 6


def test_the_same_search_goes_on_by_its_client_which_stays_open(
    problem: HpProblem, clean: Client, tmp_path: Path
) -> None:
    other = clean.submit(lambda: 42)
    search = make(problem, lambda config: config.x, clean, log_dir=tmp_path)
    assert len(search.run(5, progress=False)) == 5
    assert len(search.run(10, progress=False)) == 10
    assert clean.status == "running"
    assert other.result(timeout=10) == 42
    assert clean.submit(lambda: 1).result(timeout=10) == 1


def test_an_executor_may_be_used_twice(problem: HpProblem, clean: Client) -> None:
    from dhpo.clusters.existing import Existing

    search = make(problem, lambda config: config.x, DaskExecutor(Existing(clean)))
    assert len(search.run(3, progress=False)) == 3
    assert len(search.run(6, progress=False)) == 6


def test_two_searches_at_once_on_one_cluster(problem: HpProblem, clean: Client) -> None:
    found: dict[int, Any] = {}

    def target(n: int) -> None:
        found[n] = run(problem, local_function(), clean, n, random_state=n, stopper=Hyperband(max_t=9))

    threads = [threading.Thread(target=target, args=(n,)) for n in (11, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {n: len(results) for n, results in found.items()} == {11: 11, 13: 13}


def test_a_search_runs_inside_a_running_event_loop(problem: HpProblem, clean: Client) -> None:
    async def main() -> Any:
        return run(problem, lambda config: config.x, clean.scheduler.address, 4)

    assert len(asyncio.run(main())) == 4


def test_workers_in_this_process(problem: HpProblem) -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        assert len(run(problem, local_function(), client, 9, stopper=Hyperband(max_t=9))) == 9
        assert client.run_on_scheduler(on_scheduler)["handlers"] == []


def test_dhpos_own_local_cluster_is_gone_afterwards(problem: HpProblem) -> None:
    results = run(problem, lambda config: float(os.getpid()), Local(1, dashboard_address=":0"), 3)
    (process,) = {int(v) for v in results.to_frame()["objective"]}
    assert process != os.getpid()
    assert not os.path.exists(f"/proc/{process}")


def test_numerical_libraries_may_use_a_trials_processors(problem: HpProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    function = lambda config: float(os.environ["OMP_NUM_THREADS"])  # noqa: E731
    results = run(problem, function, Local(1, num_cpus=2, dashboard_address=":0"), 1)
    assert results.to_frame()["objective"].tolist() == [2.0]
    assert "OMP_NUM_THREADS" not in os.environ


# Failures.


def exits(config: Any) -> None:
    sys.exit(3)


def reports_nan(config: Any, report: Any) -> None:
    report(epoch=1, objective=float("nan"))


def raises_late(config: Any, report: Any) -> None:
    report(epoch=1, objective=1.0)
    raise ValueError("caf\udce9 the user's own")


def generator_raises(config: Any) -> Any:
    yield {"epoch": 1, "objective": 1.0}
    raise ValueError("the user's own")


def test_every_sort_of_failure_in_one_search(clean: Client) -> None:
    functions = {
        "raise": raises_late, "generator": generator_raises, "exit": exits, "text": lambda c: "F_oom",
        "nan": lambda c: float("nan"), "nan report": reports_nan, "objective": lambda c, report: report(epoch=1),
        "time": lambda c, report: report(objective=1.0), "zero": lambda c, report: report(epoch=0, objective=1.0),
        "nothing": lambda c: None, "many": lambda c: (1.0, 2.0), "unpicklable": lambda c: threading.Lock(),
        "unpicklable error": lambda c: exec("class E(Exception):\n  def __init__(s, a, b): pass\nraise E(1, 2)"),
    }  # fmt: skip
    errors = {
        "raise": "caf? the user's own", "generator": "the user's own", "exit": "SystemExit: 3", "text": "F_oom",
        "nan": "not finite", "nan report": "not finite", "objective": "lacks the objective", "time": "lacks 'epoch'",
        "zero": "positive", "nothing": "without having reported", "many": "2 values", "unpicklable": "lock",
        "unpicklable error": "E: ",
    }  # fmt: skip

    def train(config: Any, report: Any) -> Any:
        function = functions.get(config.kind)
        if function is None:
            return config.x
        return function(config, report) if function.__code__.co_argcount == 2 else function(config)

    space = {"kind": [*functions, "good"], "x": [1, 2]}
    results = run(space, train, clean, 100, stopper=Hyperband(max_t=9), max_failures=None)
    assert len(results) == 28
    frame = results.failures().set_index("trial")
    for trial, config in results.config_history.items():
        if config["kind"] == "good":
            assert results.statuses()[int(trial)] == "COMPLETED"
        else:
            assert errors[config["kind"]] in frame["error"][int(trial)], config


def test_a_function_that_kills_its_worker_fails_alone(problem: HpProblem, clean: Client) -> None:
    lost: list[Any] = []

    def train(config: Any) -> float:
        if config.n == 7:
            os._exit(9)
        return float(config.x)

    from dhpo.searchers.random import RandomSearcher

    searcher = RandomSearcher(initial_points=[{"x": 0.5, "n": 7}])
    search = make(problem, train, clean, searcher=searcher)
    results = search.run(
        8, progress=False, watchers=[lambda events, study: lost.extend(e for e in events if isinstance(e, WorkerLost))]
    )
    assert len(results) == 8
    (failure,) = results.failures().to_dict("records")
    assert results.config_history[str(failure["trial"])]["n"] == 7
    assert "3 workers died" in failure["error"]
    assert len([e for e in lost if e.trial == failure["trial"]]) == 3


def test_a_worker_that_is_killed_loses_no_trial(problem: HpProblem, clean: Client, tmp_path: Path) -> None:
    def train(config: Any, report: Any) -> None:
        (tmp_path / f"{report.trial}-{report.attempt}").write_text(str(os.getpid()))
        report(epoch=1, objective=1.0)
        if report.trial == 1 and report.attempt == 1:
            time.sleep(60)  # until it is killed
        report(epoch=2, objective=config.x)

    killed = []

    def watch(events: Any, study: Any) -> None:
        if study.trials[1:] and study.trials[1].index == 1 and not killed:
            killed.append(int((tmp_path / "1-1").read_text()))
            os.kill(killed[0], signal.SIGKILL)

    search = make(problem, train, clean, stopper=Hyperband(max_t=9, grace_period=3))
    results = search.run(6, progress=False, watchers=[watch])
    assert killed
    assert list(results.statuses().values()) == ["COMPLETED"] * 6
    assert (tmp_path / "1-2").exists()
    # On its worker nothing else ran: every other trial ran once.
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*(f"{n}-1" for n in range(6)), "1-2"])


def test_a_worker_that_is_retired_hands_its_trial_on(problem: HpProblem, tmp_path: Path) -> None:
    def train(config: Any, report: Any) -> float:
        (tmp_path / f"{report.trial}-{report.attempt}").write_text("")
        while report.trial == 0 and report.attempt == 1:
            report(epoch=report.index + 1, objective=1.0)
            time.sleep(0.02)
        return float(config.x)

    gone: list[str] = []
    lost: list[Any] = []
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster,
        Client(cluster) as client,
    ):

        def watch(events: Any, study: Any) -> None:
            lost.extend(e for e in events if isinstance(e, WorkerLost))
            if study.trials and study.trials[0].index >= 3 and not gone:
                processing = client.processing()
                gone.extend(w for w, keys in processing.items() if any(str(k).endswith("-0-1") for k in keys))
                client.retire_workers(gone[:1], close_workers=True)

        search = make(problem, train, client, stopper=Hyperband(max_t=10**6, grace_period=10**5))
        results = search.run(5, progress=False, watchers=[watch])
        assert gone
        assert list(results.statuses().values()) == ["COMPLETED"] * 5
        assert [(e.trial, e.attempt, e.worker) for e in lost] == [(0, 1, "")]  # not held against the trial


def test_functions_that_cannot_travel_are_refused(problem: HpProblem, clean: Client, tmp_path: Path) -> None:
    lock = threading.Lock()
    with pytest.raises(RunFunctionError, match="lock"):
        run(problem, lambda config: bool(lock), clean, log_dir=tmp_path)
    assert "trial" not in (tmp_path / "journal.jsonl").read_text().split("\n", 1)[1]


def test_a_function_that_cannot_be_loaded_over_there_ends_the_search(
    problem: HpProblem, clean: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here_dhpo.py").write_text("def train(config):\n    return 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here_dhpo

    with pytest.raises(RunFunctionError, match="only_here_dhpo"):
        run(problem, only_here_dhpo.train, clean)


# Data.


def mean(config: Any, report: Any, data: Any) -> float:
    assert not data["X"].flags.writeable
    return float(data["X"].mean())


def test_data_is_mapped_and_no_file_stays(problem: HpProblem, clean: Client, tmp_path: Path) -> None:
    search = make(problem, mean, clean, data={"X": np.full(200_000, 3.0)}, log_dir=tmp_path)
    files: list[list[Path]] = []
    for n in (3, 6):
        watch = lambda events, study: files.append(list(tmp_path.glob("data-*.bin")))  # noqa: E731
        results = search.run(n, progress=False, watchers=[watch])
        assert set(results.to_frame()["objective"]) == {3.0}
        assert len(results) == n
        assert list(tmp_path.glob("data-*.bin")) == []
    assert {len(f) for f in files} == {1}
    assert files[0][0].name == files[-1][0].name
    del search
    gc.collect()
    assert list(tmp_path.glob("data-*.bin")) == []


def test_data_of_a_search_that_is_forgotten_is_removed(tmp_path: Path) -> None:
    packed = pack(mean, {"X": np.ones(200_000)}, directory=tmp_path)
    assert len(list(tmp_path.glob("data-*.bin"))) == 1
    packed.hide()
    packed.hide()
    assert list(tmp_path.glob("data-*.bin")) == []
    packed.show()
    (file,) = tmp_path.glob("data-*.bin")
    assert file.read_bytes() == packed.read(0, packed.package.size)
    assert file.stat().st_mode & 0o777 == 0o600
    packed.show()
    del packed
    gc.collect()
    assert list(tmp_path.glob("data-*.bin")) == []


def test_a_worker_that_joins_late_gets_function_and_data(problem: HpProblem, tmp_path: Path) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster:

        def train(config: Any, report: Any, data: Any) -> float:
            (tmp_path / str(report.trial)).write_text(str(os.getpid()))
            deadline = time.monotonic() + 30
            while len({p.read_text() for p in tmp_path.iterdir()} - {""}) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)  # until the other worker is there
            return float(data["X"].mean())

        scaled = []

        def watch(events: Any, study: Any) -> None:
            if not scaled:
                scaled.append(threading.Thread(target=cluster.scale, args=(2,)))
                scaled[0].start()

        search = make(problem, train, cluster, data={"X": np.full(200_000, 2.0)})
        results = search.run(4, progress=False, watchers=[watch])
        assert set(results.to_frame()["objective"]) == {2.0}
        assert results.to_frame()["m:worker"].nunique() == 2


# Ends.


def test_a_time_out_lets_the_trials_go(problem: HpProblem, clean: Client, tmp_path: Path) -> None:
    def train(config: Any, report: Any) -> None:
        try:
            for epoch in range(1, 10**9):
                report(epoch=epoch, objective=0.0)
                time.sleep(0.01)
        finally:
            (tmp_path / f"{report.trial}").write_text("ended")

    results = run(problem, train, clean, budget={"time_out": 1.0})
    assert list(results.statuses().values()) == ["RUNNING"] * 2
    # Their threads end at the next report, and the workers take other work.
    assert clean.gather(clean.map(lambda i: i, range(4), pure=False)) == [0, 1, 2, 3]
    deadline = time.monotonic() + 10
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_report_that_waits_for_a_decision_is_let_go_at_the_end(
    problem: HpProblem, clean: Client, tmp_path: Path
) -> None:
    class Never(Hyperband):
        """Rungs without end."""

    def train(config: Any, report: Any) -> None:
        try:
            for epoch in range(1, 10**9):
                report(epoch=epoch, objective=float(epoch))
        except BaseException as error:
            (tmp_path / str(report.trial)).write_text(type(error).__name__)
            raise

    levels = list(range(1, 900))
    run(problem, train, clean, budget={"time_out": 0.7}, stopper=Never(max_t=1000, rung_levels=levels))
    deadline = time.monotonic() + 10
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {p.read_text() for p in tmp_path.iterdir()} <= {"AbandonedTrial", "StopTrial"}


def test_the_removal_of_the_relay_ends_the_search_with_a_clear_error(problem: HpProblem, clean: Client) -> None:
    done = []

    def watch(events: Any, study: Any) -> None:
        if study.n_ended == 2 and not done:
            done.append(1)

            async def remove(dask_scheduler: Any = None) -> None:
                for name in [n for n in dask_scheduler.plugins if n.startswith("dhpo-relay")]:
                    await dask_scheduler.plugins[name].detach()

            clean.run_on_scheduler(remove)

    with pytest.raises(ClusterError, match="no longer knows"):
        make(problem, lambda c: c.x, clean).run(500, progress=False, watchers=[watch])


def test_a_driver_that_vanishes_leaves_nothing_on_the_scheduler(problem: HpProblem, clean: Client) -> None:
    """Its client goes; the relay takes itself, the station and the tasks away (the fixture looks)."""
    form = CallForm(("config",))
    job = Job("id", Objectives.parse(), form)

    async def vanish() -> None:
        async with Client(clean.scheduler.address, asynchronous=True) as own:
            with pack(lambda config: 1.0, directory=None) as packed:
                await own.register_plugin(Relay("gone", {}, own.id))
                await own.register_plugin(Station("gone", job, packed.package))

    asyncio.run(vanish())


# The relay and the station, piece by piece.


def test_records_of_a_stale_attempt_are_refused() -> None:
    async def main() -> None:
        async with Scheduler(dashboard_address=":0", port=0) as scheduler:
            relay = Relay("t", {}, "client")
            await relay.start(scheduler)
            answer = await relay.report("tcp://w:1", [["report", "trial-t-0-1", 5, 0, 1, 1, 1.0, {"objective": 1.0}]])
            assert answer["stale"] == ["trial-t-0-1"]
            assert (
                await relay.ask("tcp://w:1", [["report", "trial-t-0-1", 5, 0, 1, 1, 1.0, {}]], "trial-t-0-1", 1)
                == "STALE"
            )
            assert len(relay.outbox) == 0
            relay.runs.by_trial["trial-t-0-1"] = Run("trial-t-0-1", 5, "tcp://w:1")
            item = ["report", "trial-t-0-1", 5, 0, 1, 1, 1.0, {"objective": 1.0}]
            assert (await relay.report("tcp://w:2", [item]))["stale"] == ["trial-t-0-1"]  # another worker
            assert (await relay.report("tcp://w:1", [[*item[:2], 4, *item[3:]]]))["stale"]  # another run
            assert (await relay.report("tcp://w:1", [item]))["stale"] == []
            waiting = asyncio.create_task(relay.ask("tcp://w:1", [item], "trial-t-0-1", 1))
            await asyncio.sleep(0)
            told = await relay.exchange(0, 0)
            assert [record for _, record in told["records"]] == [["report", 0, 1, 1, 1.0, {"objective": 1.0}]] * 2
            assert [n for n, _ in (await relay.exchange(0, 1))["records"]] == [2]  # the first was acknowledged
            await relay.obey([("trial-t-0-1", 1, "STOP")], [])
            assert await waiting == "STOP"
            late = asyncio.create_task(relay.ask("tcp://w:1", [item], "trial-t-0-1", 2))
            await asyncio.sleep(0)
            await relay.detach()
            assert await late == "STALE"
            assert not [h for h in scheduler.handlers if "dhpo" in h]

    asyncio.run(main())


def test_new_slots_are_told_although_no_hook_of_the_scheduler_says_so() -> None:
    async def main() -> None:
        async with Scheduler(dashboard_address=":0", port=0) as scheduler:
            relay = Relay("t", {}, "client")
            await relay.start(scheduler)
            slots = 0
            relay._slots = lambda: slots  # type: ignore[method-assign]
            assert (await relay.exchange(0, 0))["slots"] == 0
            poll = asyncio.create_task(relay.exchange(0, 0))
            await asyncio.sleep(0)
            slots = 7
            assert (await asyncio.wait_for(poll, 10))["slots"] == 7  # well before the poll's own end

    asyncio.run(main())


def test_what_a_closing_worker_lets_go_of_is_started_again() -> None:
    tasks, start = Tasks({}), Start(4, 2, {}, (), None)
    reader = Reader(tasks, Outlook(), Pacing(0), WallClock(0.0))
    tasks.begin(start)
    key = tasks.key_of(Cancel(4, 2))
    assert reader.event(["end", key, "returned", ""], 5.0) == WorkerLost(5.0, 4, 2, "")
    assert reader.event(["end", key, "returned", ""], 6.0) is None  # told twice


def test_a_cancelled_key_is_void() -> None:
    async def main() -> None:
        async with Scheduler(dashboard_address=":0", port=0) as scheduler:
            relay = Relay("t", {}, "client")
            await relay.start(scheduler)
            relay.runs.by_trial["trial-t-0-1"] = Run("trial-t-0-1", 5, "tcp://w:1")
            waiting = asyncio.create_task(relay.ask("tcp://w:1", [], "trial-t-0-1", 1))
            await asyncio.sleep(0)
            await relay.obey([], ["trial-t-0-1"])
            assert await waiting == "STALE"
            assert relay.runs.by_trial == {}

    asyncio.run(main())


class _Link:
    """A worker as a station sees it, with a scheduler that answers as told."""

    def __init__(self, answers: list[Any]) -> None:
        from distributed import Status

        self.answers = answers
        self.calls: list[dict[str, Any]] = []
        self.status = Status.running
        self.address = "tcp://w:1"
        self.scheduler = self
        self.lifetime = None
        self.handlers: dict[str, Any] = {}

    def __getattr__(self, operation: str) -> Any:
        async def call(**message: Any) -> Any:
            self.calls.append(message)
            answer = self.answers.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call


@pytest.mark.parametrize("error", [OSError("broken"), RuntimeError("ConnectionPool is closed")])
def test_a_broken_link_never_stops_a_trial_and_loses_no_report(error: Exception) -> None:
    async def main() -> None:
        link = _Link([error, {"stale": [], "interval": 0.1}])
        station = Station("t", None, None)  # type: ignore[arg-type]
        await station.setup(link)  # type: ignore[arg-type]
        for item in (["report", "k", 1, "earlier"], ["report", "other", 1]):
            station._outgoing.put(item, urgent=False)
        assert await station._ask(["report", "k", 1, "asked"], "k", 2) == "CONTINUE"
        await station._flush()
        kept = [item for item in link.calls[-1]["items"] if item[1] == "k"]
        assert kept == [["report", "k", 1, "earlier"], ["report", "k", 1, "asked"]]

    asyncio.run(main())


def test_a_station_whose_search_is_over_abandons_its_trials() -> None:
    async def main() -> None:
        station = Station("t", None, None)  # type: ignore[arg-type]
        await station.setup(_Link([None, None]))  # type: ignore[arg-type]
        assert await station._ask(["report", "k", 1], "k", 1) == "STALE"
        station._outgoing.put(["report", "k", 1], urgent=False)
        await station._flush()
        assert station.stale == {"*"}

    asyncio.run(main())


def test_what_dhpo_uses_of_distributed_is_still_there(clean: Client) -> None:
    """Where a new release renames one of these, this test says which."""

    def scheduler_has(dask_scheduler: Any = None) -> list[str]:
        names = ("handlers", "plugins", "tasks", "workers", "running", "allowed_failures", "remove_plugin")
        return [n for n in (*names, "unregister_worker_plugin", "worker_plugins") if not hasattr(dask_scheduler, n)]

    def worker_has(dask_worker: Any = None) -> list[str]:
        names = ("plugins", "state", "scheduler", "loop", "status", "address")
        missing = [n for n in names if not hasattr(dask_worker, n)]
        return missing + [n for n in ("tasks",) if not hasattr(dask_worker.state, n)]

    def task_has() -> list[Any]:
        from distributed import get_worker
        from distributed.worker import thread_state

        task = get_worker().state.tasks[thread_state.key]
        task.metadata["spied"] = [1, {"a": None}]
        return [task.run_id, task.state, hasattr(get_worker().loop, "asyncio_loop")]

    assert clean.run_on_scheduler(scheduler_has) == []
    assert set(map(tuple, clean.run(worker_has).values())) == {()}
    future = clean.submit(task_has, pure=False)
    run_id, state, has_loop = future.result(timeout=10)
    told = clean.run_on_scheduler(lambda dask_scheduler: dask_scheduler.tasks[future.key].metadata)
    assert list(told["spied"]) == [1, {"a": None}]
    assert isinstance(run_id, int)
    assert (state, has_loop) == ("executing", True)
    for name in ("transition", "add_worker", "remove_worker", "remove_client", "start", "close"):
        assert hasattr(SchedulerPlugin, name), name
    for name in ("setup", "teardown"):
        assert hasattr(WorkerPlugin, name), name
    assert hasattr(Worker, "transition_executing_error") or hasattr(Worker, "batched_send")

    seen: dict[str, Any] = {}

    class Spy(SchedulerPlugin):
        name = "spy"

        def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
            if str(key).startswith("spied") and finish == "processing":
                ts = self.scheduler.tasks[key]
                seen[finish] = (ts.run_id, ts.suspicious, ts.processing_on.address)
            elif str(key).startswith("spied") and finish in ("memory", "erred"):
                seen[finish] = sorted(kwargs)

        async def start(self, scheduler: Any) -> None:
            self.scheduler = scheduler

    async def main() -> None:
        async with (
            Scheduler(dashboard_address=":0", port=0) as scheduler,
            Worker(scheduler.address),
            Client(scheduler.address, asynchronous=True) as own,
        ):
            await scheduler.register_scheduler_plugin(Spy(), idempotent=False)
            futures = own.map(lambda x: 1 / x, [1, 0], key=["spied-1", "spied-0"], pure=False)
            await wait(futures)

    asyncio.run(main())
    assert len(seen["processing"]) == 3
    assert {"exception_text", "traceback_text"} <= set(seen["erred"])
    assert "memory" in seen


def test_a_task_channel_ends_with_its_task() -> None:
    class Task:
        run_id = 3
        state = "executing"

    link = _Link([])
    link.__dict__["state"] = type("State", (), {"tasks": {"k": Task()}})()
    station = Station("t", None, None)  # type: ignore[arg-type]
    station.worker, station.stale = link, set()  # type: ignore[assignment]
    station.recalled = station.horizon = None
    put: list[Any] = []
    station.put = lambda item, **kwargs: put.append(item)  # type: ignore[method-assign]
    channel = TaskChannel(station, "k", Errand("t", Start(0, 1, {}, (), None)))
    record = Record(0, 1, 1, 1.0, {"objective": 1.0})
    channel.send(record)
    assert put == [["report", "k", 3, *record]]
    station.ask = lambda item, key, index: "STOP"  # type: ignore[method-assign]
    assert channel.ask(record) is Decision.STOP
    station.ask = lambda item, key, index: "STALE"  # type: ignore[method-assign]
    with pytest.raises(AbandonedTrial):
        channel.ask(record)
    link.state.tasks["k"].state = "cancelled"
    with pytest.raises(AbandonedTrial):
        channel.send(record)
