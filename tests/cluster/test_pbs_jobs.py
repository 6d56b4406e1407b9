"""``dhpo.PBS``, by the PBS commands that Debian has for Slurm. (OpenPBS itself is no package; see the unit tests.)"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm import PROGRAMS, Slurm, require, running_slurm, wait_until

import dhpo
from dhpo.errors import ClusterError
from dhpo.trial import Status

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", name="slurm")
def slurm_fixture() -> Iterator[Slurm]:
    """Two nodes with one processor each, for the tests of this module."""
    require(*PROGRAMS, "qsub", "qstat", "qdel")
    with running_slurm(nodes=2, cpus=1) as slurm:
        yield slurm


@pytest.fixture(autouse=True)
def _environment(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def make(directory: Path, n_workers: int, **arguments: Any) -> Any:
    return dhpo.PBS(
        n_workers,
        walltime="00:10:00",
        interface="lo",
        dashboard_address=None,
        poll_interval=1.0,
        log_directory=directory / "jobs",
        **arguments,
    )


def queued(slurm: Slurm) -> list[str]:
    return slurm.call("squeue", "-h", "-o", "%i").split()


def test_a_search_by_pbs_jobs_one_of_which_is_deleted(slurm: Slurm, tmp_path: Path) -> None:
    go = tmp_path / "go"

    def train(config: Any, report: Any) -> dict[str, Any]:
        import os
        import pathlib
        import time

        for epoch in range(1, 10**6):
            if pathlib.Path(go).exists():
                break
            time.sleep(0.05)
            report(epoch=epoch, objective=0.0)
        return {"objective": config.x, "metadata": {"cwd": os.getcwd(), "end": os.environ["DHPO_WORKER_END"]}}

    def delete() -> None:
        wait_until(lambda: len(queued(slurm)) == 2, "both jobs")
        slurm.call("qdel", queued(slurm)[0])
        wait_until(lambda: len(list(tmp_path.glob("jobs/*/*.sh"))) == 3 and len(queued(slurm)) == 2, "the new job")
        go.touch()

    threads: list[threading.Thread] = []

    def watch(events: Any, study: Any) -> None:
        if not threads:
            threads.append(threading.Thread(target=delete))
            threads[0].start()

    search = dhpo.Search(
        {"x": (0.0, 1.0)},
        train,
        searcher="random",
        stopper=dhpo.NeverStop(time_attr="epoch"),
        cluster=make(tmp_path, 2),
        log_dir=tmp_path / "run",
    )
    results = search.run(num_trials=6, progress=False, watchers=[watch])
    assert list(results.statuses().values()) == [Status.COMPLETED] * 6
    assert set(results.to_frame()["m:cwd"]) == {str(Path.cwd())}
    wait_until(lambda: not queued(slurm), "the end of all jobs")
    assert any("Starting established connection" in log.read_text() for log in tmp_path.glob("jobs/*/*.log"))
    assert not list(tmp_path.glob("*.o*"))


def test_jobs_that_cannot_start_their_worker_end_the_search(slurm: Slurm, tmp_path: Path) -> None:
    search = dhpo.Search(
        {"x": (0.0, 1.0)}, lambda config: config.x, cluster=make(tmp_path, 1, python="/nowhere/python")
    )
    with pytest.raises(ClusterError, match=r"4 times in a row(.|\n)*qsub (.|\n)*/nowhere/python"):
        search.run(num_trials=3, progress=False)
    wait_until(lambda: not queued(slurm), "the end of all jobs")


def test_a_queue_that_is_not_there_is_told_at_once(slurm: Slurm, tmp_path: Path) -> None:
    search = dhpo.Search({"x": (0.0, 1.0)}, lambda config: config.x, cluster=make(tmp_path, 1, queue="nowhere"))
    with pytest.raises(ClusterError, match=r"qsub failed(.|\n)*invalid partition"):
        search.run(num_trials=3, progress=False)


def test_the_state_of_pending_jobs_is_told(slurm: Slurm, tmp_path: Path) -> None:
    blocker = slurm.submit(
        "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 600", environment={}, cwd=tmp_path
    )
    cluster = make(tmp_path, 1)

    def look() -> None:
        try:
            wait_until(lambda: cluster.state().startswith("1 of 1 jobs pending"), "the pending job")
        finally:
            slurm.call("scancel", blocker)

    thread = threading.Thread(target=look)
    thread.start()
    results = dhpo.Search({"x": (0.0, 1.0)}, lambda config: config.x, cluster=cluster).run(num_trials=2, progress=False)
    thread.join()
    assert list(results.statuses().values()) == [Status.COMPLETED] * 2
