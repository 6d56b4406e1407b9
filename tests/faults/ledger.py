"""A journal read by nothing but its documented form, and what must hold of any search that it tells of.

It shares no code with dhpo: lines are cut at newlines, the checksum is passed over, and each row is ``[tag, time, …]``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = list[Any]
ENDS = ("completed", "failed", "timed_out")


def rows(path: Path) -> Iterator[Row]:
    """The events of a journal, oldest first."""
    with open(path / "journal.jsonl" if path.is_dir() else path, encoding="utf-8") as file:
        next(file)
        for line in file:
            yield from json.loads(line[9:])


@dataclass
class Trial:
    """What the rows say of one trial."""

    attempt: int = 1
    state: str = "running"
    index: int = 0  # of the last report of this attempt
    reports: int = 0
    losses: int = 0


@dataclass
class Ledger:
    """Keeps the books of a search, and checks them at every row."""

    trials: list[Trial] = field(default_factory=list)
    known: set[int] = field(default_factory=set)
    sessions: int = 0
    reason: str | None = None
    time: float = 0.0
    ignored: int = 0  # rows that no longer count, as a report that was on its way when its worker was given up

    def take(self, stream: Iterable[Row]) -> Ledger:
        for row in stream:
            assert row[1] > self.time - 2e-6, f"the clock went back: {row}"
            self.time = max(self.time, row[1])
            self._take(row)
        return self

    def _take(self, row: Row) -> None:
        match row:
            case ["session", *_]:
                self.sessions += 1
                self.reason = None
                for trial in self.trials:
                    if trial.state == "running":
                        trial.attempt += 1
                        trial.index = 0
            case ["finished", _, reason]:
                self.reason = reason
            case ["proposed" | "added" as tag, _, number, *_]:
                assert number == len(self.trials), f"trial {number} was made after {len(self.trials) - 1}"
                self.trials.append(Trial(state="running" if tag == "proposed" else "known"))
                if tag == "added":
                    self.known.add(number)
            case [tag, _, number, attempt, *rest]:
                trial = self.trials[number]
                if tag == "promoted":
                    assert (trial.state, attempt) == ("paused", trial.attempt + 1), row
                    trial.state, trial.attempt, trial.index = "running", attempt, 0
                elif trial.state != "running" or attempt != trial.attempt:
                    assert attempt <= trial.attempt, f"an attempt that never began: {row}"
                    self.ignored += 1
                else:
                    self._of_running(trial, tag, rest)

    @staticmethod
    def _of_running(trial: Trial, tag: str, rest: list[Any]) -> None:
        if tag == "report":
            trial.reports += rest[0] > trial.index
            trial.index = max(trial.index, rest[0])
        elif tag == "lost":
            trial.losses += 1
            trial.attempt, trial.index = trial.attempt + 1, 0
        elif tag == "paused":
            trial.state = tag
        else:
            assert tag in ENDS, tag
            trial.state = tag

    @property
    def run(self) -> list[Trial]:
        """The trials that were made to be run."""
        return [trial for number, trial in enumerate(self.trials) if number not in self.known]

    def check_finished(self, num_trials: int) -> None:
        """The budget is exact, and each trial has ended, once (a second end would have failed above)."""
        assert self.reason is not None
        assert len(self.run) == num_trials
        assert all(trial.state in (*ENDS, "paused") for trial in self.run)
