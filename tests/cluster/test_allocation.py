"""``dhpo.Allocation``: a script that is the job, on a real Slurm, and within a pretended PBS job."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from slurm import Slurm, require, slurm_fixture, wait_until

import dhpo
from dhpo import Results
from dhpo.errors import ClusterError
from dhpo.trial import Status

ROOT = Path(__file__).parents[2]

__all__ = ["slurm_fixture"]  # pytest finds the fixture here

TUNE = """#!%(python)s
#SBATCH --output=tune.out
import os
import time

import dhpo


def train(config, report):
    names = ("SLURM_PROCID", "OMP_NUM_THREADS", "DHPO_WORKER_END", "SLURM_NODEID")
    seen = {name: os.environ.get(name, "") for name in names}
    if report.trial == 1 and report.attempt == 1:
        os.kill(os.getpid(), 9)
    for epoch in range(1, 4):
        time.sleep(0.05)
        report(epoch=epoch, objective=config.x)
    return {"objective": config.x, "metadata": {**seen, "now": time.time()}}


if __name__ == "__main__":
    search = dhpo.Search(
        {"x": (0.0, 1.0)}, train, cluster=%(cluster)s, searcher="random", log_dir="run",
        stopper=dhpo.NeverStop(time_attr="epoch"),
    )
    print(search.run(num_trials=%(trials)d, progress=False))
"""


def write(directory: Path, cluster: str, trials: int = 12) -> Path:
    script = directory / "tune.py"
    script.write_text(TUNE % {"python": sys.executable, "cluster": cluster, "trials": trials})
    return script


def output(directory: Path) -> str:
    paths = [*directory.glob("*.out"), *directory.rglob("dhpo-????????/*.log")]
    return "\n".join(f"--- {path}\n{path.read_text()}" for path in paths)


def check(directory: Path, trials: int = 12) -> Results:
    results = Results.load(directory / "run")
    assert list(results.statuses().values()) == [Status.COMPLETED] * trials
    assert not list(directory.rglob("dhpo-????????/tls"))
    return results


def test_a_script_that_is_a_slurm_job(slurm: Slurm, tmp_path: Path) -> None:
    script = write(tmp_path, '"allocation"')
    arguments = ("--nodes=2", "--ntasks=2", "--cpus-per-task=2", "--time=10")
    job = slurm.submit(*arguments, str(script), environment={"PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    assert slurm.wait_for(job) == ("COMPLETED", "0:0"), output(tmp_path)
    frame = check(tmp_path).to_frame()
    assert set(frame["m:SLURM_PROCID"].astype(str)) <= {"0", "1"}
    assert set(frame["m:OMP_NUM_THREADS"].astype(str)) == {"2"}
    left = frame["m:DHPO_WORKER_END"].astype(float) - frame["m:now"]
    assert ((left > 400) & (left <= 602)).all()
    assert "starting it again" in output(tmp_path)


def test_its_own_size_within_a_slurm_job(slurm: Slurm, tmp_path: Path) -> None:
    script = write(tmp_path, "dhpo.Allocation(num_cpus=1, security=False)", trials=8)
    job = slurm.submit(
        "--nodes=2", "--ntasks=2", "--cpus-per-task=2", str(script), environment={"PYTHONPATH": str(ROOT)}, cwd=tmp_path
    )
    assert slurm.wait_for(job) == ("COMPLETED", "0:0"), output(tmp_path)
    frame = check(tmp_path, 8).to_frame()
    assert set(frame["m:OMP_NUM_THREADS"].astype(str)) == {"1"}
    assert "4 of 4" in output(tmp_path) or output(tmp_path).count("Registered to") >= 4


def test_workers_that_cannot_start_end_the_search(slurm: Slurm, tmp_path: Path) -> None:
    script = write(tmp_path, 'dhpo.Allocation(python="/nowhere/python")')
    job = slurm.submit("--nodes=2", str(script), environment={"PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    assert slurm.wait_for(job)[0] == "FAILED", output(tmp_path)
    text = (tmp_path / "tune.out").read_text()
    assert "all workers have ended" in text
    assert "/nowhere/python: No such file" in text


PBSDSH = """#!/bin/bash
# Like the real one: the program runs once for each line of the node file, with next to nothing in its environment.
[[ $1 == -- ]] && shift
n=0
for host in $(cat "$PBS_NODEFILE"); do
    env -i PATH=/usr/bin:/bin HOME="$HOME" PBS_JOBID="$PBS_JOBID" PBS_TASKNUM=$((++n)) "$@" &
done
wait
"""


@pytest.mark.parametrize("hosts", ["here", "two"])
def test_a_script_within_a_pbs_job(hosts: str, tmp_path: Path) -> None:
    require("bash")
    script = write(tmp_path, 'dhpo.Allocation(interface="lo")')
    (tmp_path / "pbsdsh").write_text(PBSDSH)
    (tmp_path / "pbsdsh").chmod(0o755)
    names = [socket.gethostname()] * 2 if hosts == "here" else [socket.gethostname(), "elsewhere"]
    (tmp_path / "nodes").write_text("\n".join(names) + "\n")
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "OMP_"))}
    environment = {
        **outside, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PBS_NODEFILE": str(tmp_path / "nodes"),
        "PBS_JOBID": "1", "NCPUS": "1", "PYTHONPATH": str(ROOT), "PWD": str(tmp_path),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + output(tmp_path)
    frame = check(tmp_path).to_frame()
    assert set(frame["m:OMP_NUM_THREADS"].astype(str)) == {"1"}
    assert len(set(frame["m:worker"])) >= 2


def test_outside_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "PBS_NODEFILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ClusterError, match="runs in no SLURM or PBS job"):
        dhpo.Search({"x": (0.0, 1.0)}, lambda config: config.x, cluster="allocation").run(num_trials=1, progress=False)


def test_the_scheduler_of_a_killed_driver_ends(tmp_path: Path) -> None:
    script = write(tmp_path, 'dhpo.Allocation(interface="lo")', trials=10**6)
    (tmp_path / "nodes").write_text(f"{socket.gethostname()}\n")
    environment = {**os.environ, "PBS_NODEFILE": str(tmp_path / "nodes"), "PYTHONPATH": str(ROOT), "PWD": str(tmp_path)}
    environment.pop("SLURM_JOB_ID", None)
    driver = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, env=environment)
    try:
        wait_until(lambda: "Registered to" in output(tmp_path), "the worker")
        wait_until(lambda: bool(list(tmp_path.glob("dhpo-jobs/*/tls/key.pem"))), "the credentials")
    finally:
        driver.kill()
        driver.wait()
    wait_until(lambda: not list(tmp_path.glob("dhpo-jobs/*/tls")), "the removal of the credentials")
    wait_until(lambda: "End worker" in output(tmp_path), "the worker's end")
