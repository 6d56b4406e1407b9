"""``dhpo.Slurm``: every worker a job of a real Slurm, with all that happens to jobs."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from jobs import Jobs, Once, jobs_fixture  # noqa: F401  (the fixture)
from slurm import PROGRAMS, Slurm, require, running_slurm, wait_until

from dhpo.errors import ClusterError
from dhpo.trial import Status


@pytest.fixture(scope="module", name="slurm")
def slurm_fixture() -> Iterator[Slurm]:
    """Four nodes with one processor each, for the tests of this module."""
    require(*PROGRAMS)
    with running_slurm(nodes=4, cpus=1) as slurm:
        yield slurm


def test_a_search_by_jobs(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "7")  # as though this ran in a job
    folders: list[Path] = []

    def look(events: Any, study: Any) -> None:
        folders.extend(jobs.directory.glob("jobs/*"))

    def train(config: Any) -> dict[str, Any]:
        import os
        import time

        names = ("DHPO_WORKER_END", "OMP_NUM_THREADS", "SLURM_JOB_GPUS", "SLURM_JOB_ID")
        seen = {name: os.environ.get(name, "") for name in names}
        return {"objective": config.x, "metadata": {**seen, "now": time.time(), "cwd": os.getcwd()}}

    cluster = jobs.cluster(3, num_gpus=1)
    results = jobs.search(cluster, 20, look, train=train, resources={"num_gpus": 1})
    assert list(results.statuses().values()) == [Status.COMPLETED] * 20
    frame = results.to_frame()
    left = frame["m:DHPO_WORKER_END"].astype(float) - frame["m:now"]
    assert ((left > 300) & (left <= 600)).all()
    assert set(frame["m:OMP_NUM_THREADS"].astype(str)) == {"1"}
    assert set(frame["m:cwd"]) == {os.getcwd()}
    assert frame["m:worker"].str.startswith("tls://").all()
    assert jobs.submitted() == 3
    assert stat.S_IMODE(folders[0].stat().st_mode) == 0o700
    jobs.check_clean()
    assert jobs.search(cluster, 25, train=train).statuses()[24] is Status.COMPLETED  # it can be opened again
    jobs.check_clean()


def test_jobs_that_are_cancelled_are_replaced(jobs: Jobs) -> None:
    def cancel() -> None:
        jobs.slurm.call("scancel", jobs.running()[0])
        wait_until(lambda: jobs.submitted() == 4 and len(jobs.running()) == 3, "the new job")

    results = jobs.search(jobs.cluster(3), 8, Once(jobs, 3, cancel))
    assert list(results.statuses().values()) == [Status.COMPLETED] * 8
    jobs.check_clean()


def test_the_jobs_of_a_dead_node_run_elsewhere(jobs: Jobs) -> None:
    def down() -> None:
        job, node = jobs.slurm.call("squeue", "-h", "-t", "R", "-o", "%i %N").splitlines()[0].split()
        jobs.slurm.call("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

        def replaced() -> bool:  # by itself, or requeued
            return jobs.submitted() == 4 or "Restarts=1" in jobs.slurm.call("scontrol", "show", "job", "-o", job)

        wait_until(replaced, "the end of the job on the dead node")
        wait_until(lambda: len(jobs.running()) == 3, "three jobs again")

    results = jobs.search(jobs.cluster(3), 8, Once(jobs, 3, down))
    assert list(results.statuses().values()) == [Status.COMPLETED] * 8
    jobs.check_clean()


@pytest.mark.slow
def test_a_job_whose_time_is_over_is_replaced(jobs: Jobs) -> None:
    def end() -> None:
        jobs.slurm.call("scontrol", "update", f"job={jobs.running()[0]}", "endtime=now")
        wait_until(
            lambda: jobs.submitted() == 3 and len(jobs.running()) == 2, "the new job", 120
        )  # looked at every 30 s

    results = jobs.search(jobs.cluster(2), 6, Once(jobs, 2, end))
    assert list(results.statuses().values()) == [Status.COMPLETED] * 6
    assert "TIMEOUT" in jobs.slurm.call("squeue", "-h", "-t", "all", "-o", "%T")
    jobs.check_clean()


def test_a_worker_that_crashes_starts_again_in_its_job(jobs: Jobs) -> None:
    def train(config: Any, report: Any) -> float:
        import os
        import signal

        if report.trial == 0 and report.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return float(config.x)

    results = jobs.search(jobs.cluster(1), 4, train=train)
    assert list(results.statuses().values()) == [Status.COMPLETED] * 4
    assert jobs.submitted() == 1
    assert "killed by signal 9; starting it again" in next(jobs.directory.glob("jobs/*/1.log")).read_text()
    jobs.check_clean()


def test_failing_submissions_are_tried_again(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = jobs.directory / "bin" / "sbatch"
    wrapper.parent.mkdir()
    real = subprocess.run(["which", "sbatch"], capture_output=True, text=True, check=True).stdout.strip()
    wrapper.write_text(
        f'#!/bin/bash\necho "$$" >>{jobs.directory}/calls\n(($(wc -l <{jobs.directory}/calls) > 2)) || '
        f'{{ echo "sbatch: error: Socket timed out" >&2; exit 1; }}\nexec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    (jobs.directory / "go").touch()
    results = jobs.search(jobs.cluster(1), 3)
    assert list(results.statuses().values()) == [Status.COMPLETED] * 3
    assert len((jobs.directory / "calls").read_text().split()) == 3
    jobs.check_clean()


def test_jobs_that_cannot_start_their_worker_end_the_search(jobs: Jobs) -> None:
    with pytest.raises(ClusterError, match=r"4 times in a row(.|\n)*/nowhere/python") as raised:
        jobs.search(jobs.cluster(2, python="/nowhere/python"), 3)
    assert "sbatch " in str(raised.value)
    assert ".log" in str(raised.value)
    assert jobs.submitted() <= 8
    jobs.check_clean()


def test_a_request_that_can_never_be_met_is_told_at_once(jobs: Jobs) -> None:
    with pytest.raises(ClusterError, match="invalid partition"):
        jobs.search(jobs.cluster(2, partition="nowhere"), 3)
    jobs.check_clean()


def test_the_queue_is_told_of_while_it_is_full(jobs: Jobs) -> None:
    blocker = jobs.slurm.submit(
        "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap=sleep 600", environment={}, cwd=jobs.directory
    )
    wait_until(lambda: jobs.slurm.state(blocker)[0] == "RUNNING", "the other job")
    (jobs.directory / "go").touch()
    cluster = jobs.cluster(2)
    told: list[str] = []

    def look() -> None:
        try:
            wait_until(lambda: "2 of 2 jobs pending: (" in cluster.state(), "the pending jobs")
            wait_until(lambda: "(Resources)" in cluster.state() or "(Priority)" in cluster.state(), "their reason")
            told.append(cluster.state())
        finally:
            jobs.slurm.call("scancel", blocker)

    thread = threading.Thread(target=look)
    thread.start()
    results = jobs.search(cluster, 3)
    thread.join()
    assert told
    assert list(results.statuses().values()) == [Status.COMPLETED] * 3
    jobs.check_clean()


def test_no_worker_within_the_startup_timeout(jobs: Jobs) -> None:
    with pytest.raises(ClusterError, match=r"no worker came within 3 s \(1 of 1 jobs pending"):
        jobs.search(jobs.cluster(1, startup_timeout=3.0, job_directives=["--hold"]), 3)
    jobs.check_clean()


def test_workers_without_a_trial_leave_and_busy_ones_stay(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dhpo.clusters._pool.GRACE", 1.0)

    def train(config: Any, report: Any) -> float:
        import pathlib
        import time

        while report.trial == 0 and not pathlib.Path(go).exists():
            time.sleep(0.05)
        return float(config.x)

    go = jobs.directory / "go"

    def look() -> None:
        wait_until(lambda: jobs.submitted() == 3 and len(jobs.running()) == 1, "the end of two workers")
        go.touch()

    def begun(events: Any, study: Any) -> None:
        if study.n_ended == 5 and not threads:
            threads.append(threading.Thread(target=look))
            threads[0].start()

    threads: list[threading.Thread] = []
    results = jobs.search(jobs.cluster(3), 6, begun, train=train)
    assert list(results.statuses().values()) == [Status.COMPLETED] * 6
    assert results.to_frame()["m:attempt"].max() == 1
    jobs.check_clean()


def test_the_schedulers_death_costs_no_result(jobs: Jobs) -> None:
    def kill() -> None:
        children = psutil.Process().children(recursive=True)
        scheduler = next(child for child in children if "dhpo.clusters._scheduler" in child.cmdline())
        scheduler.kill()

    results = jobs.search(jobs.cluster(2), 6, Once(jobs, 2, kill))
    assert list(results.statuses().values()) == [Status.COMPLETED] * 6
    jobs.check_clean()


DRIVER = """
import json
import sys

import dhpo


def train(config, report):
    import time

    for epoch in range(1, 10**6):
        time.sleep(0.05)
        report(epoch=epoch, objective=config.x)


cluster = dhpo.Slurm(**json.loads(sys.argv[1]))
search = dhpo.Search({"x": (0.0, 1.0)}, train, cluster=cluster, searcher="random", log_dir=sys.argv[2])
search.run(num_trials=100, progress=False)
"""


def test_the_drivers_death_ends_the_jobs(jobs: Jobs) -> None:
    """Those that run, and those that begin later."""
    (jobs.directory / "tune.py").write_text(DRIVER)
    settings = {
        "n_workers": 5, "memory": "200MiB", "interface": "lo", "dashboard_address": None,
        "log_directory": str(jobs.directory / "jobs"), "env": {"TMPDIR": str(jobs.scratch)},
    }  # fmt: skip
    command = [sys.executable, "tune.py", json.dumps(settings), str(jobs.directory / "run")]
    driver = subprocess.Popen(command, cwd=jobs.directory)
    try:
        journal = jobs.directory / "run" / "journal.jsonl"
        wait_until(lambda: journal.exists() and '"report' in journal.read_text(), "the first report")
        wait_until(lambda: len(jobs.running()) == 4 and jobs.submitted() == 5, "four jobs, and one that waits")
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    wait_until(lambda: not jobs.slurm.call("squeue", "-h").strip(), "the end of all jobs", 90)
    logs = [path.read_text() for path in jobs.directory.glob("jobs/*/[0-9].log")]
    assert sum("the search has ended" in log for log in logs) == 1
    jobs.check_clean()
