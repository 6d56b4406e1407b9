"""The protocol of callbacks: what they are told, in plain values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from dhpo.trial import Decision, Status


class SearchInfo(NamedTuple):
    """The search that begins, or goes on."""

    id: str  # the same whenever the search goes on
    directory: Path | None  # its ``log_dir``
    objectives: Mapping[str, str]  # {name: "MAX" | "MIN"}
    hyperparameters: tuple[str, ...]
    time_attr: str | None  # the reported metric that is the resource; None where the reports are counted
    num_trials: int | None  # how many trials this run leads to in all; None where no number is set
    n_trials: int  # of earlier runs
    n_ended: int  # of these
    running: Mapping[int, Mapping[str, Any]]  # the configurations of those that start again now, by number
    settings: Mapping[str, Any]  # what the search was made with, as its journal keeps it


class Proposed(NamedTuple):
    """A trial was made, or a paused one goes on (``attempt`` is above 1 then): a worker gets it next."""

    trial: int
    attempt: int
    config: Mapping[str, Any]
    origin: str  # "default", "random", "model", …, or "promoted"
    time: float  # of the search's clock, in seconds; so everywhere


class Reported(NamedTuple):
    """A trial reported."""

    trial: int
    attempt: int
    resource: float
    values: Mapping[str, Any]  # all that was reported
    time: float


class Decided(NamedTuple):
    """A report that stood at a rung was answered."""

    trial: int
    attempt: int
    resource: float
    decision: Decision
    time: float


class Ended(NamedTuple):
    """A run of a trial has ended, by itself or by a decision."""

    trial: int
    attempt: int
    config: Mapping[str, Any]
    status: Status  # COMPLETED, STOPPED, PAUSED (it may go on later), FAILED, TIMED_OUT or CANCELLED (by a person)
    values: Mapping[str, float] | None  # the objectives; None where it failed, or was cancelled before it reported
    resource: float | None  # of the last report
    metadata: Mapping[str, Any]
    error: str  # one line; "" where it did not fail
    duration: float  # seconds of this run; NaN where it was cancelled
    worker: str
    time: float


class Lost(NamedTuple):
    """The worker of a running trial went away. The trial starts again elsewhere."""

    trial: int
    attempt: int
    worker: str  # "" where it had to leave in time
    time: float


class Saved(NamedTuple):
    """A trial has put something new into its checkpoint folder."""

    trial: int
    attempt: int
    directory: Path
    resource: float | None  # of the last report
    time: float


class Finished(NamedTuple):
    """The run of the search is over."""

    reason: str | None  # None where it was interrupted, or ended by an error
    n_trials: int
    n_failed: int
    time: float


class Callback:
    """The base of callbacks: override what you want to be told of.

    A callback is told of what is in the journal already, in the order of the journal. It is called in the search's own
    event loop, so that it should take no longer than some milliseconds; with ``background = True`` it is called in a
    thread of its own instead, and may take its time. Whatever it raises is logged (the first time) and stops nothing,
    but for :class:`dhpo.callbacks.StopSearch`, which ends the search.
    """

    background: ClassVar[bool] = False

    def on_start(self, search: SearchInfo) -> None:
        """A run of the search begins. Trials that an earlier run left unfinished start again."""

    def on_proposal(self, trial: Proposed) -> None:
        """A trial was made, or goes on after a pause."""

    def on_report(self, report: Reported) -> None:
        """A trial reported."""

    def on_decision(self, decision: Decided) -> None:
        """A report at a rung was answered. Told after the report."""

    def on_end(self, trial: Ended) -> None:
        """A run of a trial ended."""

    def on_loss(self, loss: Lost) -> None:
        """A trial's worker went away."""

    def on_checkpoint(self, checkpoint: Saved) -> None:
        """A trial has saved a checkpoint: seen when it reports, ends or is lost. Only for searches with a directory."""

    def on_finish(self, search: Finished) -> None:
        """The run of the search is over, in whatever way. Told once for each ``on_start``."""
