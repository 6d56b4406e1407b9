"""Plain values: configurations, proposals, observations, statuses and decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from math import inf
from typing import Any, NamedTuple


class Configuration(dict[str, Any]):
    """The hyperparameters of one trial: a mapping that can also be read by attribute.

    Inactive (conditional) hyperparameters are absent. Values are plain Python scalars or strings.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this configuration has no hyperparameter {name!r}; it has {list(self)}") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return (Configuration, (dict(self),))


class Status(StrEnum):
    """Where a trial stands."""

    RUNNING = "RUNNING"  # proposed, and not yet ended: waiting for a worker or running on one
    PAUSED = "PAUSED"  # rests at a rung, and may be promoted: neither running nor ended
    COMPLETED = "COMPLETED"
    STOPPED = "STOPPED"  # ended early by the stopper
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"  # by a person: no failure, and with a result where it had reported


class Decision(StrEnum):
    """The answer to a report at which one is due."""

    CONTINUE = "CONTINUE"
    STOP = "STOP"
    PAUSE = "PAUSE"  # leave the worker to others; the trial may go on later, elsewhere


class Due:
    """The reports of one run of a trial that wait for a decision.

    Args:
        milestones: resources at which a decision is due, in any order: the first report at or above each.
        every: the resource from which on a decision is due at every report.
    """

    __slots__ = ("_every", "_left")

    def __init__(self, milestones: Iterable[float], every: float = inf) -> None:
        self._left = sorted(milestones, reverse=True)
        self._every = every

    def __bool__(self) -> bool:
        """Whether any more decisions are due."""
        return bool(self._left) or self._every < inf

    def at(self, resource: float) -> bool:
        """Whether a report at this resource waits for a decision; milestones that it passes are done with."""
        left, due = self._left, resource >= self._every
        while left and resource >= left[-1]:
            left.pop()
            due = True
        return due


class Proposal(NamedTuple):
    """A configuration that a searcher proposes."""

    config: Mapping[str, Any]
    origin: str  # "default", "initial", "random", "design", "model", "prior", "user"
    n_observed: int = 0  # how many observations it was computed from


class Phase(StrEnum):
    """What an observation says about its trial."""

    PENDING = "PENDING"  # was given out, for the first time or (promoted) again: no new values yet
    RUNG = "RUNG"  # reported the values at a rung, and goes on
    ENDED = "ENDED"  # ended (completed or stopped), or rests at a rung (paused), with these values
    FAILED = "FAILED"  # failed, timed out, or cancelled before it had reported: no values


class Observation(NamedTuple):
    """What a searcher is told: one trial's costs (all to be minimised) at one resource."""

    trial: int
    config: Mapping[str, Any]
    phase: Phase
    resource: float | None = None  # None where trials do not report
    costs: tuple[float, ...] | None = None  # one per objective; None when PENDING or FAILED
