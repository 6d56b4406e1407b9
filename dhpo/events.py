"""The events of a search and the commands that answer them.

Everything that happens to a search is one of these events; the journal is their list, in order. They are named
tuples, not dataclasses, because a search of a hundred thousand trials folds millions of them when it resumes, and
a named tuple is made four times as fast as a frozen dataclass. ``time`` is in seconds since the search was first
started, by the clock of the executor (which is virtual in a simulation).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, NamedTuple, TypeAlias

from dhpo.trial import Decision, Observation


class SessionOpened(NamedTuple):
    """A driver began, or went on with, the search: whatever was running before is to be started again."""

    time: float
    epoch: float  # unix time at which the search's clock stood at 0
    host: str
    pid: int
    version: str


class TrialProposed(NamedTuple):
    """A trial was made; from now on it is running."""

    time: float
    trial: int
    config: Mapping[str, Any]
    bracket: int
    origin: str
    n_observed: int


class TrialAdded(NamedTuple):
    """A trial was made of a result that is known from elsewhere. It is at its end at once, and never runs."""

    time: float
    trial: int
    config: Mapping[str, Any]
    values: Mapping[str, Any] | None  # the objectives, and the resource's attribute where it stands at one; or None: …
    error: str  # … it failed; one line
    resource: float | None  # at which the values stand; None where the trial is complete
    origin: str


class TrialReported(NamedTuple):
    """A trial reported values at a resource. ``index`` counts the reports of one attempt, from 1."""

    time: float
    trial: int
    attempt: int
    index: int  # type: ignore[assignment]
    resource: float
    values: Mapping[str, Any]  # everything that was reported, the resource's attribute included


class TrialCompleted(NamedTuple):
    """A run function came to its end, or was stopped by a decision."""

    time: float
    trial: int
    attempt: int
    values: Mapping[str, Any] | None  # what was returned; None when the last report counts
    metadata: Mapping[str, Any]
    stopped: bool  # early, by the stopper
    started: float
    ended: float
    worker: str


class TrialPaused(NamedTuple):
    """A run of a trial ended at a rung, where the trial rests until it is promoted, if ever."""

    time: float
    trial: int
    attempt: int
    started: float
    ended: float
    worker: str


class TrialPromoted(NamedTuple):
    """A paused trial was chosen to go on; from now on it is running again."""

    time: float
    trial: int
    attempt: int  # the one that begins


class TrialFailed(NamedTuple):
    """The user's code failed: raised, returned "F_reason", returned or reported something unusable."""

    time: float
    trial: int
    attempt: int
    error: str  # one line
    traceback: str
    started: float
    ended: float
    worker: str


class TrialTimedOut(NamedTuple):
    """A trial ran longer than it was allowed to."""

    time: float
    trial: int
    attempt: int
    limit: float  # seconds
    started: float
    ended: float
    worker: str


class TrialCancelled(NamedTuple):
    """A person ended a trial that runs or rests. Its last report, if any, counts as its result."""

    time: float
    trial: int
    attempt: int


class WorkerLost(NamedTuple):
    """The worker of a running trial went away: the cluster's fault, not the trial's."""

    time: float
    trial: int
    attempt: int
    worker: str  # empty where it had to end, or the trial had to leave: this is not held against the trial


class SearchFinished(NamedTuple):
    """The search reached its end by itself (a budget or a criterion), not by a signal."""

    time: float
    reason: str


Event: TypeAlias = (
    SessionOpened
    | TrialProposed
    | TrialAdded
    | TrialReported
    | TrialCompleted
    | TrialPaused
    | TrialPromoted
    | TrialFailed
    | TrialTimedOut
    | TrialCancelled
    | WorkerLost
    | SearchFinished
)

#: The short tag of every event's kind in the journal. Never reuse one.
TAGS: dict[type[Any], str] = {
    SessionOpened: "session",
    TrialProposed: "proposed",
    TrialAdded: "added",
    TrialReported: "report",
    TrialCompleted: "completed",
    TrialPaused: "paused",
    TrialPromoted: "promoted",
    TrialFailed: "failed",
    TrialTimedOut: "timed_out",
    TrialCancelled: "cancelled",
    WorkerLost: "lost",
    SearchFinished: "finished",
}
KINDS: dict[str, type[Any]] = {tag: kind for kind, tag in TAGS.items()}


class Start(NamedTuple):
    """Run this trial (again, when ``attempt`` is above 1)."""

    trial: int
    attempt: int
    config: Mapping[str, Any]
    milestones: tuple[float, ...]  # resources at which a decision is due
    max_t: float | None  # the resource at which the trial is complete
    every: float = inf  # the resource from which on a decision is due at every report
    resume_from: float = 0  # the resource that earlier attempts have reached
    skip_to: float = 0  # what is reported up to here is known already: that of a promoted trial, up to its rung


class Decide(NamedTuple):
    """Answer the report of this index."""

    trial: int
    attempt: int
    index: int  # type: ignore[assignment]
    decision: Decision


class Cancel(NamedTuple):
    """Stop this trial, which no longer counts, wherever it runs."""

    trial: int
    attempt: int


class Observe(NamedTuple):
    """Tell the searcher."""

    observation: Observation


class GiveUp(NamedTuple):
    """Journal this trial as failed: it took too many workers with it."""

    trial: int
    attempt: int
    error: str


class Conclude(NamedTuple):
    """Journal this trial as completed, or paused: its last report was answered, and only the end was lost."""

    trial: int
    attempt: int
    stopped: bool  # by a decision, else at ``max_t``
    paused: bool = False


Command: TypeAlias = Start | Decide | Cancel | Observe | GiveUp | Conclude
