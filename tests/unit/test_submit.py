from __future__ import annotations

import re
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dhpo.budget import parse_duration
from dhpo.cli.app import app
from dhpo.cli.jobscript import Mode, System, render
from dhpo.cli.submission import Submission, clock, job_name, mebibytes, prepare, submit, watch
from dhpo.errors import DhpoError, SettingError

CASES = [(system, mode) for system in System for mode in Mode]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a search."""
    (tmp_path / "work dir").mkdir()
    monkeypatch.chdir(tmp_path / "work dir")
    Path("tune.py").write_text("search = None\n")
    return tmp_path / "work dir"


def directives(script: str) -> list[str]:
    return re.findall(r"^#(?:SBATCH|PBS) (.*)$", script, re.MULTILINE)


def variables(script: str, *names: str) -> list[str]:
    """What the shell makes of a script's first lines."""
    head = script.split("# Nothing below needs to be changed.")[0]
    show = "\n".join(f'printf "%s\\n" "${{{name}[@]}}"' for name in names)
    done = subprocess.run(["bash", "-eu", "-c", f"{head}\n{show}"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(("system", "mode"), CASES)
def test_the_script_is_the_one_of_jobscripts_with_other_lines(system: System, mode: Mode) -> None:
    marks = ("#SBATCH", "#PBS", "# -", "# Most sites", "# This is the driver's", "PYTHON=", "SEARCH=", "OPTIONS=")
    marks = (*marks, "RUN_DIR=", "SELF=", "export DASK_JOBQUEUE", "# export DASK_JOBQUEUE")

    def common(script: str) -> list[str]:
        return [line for line in script.splitlines() if not line.startswith(marks)]

    asked = Submission("tune.py", system, mode, options=("--num-trials", "5"))
    assert common(asked.script()) == common(render(system, mode))


@pytest.mark.parametrize(("system", "mode"), CASES)
def test_names_with_spaces_and_quotes_reach_the_driver(system: System, mode: Mode, project: Path) -> None:
    asked = Submission("it's mine.py:other", system, mode, Path("my runs/it's"), ("--stop-at", "a b=2"), cpus=2)
    shown = variables(asked.script(), "PYTHON", "SEARCH", "RUN_DIR", "OPTIONS")
    assert shown == [
        sys.executable, f"{project}/it's mine.py:other", f"{project}/my runs/it's", "--stop-at", "a b=2", "--num-cpus",
        "2",
    ]  # fmt: skip


def test_what_a_slurm_job_asks_for() -> None:
    asked = Submission(
        "tune.py", System.SLURM, Mode.CHAIN, walltime="90min", workers=16, cpus=4, gpus=1, memory="10GB", queue="gpu",
        account="chem", directives=("--constraint=a100",),
    )  # fmt: skip
    assert directives(asked.script()) == [
        "--job-name=dhpo-tune", "--ntasks=16", "--cpus-per-task=4", "--mem-per-cpu=2560M", "--gpus-per-task=1",
        "--time=01:30:00", "--signal=B:TERM@120", "--no-kill", "--open-mode=append", "--partition=gpu",
        "--account=chem", f'--output="{asked.run_directory()}"/dhpo-tune-%j.out', "--constraint=a100",
    ]  # fmt: skip


def test_what_a_pbs_job_asks_for() -> None:
    asked = Submission(
        "tune.py", System.PBS, walltime="1-12:00:00", workers=2, cpus=4, gpus=1, memory="1.5G", queue="gpu",
        account="chem", directives=("-l place=scatter",),
    )  # fmt: skip
    assert directives(asked.script()) == [
        "-N dhpo-tune", "-l select=2:ncpus=4:mem=1536mb:ngpus=1", "-l walltime=36:00:00", "-j oe", "-V", "-q gpu",
        "-A chem", f'-o "{asked.run_directory()}"/', "-l place=scatter",
    ]  # fmt: skip


def test_output_goes_to_the_directory_whatever_its_name(tmp_path: Path) -> None:
    (output,) = (
        directive
        for directive in directives(Submission("tune.py", System.SLURM, directory=tmp_path / "50%").script())
        if directive.startswith("--output")
    )
    assert output == f"--output={tmp_path}/50%%/dhpo-50-%j.out"


@pytest.mark.parametrize(("walltime", "seconds"), [("4h", 120), ("20min", 120), ("5min", 30), ("1min", 6), ("5", 1)])
def test_a_short_job_is_told_later_of_its_end(walltime: str, seconds: int) -> None:
    script = Submission("tune.py", System.SLURM, Mode.CHAIN, walltime=walltime).script()
    assert f"--signal=B:TERM@{seconds}" in directives(script)


@pytest.mark.parametrize("system", System)
def test_a_directory_that_cannot_be_written_is_named(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", {System.SLURM: "sbatch", System.PBS: "qsub"}[system], "echo 7")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    (tmp_path / "file").touch()
    asked = Submission("tune.py", system, directory=tmp_path / "file" / "run")
    with pytest.raises(DhpoError, match=r"file/run/job\.sh cannot be written .*choose another --log-dir"):
        submit(asked, asked.script())


@pytest.mark.parametrize("system", System)
def test_a_driver_has_a_job_of_its_own(system: System) -> None:
    asked = Submission(
        "tune.py", system, Mode.DRIVER, walltime="2h", driver_walltime="3d", workers=5, memory="6GB", queue="q w",
        account="a", directives=("--constraint=a100", "-x 'y'"),
    )  # fmt: skip
    script = asked.script()
    (time,) = (d for d in directives(script) if "time=" in d)
    assert time.endswith("time=72:00:00")
    assert not [d for d in directives(script) if "a100" in d]
    prefix = f"DASK_JOBQUEUE__{system.upper()}__"
    names = ("N_WORKERS", "WALLTIME", "MEMORY", "QUEUE", "ACCOUNT", "JOB_EXTRA_DIRECTIVES", "LOG_DIRECTORY")
    assert variables(script, *(prefix + name for name in names)) == [
        "5", "02:00:00", "6144MiB", "q w", "a", repr(["--constraint=a100", "-x 'y'"]), f"{asked.run_directory()}/jobs"
    ]  # fmt: skip


def test_pbs_takes_short_names_only() -> None:
    asked = Submission("tune.py", System.PBS, directory=Path("runs/a search with a long name"))
    assert job_name(asked) == "dhpo-a-search-w"
    assert job_name(replace(asked, directory=Path("x/ü"))) == "dhpo"


@given(st.integers(1, 10**7))
@settings(deadline=None, max_examples=50)
def test_a_walltime_is_what_it_was(seconds: int) -> None:
    assert parse_duration(clock(f"{seconds}s", "--walltime")) == seconds


@given(st.integers(1, 10**6))
@settings(deadline=None, max_examples=50)
def test_memory_has_units_of_1024(amount: int) -> None:
    assert mebibytes(f"{amount}M") == mebibytes(f"{amount} MiB") == mebibytes(f"{amount}mb") == amount
    assert mebibytes(f"{amount}G") == 1024 * amount
    assert mebibytes(str(amount * 1024**2)) == amount


@pytest.mark.parametrize("text", ["", "3x", "-1G", "0", "GB", "1kB", "nan"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="--memory="):
        mebibytes(text)


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(DhpoError, match=r"no file tun\.py"):
        prepare(Submission("tun.py", System.SLURM))


def test_the_drivers_walltime_needs_a_driver() -> None:
    with pytest.raises(SettingError, match="--mode driver"):
        prepare(Submission("tune.py", System.SLURM, driver_walltime="2h"))


@pytest.mark.parametrize(("system", "command"), [(System.SLURM, "sbatch"), (System.PBS, "qsub")])
def test_a_machine_without_the_batch_system(system: System, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DhpoError, match=f"no {command}.*login node"):
        submit(Submission("tune.py", system), "")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("system", "command", "answer", "job"),
    [
        (System.SLURM, "sbatch", "12", "12"),
        (System.SLURM, "sbatch", "12;cluster", "12"),
        (System.PBS, "qsub", "34.server.example.org", "34.server.example.org"),
    ],
)
def test_the_script_is_written_and_submitted(
    system: System, command: str, answer: str, job: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        project / "bin", command, f'pwd >"{project}/calls"; printf "%s\\n" "$@" >>"{project}/calls"; echo "{answer}"'
    )
    monkeypatch.setenv("PATH", f"{project}/bin:/usr/bin:/bin")
    asked = Submission("tune.py", system, Mode.CHAIN, options=("--num-trials", "5"))
    number, path = submit(asked, asked.script())
    assert (number, path) == (job, project / "runs" / "tune" / "job.sh")
    assert path.read_text() == asked.script()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    options = ["--parsable"] if system is System.SLURM else []
    assert (project / "calls").read_text().splitlines() == [str(project), *options, str(path)]


def test_what_the_batch_system_says_is_passed_on(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(project / "bin", "sbatch", 'echo "sbatch: error: invalid partition specified: x" >&2; exit 1')
    monkeypatch.setenv("PATH", f"{project}/bin:/usr/bin:/bin")
    with pytest.raises(DhpoError, match=r"refused .*job\.sh: error: invalid partition specified: x"):
        submit(Submission("tune.py", System.SLURM, queue="x"), "")


def test_dry_run_prints_the_script_and_nothing_else() -> None:
    done = CliRunner().invoke(app, ["submit", "tune.py", "--cluster", "slurm", "-n", "5", "-p", "x", "--dry-run"])
    assert done.exit_code == 0
    asked = Submission("tune.py", System.SLURM, options=("--num-trials", "5"), queue="x")
    assert done.stdout == asked.script()
    assert not Path("runs").exists()


def test_all_options_arrive() -> None:
    line = (
        "submit tune.py:other --cluster pbs --mode driver --num-trials 9 --time-out 3h --patience 4 --stop-at a=1 "
        "--stop-at b=2 --workers 3 --walltime 1h --driver-walltime 9h --cpus 2 --gpus 1 --memory 2GB --queue q "
        "--account a --directive x --directive y --log-dir d --dry-run"
    )
    options = ["--num-trials", "9", "--time-out", "3h", "--patience", "4", "--stop-at", "a=1", "--stop-at", "b=2"]
    asked = Submission(
        "tune.py:other", System.PBS, Mode.DRIVER, Path("d"), tuple(options), "1h", "9h", 3, 2, 1, "2GB", "q", "a",
        ("x", "y"),
    )  # fmt: skip
    assert CliRunner().invoke(app, line.split()).stdout == asked.script()


def test_the_job_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(project / "bin", "sbatch", "echo 77")
    monkeypatch.setenv("PATH", f"{project}/bin:/usr/bin:/bin")
    done = CliRunner().invoke(app, ["submit", "tune.py", "--cluster", "slurm", "-n", "5"])
    assert done.exit_code == 0
    assert f"job 77: {project}/runs/tune/job.sh" in done.stdout
    assert "squeue --me" in done.stdout
    assert "qstat" in watch(Submission("tune.py", System.PBS))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cluster", "slurm"], "needs an end"),
        (["--cluster", "lsf", "-n", "1"], "lsf"),
        (["-n", "1"], "--cluster"),
        (["--cluster", "slurm", "-n", "1", "--walltime", "soon"], "--walltime='soon' is no duration"),
        (["--cluster", "slurm", "-n", "1", "--memory", "much"], "--memory='much'"),
        (["--cluster", "slurm", "-n", "1", "--workers", "0"], "--workers"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["submit", "tune.py", *arguments])
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
