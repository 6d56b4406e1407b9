"""The protocol of stoppers: settings that a user builds, and the state they bind to for one search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

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
