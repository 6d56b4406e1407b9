"""Running searches watched, stopped, paused and resumed from the command line; and every command's JSON."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dhpo
from dhpo import control

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(dhpo.__file__).parents[1])}
DEADLINE = 120.0  # seconds: how long a test waits for what must come

SEARCH = '''
import os
import time

import dhpo

HERE = os.path.dirname(os.path.abspath(__file__))


def gated(config, report):
    """From the third trial on, epochs follow each other slowly, until the test lets all of them go."""
    for epoch in range(1, 1_000_000):
        report(epoch=epoch, score=config.x + epoch)
        if report.trial < 2 or os.path.exists(os.path.join(HERE, "go")):
            return
        time.sleep(0.02)


common = {"searcher": "random", "random_state": 3, "objectives": {"score": "MAX"}, "log_dir": "kept"}
common["stopper"] = dhpo.NeverStop(time_attr="epoch")
on_threads = dhpo.Search({"x": (0.0, 1.0)}, gated, cluster="threads", **common)
on_processes = dhpo.Search({"x": (0.0, 1.0)}, gated, cluster="local", **common)
'''


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dhpo", *arguments]


class Shell:
    """Runs ``dhpo`` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[subprocess.Popen[str]] = []
        (directory / "tune.py").write_text(SEARCH)

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments), cwd=self.directory, env=ENVIRONMENT | environment, capture_output=True, text=True,
            timeout=DEADLINE, check=False,
        )  # fmt: skip

    def json(self, *arguments: str) -> Any:
        done = self(*arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(*arguments), cwd=self.directory, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask for the status until it is as wanted."""
        end = time.monotonic() + DEADLINE
        found: dict[str, Any] = {}
        while time.monotonic() < end:
            done = self("status", "kept", "--json")
            if done.returncode == 0 and wanted(found := json.loads(done.stdout)):
                return found
        raise AssertionError(f"it never came to be: {found}")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    for process in shell.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def running(status: dict[str, Any]) -> bool:
    return bool(status["state"] == "running" and status["ended"] >= 2 and status["trials"]["RUNNING"])


@pytest.mark.parametrize(("name", "options"), [("on_threads", []), ("on_processes", ["--now"])])
def test_a_trial_is_cancelled_and_the_search_stopped(shell: Shell, name: str, options: list[str]) -> None:
    watcher = shell.start("watch", "kept", "--json", "--interval", "0.1")  # before there is anything to watch
    driver = shell.start("run", f"tune.py:{name}", "-n", "50", "--no-progress", "--exit-code-if-unfinished", "99")
    shell.until(running)
    (answer,) = shell.json("stop", "kept", "--trial", "2", "--json")
    assert answer == {"done": True, "text": "trial 2 is cancelled", "trial": 2}
    again = shell("stop", "kept", "--trial", "2")
    assert (again.returncode, again.stdout) == (1, "")
    assert "trial 2 has ended already: it is CANCELLED" in again.stderr
    status = shell.until(lambda status: status["trials"]["RUNNING"] > 0 and status["trials"]["CANCELLED"] == 1)
    assert (status["failed"], status["ended"]) == (0, 3)  # … and another trial has its place

    stopped = shell("stop", "kept", *options)
    assert stopped.returncode == 0, stopped.stderr
    _, errors = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 0, errors  # not 99: nothing is to go on by itself
    assert "3 of 50 trials done; ended by dhpo stop; run the same command again to go on" in errors
    status = shell.json("status", "kept", "--json")
    assert (status["state"], status["stopped"]) == ("interrupted", True)
    assert "interrupted (ended by dhpo stop)" in shell("status", "kept").stdout

    (shell.directory / "go").touch()
    resumed = shell.json("resume", "kept", "-n", "6", "--no-progress", "--json")
    assert (resumed["finished"], resumed["stopped"], resumed["ended"]) == (True, False, 6)
    assert resumed["trials"]["CANCELLED"] == 1
    rows = shell.json("trials", "kept", "--json")
    assert rows[2]["status"] == "CANCELLED"
    assert rows[2]["values"]["score"] > 1
    told, _ = watcher.communicate(timeout=DEADLINE)
    changes = [json.loads(line) for line in told.splitlines()]
    assert changes[-1]["state"] == "finished"
    assert [change["ended"] for change in changes] == sorted(change["ended"] for change in changes)


def test_a_paused_search_stays_paused_when_it_is_run_again(shell: Shell) -> None:
    driver = shell.start("run", "tune.py:on_threads", "-n", "6", "--no-progress")
    shell.until(running)
    assert "no more trials start" in shell("pause", "kept").stdout
    (shell.directory / "go").touch()  # those that run come to their ends
    status = shell.until(lambda status: not status["trials"]["RUNNING"])
    assert (status["state"], status["paused"]) == ("running", True)
    assert status["ended"] < 6
    assert "paused: `dhpo unpause kept` lets it go on" in shell("status", "kept").stdout
    assert shell("stop", "kept").returncode == 0
    driver.communicate(timeout=DEADLINE)

    again = shell.start("resume", "kept", "--no-progress")
    shell.until(lambda found: found["state"] == "running")
    assert shell.json("status", "kept", "--json")["ended"] == status["ended"]
    assert shell.json("unpause", "kept", "--json")[0]["done"] is True
    output, errors = again.communicate(timeout=DEADLINE)
    assert "6 of 6 trials ended" in output
    assert "paused" in errors


def test_where_no_driver_runs_it_is_said_at_once(shell: Shell) -> None:
    for arguments in (["stop"], ["stop", "--now"], ["stop", "--trial", "1"], ["pause"], ["unpause"]):
        ran = shell(arguments[0], "kept", *arguments[1:])
        assert ran.returncode == 1
        assert "kept holds no search" in ran.stderr
    (shell.directory / "go").touch()
    assert shell("run", "tune.py:on_threads", "-n", "2", "--no-progress").returncode == 0
    for arguments in (["stop"], ["pause"]):
        ran = shell(*arguments, "kept")
        assert ran.returncode == 1
        assert "no driver is running in kept: `dhpo status kept` tells" in ran.stderr
    assert shell("unpause", "kept").stdout == "kept: it was not paused\n"
    (shell.directory / "kept" / "control").mkdir()  # as a driver leaves it that was killed while it was paused
    control.Mailbox(shell.directory / "kept").pause(True)
    assert "starts trials when it is run again" in shell("unpause", "kept").stdout
    assert not control.is_paused(shell.directory / "kept")


def test_a_driver_of_another_machine_that_does_not_answer_is_named(shell: Shell) -> None:
    (shell.directory / "go").touch()
    shell("run", "tune.py:on_threads", "-n", "2", "--no-progress")
    (shell.directory / "kept/control").mkdir()
    (shell.directory / "kept/control/driver.json").write_text('{"host": "node12", "pid": 4242}')
    ran = shell("stop", "kept", "--timeout", "0.2")
    assert ran.returncode == 1
    assert "no driver has answered within 0.2 s: the one on node12 (process 4242) seems to be gone" in ran.stderr


# Watching


def on_terminal(shell: Shell, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a command whose input and output are a terminal of 40 lines and 100 columns."""
    ours, its = pty.openpty()
    environment = ENVIRONMENT | {"TERM": "xterm", "LINES": "40", "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen(command(*arguments), cwd=shell.directory, env=environment, stdin=its, stdout=its)
    os.close(its)
    return process, ours


def read_until(terminal: int, text: str) -> str:
    """Read a terminal until a text has come, or its other end is closed."""
    end, found = time.monotonic() + DEADLINE, b""
    while text.encode() not in found and time.monotonic() < end:
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                found += os.read(terminal, 65536)
            except OSError:
                break
    return found.decode(errors="replace")


def test_a_terminal_shows_a_screen_and_q_leaves_it(shell: Shell) -> None:
    driver = shell.start("run", "tune.py:on_threads", "-n", "50", "--no-progress")
    shell.until(running)
    process, terminal = on_terminal(shell, "watch", "kept", "--interval", "0.2")
    try:
        shown = read_until(terminal, "Running (")
        assert "kept: running on" in shown
        assert "best     score" in shown
        os.write(terminal, b"q")
        after = read_until(terminal, "kept: running on")  # its last state stays
        assert "kept: running on" in after
        read_until(terminal, "the end")
        assert process.wait(DEADLINE) == 0
    finally:
        os.close(terminal)
        if process.poll() is None:
            process.kill()
    assert driver.poll() is None
    shell("stop", "kept", "--now")
    driver.communicate(timeout=DEADLINE)


def test_without_a_terminal_a_line_is_printed_for_each_change(shell: Shell) -> None:
    watcher = shell.start("watch", "kept", "--interval", "0.1")
    (shell.directory / "go").touch()
    shell("run", "tune.py:on_threads", "-n", "4", "--no-progress")
    output, errors = watcher.communicate(timeout=DEADLINE)
    assert watcher.returncode == 0
    assert "kept: no search has begun there yet; waiting" in errors
    lines = output.splitlines()
    assert len(set(lines)) == len(lines)
    assert "finished: 4 of 4 ended (4 completed); score" in lines[-1]
    assert "\x1b" not in output


# JSON and completion


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A search of one objective whose results include NaN and infinity."""
    shell = Shell(tmp_path_factory.mktemp("done"))
    (shell.directory / "odd.py").write_text(
        "import dhpo\n\n\n"
        "def train(config):\n"
        "    if config.x > 0.8:\n"
        "        return 'F_odd'\n"
        "    odd = {'nan': float('nan'), 'inf': float('inf'), 'big': 10**30}\n"
        "    return {'objective': config.x, 'metadata': odd}\n\n\n"
        "search = dhpo.Search({'x': (0.0, 1.0)}, train, cluster='serial', searcher='random', random_state=0)\n"
    )
    ran = shell("run", "odd.py", "-n", "12", "--no-progress", "--json", "--log-dir", "odd")
    assert ran.returncode == 0, ran.stderr
    return shell


JSON = {
    "run": ["odd.py", "-n", "12", "--no-progress", "--log-dir", "odd"],
    "resume": ["odd", "--no-progress"],
    "status": ["odd"],
    "watch": ["odd"],
    "front": ["odd"],
    "best": ["odd"],
    "trials": ["odd"],
    "importance": ["odd"],
    "compare": ["odd", "odd"],
    "export": ["odd", "--out", "results.csv"],
    "plot": ["odd", "--out", "figures"],
    "report": ["odd"],
    "unpause": ["odd"],
    "submit": ["odd.py", "--cluster", "slurm", "-n", "3", "--dry-run"],
}
#: These need a running driver, or run until they are ended: their tests are elsewhere.
LIVE = {"stop", "pause", "dashboard"}


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("name", JSON)
def test_every_command_prints_json_alone(done: Shell, name: str) -> None:
    ran = done(name, *JSON[name], "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout, parse_constant=refuse)
    assert isinstance(found, dict | list)


def test_no_command_is_left_out() -> None:
    from dhpo.cli.app import app

    names = {str(info.name or info.callback.__name__) for info in app.registered_commands if info.callback}
    assert names == {*JSON, *LIVE}


def test_live_commands_have_json_too(done: Shell) -> None:
    for name in LIVE:
        assert "--json" in done(name, "--help").stdout


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands_and_searches(done: Shell, shell_name: str) -> None:
    script = done("--show-completion", shell_name).stdout
    assert "dhpo" in script
    for typed, word, offered in (("dhpo st", "st", {"status", "stop"}), ("dhpo status o", "o", {"odd"})):
        environment = {"_DHPO_COMPLETE": f"complete_{shell_name}", "_TYPER_COMPLETE_ARGS": typed}
        if shell_name == "bash":
            environment |= {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
        if shell_name == "fish":
            environment["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
            environment["_TYPER_COMPLETE_WORD_TO_COMPLETE"] = word
        found = done(**environment).stdout
        for name in offered:
            assert name in found
