"""What ``dhpo watch`` shows, and how it follows a journal; and what the shell completes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo import HpProblem, Hyperband
from dhpo.cli.completion import journal_directories
from dhpo.cli.follow import Follower
from dhpo.cli.screen import ASCII, UNICODE, one_line, screen, sparkline
from dhpo.events import (
    Event,
    SearchFinished,
    SessionOpened,
    TrialCancelled,
    TrialCompleted,
    TrialFailed,
    TrialProposed,
    TrialReported,
)
from dhpo.journal import FileJournal, Header

SETTINGS = {
    "problem": HpProblem({"x": (0.0, 1.0)}).to_json(),
    "objectives": {"accuracy": "MAX", "seconds": "MIN"},
    "stopper": Hyperband(time_attr="epoch", max_t=9).settings(),
}
SINGLE = {**SETTINGS, "objectives": {"accuracy": "MAX"}}


def opened() -> SessionOpened:
    return SessionOpened(0.0, time.time(), os.uname().nodename, os.getpid(), "1")


def trial(number: int, epochs: int, error: str = "") -> list[Event]:
    x = (number * 0.37) % 1
    events: list[Event] = [TrialProposed(float(number), number, {"x": x}, 0, "random", 0)]
    for epoch in range(1, epochs + 1):
        values = {"epoch": epoch, "accuracy": x * epoch, "seconds": float(epoch)}
        events.append(TrialReported(number + 0.1 * epoch, number, 1, epoch, float(epoch), values))
    if error:
        events.append(TrialFailed(number + 1.0, number, 1, error, "", 0.0, 1.0, "w1"))
    elif epochs:
        events.append(TrialCompleted(number + 1.0, number, 1, None, {}, epochs < 9, 0.0, 1.0, "w1"))
    return events


def texts(search: Follower, height: int = 40) -> str:
    return "\n".join(line.text for line in screen(search, height))


def test_a_search_is_followed_from_before_it_begins_to_its_end(tmp_path: Path) -> None:
    directory = tmp_path / "later"
    search = Follower(directory)
    assert not search.look()
    assert (search.has_begun, search.is_over, search.state) == (False, False, "not begun")
    assert "no search has begun there yet" in texts(search)

    with FileJournal.open(directory, Header("s", time.time(), SETTINGS)) as journal:
        journal.append([opened()])
        assert search.look()
        assert not search.look()
        assert search.state == "waiting"
        journal.append([*trial(0, 9), *trial(1, 3), *trial(2, 0)])
        assert search.look()
        assert (search.state, search.is_over) == ("running", False)
        assert one_line(search).startswith("running: 2 ended (1 running, 1 completed, 1 stopped); front of ")
        journal.append([TrialCancelled(9.0, 2, 1), SearchFinished(9.0, "num_trials=3 reached")])
        assert search.look()
        assert not search.is_over  # its driver is still there
    assert search.look()
    assert (search.state, search.is_over) == ("finished", True)
    assert search.as_dict()["trials"]["CANCELLED"] == 1
    assert "(num_trials=3 reached)" in texts(search)


def test_nothing_is_read_twice(tmp_path: Path) -> None:
    search = Follower(tmp_path)
    with FileJournal.open(tmp_path, Header("s", time.time(), SETTINGS)) as journal:
        for number in range(5):
            journal.append(trial(number, 2))
            search.look()
            assert search.view.n_events == 4 * (number + 1)


def test_a_header_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    search = Follower(tmp_path)
    (tmp_path / "journal.jsonl").write_bytes(b'{"dhpo_journal"')
    assert not search.look()
    assert not search.has_begun


def test_an_interrupted_search_says_how_it_goes_on(tmp_path: Path) -> None:
    with FileJournal.open(tmp_path, Header("s", time.time(), SETTINGS)) as journal:
        journal.append([opened(), *trial(0, 3)])
    search = Follower(tmp_path)
    search.look()
    assert search.state == "interrupted"
    assert f"`dhpo resume {tmp_path}` goes on" in texts(search)
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "paused").touch()
    assert search.look()
    assert f"paused: `dhpo unpause {tmp_path}` lets it go on" in texts(search)
    assert one_line(search).startswith("interrupted, paused: ")


@pytest.fixture
def full(tmp_path: Path) -> Follower:
    with FileJournal.open(tmp_path, Header("s", time.time(), SETTINGS)) as journal:
        journal.append([opened()])
        for number in range(30):
            journal.append(trial(number, 9 if number % 4 == 0 else 1, "KeyError: \x1b[31mred" if number == 5 else ""))
        journal.append([event for number in range(30, 50) for event in trial(number, 0)])
        search = Follower(tmp_path)
        search.look()
    return search


def test_the_screen_has_all_parts_within_its_height(full: Follower) -> None:
    text = texts(full, 60)
    for part in ("trials are out", "Pareto front", "Rungs", "Running (20)"):
        assert part in text
    assert "failed   1; the last one, trial 5: KeyError: \\x1b[31mred" in text
    assert "\x1b" not in text
    assert "… and " in texts(full, 40)
    assert len(screen(full, 40)) <= 40


def test_a_single_objective_shows_its_incumbent_with_the_configuration(tmp_path: Path) -> None:
    with FileJournal.open(tmp_path, Header("s", time.time(), SINGLE)) as journal:
        journal.append([opened(), *trial(1, 9), *trial(2, 9)])
        search = Follower(tmp_path)
        search.look()
    text = texts(search)
    assert "best     accuracy 6.66" in text
    assert "trial 2, epoch 9" in text
    assert "x=0.74" in text
    assert "Pareto" not in text


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.integers(1, 60))
@settings(deadline=None, max_examples=100)
def test_a_sparkline_rises_as_costs_fall(costs: list[float], width: int) -> None:
    falling = np.minimum.accumulate(np.array(costs))
    for marks in (UNICODE, ASCII):
        line = sparkline(falling, width, marks)
        levels = [marks.index(mark) for mark in line]
        assert len(line) == min(width, len(costs))
        assert levels == sorted(levels)
        if len(line) > 1 and falling[0] > falling[-1]:
            assert (levels[0], levels[-1]) == (0, len(marks) - 1)


def test_nothing_is_no_line() -> None:
    assert sparkline(np.empty(0), 10) == ""


def test_directories_that_hold_a_journal_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("runs/one", "runs/two", "runs/deep/er", "other/none", ".hidden/three"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("runs/one", "runs/two", "runs/deep/er", ".hidden/three"):
        (tmp_path / name / "journal.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    everything = ["runs/deep/er", "runs/one", "runs/two"]
    assert journal_directories("") == journal_directories("ru") == journal_directories("runs/") == everything
    assert journal_directories("runs/t") == ["runs/two"]
    assert journal_directories(f"{tmp_path}/runs/o") == [f"{tmp_path}/runs/one"]
    assert journal_directories("nowhere/") == journal_directories("x") == []
    monkeypatch.chdir(tmp_path / "runs")
    assert journal_directories("../runs/o") == ["../runs/one"]
