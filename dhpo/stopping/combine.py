"""Several stoppers at once."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any, NamedTuple

import numpy as np

from dhpo.errors import SettingError
from dhpo.stopping.base import BoundStopper, DecidesAlways, Promotes, Stopper
from dhpo.trial import Decision

#: More brackets than any stopper has.
_RADIX = 1 << 12


class AnyOf:
    """Stop a trial when any of several stoppers would.

    Each stopper hears of all trials as if it were alone, those included that another one stops. One of them may pause
    trials (``Hyperband(type="promotion")``); a trial is paused where no other stops it.

    Args:
        stoppers: two or more; those that name a ``time_attr`` name the same one.

    Raises:
        SettingError: they do not go together.
    """

    __slots__ = ("stoppers", "time_attr")

    def __init__(self, *stoppers: Stopper) -> None:
        self.stoppers: tuple[Stopper, ...] = tuple(
            member for given in stoppers for member in (given.stoppers if isinstance(given, AnyOf) else (given,))
        )
        if not self.stoppers:
            raise SettingError("AnyOf() has no stoppers: give some, AnyOf(Hyperband(max_t=50), Patience(patience=10))")
        for member in self.stoppers:
            if isinstance(member, type) or not (hasattr(member, "bind") and hasattr(member, "settings")):
                raise SettingError(f"AnyOf was given {member!r}, which is no stopper: give some such as Patience()")
        names = dict.fromkeys(s.time_attr for s in self.stoppers if s.time_attr is not None)
        if len(names) > 1:
            raise SettingError(f"AnyOf was given stoppers by {' and by '.join(map(repr, names))}: choose one time_attr")
        self.time_attr: str | None = next(iter(names), None)

    def __repr__(self) -> str:
        return f"AnyOf({', '.join(map(repr, self.stoppers))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnyOf) and self.stoppers == other.stoppers

    def __hash__(self) -> int:
        return hash(self.stoppers)

    def bind(self, n_objectives: int, *, max_t: float | None, seed: int) -> AnyOfState:
        """Make the state for one search.

        Raises:
            SettingError: a stopper's settings do not go with the space, or more than one of them pauses trials.
        """
        return AnyOfState([member.bind(n_objectives, max_t=max_t, seed=seed) for member in self.stoppers])

    def settings(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "stopper": "AnyOf",
            "time_attr": self.time_attr,
            "stoppers": [member.settings() for member in self.stoppers],
        }


class _Member(NamedTuple):
    stopper: BoundStopper
    every: float
    weight: int  # what its bracket counts for in the common one


class AnyOfState:
    """The states of several stoppers within one search. A bracket says which one each of them has drawn."""

    def __init__(self, stoppers: list[BoundStopper]) -> None:
        self._members = [
            _Member(stopper, stopper.every if isinstance(stopper, DecidesAlways) else inf, _RADIX**i)
            for i, stopper in enumerate(stoppers)
        ]
        pausing = [stopper for stopper in stoppers if isinstance(stopper, Promotes) and stopper.pauses]
        if len(pausing) > 1:
            raise SettingError("AnyOf was given several stoppers that pause trials: give one of type='promotion'")
        self._promoter: Promotes | None = pausing[0] if pausing else None
        self._judged: dict[int, float] = {}  # trial -> the resource up to which it was judged
        limits = [stopper.max_t for stopper in stoppers if stopper.max_t is not None]
        self.max_t: float | None = min(limits, default=None)
        self.every = min(member.every for member in self._members)

    def bracket(self, rng: np.random.Generator) -> int:
        """Draw each stopper's bracket. That of the first one is the remainder by 4096."""
        return sum(member.stopper.bracket(rng) * member.weight for member in self._members)

    def milestones(self, bracket: int) -> tuple[float, ...]:
        """The milestones of all."""
        merged = {m for member in self._members for m in self._milestones(member, bracket)}
        return tuple(sorted(m for m in merged if self.max_t is None or m < self.max_t))

    def _milestones(self, member: _Member, bracket: int) -> tuple[float, ...]:
        return member.stopper.milestones(bracket // member.weight % _RADIX)

    def judge(self, trial: int, bracket: int, milestone: float, costs: tuple[float, ...]) -> Decision:
        """Let every stopper judge that has something to decide here."""
        before = self._judged.get(trial, 0.0)
        self._judged[trial] = milestone
        decisions = []
        for member in self._members:
            passed = [m for m in self._milestones(member, bracket) if before < m <= milestone]
            if passed or milestone >= member.every:
                at = milestone if milestone >= member.every else passed[-1]
                decisions.append(member.stopper.judge(trial, bracket // member.weight % _RADIX, at, costs))
        if Decision.STOP in decisions:
            self.leave(trial)
            return Decision.STOP
        return Decision.PAUSE if Decision.PAUSE in decisions else Decision.CONTINUE

    @property
    def pauses(self) -> bool:
        """Whether one of them pauses trials."""
        return self._promoter is not None

    def promotable(self) -> Iterable[int]:
        """The paused trials that may go on."""
        return () if self._promoter is None else self._promoter.promotable()

    def leave(self, trial: int) -> None:
        """Take note that a trial waits no longer."""
        if self._promoter is not None:
            self._promoter.leave(trial)
