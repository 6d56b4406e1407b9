"""The job scripts, submitted as they stand to a real Slurm; those for PBS by Slurm's own ``qsub``."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm import PROGRAMS, Slurm, require, running_slurm, wait_until

from dhpo import Results
from dhpo.trial import Status

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "jobscripts"

SEARCH = """
import os
import pathlib
import threading

import model  # workers find what lies beside the script

import dhpo

HERE = pathlib.Path(__file__).parent
PATIENT = %(patient)d


def train(config, report):
    (HERE / "begun").mkdir(exist_ok=True)
    names = ("SLURM_JOB_ID", "OMP_NUM_THREADS", "DHPO_WORKER_END")
    (HERE / "begun" / f"{report.trial}-{report.attempt}").write_text(" ".join(os.environ.get(n, "-") for n in names))
    for epoch in range(int(report.resume_from or 0) + 1, 4):
        report(epoch=epoch, objective=model.score(config, epoch))
    while report.trial >= PATIENT and not (HERE / "go").exists():
        epoch += 1
        threading.Event().wait(0.05)  # a long training
        report(epoch=epoch, objective=config.x)


search = dhpo.Search(
    {"x": (0.0, 1.0)},
    train,
    stopper=dhpo.NeverStop(time_attr="epoch"),
    searcher="random",
    resources={"num_cpus": %(num_cpus)d},
    random_state=1,
)
"""

#: What PBS tells a job, and what Slurm's commands for users of PBS leave out.
PBS_ENVIRONMENT = """
export PBS_JOBID=$SLURM_JOB_ID PBS_O_WORKDIR=$SLURM_SUBMIT_DIR PBS_NODEFILE=$HOME/nodes-$SLURM_JOB_ID
for ((i = 0; i < ${SLURM_NTASKS:-1}; i++)); do hostname -s; done >"$PBS_NODEFILE"
unset "${!SLURM_@}" BASH_ENV
export SLURM_CONF=$CONF
"""


@pytest.fixture(scope="module", name="slurm")
def slurm_fixture() -> Iterator[Slurm]:
    require(*PROGRAMS, "qsub")
    with running_slurm(nodes=4, cpus=2) as slurm:
        yield slurm


class Project:
    """A directory with a search, and the jobs that run it."""

    def __init__(self, slurm: Slurm, directory: Path, *, patient: int = 10**9, num_cpus: int = 1) -> None:
        self.slurm = slurm
        self.directory = directory
        self.scratch = directory / "scratch"
        self.scratch.mkdir()
        (directory / "model.py").write_text("def score(config, epoch):\n    return config.x * epoch\n")
        (directory / "tune.py").write_text(SEARCH % {"patient": patient, "num_cpus": num_cpus})

    def environment(self, trials: int) -> dict[str, str]:
        """What a user would write into the script's first lines."""
        return {
            "PYTHON": sys.executable, "NUM_TRIALS": str(trials), "TMPDIR": str(self.scratch), "PYTHONPATH": str(ROOT),
            "N_WORKERS": "2", "MEMORY": "500MiB", "DASK_JOBQUEUE__SLURM__INTERFACE": "lo",
            "DASK_JOBQUEUE__PBS__INTERFACE": "lo",
        }  # fmt: skip

    def sbatch(self, mode: str, trials: int, *arguments: str) -> str:
        """Submit a script as it stands, but for what this small cluster cannot give; return the job's number."""
        script = str(SCRIPTS / f"slurm_{mode}.sh")
        return self.slurm.submit(*arguments, script, environment=self.environment(trials), cwd=self.directory)

    def qsub(self, mode: str, trials: int, *arguments: str) -> str:
        """The same for PBS."""
        (self.directory / "pbs.sh").write_text(PBS_ENVIRONMENT)
        own = {"BASH_ENV": str(self.directory / "pbs.sh"), "HOME": str(self.directory)}
        own |= {"CONF": self.slurm.environment["SLURM_CONF"], "SELF": str(SCRIPTS / f"pbs_{mode}.sh")}
        environment = {**self.environment(trials), **own}
        return self.slurm.call("qsub", *arguments, own["SELF"], environment=environment, cwd=self.directory).split()[-1]

    def output(self) -> str:
        """What the jobs and their processes printed."""
        paths = [*self.directory.glob("dhpo*.o*"), *self.directory.glob("pbs_*.o*")]
        paths += self.directory.rglob("dhpo-????????/*.log")
        return "\n".join(f"--- {path}\n{path.read_text(errors='replace')}" for path in paths)

    def wait_for(self, job: str) -> None:
        """Wait for the good end of a job."""
        assert self.slurm.wait_for(job, 100) == ("COMPLETED", "0:0"), self.output()

    def statuses(self) -> list[Status]:
        """Where each trial stands."""
        if not (self.directory / "runs" / "tune" / "journal.jsonl").exists():
            return []
        return list(Results.load(self.directory / "runs" / "tune").statuses().values())

    def wait_for_trials(self, ended: int, begun: int) -> None:
        """Wait until so many trials have ended and begun."""
        try:
            wait_until(lambda: self.statuses().count(Status.COMPLETED) == ended, "the short trials", 120)
            wait_until(lambda: len(self.begun()) == begun, "the long trials", 120)
        except TimeoutError:
            print(self.output())
            raise

    def begun(self) -> dict[str, list[str]]:
        """What each "trial-attempt" noted when it began: the job, the threads, the end."""
        return {path.name: path.read_text().split() for path in self.directory.glob("begun/*")}

    def queue(self) -> list[str]:
        """The jobs that there are."""
        return self.slurm.call("squeue", "--noheader", "--format=%i").split()

    def check_clean(self, *, killed: bool = False) -> None:
        """Make sure that no job and no credentials are left behind, and that nobody else could look."""
        wait_until(lambda: not self.queue(), "the end of all jobs")
        if not killed:
            assert not list(self.directory.rglob("*.pem"))
        assert not list(self.directory.glob("runs/tune/chain*"))
        assert (self.directory / "runs" / "tune").stat().st_mode & 0o077 == 0


SMALL = ("--mem-per-cpu=400M",)
TWO = ("--nodes=2", "--ntasks=2", *SMALL)
DRIVER = ("--mem=500M", "--cpus-per-task=1")


def test_one_job_runs_a_search(slurm: Slurm, tmp_path: Path) -> None:
    project = Project(slurm, tmp_path, num_cpus=2)
    job = project.sbatch("allocation", 12, *TWO, "--cpus-per-task=2")
    submitted = time.time()
    project.wait_for(job)
    assert project.statuses() == [Status.COMPLETED] * 12
    begun = project.begun()
    assert set(begun) == {f"{trial}-1" for trial in range(12)}
    assert {(worker_job, threads) for worker_job, threads, _ in begun.values()} == {(job, "2")}
    (end,) = {int(end) for *_, end in begun.values()}
    assert submitted + 7200 - 5 <= end <= time.time() + 7200  # two hours after the job's start
    output = project.output()
    assert "the search is finished" in output
    assert "tls://" in output
    assert "tcp://" not in output
    project.check_clean()


def test_a_signal_ends_the_job_cleanly_and_the_next_one_goes_on(slurm: Slurm, tmp_path: Path) -> None:
    project = Project(slurm, tmp_path, patient=6)
    first = project.sbatch("allocation", 10, *TWO)
    project.wait_for_trials(6, begun=8)
    slurm.call("scancel", "--batch", "--signal=TERM", first)  # as --signal=B:TERM@120 does before the walltime
    project.wait_for(first)
    assert project.statuses() == [Status.COMPLETED] * 6 + [Status.RUNNING] * 2
    assert "submit the same script again" in project.output()
    (tmp_path / "go").touch()
    second = project.sbatch("allocation", 10, "--nodes=1", "--ntasks=1", *SMALL)
    project.wait_for(second)
    assert project.statuses() == [Status.COMPLETED] * 10
    starts = Counter(int(name.partition("-")[0]) for name in project.begun())
    assert starts == {trial: 2 if trial in (6, 7) else 1 for trial in range(10)}
    project.check_clean()


def test_a_chain_goes_on_by_itself_until_the_search_is_finished(slurm: Slurm, tmp_path: Path) -> None:
    project = Project(slurm, tmp_path, patient=6)
    # What each job of a chain asks for stands in the script: a copy, for this small cluster.
    script = tmp_path / "chain.sh"
    text = (SCRIPTS / "slurm_chain.sh").read_text()
    script.write_text(text.replace("--ntasks=8", "--ntasks=2\n#SBATCH --mem-per-cpu=400M"))
    first = slurm.submit(str(script), environment=project.environment(10), cwd=tmp_path)
    project.wait_for_trials(6, begun=8)
    (second,) = set(project.queue()) - {first}
    assert f"afterany:{first}" in slurm.call("scontrol", "show", "job", second)
    slurm.call("scancel", "--batch", "--signal=TERM", first)
    project.wait_for(first)
    (tmp_path / "go").touch()  # not before: the first job would come to the end of the search
    project.wait_for(second)
    assert project.statuses() == [Status.COMPLETED] * 10
    assert slurm.state(str(int(second) + 1))[0] == "CANCELLED"  # the third was not needed
    project.check_clean()


def test_a_chain_ends_with_an_error(slurm: Slurm, tmp_path: Path) -> None:
    project = Project(slurm, tmp_path)
    (tmp_path / "tune.py").write_text("raise SystemExit('this file is broken')\n")
    job = project.sbatch("chain", 10, *TWO)
    assert slurm.wait_for(job) == ("FAILED", "1:0")
    assert "this file is broken" in project.output()
    project.check_clean()


def test_a_driver_in_a_small_job_submits_its_workers(slurm: Slurm, tmp_path: Path) -> None:
    project = Project(slurm, tmp_path)
    job = project.sbatch("driver", 12, *DRIVER)
    project.wait_for(job)
    assert project.statuses() == [Status.COMPLETED] * 12
    jobs = {worker_job for worker_job, *_ in project.begun().values()}
    assert job not in jobs
    assert 1 <= len(jobs) <= 2
    assert slurm.state(str(int(job) + 1))[0] == "CANCELLED"  # the next driver was not needed
    project.check_clean()


def test_a_driver_that_loses_its_node_starts_again(slurm: Slurm, tmp_path: Path) -> None:
    project = Project(slurm, tmp_path, patient=6)
    job = project.sbatch("driver", 8, *DRIVER)
    project.wait_for_trials(6, begun=8)
    slurm.call("scontrol", "requeue", job)
    wait_until(lambda: slurm.state(job)[0] == "PENDING", "the end of the driver")  # else it could finish the search
    (tmp_path / "go").touch()
    project.wait_for(job)
    assert project.statuses() == [Status.COMPLETED] * 8
    output = project.output()
    assert output.count("job 1 of the chain") == 1  # the next one was there already
    project.check_clean(killed=True)


@pytest.mark.parametrize("mode", ["allocation", "driver"])
def test_a_pbs_job_runs_a_search(slurm: Slurm, tmp_path: Path, mode: str) -> None:
    project = Project(slurm, tmp_path)
    # Every node of this small cluster has less than the script asks for.
    job = project.qsub(mode, 8, "-V", *(("-l", "select=2:ncpus=1:mem=400mb") if mode == "allocation" else ()))
    project.wait_for(job)
    assert project.statuses() == [Status.COMPLETED] * 8
    assert "the search is finished" in project.output()
    project.check_clean()


@pytest.mark.parametrize("ci", ["true", ""])
def test_a_missing_program_is_told(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.fail.Exception if ci else pytest.skip.Exception, match="no-such-program"):
        require("no-such-program")
