"""The protocol of searchers: settings that a user builds, and the state they bind to for one search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dhpo.objectives import Objectives
from dhpo.space import HpProblem
from dhpo.stopping.base import FirstJudged
from dhpo.trial import Observation, Proposal


class BoundSearcher(Protocol):
    """The state of a searcher within one search: the fold of the observations it was told.

    It must be picklable: a search may run it in another process, where it gets the same calls in the same order.
    """

    @property
    def cheap(self) -> bool:
        """Whether the next proposals cost next to nothing, so that the loop may wait for them."""

    def observe(self, observations: Sequence[Observation]) -> None:
        """Take in what happened, in order. Proposals that were given out come back as PENDING observations."""

    def propose(self, numbers: Sequence[int]) -> list[Proposal]:
        """Propose one configuration for each trial number.

        Fewer than asked for means that the space is exhausted. What is random in proposal ``k`` is drawn from
        ``proposal_rng(seed, k)``. Nothing observed (pending included) nor within the batch is proposed again. The
        state is not changed: the proposals come back by :meth:`observe` when, and in so far as, they are used.
        """


@runtime_checkable
class Foresees(Protocol):
    """What the state of a searcher has besides if it wants to know where each trial will be judged first."""

    def foresee(self, first_judged: FirstJudged) -> None:
        """Learn it, before the first proposal."""


@runtime_checkable
class Models(Protocol):
    """What the state of a searcher has besides if its proposals take a model once there are enough results."""

    @property
    def imports(self) -> Sequence[str]:
        """The modules that take time to import before the first such proposal."""


class Searcher(Protocol):
    """The settings of a searcher: a value that many searches may share."""

    def bind(self, problem: HpProblem, objectives: Objectives, *, seed: int, max_t: float | None) -> BoundSearcher:
        """Make the state for one search. ``max_t`` is the largest resource, where trials report one."""

    def settings(self) -> dict[str, Any]:
        """The JSON form of the settings, kept in the journal's header."""


def learns(searcher: Searcher) -> bool:
    """Whether proposals depend on results: what has an attribute ``learns`` that is false says that they do not."""
    return bool(getattr(searcher, "learns", True))


def proposal_rng(seed: int, number: int) -> np.random.Generator:
    """The random generator of one proposal: it depends on the seed and the trial's number, not on what ran before."""
    return np.random.default_rng(np.random.SeedSequence([seed, number]))
