"""What a job's output tells while there is no progress bar."""

from __future__ import annotations

import logging

import pytest

from dhpo import driver
from dhpo.cli import execute


def test_the_log_is_shown_in_the_place_of_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    log = logging.getLogger("dhpo.driver")
    for wanted in (True, False):
        with execute._log(wanted):
            log.info("2 of 2 jobs pending")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(" 2 of 2 jobs pending")
    assert line[:2] == "20"
    assert (logging.getLogger("dhpo").level, logging.getLogger("dhpo").handlers) == (logging.NOTSET, [])


def test_a_log_of_the_script_is_left_alone(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [logging.NullHandler()])
    with execute._log(True):
        logging.getLogger("dhpo.driver").info("2 of 2 jobs pending")
    assert capsys.readouterr().err == ""


def test_what_the_executor_waits_for_is_logged_when_it_changes_but_more_and_more_seldom(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("dhpo.driver.time.monotonic", lambda: now)
    show = driver._log_changes()
    with caplog.at_level(logging.INFO):
        for second, status in enumerate([None, "a", "a", *(f"next try in {n} s" for n in range(40, 0, -1)), "b"]):
            now = float(second)
            show(status)
        now += 600
        for status in (None, "b", "b"):
            show(status)
    told = [record.message for record in caplog.records]
    assert told == ["a", "next try in 37 s", "next try in 27 s", "next try in 7 s", "b"]
