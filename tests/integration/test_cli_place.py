"""Where ``dhpo run`` runs a search, and what it tells the job script that called it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dhpo import Search
from dhpo.cli.execute import Place
from dhpo.errors import SettingError

ROOT = Path(__file__).parents[2]

SEARCH = """
import dhpo


def train(config, report):
    for epoch in range(1, 4):
        report(epoch=epoch, objective=config.x)


search = dhpo.Search(
    {"x": (0.0, 1.0)}, train, searcher="random", stopper=dhpo.NeverStop(time_attr="epoch"), cluster="serial"
)
"""


def dhpo(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dhpo", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def search() -> Search:
    return Search({"x": (0.0, 1.0)}, lambda config: config.x, cluster="serial", resources={"num_cpus": 3})


def test_the_place_replaces_what_is_given_only() -> None:
    given = search()
    Place().impose(given)
    assert (given.cluster, given.resources) == ("serial", {"num_cpus": 3, "num_gpus": 0})
    Place("threads", num_gpus=2).impose(given)
    assert (given.cluster, given.resources) == ("threads", {"num_cpus": 3, "num_gpus": 2})
    Place(num_cpus=1).impose(given)
    assert (given.cluster, given.resources) == ("threads", {"num_cpus": 1, "num_gpus": 2})


def test_an_amount_that_cannot_be_is_refused() -> None:
    with pytest.raises(SettingError, match="num_gpus"):
        Place(num_gpus=-1).impose(search())


def test_the_exit_code_says_whether_there_is_work_left(tmp_path: Path) -> None:
    (tmp_path / "tune.py").write_text(SEARCH)
    code = ("--exit-code-if-unfinished", "99", "--no-progress")
    # A time so short that it is over before the trials are.
    first = dhpo("run", "tune.py", "-n", "100000", "--time-out", "0.2s", *code, cwd=tmp_path)
    assert first.returncode == 99, first.stderr
    assert "to go on" in first.stderr
    status = json.loads(dhpo("status", "runs/tune", "--json", cwd=tmp_path).stdout)
    assert status["state"] == "interrupted"
    ended = status["ended"]
    assert status["reports"] >= 3 * ended

    without = dhpo("resume", "runs/tune", "--time-out", "0.2s", "--no-progress", cwd=tmp_path)
    assert without.returncode == 0, without.stderr
    assert "to go on" in without.stderr

    again = json.loads(dhpo("status", "runs/tune", "--json", cwd=tmp_path).stdout)
    assert again["reports"] > status["reports"]
    last = dhpo("resume", "runs/tune", "-n", str(again["ended"] + 5), "--time-out", "1h", *code, cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    assert "to go on" not in last.stderr
    assert dhpo("resume", "runs/tune", *code, cwd=tmp_path).returncode == 0  # it was finished before


def test_another_place_may_be_chosen_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "tune.py").write_text(SEARCH.replace('"serial"', '"nowhere.json"'))
    ran = dhpo("run", "tune.py", "-n", "3", "--cluster", "threads", "--num-cpus", "2", "--no-progress", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    wrong = dhpo("resume", "runs/tune", "-n", "4", "--cluster", "elsewhere", cwd=tmp_path)
    assert wrong.returncode == 1
    assert "cluster='elsewhere'" in wrong.stderr
