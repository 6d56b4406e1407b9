"""Patience: a trial that does not get better any more is stopped."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dhpo.stopping._settings import check_number, check_time_attr
from dhpo.trial import Decision


@dataclass(frozen=True, slots=True)
class Patience:
    """Stop a trial when no objective of its own has improved for some time.

    Args:
        time_attr: the reported metric that is the resource.
        patience: for how long, in units of the resource: 10 epochs, or 600 if the resource is in seconds.
        min_delta: an objective has improved when it is better by more than this than it was when it last improved; in
            the objective's own unit, the same for all.
        max_t: the resource at which a trial is complete; None lets trials end by themselves.

    Raises:
        SettingError: a setting is not usable.
    """

    time_attr: str = "epoch"
    patience: float = 10
    min_delta: float = 0.0
    max_t: float | None = None

    def __post_init__(self) -> None:
        check_time_attr(self.time_attr)
        check_number("patience", self.patience)
        check_number("min_delta", self.min_delta, positive=False)
        if self.max_t is not None:
            check_number("max_t", self.max_t)

    def bind(self, n_objectives: int, *, max_t: float | None, seed: int) -> PatienceState:
        """Make the state for one search."""
        return PatienceState(self)

    def settings(self) -> dict[str, Any]:
        """The JSON form."""
        return {"stopper": "Patience", **asdict(self)}


class PatienceState:
    """What each trial of one search has reached, and when."""

    every = 0.0

    def __init__(self, rule: Patience) -> None:
        self.max_t = rule.max_t
        self._patience = rule.patience
        self._min_delta = rule.min_delta
        self._best: dict[int, tuple[float, tuple[float, ...]]] = {}  # trial -> when, and what

    def bracket(self, rng: np.random.Generator) -> int:
        """All trials share one bracket."""
        return 0

    def milestones(self, bracket: int) -> tuple[float, ...]:
        """None: a decision is due at every report."""
        return ()

    def judge(self, trial: int, bracket: int, milestone: float, costs: tuple[float, ...]) -> Decision:
        """Compare a report with what the trial had reached before."""
        if trial not in self._best:
            self._best[trial] = milestone, costs
            return Decision.CONTINUE
        since, best = self._best[trial]
        better = [cost < known - self._min_delta for cost, known in zip(costs, best, strict=True)]
        if any(better):
            reached = tuple(c if b else known for c, known, b in zip(costs, best, better, strict=True))
            self._best[trial] = milestone, reached
            return Decision.CONTINUE
        if milestone - since < self._patience:
            return Decision.CONTINUE
        del self._best[trial]
        return Decision.STOP
