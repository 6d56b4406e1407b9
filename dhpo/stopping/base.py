"""The protocol of stoppers: settings that a user builds, and the state they bind to for one search."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from dhpo.trial import Decision


class BoundStopper(Protocol):
    """The state of a stopper within one search. Deterministic: its answers depend on the calls so far only."""

    @property
    def max_t(self) -> float | None:
        """The resource at which a trial is complete, or None where there is no such limit."""

    def bracket(self, rng: np.random.Generator) -> int:
        """Draw the bracket of a new trial."""

    def milestones(self, bracket: int) -> tuple[float, ...]:
        """The resources at which a decision is due, ascending, below ``max_t``."""

    def judge(self, trial: int, bracket: int, milestone: float, costs: tuple[float, ...]) -> Decision:
        """Record finite ``costs`` (to be minimised) at a milestone and decide. Called once per trial and milestone."""


@runtime_checkable
class DecidesAlways(Protocol):
    """What a bound stopper has besides if it decides at every report, not at milestones only.

    A decision costs the trial the way to the driver and back. ``judge`` is then called with the report's own resource
    in the place of a milestone, and each time with a larger one for the same trial.
    """

    @property
    def every(self) -> float:
        """The resource from which on a decision is due at every report; infinite where there is none."""


@runtime_checkable
class Promotes(Protocol):
    """What a bound stopper has besides if it may answer ``Decision.PAUSE``."""

    @property
    def pauses(self) -> bool:
        """Whether it ever does."""

    def promotable(self) -> Iterable[int]:
        """The trials that were paused, were not promoted since, and may go on as things stand: the best one first.

        Some of them may still be on their way to rest, or have ended: it is for the caller to pass these over.
        """

    def leave(self, trial: int) -> None:
        """Take note that a trial waits no longer where it was paused: it goes on, or has ended."""


def bracket_of(stopper: BoundStopper, seed: int, number: int) -> int:
    """The bracket of a trial: it follows from the search's seed and the trial's number."""
    if getattr(stopper, "n_brackets", None) == 1:  # there is nothing to draw
        return 0
    return stopper.bracket(np.random.default_rng(np.random.SeedSequence([seed, number, 1])))


@dataclass(frozen=True, slots=True)
class FirstJudged:
    """At which resource trials are judged first.

    Args:
        stopper: a bound stopper; one that has judged nothing yet serves, and is small.
        seed: the search's seed.
    """

    stopper: BoundStopper
    seed: int

    def at(self, number: int) -> float | None:
        """The first milestone of the trial with this number; None where it is never judged."""
        return next(iter(self.stopper.milestones(bracket_of(self.stopper, self.seed, number))), None)


class Stopper(Protocol):
    """The settings of a stopper: a frozen value that many searches may share."""

    @property
    def time_attr(self) -> str | None:
        """The reported metric that is the resource (such as "epoch"); None when any report is counted."""

    def bind(self, n_objectives: int, *, max_t: float | None, seed: int) -> BoundStopper:
        """Make the state for one search.

        Args:
            n_objectives: how many costs each judgement has.
            max_t: the largest resource as far as the space tells it, used where the settings leave it open.
            seed: seeds whatever is random in the decisions (scalarisation weights).

        Raises:
            SettingError: the settings do not go together.
        """

    def settings(self) -> dict[str, Any]:
        """The JSON form of the settings; a resumed search must have equal ones."""


@dataclass(frozen=True, slots=True)
class NeverStop:
    """The smallest stopper: every trial runs to its end."""

    n_brackets: ClassVar[int] = 1

    time_attr: str | None = None
    max_t: float | None = None

    def bind(self, n_objectives: int, *, max_t: float | None, seed: int) -> NeverStop:
        """Nothing to decide means no state: the settings serve as their own."""
        return self

    def settings(self) -> dict[str, Any]:
        """The JSON form."""
        return {"stopper": "NeverStop", "time_attr": self.time_attr, "max_t": self.max_t}

    def bracket(self, rng: np.random.Generator) -> int:
        """All trials share one bracket."""
        return 0

    def milestones(self, bracket: int) -> tuple[float, ...]:
        """No decision is ever due."""
        return ()

    def judge(self, trial: int, bracket: int, milestone: float, costs: tuple[float, ...]) -> Decision:
        """Go on."""
        return Decision.CONTINUE
