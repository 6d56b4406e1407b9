"""``jobscripts/slurm_allocation.sh``, submitted as it stands to a real Slurm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from slurm import Slurm, require, slurm_fixture, wait_until

from dhpo import Results
from dhpo.trial import Status

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "jobscripts" / "slurm_allocation.sh"

__all__ = ["slurm_fixture"]  # pytest finds the fixture here

SEARCH = """
import os
import pathlib
import threading

import model  # workers find what lies beside the script

import dhpo

HERE = pathlib.Path(__file__).parent


def train(config, report):
    (HERE / "begun").mkdir(exist_ok=True)
    (HERE / "begun" / f"{report.trial}-{report.attempt}").write_text(
        f"{os.environ['SLURM_PROCID']} {os.environ['OMP_NUM_THREADS']}"
    )
    for epoch in range(1, 4):
        report(epoch=epoch, objective=model.score(config, epoch))
    while report.trial >= %(patient)d and not (HERE / "go").exists():
        epoch += 1
        threading.Event().wait(0.05)  # a long training
        report(epoch=epoch, objective=config.x)


if __name__ == "__main__":
    search = dhpo.Search(
        {"x": (0.0, 1.0)},
        train,
        stopper=dhpo.NeverStop(time_attr="epoch"),
        searcher="random",
        cluster=os.environ.get("DHPO_SCHEDULER_FILE", "local"),
        resources={"num_gpus": %(gpus)d},
        log_dir=HERE / "run",
        random_state=1,
    )
    print(search.run(num_trials=%(trials)d, progress=False))
"""


class Allocation:
    """A directory with a search, and the jobs that run it."""

    def __init__(self, slurm: Slurm, directory: Path, **values: int) -> None:
        self.slurm = slurm
        self.directory = directory
        self.scratch = directory / "scratch"
        self.scratch.mkdir()
        (directory / "model.py").write_text("def score(config, epoch):\n    return config.x * epoch\n")
        (directory / "tune.py").write_text(SEARCH % {"patient": 10**9, "gpus": 0, **values})

    def submit(self, *arguments: str, interface: str = "lo") -> str:
        """Submit the script; return the job's number."""
        environment = {
            "PYTHON": sys.executable, "RUN_DIR": "job", "INTERFACE": interface, "TMPDIR": str(self.scratch),
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        return self.slurm.submit(*arguments, str(SCRIPT), environment=environment, cwd=self.directory)

    def output(self, job: str) -> str:
        """What the job and its Dask processes printed."""
        return "\n".join(p.read_text() for p in [self.directory / f"dhpo-{job}.out", *self.directory.glob("job/*.log")])

    def statuses(self) -> list[Status]:
        """Where each trial stands."""
        if not (self.directory / "run" / "journal.jsonl").exists():
            return []
        return list(Results.load(self.directory / "run").statuses().values())

    def begun(self) -> dict[str, str]:
        """What each "trial-attempt" noted when it began."""
        return {path.name: path.read_text() for path in self.directory.glob("begun/*")}

    def check_clean(self) -> None:
        """Make sure that the jobs left no files where they should not."""
        assert not list(self.scratch.iterdir())
        assert not list(self.directory.glob("job/scheduler*"))


TWO_NODES = ("--nodes=2", "--ntasks=2")


def test_one_job_runs_a_search(slurm: Slurm, tmp_path: Path) -> None:
    allocation = Allocation(slurm, tmp_path, trials=20, gpus=1)
    job = allocation.submit(*TWO_NODES, "--cpus-per-task=2", "--gpus-per-task=1")
    assert slurm.wait_for(job) == ("COMPLETED", "0:0"), allocation.output(job)
    assert allocation.statuses() == [Status.COMPLETED] * 20
    begun = allocation.begun()
    assert set(begun) == {f"{trial}-1" for trial in range(20)}
    tasks, threads = zip(*(text.split() for text in begun.values()), strict=True)
    assert set(tasks) <= {"0", "1"}
    assert set(threads) == {"2"}
    assert "<Results: 20 trials: 20 completed" in allocation.output(job)
    allocation.check_clean()


def test_signal_ends_the_job_cleanly_and_the_next_one_goes_on(slurm: Slurm, tmp_path: Path) -> None:
    allocation = Allocation(slurm, tmp_path, trials=12, patient=6)
    first = allocation.submit(*TWO_NODES)
    wait_until(lambda: allocation.statuses().count(Status.COMPLETED) == 6, "the first six trials")
    wait_until(lambda: len(allocation.begun()) == 8, "the two that take long")
    slurm.call("scancel", "--batch", "--signal=TERM", first)  # as --signal=B:TERM@120 does before the walltime
    assert slurm.wait_for(first) == ("COMPLETED", "0:0"), allocation.output(first)
    assert allocation.statuses() == [Status.COMPLETED] * 6 + [Status.RUNNING] * 2
    assert "submit the same script again" in allocation.output(first)
    allocation.check_clean()

    (tmp_path / "go").touch()
    second = allocation.submit("--nodes=1", "--ntasks=1", interface="")  # other workers, on the loopback by itself
    assert slurm.wait_for(second) == ("COMPLETED", "0:0"), allocation.output(second)
    assert allocation.statuses() == [Status.COMPLETED] * 12
    assert set(allocation.begun()) == {f"{trial}-1" for trial in range(12)} | {"6-2", "7-2"}
    allocation.check_clean()


def test_the_job_ends_when_its_workers_have_gone(slurm: Slurm, tmp_path: Path) -> None:
    allocation = Allocation(slurm, tmp_path, trials=2, patient=0)
    job = allocation.submit(*TWO_NODES)
    wait_until(lambda: len(allocation.begun()) == 2, "the trials' start")
    slurm.call("scancel", "--signal=TERM", job)  # reaches the workers only
    assert slurm.wait_for(job)[0] == "FAILED"
    assert "the workers or the Dask scheduler have ended" in allocation.output(job)
    assert allocation.statuses() == [Status.RUNNING] * 2
    allocation.check_clean()


def test_a_failing_script_fails_the_job(slurm: Slurm, tmp_path: Path) -> None:
    allocation = Allocation(slurm, tmp_path, trials=1)
    (tmp_path / "tune.py").write_text("raise SystemExit(7)\n")
    job = allocation.submit("--nodes=1", "--ntasks=1")
    assert slurm.wait_for(job) == ("FAILED", "7:0")
    allocation.check_clean()


def test_the_script_passes_shellcheck() -> None:
    require("shellcheck")
    done = subprocess.run(["shellcheck", "--format=json", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("ci", ["true", ""])
def test_a_missing_program_is_told(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.fail.Exception if ci else pytest.skip.Exception, match="no-such-program"):
        require("no-such-program")
