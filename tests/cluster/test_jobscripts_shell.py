"""What the job scripts do around ``dhpo run``. Programs that note their calls stand for the batch system's commands."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from slurm import require, wait_until

from dhpo.cli.jobscript import DIRECTIVES, Mode, System, main, render
from dhpo.cli.submission import Submission

SCRIPTS = Path(__file__).parents[2] / "jobscripts"
CHAINED = [(system, mode) for system, mode in DIRECTIVES if mode is not Mode.ALLOCATION]

#: dhpo: notes how it was called, and ends as told; for ``dhpo status`` tells how many reports there are.
DHPO = """\
#!/bin/bash
echo "$*" >>"$HERE/dhpo.log"
if [[ $3 == status ]]; then printf '{\\n  "reports": %s,\\n  "ended": 1\\n}\\n' "$(cat "$HERE/reports")"; exit 0; fi
echo "${DHPO_WORKER_END:-never} $PWD" >>"$HERE/environment.log"
if [[ -n ${PATIENT:-} ]]; then
    trap 'exit 99' TERM
    echo $$ >"$HERE/pid"
    mv "$HERE/pid" "$HERE/waiting"
    while :; do sleep 0.02; done
fi
exit "$STATUS"
"""

COMMANDS = {
    "sbatch": "echo 8",
    "scancel": ":",
    "squeue": "date --date '@2000000000' '+%Y-%m-%dT%H:%M:%S'",
    "qsub": "echo 8.server",
    "qdel": ":",
    "qstat": r"printf 'Job Id: 7.server\n    Job_Name = dhpo\n    Resource_List.walltime = 01:01:40\n'",
}


class Batch:
    """A directory in which a job script runs, and the commands that it finds."""

    def __init__(self, directory: Path, system: System, mode: Mode) -> None:
        self.directory = directory
        self.system = system
        self.script = SCRIPTS / f"{system}_{mode}.sh"
        self.programs = directory / "bin"
        self.programs.mkdir()
        for name, text in COMMANDS.items():
            self.program(name, f'#!/bin/bash\necho "$*" >>"$HERE/{name}.log"\n{text}\n')
        self.program("python", DHPO)
        (directory / "reports").write_text("3")

    def program(self, name: str, text: str) -> None:
        """Put a program in the place of another."""
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)

    def start(self, status: int = 0, **more: str) -> subprocess.Popen[str]:
        """Start the job script as the batch system does: PBS in another directory than that of the submission."""
        (self.directory / "home").mkdir(exist_ok=True)
        place = {"SLURM_JOB_ID": "7"} if self.system is System.SLURM else {"PBS_JOBID": "7.server"}
        own = {
            "PATH": f"{self.programs}:{os.environ['PATH']}", "HERE": str(self.directory), "STATUS": str(status),
            "PBS_O_WORKDIR": str(self.directory), **place, **more,
        }  # fmt: skip
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("DHPO", "SLURM", "PBS", "DASK"))}
        return subprocess.Popen(
            ["bash", str(self.script)],
            cwd=self.directory / "home" if self.system is System.PBS else self.directory,
            env=environment | own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, status: int = 0, **more: str) -> tuple[int, str]:
        """Run the job script to its end; return its status and what it printed."""
        process = self.start(status, **more)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def calls(self, name: str) -> list[str]:
        """How a command was called."""
        path = self.directory / f"{name}.log"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def submitted(self) -> list[str]:
        return self.calls("sbatch" if self.system is System.SLURM else "qsub")

    @property
    def cancelled(self) -> list[str]:
        return self.calls("scancel" if self.system is System.SLURM else "qdel")

    @property
    def next(self) -> str:
        return "8" if self.system is System.SLURM else "8.server"


@pytest.fixture(name="batch", params=DIRECTIVES, ids=lambda case: "-".join(case))
def batch_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Batch:
    return Batch(tmp_path, *request.param)


@pytest.fixture(name="chain", params=CHAINED, ids=lambda case: "-".join(case))
def chain_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Batch:
    return Batch(tmp_path, *request.param)


@pytest.fixture(name="single", params=list(System))
def single_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Batch:
    return Batch(tmp_path, request.param, Mode.ALLOCATION)


def test_the_scripts_are_those_that_dhpo_submit_writes(tmp_path: Path) -> None:
    main(tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text() for path in SCRIPTS.glob("*.sh")}
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o111 for path in SCRIPTS.glob("*.sh"))


def test_what_is_given_replaces_the_lines_of_the_user_and_nothing_else() -> None:
    for system, mode in DIRECTIVES:
        ours, theirs = render(system, mode).splitlines(), render(system, mode, settings={"PYTHON": "/x"}).splitlines()
        changed = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
        assert [a.split("=")[0] for a, _ in changed] == ["PYTHON"]


def test_no_mark_is_left_and_shellcheck_has_nothing_to_say(tmp_path: Path) -> None:
    require("shellcheck")
    paths = sorted(SCRIPTS.glob("*.sh"))
    assert len(paths) == len(DIRECTIVES)
    for system, mode in DIRECTIVES:
        paths.append(tmp_path / f"{system}-{mode}.sh")
        asked = Submission("tune.py", system, mode, options=("--num-trials", "5"), cpus=2, directives=("x",))
        paths[-1].write_text(asked.script())
    assert not [path for path in paths if re.search(r"@[A-Z_]+@", path.read_text())]
    done = subprocess.run(
        ["shellcheck", "--format=json", *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert json.loads(done.stdout) == []


def test_the_driver_is_told_what_the_lines_say(batch: Batch) -> None:
    more: Mapping[str, str] = {"SEARCH": "my models.py:tuner", "NUM_TRIALS": "7"}
    status, output = batch.run(0, **more)
    assert status == 0, output
    where = "allocation" if batch.script.stem.split("_")[1] != "driver" else batch.system
    assert batch.calls("dhpo") == [
        "-m dhpo run my models.py:tuner --num-trials 7 --log-dir runs/my models "
        f"--cluster {where} --no-progress --exit-code-if-unfinished 99"
    ]
    assert stat.S_IMODE((batch.directory / "runs" / "my models").stat().st_mode) == 0o700
    assert "the search is finished" in output


def test_the_end_of_the_job_is_told(batch: Batch) -> None:
    began = time.time()
    assert batch.run(0)[0] == 0
    end, directory = batch.calls("environment")[0].split()
    if batch.system is System.SLURM:
        assert end == "2000000000"
    else:
        assert began + 3700 - 5 <= int(end) <= time.time() + 3700
    assert directory == str(batch.directory)


def test_a_job_without_an_end_or_a_batch_system_that_does_not_answer_is_no_error(batch: Batch) -> None:
    batch.program("squeue", "#!/bin/bash\nexit 1\n")
    batch.program("qstat", "#!/bin/bash\nexit 1\n")
    status, output = batch.run(0, DHPO_WORKER_END="17")  # of a job that this one was submitted from
    assert status == 0, output
    assert batch.calls("environment")[0].startswith("never ")


def test_an_error_fails_the_job(batch: Batch) -> None:
    status, output = batch.run(1)
    assert status == 1
    assert "ended with status 1" in output


def test_a_driver_that_was_killed_fails_a_single_job(single: Batch) -> None:
    status, output = single.run(137)
    assert status == 137
    assert "ended with status 137" in output


def test_a_chain_goes_on_after_a_driver_that_was_killed(chain: Batch) -> None:
    status, output = chain.run(137)
    assert status == 0, output
    assert "the driver was killed by signal 9" in output
    assert f"job {chain.next} goes on" in output
    assert chain.cancelled == []


def test_a_signal_is_passed_on(batch: Batch) -> None:
    process = batch.start(PATIENT="1")
    wait_until((batch.directory / "waiting").exists, "the driver")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "told to stop" in output
    assert "there is work left" in output


def test_a_driver_that_was_ended_by_the_signal_itself_has_work_left(batch: Batch) -> None:
    status, output = batch.run(143)
    assert status == 0, output
    assert "there is work left" in output
    assert batch.cancelled == []


def test_one_job_says_that_there_is_work_left(single: Batch) -> None:
    status, output = single.run(99)
    assert (status, single.submitted) == (0, [])
    assert "submit the same script again" in output


def test_the_next_job_is_submitted_before_the_work_begins(chain: Batch) -> None:
    process = chain.start(PATIENT="1")
    wait_until((chain.directory / "waiting").exists, "the driver")
    (call,) = chain.submitted
    if chain.system is System.SLURM:
        assert call == f"--parsable --dependency=afterany:7 {chain.script}"
    else:
        assert call == f"-W depend=afterany:7.server {chain.script.name}"
    process.send_signal(signal.SIGTERM)
    assert f"job {chain.next} goes on" in process.communicate(timeout=60)[0]
    assert chain.cancelled == []


@pytest.mark.parametrize("code", [0, 1])
def test_a_chain_ends_when_the_search_is_finished_or_fails(chain: Batch, code: int) -> None:
    status, _ = chain.run(code)
    assert status == code
    assert len(chain.submitted) == 1
    assert chain.cancelled == [chain.next]
    assert not list((chain.directory / "runs" / "tune").glob("chain*"))


def test_a_job_that_is_started_again_finds_the_next_one(chain: Batch) -> None:
    process = chain.start(PATIENT="1")
    wait_until((chain.directory / "waiting").exists, "the driver")
    process.kill()  # with its node
    process.wait()
    os.kill(int((chain.directory / "waiting").read_text()), signal.SIGKILL)
    assert chain.run(0)[0] == 0
    assert len(chain.submitted) == 1
    assert chain.cancelled == [chain.next]


def test_another_job_of_the_chain_submits_its_own_next_one(chain: Batch) -> None:
    assert chain.run(99)[0] == 0
    (chain.directory / "reports").write_text("4")
    job = {"SLURM_JOB_ID": "8"} if chain.system is System.SLURM else {"PBS_JOBID": "8.server"}
    assert chain.run(99, **job)[0] == 0
    assert len(chain.submitted) == 2
    assert "afterany:8" in chain.submitted[1]


@pytest.mark.parametrize("name", ["sbatch", "qsub"])
def test_a_batch_system_that_refuses_is_asked_again_at_the_end(chain: Batch, name: str) -> None:
    once = '#!/bin/bash\n[[ -e $HERE/asked ]] && { echo 8; exit 0; }\ntouch "$HERE/asked"\nexit 1\n'
    chain.program(name, once)
    status, output = chain.run(99)
    assert status == 0, output
    assert ("another attempt follows" in output) == (name == ("sbatch" if chain.system is System.SLURM else "qsub"))
    assert re.search(r"job 8(\.server)? goes on", output)


def test_a_chain_that_cannot_go_on_says_so(chain: Batch) -> None:
    for name in ("sbatch", "qsub"):
        chain.program(name, "#!/bin/bash\nexit 1\n")
    status, output = chain.run(99)
    assert status == 1
    assert "cannot be submitted: submit this one again" in output


def test_a_chain_that_gets_nowhere_ends(chain: Batch) -> None:
    statuses = []
    for number, reports in enumerate([0, 5, 5, 9, 9, 9]):
        (chain.directory / "reports").write_text(str(reports))
        job = {"SLURM_JOB_ID": str(number)} if chain.system is System.SLURM else {"PBS_JOBID": f"{number}.server"}
        status, output = chain.run(99, **job)
        statuses.append(status)
    assert statuses == [0, 0, 0, 0, 0, 1]
    assert "two jobs in a row brought no report" in output
    assert chain.cancelled == [chain.next]


def test_a_chain_has_a_longest_length(chain: Batch) -> None:
    status, output = chain.run(99, MAX_JOBS="3", DHPO_JOB_OF_CHAIN="3")
    assert (status, chain.submitted) == (1, [])
    assert "this is job 3 of the chain" in output
    assert chain.run(0, MAX_JOBS="3", DHPO_JOB_OF_CHAIN="3")[0] == 0
