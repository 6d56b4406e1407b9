"""One search whose workers are jobs of two partitions of a real Slurm."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from jobs import Jobs, Once, jobs_fixture  # noqa: F401  (the fixture)
from slurm import PROGRAMS, Slurm, require, running_slurm, wait_until

import dhpo
from dhpo.errors import ClusterError
from dhpo.trial import Status


@pytest.fixture(scope="module", name="slurm")
def slurm_fixture() -> Iterator[Slurm]:
    """A node for one partition, and two for another, of two processors each; all have a pretended GPU."""
    require(*PROGRAMS)
    with running_slurm(nodes=3, cpus=2, partitions={"gpu": "n1", "cpu": "n[2-3]"}) as slurm:
        yield slurm


def pools(jobs: Jobs, gpu: dict[str, Any] | None = None, cpu: dict[str, Any] | None = None) -> list[Any]:
    """A worker with a GPU, and two with two processors each."""
    return [
        jobs.cluster(1, **{"partition": "gpu", "num_gpus": 1, **(gpu or {})}),
        jobs.cluster(2, **{"partition": "cpu", "num_cpus": 2, **(cpu or {})}),
    ]


def patient(jobs: Jobs) -> Any:
    """A run function that waits for the file "go", and tells where it ran."""
    go = jobs.directory / "go"

    def train(config: Any, report: Any) -> dict[str, Any]:
        import os
        import time

        epoch = 0
        while not go.exists():
            epoch += 1
            time.sleep(0.05)
            report(epoch=epoch, objective=0.0)
        names = ("SLURM_JOB_PARTITION", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
        metadata = {name: os.environ.get(name, "unset") or "none" for name in names}
        return {"objective": config.x, "metadata": metadata}

    return train


def running(jobs: Jobs, partition: str) -> list[str]:
    """The running jobs' numbers."""
    return jobs.slurm.call("squeue", "-h", "-t", "R", "-p", partition, "-o", "%i").split()


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_each_pool_gives_its_trials_what_its_jobs_have(jobs: Jobs, isolation: str) -> None:
    def count() -> None:
        assert (len(running(jobs, "gpu")), len(running(jobs, "cpu"))) == (1, 2)

    watcher = Once(jobs, 3, count)
    results = jobs.search(pools(jobs), 12, watcher, train=patient(jobs), isolation=isolation)
    assert list(results.statuses().values()) == [Status.COMPLETED] * 12
    frame = results.to_frame()
    columns = ["m:SLURM_JOB_PARTITION", "m:CUDA_VISIBLE_DEVICES", "m:OMP_NUM_THREADS"]
    assert set(frame[columns].astype(str).itertuples(index=False, name=None)) == {
        ("gpu", "0", "1"),
        ("cpu", "none", "2"),
    }
    assert jobs.submitted() == 3
    jobs.check_clean()


def test_the_jobs_of_a_pool_that_are_all_cancelled_are_replaced(jobs: Jobs) -> None:
    def cancel() -> None:
        jobs.slurm.call("scancel", *running(jobs, "cpu"))
        wait_until(lambda: jobs.submitted() == 5 and len(running(jobs, "cpu")) == 2, "the new jobs")
        assert len(running(jobs, "gpu")) == 1

    results = jobs.search(dhpo.Pools(pools(jobs)), 8, Once(jobs, 3, cancel), train=patient(jobs))
    assert list(results.statuses().values()) == [Status.COMPLETED] * 8
    jobs.check_clean()


def test_a_pool_whose_queue_is_stuck_holds_nobody_back(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dhpo.clusters._pool.GRACE", 1.0)
    cluster = dhpo.Pools(pools(jobs, gpu={"job_directives": ["--hold"]}))
    states: list[str] = []

    def look() -> None:
        """Two trials, two workers: the third job is of no use any more."""
        wait_until(lambda: not jobs.slurm.call("squeue", "-h", "-t", "PD", "-o", "%i").split(), "its withdrawal")

    def begun(events: Any, study: Any) -> None:
        states.append(cluster.state())

    results = jobs.search(cluster, 2, begun, Once(jobs, 2, look), train=patient(jobs))
    assert list(results.statuses().values()) == [Status.COMPLETED] * 2
    assert any("gpu: 1 of 1 jobs pending" in state and "; cpu: 2 of 2 workers" in state for state in states)
    assert jobs.submitted() == 3
    jobs.check_clean()


def test_a_pool_that_gives_up_is_told_of_and_the_others_go_on(jobs: Jobs, caplog: pytest.LogCaptureFixture) -> None:
    go = jobs.directory / "go"

    def release() -> None:
        try:
            wait_until(lambda: any("given up" in message for message in caplog.messages), "the end of the pool", 120)
        finally:
            go.touch()

    thread = threading.Thread(target=release)
    thread.start()
    with caplog.at_level(logging.ERROR, "dhpo"):
        results = jobs.search(pools(jobs, gpu={"python": "/nowhere/python"}), 6, train=patient(jobs))
    thread.join()
    assert list(results.statuses().values()) == [Status.COMPLETED] * 6
    (told,) = [message for message in caplog.messages if "given up" in message]
    assert "given up submitting jobs for gpu: 4 times in a row" in told
    assert "/nowhere/python" in told
    jobs.check_clean()


def test_the_search_ends_when_all_pools_have_given_up(jobs: Jobs) -> None:
    broken = {"python": "/nowhere/python"}
    with pytest.raises(ClusterError, match=r"for gpu: (.|\n)*for nowhere: (.|\n)*invalid partition"):
        jobs.search(pools(jobs, gpu=broken, cpu={"partition": "nowhere"}), 3)
    jobs.check_clean()


def test_the_schedulers_death_costs_no_pool(jobs: Jobs) -> None:
    def kill() -> None:
        children = psutil.Process().children(recursive=True)
        next(child for child in children if "dhpo.clusters._scheduler" in child.cmdline()).kill()
        wait_until(lambda: jobs.submitted() == 6, "the jobs of the next scheduler")
        wait_until(lambda: running(jobs, "gpu") != [] and len(running(jobs, "cpu")) == 2, "all workers")

    results = jobs.search(pools(jobs), 6, Once(jobs, 3, kill), train=patient(jobs))
    assert list(results.statuses().values()) == [Status.COMPLETED] * 6
    jobs.check_clean()
