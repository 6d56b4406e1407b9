"""Trials in processes of their own, and GPUs pinned per worker, on real Dask workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster, Scheduler, SpecCluster, Worker

from dhpo import HpProblem, Hyperband, Search
from dhpo.clusters.local import Local
from dhpo.events import WorkerLost


def run(problem: Any, function: Any, cluster: Any, n: int = 8, *, budget: Any = None, **kwargs: Any) -> Any:
    settings = {"searcher": "random", "random_state": 1, "isolation": "process", **kwargs}
    search = Search(problem, function, cluster=cluster, **settings)
    return search.run(progress=False, **(budget or {"num_trials": n}))


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it comes true in time; for what the system does by itself and nobody is told of."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        threading.Event().wait(0.05)
    return condition()


def test_rungs_are_decided_as_ever(problem: HpProblem, client: Client) -> None:
    def train(config: Any, report: Any) -> None:
        for epoch in range(1, 10):
            report(epoch=epoch, objective=config.x * epoch, pid=os.getpid())

    results = run(problem, train, client, 24, stopper=Hyperband(max_t=9))
    statuses = results.statuses()
    assert Counter(statuses.values()).keys() == {"COMPLETED", "STOPPED"}
    for trial, entries in results.training_history.items():
        assert [e["epoch"] for e in entries] == list(range(1, len(entries) + 1))
        assert len(entries) in ((1, 3) if statuses[int(trial)] == "STOPPED" else (9,))
    pids = {entry["pid"] for entries in results.training_history.values() for entry in entries}
    assert len(pids) == 2  # one for each worker, used again and again …
    assert not pids & set(client.run(os.getpid).values())
    assert wait_until(lambda: all(map(is_gone, pids)))  # … and gone with the search


def test_a_trial_that_dies_harms_nothing_else(problem: HpProblem, client: Client) -> None:
    def train(config: Any, report: Any) -> float:
        if report.trial % 3 == 1:
            os._exit(3)
        if report.trial % 3 == 2:
            signal.raise_signal(signal.SIGSEGV)
        return float(config.x)

    lost: list[Any] = []

    def watch(events: Any, study: Any) -> None:
        lost.extend(event for event in events if isinstance(event, WorkerLost))

    workers = client.run(os.getpid)
    results = run(problem, train, client, budget={"num_trials": 12, "watchers": [watch]})
    assert Counter(results.statuses().values()) == {"COMPLETED": 4, "FAILED": 8}
    reasons = Counter(results.failures()["error"].str.partition(":")[0])
    assert reasons == {"exit_code_3": 4, "SIGSEGV": 4}
    assert not lost
    assert client.run(os.getpid) == workers


def test_a_trial_that_holds_the_interpreters_lock_is_ended_and_its_worker_goes_on_speaking(
    problem: HpProblem, client: Client
) -> None:
    def train(config: Any, report: Any) -> float:
        report(objective=0.0, pid=os.getpid())
        return float(sum(range(10**15)))

    seen: list[int] = []

    def watch(events: Any, study: Any) -> None:
        for event in events:
            if values := getattr(event, "values", None):
                pid = values["pid"]
                # The worker answers while its trial would not let it, were they one process.
                seen.append(client.run(lambda pid=pid: os.getpid() != pid).popitem()[1])

    results = run(problem, train, client, trial_timeout=2, budget={"num_trials": 2, "watchers": [watch]})
    assert list(results.statuses().values()) == ["TIMED_OUT"] * 2
    assert seen == [True, True]


def test_what_runs_when_the_search_ends_is_killed(problem: HpProblem, client: Client, tmp_path: Path) -> None:
    def train(config: Any) -> None:
        (tmp_path / str(os.getpid())).touch()
        sum(range(10**15))

    run(problem, train, client, budget={"time_out": 4})
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert pids
    assert wait_until(lambda: all(map(is_gone, pids)))
    assert client.submit(lambda: 1, pure=False).result(timeout=30) == 1  # the workers' slots are free again


def test_a_killed_worker_takes_its_trial_along_and_the_trial_runs_again(problem: HpProblem, tmp_path: Path) -> None:
    def train(config: Any, report: Any) -> float:
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        (tmp_path / f"{report.attempt}-{os.getpid()}-{child.pid}").touch()
        if report.attempt == 1:
            worker = int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(worker, signal.SIGKILL)
            sum(range(10**15))
        return 1.0

    results = run(problem, train, Local(1, dashboard_address=None), 1)
    assert list(results.statuses().values()) == ["COMPLETED"]
    runs = sorted(path.name for path in tmp_path.iterdir())
    assert [name[0] for name in runs] == ["1", "2"]
    pids = [int(part) for name in runs for part in name.split("-")[1:]]
    assert wait_until(lambda: all(map(is_gone, pids)))


def test_the_run_function_is_never_loaded_into_the_worker(problem: HpProblem, client: Client) -> None:
    def train(config: Any) -> float:
        import turtledemo  # what nobody else imports

        return float(len(turtledemo.__name__))

    assert len(run(problem, train, client, 4)) == 4
    assert not any(client.run(lambda: "turtledemo" in sys.modules).values())


@pytest.mark.parametrize("where", ["thread", "process"])
def test_data_is_mapped(problem: HpProblem, client: Client, where: str) -> None:
    array = np.arange(1_000_000.0)

    def train(config: Any, report: Any, data: Any) -> Any:
        return {"objective": float(data["X"].sum()), "writeable": data["X"].flags.writeable}

    frame = run(problem, train, client, 4, data={"X": array}, isolation=where).to_frame()
    assert set(frame["objective"]) == {array.sum()}
    assert not frame["m:writeable"].any()


# GPUs.


def seen(config: Any, report: Any) -> Any:
    time.sleep(0.2)  # long enough that all slots take part
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {"objective": 0.0, **{name: os.environ.get(name, "-") for name in names}}


@pytest.mark.parametrize("where", ["thread", "process"])
@pytest.mark.parametrize(("num_gpus", "expected"), [(1, {"6", "7"}), (2, {"6,7"}), (0.5, {"6", "7"})])
def test_workers_of_one_machine_use_different_gpus(
    problem: HpProblem, monkeypatch: pytest.MonkeyPatch, where: str, num_gpus: float, expected: set[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    n_workers = 1 if num_gpus == 2 else 2
    cluster = Local(n_workers, num_gpus=num_gpus, dashboard_address=None)
    resources = {"num_cpus": 1, "num_gpus": num_gpus}
    frame = run(problem, seen, cluster, 8, isolation=where, resources=resources).to_frame()
    by_worker = frame.groupby("m:worker")["m:CUDA_VISIBLE_DEVICES"].unique()
    assert all(len(devices) == 1 for devices in by_worker)
    assert {devices[0] for devices in by_worker} == expected
    assert set(frame["m:OMP_NUM_THREADS"]) == set(frame["m:MKL_NUM_THREADS"]) == {"1"}


def test_slots_of_one_worker_use_different_gpus_and_so_many_as_it_offers(
    problem: HpProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    settings = {"n_workers": 1, "threads_per_worker": 8, "resources": {"GPU": 2}}
    with LocalCluster(dashboard_address=None, silence_logs=50, **settings) as cluster:
        frame = run(problem, seen, cluster, 8, resources={"num_cpus": 2, "num_gpus": 1}).to_frame()
    assert set(frame["m:CUDA_VISIBLE_DEVICES"]) == {"4", "5"}
    assert set(frame["m:OMP_NUM_THREADS"]) == {"2"}


def test_trials_that_need_a_gpu_run_where_there_is_one(problem: HpProblem) -> None:
    def train(config: Any) -> float:
        return float(config.x)

    common = {"nthreads": 1, "dashboard": False}
    workers = {
        "cpu": {"cls": Worker, "options": common},
        "gpu": {"cls": Worker, "options": {**common, "resources": {"GPU": 1}}},
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "host": "127.0.0.1"}}
    with SpecCluster(workers=workers, scheduler=scheduler, silence_logs=50) as cluster, Client(cluster) as client:
        names = {info["name"]: address for address, info in client.scheduler_info()["workers"].items()}
        results = run(problem, train, client, 6, resources={"num_gpus": 1})
        assert set(results.to_frame()["m:worker"]) == {names["gpu"]}
        results = run(problem, lambda config: (time.sleep(0.2), config.x)[1], client, 8, isolation="thread")
        assert set(results.to_frame()["m:worker"]) == set(names.values())


def test_a_worker_shows_its_environment_as_it_was_when_the_search_is_over(problem: HpProblem, client: Client) -> None:
    def environment() -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name.endswith(("_THREADS", "_DEVICES"))}

    before = client.run(environment)
    frame = run(problem, seen, client, 4, isolation="thread", resources={"num_cpus": 3}).to_frame()
    assert set(frame["m:OMP_NUM_THREADS"]) == {"3"}
    assert wait_until(lambda: client.run(environment) == before)
