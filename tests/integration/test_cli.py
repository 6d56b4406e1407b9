"""The command line, run as a user runs it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import dhpo
from dhpo import journal
from dhpo.cli.execute import parse_stop_at
from dhpo.cli.record import RunRecord
from dhpo.cli.script import split_target
from dhpo.cli.status import State, read_status
from dhpo.cli.tables import duration, table
from dhpo.errors import DhpoError

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(dhpo.__file__).parents[1])}
COMMANDS = ["run", "resume", "status", "front", "best", "trials", "export", "plot", "report", "importance", "compare"]
DEADLINE = 60.0  # seconds: how long a test waits for what must come

HELPER = "def offset():\n    return 1.0\n"
SEARCHES = '''
import os
import time

import dhpo
import helper

HERE = os.path.dirname(os.path.abspath(__file__))
OFFSET = helper.offset()


def score(x):
    return OFFSET - (x - 0.3) ** 2


def train(config, report):
    print("a trial prints")
    for epoch in (1, 2):
        report(epoch=epoch, score=epoch * score(config.x), cost=epoch * config.x)


def plain(config):
    print("a trial prints")
    return score(config["x"])


def gated(config, report):
    """The fourth trial and those after it wait until the test lets them go."""
    while report.trial >= 3 and not os.path.exists(os.path.join(HERE, "go")):
        time.sleep(0.01)
    return score(config.x)


def broken(config):
    raise RuntimeError(f"no luck with {config.x:.0f}")


def some_broken(config):
    return "F_diverged" if config["x"] > 0.5 else config["x"]


space = {"x": (0.0, 1.0), "layer": ["thin", "wide"]}
common = {"searcher": "random", "random_state": 3}
search = dhpo.Search(
    space, train, objectives={"score": "MAX", "cost": "MIN"}, cluster="serial",
    stopper=dhpo.Hyperband(time_attr="epoch", max_t=2, grace_period=1, reduction_factor=2), **common,
)
on_processes = dhpo.Search(space, plain, cluster="local", log_dir="kept/local", **common)
serial_gate = dhpo.Search(space, gated, cluster="serial", log_dir="kept/serial_gate", **common)
local_gate = dhpo.Search(space, gated, cluster="local", log_dir="kept/local_gate", **common)
failing = dhpo.Search(space, broken, cluster="serial", max_failures=4, **common)
half = dhpo.Search(space, some_broken, cluster="serial", **common)
number = 7
'''
KNOWN = """
import dhpo

search = dhpo.Search({"x": (0.0, 1.0)}, lambda config: config.x, cluster="serial", searcher="random", log_dir="kept")
NUMBERS = search.add_results([({"x": 0.5}, 7.0), ({"x": 0.25}, "F_oom"), ({"x": 0.75}, 0.1)])
"""


def dhpo_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dhpo", *arguments]


class Shell:
    """Runs ``dhpo`` in a directory of its own, with a file of searches in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "searches.py").write_text(SEARCHES)
        (directory / "helper.py").write_text(HELPER)

    def __call__(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            dhpo_command(*arguments),
            cwd=cwd or self.directory,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        done = self(*arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            dhpo_command(*arguments),
            cwd=self.directory,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for_ended(self, driver: subprocess.Popen[str], directory: str, count: int) -> dict[str, Any]:
        """Ask for the status until so many trials have ended."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end and driver.poll() is None:
            done = self("status", directory, "--json")
            if done.returncode == 0 and (status := json.loads(done.stdout))["ended"] >= count:
                return dict(status)
        driver.kill()
        raise AssertionError(f"never {count} ended trials: {driver.communicate()}")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell in whose directory a search of two objectives is done, in runs/searches, and one that half failed."""
    shell = Shell(tmp_path_factory.mktemp("done"))
    for name, where in (("search", "runs/searches"), ("half", "runs/half")):
        ran = shell("run", f"searches.py:{name}", "-n", "6", "--no-progress", "--log-dir", where)
        assert ran.returncode == 0, ran.stderr
    return shell


# Help and start-up


def test_help_of_every_command_has_an_example(shell: Shell) -> None:
    top = shell("--help")
    assert top.returncode == 0
    assert "Example:" in top.stdout
    for command in COMMANDS:
        assert f"\n  {command} " in top.stdout
        shown = shell(command, "--help")
        assert shown.returncode == 0
        assert f"Example:\n    dhpo {command} " in shown.stdout


def test_version(shell: Shell) -> None:
    assert shell("--version").stdout == f"dhpo {dhpo.__version__}\n"


def test_parsing_imports_nothing_heavy() -> None:
    code = "import sys, dhpo.cli.app; print(sorted({'numpy', 'pandas', 'sklearn', 'distributed'} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


# Running


def test_run_prints_the_front_and_keeps_everything_in_runs(shell: Shell) -> None:
    ran = shell("run", "searches.py", "--num-trials", "4", "--no-progress")
    assert ran.returncode == 0, ran.stderr
    assert "Pareto front of" in ran.stdout
    assert "4 of 4 trials ended" in ran.stdout
    assert str(shell.directory / "runs" / "searches") in ran.stdout
    names = {path.name for path in (shell.directory / "runs/searches").iterdir()}
    assert {"journal.jsonl", "results.csv", "run.json"} <= names
    again = shell("run", "searches.py", "--max-evals", "6", "--no-progress")
    assert "6 of 6 trials ended" in again.stdout
    assert again.stderr == ""


def test_functions_of_the_file_reach_worker_processes_and_json_stands_alone(shell: Shell) -> None:
    summary = shell.json("run", "searches.py:on_processes", "-n", "5", "--no-progress", "--json")
    assert summary["finished"] is True
    assert summary["state"] == "finished"
    assert summary["trials"]["COMPLETED"] == summary["ended"] == summary["num_trials"] == 5
    best = summary["best"]
    assert best["values"]["objective"] == pytest.approx(1.0 - (best["config"]["x"] - 0.3) ** 2)
    assert (shell.directory / "kept/local/journal.jsonl").exists()


def test_what_trials_print_goes_to_stderr_with_json(shell: Shell) -> None:
    ran = shell("run", "searches.py", "-n", "3", "--no-progress", "--json")
    assert "a trial prints" in ran.stderr
    summary = json.loads(ran.stdout)
    assert summary["best"] is None
    assert summary["front_size"] == len(summary["front"]) > 0


@pytest.mark.parametrize(("name", "number"), [("serial", signal.SIGTERM), ("local", signal.SIGINT)])
def test_a_search_is_watched_stopped_and_resumed(shell: Shell, name: str, number: signal.Signals) -> None:
    directory = f"kept/{name}_gate"
    driver = shell.start("run", f"searches.py:{name}_gate", "-n", "8", "--time-out", "1h", "--no-progress")
    status = shell.wait_for_ended(driver, directory, 3)
    assert (status["state"], status["finished"], status["ended"]) == ("running", False, 3)
    assert status["pid"] == driver.pid
    assert status["trials"]["RUNNING"] >= 1
    assert status["elapsed_s"] > 0
    assert 0 < status["eta_s"] <= 3600
    assert status["trials_per_hour"] > 0
    assert f"running on {os.uname().nodename} (process {driver.pid})" in shell("status", directory).stdout

    second = shell("run", f"searches.py:{name}_gate", "-n", "99", "--no-progress")
    assert second.returncode == 1
    assert "another driver" in second.stderr

    os.killpg(driver.pid, number)  # as a terminal or a batch system does it: to all processes of the group
    _, errors = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 0, errors
    assert "dhpo: 3 of 8 trials done; resubmit, or run the same command again, to go on" in errors
    assert "Traceback" not in errors
    status = shell.json("status", directory, "--json")
    assert (status["state"], status["finished"], status["eta_s"]) == ("interrupted", False, None)

    (shell.directory / "go").touch()
    resumed = shell.json("resume", directory, "--no-progress", "--json")
    assert (resumed["finished"], resumed["ended"], resumed["trials"]["RUNNING"]) == (True, 8, 0)


def test_a_second_interrupt_ends_at_once(shell: Shell) -> None:
    (shell.directory / "stuck.py").write_text(
        "import os, signal, threading\n"
        "import dhpo\n"
        "def run(config):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    threading.Event().wait()\n"
        "class Slow(dhpo.LocalExecutor):\n"
        "    async def close(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        import asyncio; await asyncio.sleep(3600)\n"
        "search = dhpo.Search({'x': (0.0, 1.0)}, run, searcher='random', cluster=Slow(1))\n"
    )
    ran = shell("run", "stuck.py", "-n", "3", "--no-progress")
    assert ran.returncode == 130, ran.stderr
    assert "Traceback" not in ran.stderr


def test_time_out_with_work_left_is_a_clean_end(shell: Shell) -> None:
    ran = shell("run", "searches.py:serial_gate", "-n", "8", "--time-out", "0.3", "--no-progress")
    assert ran.returncode == 0
    assert "dhpo: 3 of 8 trials done; resubmit, or run the same command again, to go on" in ran.stderr
    status = shell.json("status", "kept/serial_gate", "--json")
    assert (status["state"], status["finished"], status["reason"]) == ("interrupted", False, "time_out reached")


def test_time_out_alone_is_the_end(shell: Shell) -> None:
    ran = shell("run", "searches.py:serial_gate", "--time-out", "0.3s", "--no-progress")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert shell.json("status", "kept/serial_gate", "--json")["finished"] is True


def test_stop_at_and_patience_end_a_search(shell: Shell) -> None:
    goal = shell.json("run", "searches.py", "--stop-at", "score=0.1", "--stop-at", "cost=9", "--no-progress", "--json")
    assert (goal["finished"], goal["reason"]) == (True, "stop_at reached")
    some = ("run", "searches.py:half", "--patience", "2", "--no-progress", "--json", "--log-dir", "patient")
    assert shell.json(*some)["reason"] == "no improvement in 2 trials"


def test_a_run_ends_with_the_last_failure(shell: Shell) -> None:
    (shell.directory / "failing.py").write_text(
        "import dhpo\n\n\ndef train(config):\n    raise ValueError('no such file: x.csv')\n\n\n"
        "search = dhpo.Search({'x': (0.0, 1.0)}, train, cluster='serial', searcher='random')\n"
    )
    ran = shell("run", "failing.py", "-n", "2", "--no-progress")
    assert "the last failure was trial 1's: ValueError: no such file: x.csv" in ran.stdout


# Resuming


def test_resume_takes_new_budgets_and_remembers_them(shell: Shell) -> None:
    shell("run", "searches.py", "-n", "2", "--no-progress")
    assert shell.json("resume", "runs/searches", "-n", "4", "--no-progress", "--json")["ended"] == 4
    record = RunRecord.read(shell.directory / "runs/searches")
    assert record is not None
    assert record.num_trials == 4


def test_resume_works_from_elsewhere_and_after_a_move(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    shell("run", "searches.py:serial_gate", "-n", "2", "--no-progress")
    moved = tmp_path_factory.mktemp("moved") / "search"
    shutil.move(shell.directory / "kept/serial_gate", moved)
    ran = shell("resume", moved.name, "-n", "3", "--no-progress", cwd=moved.parent)
    assert ran.returncode == 0, ran.stderr
    assert "3 of 3 trials ended" in ran.stdout
    assert not (shell.directory / "kept/serial_gate").exists()


def test_a_search_started_from_python_has_a_status_but_is_resumed_by_its_script(shell: Shell) -> None:
    where = shell.directory / "mine"
    dhpo.Search({"x": (0.0, 1.0)}, lambda config: config.x, cluster="serial", searcher="random", log_dir=where).run(
        3, progress=False
    )
    status = shell.json("status", "mine", "--json")
    assert (status["finished"], status["num_trials"], status["ended"]) == (True, None, 3)
    ran = shell("resume", "mine")
    assert ran.returncode == 1
    assert "mine has no run.json" in ran.stderr
    assert "Run the same script again" in ran.stderr


def test_known_results_of_a_script_are_added_once_and_count_as_no_runs(shell: Shell) -> None:
    (shell.directory / "known.py").write_text(KNOWN)
    for command in (("run", "known.py", "-n", "4", "--log-dir", "moved"), ("resume", "moved", "-n", "6")):
        summary = shell.json(*command, "--no-progress", "--json")
        assert summary["finished"] is True
        assert (summary["ended"], summary["known"], summary["failed"]) == (int(command[3]), 3, 0)
        assert summary["best"]["trial"] == 0
    assert not (shell.directory / "kept").exists()
    assert sum(shell.json("status", "moved", "--json")["trials"].values()) == 6
    shown = shell("status", "moved").stdout
    assert "6 of 6 ended (6 completed)" in shown
    assert "3 added with their results" in shown
    rows = shell.json("trials", "moved", "--json")
    assert [row["trial"] for row in rows] == list(range(9))
    assert [row["known"] for row in rows] == [True] * 3 + [False] * 6
    assert [row["error"] for row in rows[:3]] == [None, "F_oom", None]
    assert shell("trials", "moved").stdout.count("(known)") == 3
    assert "(trial 0)" in shell("best", "moved").stdout
    assert shell("export", "moved", "--csv", "out.csv").returncode == 0
    assert pd.read_csv(shell.directory / "out.csv")["m:origin"].tolist()[:3] == ["known"] * 3
    assert shell("plot", "moved").returncode == 0


# Looking at results


def test_status_for_a_person(done: Shell) -> None:
    shown = done("status", "runs/searches").stdout
    assert shown.startswith("runs/searches: finished (num_trials=6 reached)\n")
    assert "6 of 6 ended" in shown
    half = done("status", "runs/half").stdout
    assert "failed" in half
    assert "last error" in half
    assert "best        objective 0.5 (trial 0" in half


def test_status_as_json(done: Shell) -> None:
    status = done.json("status", "runs/half", "--json")
    assert status["failed"] == status["trials"]["FAILED"] > 0
    assert status["ended"] == sum(status["trials"].values()) == 6
    assert status["last_error"]["error"]
    assert status["objectives"] == {"objective": "MAX"}


def test_front_agrees_with_results(done: Shell) -> None:
    results = dhpo.Results.load(done.directory / "runs/searches")
    for options in ([], ["--strict", "--unique"], ["--final-only"]):
        wanted = {name.strip("-").replace("-", "_"): True for name in options}
        points = done.json("front", "runs/searches", "--json", *options)
        front = results.pareto_front(resource=True, **wanted)
        found = {((str(p["trial"]), p["resource"]), *p["values"].values()) for p in points}
        assert found == {tuple(entry.values()) for entry in front}
        for point in points:
            assert point["config"] == results.config_history[str(point["trial"])]


def test_front_is_a_table_with_the_best_of_the_first_objective_on_top(done: Shell) -> None:
    header, *lines = done("front", "runs/searches").stdout.splitlines()
    assert header.split() == ["trial", "epoch", "score", "cost", "x", "layer"]
    scores = [float(line.split()[2]) for line in lines]
    assert scores == sorted(scores, reverse=True)


def test_best(done: Shell) -> None:
    point = done.json("best", "runs/searches", "--objective", "score", "--json")
    wanted = dhpo.Results.load(done.directory / "runs/searches").best("score")
    assert wanted is not None
    assert (point["trial"], point["values"], point["config"]) == (wanted.trial, wanted.values, dict(wanted.config))
    assert f"(trial {point['trial']}, epoch 2)" in done("best", "runs/searches", "--objective", "score").stdout
    unnamed = done("best", "runs/searches")
    assert unnamed.returncode == 1
    assert "name one of ['score', 'cost']" in unnamed.stderr


def test_trials(done: Shell) -> None:
    rows = done.json("trials", "runs/half", "--json")
    assert [row["trial"] for row in rows] == list(range(6))
    for row in rows:
        if row["config"]["x"] > 0.5:
            assert (row["status"], row["values"]) == ("FAILED", None)
            assert "diverged" in row["error"]
        else:
            assert (row["status"], row["error"]) == ("COMPLETED", None)
            assert row["values"] == {"objective": row["config"]["x"]}
    assert done.json("trials", "runs/half", "--json", "--last", "2") == rows[-2:]
    assert done.json("trials", "runs/half", "--json", "--failed") == [row for row in rows if row["error"]]
    lines = done("trials", "runs/half").stdout.splitlines()
    assert lines[0].split() == ["trial", "status", "report", "objective", "x", "layer", "error"]
    assert len(lines) == 7


def test_export(done: Shell) -> None:
    arguments = ["-o", "out.csv", "--out", "out.json", "--parquet", "out.parquet"]
    files = done.json("export", "runs/searches", *arguments, "--json")["files"]
    assert [(file["path"], file["format"]) for file in files] == [(f"out.{k}", k) for k in ("csv", "json", "parquet")]
    assert done("export", "runs/searches", "-o", "out.txt", "--format", "csv").returncode == 0
    assert (done.directory / "out.txt").read_bytes() == (done.directory / "out.csv").read_bytes()
    wanted = dhpo.Results.load(done.directory / "runs/searches").to_frame()["job_id"].tolist()
    assert pd.read_csv(done.directory / "out.csv")["job_id"].tolist() == wanted
    assert [row["job_id"] for row in json.loads((done.directory / "out.json").read_text())] == wanted
    assert pd.read_parquet(done.directory / "out.parquet")["job_id"].tolist() == wanted


def test_plot(done: Shell) -> None:
    files = done.json("plot", "runs/searches", "--out", "figures", "--json")["files"]
    assert {"learning_curves_0.png", "hypervolume.png", "front.png"} <= {Path(file).name for file in files}
    assert all((done.directory / file).read_bytes().startswith(b"\x89PNG") for file in files)
    listed = done("plot", "runs/half", "--figure", "incumbent", "--format", "pdf").stdout.split()
    assert listed == ["runs/half/plots/incumbent.pdf"]
    assert (done.directory / listed[0]).read_bytes().startswith(b"%PDF")
    both = done.json("plot", "a=runs/half", "a=runs/half", "--json")["files"]
    assert both == ["plots/incumbent.png", "plots/incumbent_by_trials.png"]


def test_report(done: Shell) -> None:
    made = done.json("report", "runs/half", "--json")
    html = (done.directory / made["file"]).read_bytes()
    assert made["file"] == "runs/half/report.html"
    assert (len(html), html[:15]) == (made["bytes"], b"<!doctype html>")
    assert "incumbent" in made["figures"]
    assert done("report", "runs/half", "-o", "other.html").stdout == "other.html\n"


def test_importance(done: Shell) -> None:
    rows = done.json("importance", "runs/searches", "--json")
    assert all(set(row) == {"objective", "hyperparameter", "share", "alone", "total"} for row in rows)
    few = done("importance", "runs/half")
    assert (few.returncode, few.stdout) == (1, "")
    assert "at least 8 trials" in few.stderr
    assert "no objective 'speed'" in done("importance", "runs/half", "--objective", "speed").stderr


def test_compare(done: Shell) -> None:
    found = done.json("compare", "x=runs/half", "y=runs/half", "y=runs/half", "--json")
    assert (found["measure"], found["reference"]) == ("objective", None)
    assert [(row["label"], row["runs"]) for row in found["rows"]] == [("x", 1), ("y", 2)]
    assert found["rows"][0]["regret_by_trials"][-1] == 0.0
    assert len(found["fractions"]) == len(found["rows"][0]["regret_by_time"])
    lines = done("compare", "runs/searches").stdout.splitlines()
    assert lines[0].split() == ["search", "runs", "trials", "failed", "seconds", "hypervolume", "front"]
    differing = done("compare", "runs/searches", "runs/half")
    assert (differing.returncode, differing.stdout) == (1, "")
    assert "only searches with the same ones" in differing.stderr


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "searches.py"], "give --num-trials, --time-out, --stop-at or --patience"),
        (["run", "searches.py", "-n", "0"], "--num-trials"),
        (["run", "searches.py", "--time-out", "soon"], "'soon' is no duration"),
        (["run", "searches.py", "--stop-at", "high"], "'high': give VALUE or NAME=VALUE"),
        (["run"], "Missing argument"),
        (["walk"], "No such command"),
        (["export", "runs/searches"], "give at least one --out"),
        (["export", "runs/searches", "-o", "a", "--format", "xml"], "there is no format 'xml'"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(shell: Shell, arguments: list[str], message: str) -> None:
    ran = shell(*arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert message in " ".join(ran.stderr.split())
    assert not (shell.directory / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "missing.py", "-n", "1"], "there is no file"),
        (["run", "searches.py:nothing", "-n", "1"], "searches.py:search"),
        (["run", "searches.py:number", "-n", "1"], "is a int, no dhpo.Search object"),
        (["run", "bad.py", "-n", "1"], "bad.py, line 2: ZeroDivisionError: division by zero"),
        (["run", "syntax.py", "-n", "1"], "syntax.py, line 1: SyntaxError"),
        (["run", "searches.py", "-n", "1", "--stop-at", "speed=1"], "'speed', which is no objective"),
        (["status", "nowhere"], "there is no journal at nowhere"),
        (["front", "nowhere"], "there is no journal at nowhere"),
        (["resume", "nowhere"], "there is no directory nowhere"),
        (["plot", "nowhere"], "there is no journal at nowhere"),
    ],
)
def test_what_dhpo_refuses_is_exit_code_1_and_one_line(shell: Shell, arguments: list[str], message: str) -> None:
    (shell.directory / "bad.py").write_text("import dhpo\nhalf = 1 / 0\n")
    (shell.directory / "syntax.py").write_text("def\n")
    ran = shell(*arguments)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("dhpo: ")
    assert ran.stderr.count("\n") == 1
    assert message in ran.stderr


def test_traceback_shows_where(shell: Shell) -> None:
    (shell.directory / "bad.py").write_text("import dhpo\nhalf = 1 / 0\n")
    for arguments in (["--traceback", "run", "bad.py", "-n", "1"], ["run", "bad.py", "-n", "1", "--traceback"]):
        ran = shell(*arguments)
        assert ran.returncode == 1
        assert "Traceback (most recent call last)" in ran.stderr
        assert "half = 1 / 0" in ran.stderr


def test_too_many_failures_are_exit_code_1(shell: Shell) -> None:
    ran = shell("run", "searches.py:failing", "-n", "9", "--no-progress", "--json")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "dhpo: the last 4 trials all failed, the last one with: RuntimeError: no luck" in ran.stderr
    status = shell.json("status", "runs/searches", "--json")
    assert (status["state"], status["finished"], status["failed"]) == ("failed", False, 4)


def test_another_search_in_the_same_directory_is_refused(shell: Shell) -> None:
    shell("run", "searches.py", "-n", "1", "--no-progress")
    before = (shell.directory / "runs/searches/run.json").read_bytes()
    ran = shell("run", "searches.py:half", "-n", "2", "--no-progress")
    assert ran.returncode == 1
    assert "holds a search with another objectives:\n  score: 'MAX' there, None here\n" in ran.stderr
    assert "Give another log_dir for a new search" in ran.stderr
    assert (shell.directory / "runs/searches/run.json").read_bytes() == before


# The parts


def test_a_driver_waits_out_the_instant_in_which_status_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = journal.Header("a search", 0.0)
    journal.FileJournal.open(tmp_path, header).close()
    reader = os.open(tmp_path / journal.FILE_NAME, os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    pauses: list[float] = []

    def let_go(seconds: float) -> None:
        pauses.append(seconds)
        os.close(reader)

    monkeypatch.setattr("dhpo._lines.time.sleep", let_go)
    with journal.FileJournal.open(tmp_path, header):
        assert len(pauses) == 1
        assert read_status(tmp_path).state is State.RUNNING
    assert read_status(tmp_path).state is State.INTERRUPTED


def test_table_aligns_numbers_to_the_right_and_text_to_the_left() -> None:
    shown = table(["name", "value"], [["a", 1.23456789], ["long", None], ["b c", 10]])
    assert shown.splitlines() == ["name    value", "a     1.23457", "long", "b c        10"]
    assert table(["only", "header"], []) == "only  header"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (7500, "2 h 5 min"), (90000, "1 d 1 h"), (86400, "1 d")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_parse_stop_at() -> None:
    assert parse_stop_at([]) is None
    assert parse_stop_at(["0.5"]) == 0.5
    assert parse_stop_at(["a=1", "b=-2e3"]) == {"a": 1.0, "b": -2000.0}
    for wrong in (["a=", "b=1"], ["1", "2"], ["=1"]):
        with pytest.raises(ValueError, match=r"give VALUE or NAME=VALUE|need names"):
            parse_stop_at(wrong)


def test_split_target(tmp_path: Path) -> None:
    assert split_target("a/b.py") == (Path("a/b.py"), "search")
    assert split_target("a/b.py:tuner") == (Path("a/b.py"), "tuner")
    odd = tmp_path / "odd:name"
    odd.touch()
    assert split_target(str(odd)) == (odd, "search")


def test_record_round_trip_and_damage(tmp_path: Path) -> None:
    record = RunRecord("/a/b.py", "search", "/a", 5, "2h", ("x=1",), None)
    record.write(tmp_path)
    assert RunRecord.read(tmp_path) == record
    assert record.overridden(9, None, (), 3) == RunRecord("/a/b.py", "search", "/a", 9, "2h", ("x=1",), 3)
    assert RunRecord.read(tmp_path / "nowhere") is None
    for damage in ("{", "[]", '{"file": "x"}'):
        (tmp_path / "run.json").write_text(damage)
        with pytest.raises(DhpoError, match=r"run\.json cannot be read"):
            RunRecord.read(tmp_path)
