"""Plain values: configurations, proposals, observations, statuses and decisions."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
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
    COMPLETED = "COMPLETED"
    STOPPED = "STOPPED"  # ended early by the stopper
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"


class Decision(StrEnum):
    """The answer to a report at which one is due."""

    CONTINUE = "CONTINUE"
    STOP = "STOP"


class Proposal(NamedTuple):
    """A configuration that a searcher proposes."""

    config: Mapping[str, Any]
    origin: str  # "default", "initial", "random", "design", "model", "prior", "user"
    n_observed: int = 0  # how many observations it was computed from


class Phase(StrEnum):
    """What an observation says about its trial."""

    PENDING = "PENDING"  # was given out: no values yet
    RUNG = "RUNG"  # reported the values at a rung, and goes on
    ENDED = "ENDED"  # ended (completed or stopped) with these values
    FAILED = "FAILED"  # failed or timed out: no values


class Observation(NamedTuple):
    """What a searcher is told: one trial's costs (all to be minimised) at one resource."""

    trial: int
    config: Mapping[str, Any]
    phase: Phase
    resource: float | None = None  # None where trials do not report
    costs: tuple[float, ...] | None = None  # one per objective; None when PENDING or FAILED
