"""Asynchronous successive halving and Hyperband, for one or several objectives.

At each rung (a resource such as 1, 3, 9, 27 epochs) a trial is compared with the others that came to it. Nobody waits
for anybody. In the stopping form of ASHA (Tiao et al. 2020, arXiv 2003.10865, section 3) it is compared once, and
stopped unless it is among the better ones; in the promotion form (Li et al. 2018, arXiv 1810.05934) it rests there
until it is among them. ASHA becomes Hyperband with several brackets, and MO-ASHA (Schmucker et al. 2021, arXiv
2106.12639) with several objectives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import isfinite
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dhpo.errors import ReportError, SettingError
from dhpo.stopping._rung import Rung
from dhpo.stopping._settings import all_below, ascending, check_time_attr, check_whole, geometric, positive
from dhpo.stopping.agreement import Agreement
from dhpo.stopping.promotion import PromotionRung
from dhpo.stopping.ranking import BoundRanking, Ranking
from dhpo.trial import Decision

Array: TypeAlias = NDArray[np.float64]

_TYPES = ("stopping", "promotion")


@dataclass(frozen=True, slots=True)
class Hyperband:
    """The settings of asynchronous Hyperband.

    **The rule** of ``type="stopping"``. With rung levels r_0 < r_1 < … below ``max_t``, the best share q_j = r_j /
    r_{j+1} (against ``max_t`` at the last rung) of a rung goes on. A newcomer is scored (less is better) together with
    the n trials recorded at the rung; it is stopped if its score is above the q_j-quantile, linearly interpolated, of
    the n others' scores. The first always goes on, and so does a tie with the quantile. Then it is recorded, whether
    stopped or not. With one objective the score is the cost.

    **Measured trust** (``adaptive=True``). The order of trials at a rung often says little about how they end, above
    all at the first one, and the rule above then stops the best. Adaptive rungs measure it: with the rank correlation
    c between the costs at a rung and those of the same trials at the next one, the share q_j ** c goes on rather than
    q_j. So a rung that orders trials as the next one does is the textbook's; one without any relation to it lets all
    pass, and the next one decides. Before it is measured c is taken for 1, with the weight of four trials. The last
    rung is always trusted. Hyper-Tune (Li et al. 2022, arXiv 2201.06834, section 4.1) chooses brackets by a like
    measure.

    **The rule** of ``type="promotion"``. A trial that comes to a rung is paused: its run ends, its slot goes to others.
    When a slot is free, the rungs are looked through from the highest level down (of equal levels, by bracket). At one
    that n trials have come to, the floor(n q_j) of the least scores are those that may go on, of equal scores the
    earlier ones; the best of them that rests there goes on. Where there is none at any rung, a new trial begins. A
    trial that would be the first in this order when it comes to its rung is not paused at all. Trials that are still
    paused when nothing else is to be done remain so.

    **Several objectives.** The score is the place in ``ranking``. By default ("eps_net") that is the non-dominated
    front, then the place within it in an order spread over the front. Hence a trial that dominates all others is never
    stopped, nor is one that dominates n - floor(q_j (n - 1)) of them. A non-dominated trial may be stopped where the
    front is larger than the share that goes on: those go on that cover the front best. Positive affine
    changes of an objective's scale do not change a decision, nor does the order in which the recorded ones came.

    **Brackets.** A trial of bracket b has its first decision at the level of index b. Brackets are drawn with
    probabilities in proportion to K / ((K - b) r_b), where K is the number of levels up to and including ``max_t``.

    Args:
        time_attr: the reported metric that is the resource; any number that grows, not necessarily a whole one.
        max_t: the resource at which a trial is complete; taken from the space where it is None.
        grace_period: the first rung level, above 0.
        reduction_factor: the ratio of consecutive rung levels, above 1.
        brackets: how many brackets; no more are used than there are levels up to and including ``max_t``.
        rung_levels: the levels themselves, ascending, between 0 and ``max_t``; replaces ``grace_period`` and
            ``reduction_factor``.
        type: "stopping" (decisions are final) or "promotion" (trials are paused, and may go on later). The latter wants
            run functions that go on from a checkpoint.
        ranking: how several objectives are ranked, see :mod:`dhpo.stopping.ranking`.
        num_weights: how many weight vectors the scalarised rankings use.
        rho: the share of the weighted sum in "parego" and "legacy_parego".
        rung_system_per_bracket: whether each bracket compares its own trials only; otherwise all brackets share the
            rungs.
        adaptive: whether a rung stops fewer trials where its order is found to say little about the next rung's. Goes
            with ``type="stopping"``.

    Raises:
        SettingError: a setting is not usable.
    """

    time_attr: str = "epoch"
    max_t: float | None = None
    grace_period: float = 1
    reduction_factor: float = 3
    brackets: int = 1
    rung_levels: Sequence[float] | None = None
    type: str = "stopping"
    ranking: str = "eps_net"
    num_weights: int = 100
    rho: float = 0.05
    rung_system_per_bracket: bool = True
    adaptive: bool = False

    def __post_init__(self) -> None:
        check_time_attr(self.time_attr)
        if self.type not in _TYPES:
            raise SettingError(f"type={self.type!r} is unknown: write one of {', '.join(map(repr, _TYPES))}")
        if self.adaptive and self.type != "stopping":
            raise SettingError(f"adaptive=True goes with type='stopping', not {self.type!r}: leave one of them out")
        check_whole("brackets", self.brackets)
        self._set("grace_period", positive("grace_period", self.grace_period))
        self._set("reduction_factor", positive("reduction_factor", self.reduction_factor))
        if self.reduction_factor <= 1:
            raise SettingError(f"reduction_factor={self.reduction_factor!r}: give a number above 1, such as 3")
        if self.rung_levels is not None:
            self._set("rung_levels", ascending(self.rung_levels))
        Ranking(self.ranking, self.num_weights, self.rho)
        if self.max_t is not None:
            self._set("max_t", positive("max_t", self.max_t))
            self._levels(self.max_t)

    def bind(self, n_objectives: int, *, max_t: float | None, seed: int) -> HyperbandState:
        """Make the empty rungs of one search.

        Args:
            n_objectives: how many costs each judgement has.
            max_t: the largest resource as far as the space tells it; the settings' own ``max_t`` goes first.
            seed: seeds the weights of the scalarised rankings.

        Raises:
            SettingError: neither the settings nor the space tell ``max_t``, or it does not go with the levels.
        """
        limit = max_t if self.max_t is None else self.max_t
        if limit is None:
            raise SettingError(
                "max_t=None, and the space does not tell it either: give Hyperband(max_t=...), the resource "
                f"({self.time_attr}) at which a trial is complete"
            )
        limit = positive("max_t", limit)
        ranking = Ranking(self.ranking, self.num_weights, self.rho).bind(n_objectives, seed)
        return HyperbandState(
            self._levels(limit), limit, n_objectives, ranking, self.brackets,
            shared=not self.rung_system_per_bracket, pauses=self.type == "promotion", adaptive=self.adaptive,
        )  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """The JSON form."""
        levels = None if self.rung_levels is None else list(self.rung_levels)
        given = asdict(self)
        if not self.adaptive:  # as in journals that were written before there was a choice
            del given["adaptive"]
        return {"stopper": "Hyperband", **given, "rung_levels": levels}

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _levels(self, max_t: float) -> tuple[float, ...]:
        """The levels up to ``max_t``; the last may equal it, and is then no rung but counts for the brackets."""
        if self.rung_levels is not None:
            return all_below(self.rung_levels, max_t)
        return geometric(self.grace_period, self.reduction_factor, max_t)


class RungView(NamedTuple):
    """What a rung looks like from outside."""

    bracket: int  # 0 for all where the brackets share the rungs
    level: float
    quantile: float  # the share of trials that goes on
    entered: int
    stopped: int  # or, in the promotion form, not promoted so far
    correlation: float | None = None  # of ranks with the next rung; None where it is not measured


class HyperbandState:
    """The rungs of one search. Every answer follows from the calls so far."""

    def __init__(
        self,
        levels: tuple[float, ...],
        max_t: float,
        n_objectives: int,
        ranking: BoundRanking,
        brackets: int,
        *,
        shared: bool,
        pauses: bool = False,
        adaptive: bool = False,
    ) -> None:
        self.max_t: float | None = max_t
        self._n_objectives = n_objectives
        self._shared = shared
        n_brackets = min(brackets, len(levels))
        places = np.arange(n_brackets)
        shares = len(levels) / ((len(levels) - places) * np.array(levels[:n_brackets], dtype=float))
        self._probabilities: Array = shares / shares.sum()
        rungs = [level for level in levels if level < max_t]
        self._milestones = [tuple(rungs[b:]) for b in places]
        quantiles = [level / above for level, above in pairwise([*rungs, max_t])]
        make = PromotionRung if pauses else Rung
        self._rungs: dict[tuple[int, float], PromotionRung | Rung] = {
            (int(system), level): make(quantile, n_objectives, ranking)
            for system in (places[:1] if shared else places)
            for level, quantile in list(zip(rungs, quantiles, strict=True))[system:]
        }
        self._rungs_by_bracket = {
            (int(b), level): self._rungs[0 if shared else int(b), level]
            for b in places
            for level in self._milestones[b]
        }
        self._agreements: dict[tuple[int, float], Agreement] = {
            (system, level): Agreement(n_objectives) for system, level in self._rungs if adaptive and level != rungs[-1]
        }
        self._shares = dict(zip(rungs, quantiles, strict=True))
        downwards = sorted(self._rungs.items(), key=lambda item: (-item[0][1], item[0][0]))
        self._pausing = [rung for _, rung in downwards if isinstance(rung, PromotionRung)]
        self._rests_in: dict[int, PromotionRung] = {}

    @property
    def pauses(self) -> bool:
        """Whether this is the promotion form."""
        return bool(self._pausing)

    @property
    def n_brackets(self) -> int:
        """How many brackets there are."""
        return len(self._milestones)

    @property
    def probabilities(self) -> tuple[float, ...]:
        """The probability of each bracket."""
        return tuple(self._probabilities.tolist())

    def bracket(self, rng: np.random.Generator) -> int:
        """Draw the bracket of a new trial."""
        return int(rng.choice(self.n_brackets, p=self._probabilities)) if self.n_brackets > 1 else 0

    def milestones(self, bracket: int) -> tuple[float, ...]:
        """The rung levels of a bracket, ascending."""
        if not 0 <= bracket < self.n_brackets:
            raise SettingError(f"bracket={bracket} does not exist: there are {self.n_brackets}, counted from 0")
        return self._milestones[bracket]

    def judge(self, trial: int, bracket: int, milestone: float, costs: tuple[float, ...]) -> Decision:
        """Compare a trial with all that came to the rung before it, decide, and record it.

        Args:
            trial: the trial's number.
            bracket: its bracket.
            milestone: the level of the rung, one of :meth:`milestones`.
            costs: one finite cost for each objective, to be minimised.

        Raises:
            ReportError: the costs are not finite, or not as many as there are objectives.
            SettingError: the bracket has no such rung.
        """
        if len(costs) != self._n_objectives or not all(map(isfinite, costs)):
            raise ReportError(
                f"trial {trial} has the costs {tuple(costs)} at {milestone}: a decision needs {self._n_objectives} "
                "finite numbers"
            )
        rung = self._rung(bracket, milestone)
        if isinstance(rung, Rung):
            return self._judge(rung, trial, bracket, milestone, costs) if self._agreements else rung.judge(costs)
        self.leave(trial)  # it has gone on, as its coming here shows
        rung.record(trial, costs)
        self._rests_in[trial] = rung
        if next(self.promotable(), None) != trial:
            return Decision.PAUSE
        self.leave(trial)
        return Decision.CONTINUE

    def _judge(self, rung: Rung, trial: int, bracket: int, milestone: float, costs: tuple[float, ...]) -> Decision:
        """Judge by the share that goes on as far as the rung is to be trusted."""
        system, levels = 0 if self._shared else bracket, self._milestones[bracket]
        place = levels.index(milestone)
        agreement = self._agreements.get((system, milestone))
        if agreement is not None:
            rung.quantile = self._shares[milestone] ** agreement.trust
        decision = rung.judge(costs)
        if place:
            self._agreements[system, levels[place - 1]].arrived(trial, costs)
        if agreement is not None and decision is Decision.CONTINUE:
            agreement.went_on(trial, costs)
        return decision

    def promotable(self) -> Iterator[int]:
        """The trials that may go on from where they rest: from the highest level down, the best one first."""
        for rung in self._pausing:
            yield from rung.promotable()

    def leave(self, trial: int) -> None:
        """Take note that a trial waits no longer where it rests: it goes on, or has ended."""
        if (rung := self._rests_in.pop(trial, None)) is not None:
            rung.promote(trial)

    def rungs(self) -> list[RungView]:
        """All rungs, by bracket and level."""
        return [
            RungView(b, level, r.quantile, r.entered, r.stopped, self._correlation(b, level))
            for (b, level), r in self._rungs.items()
        ]

    def _correlation(self, system: int, level: float) -> float | None:
        agreement = self._agreements.get((system, level))
        return agreement.correlation if agreement is not None and agreement.n_pairs > 2 else None

    def costs_at(self, bracket: int, level: float) -> Array:
        """The costs recorded at a rung, in order of arrival: a copy, (n, m)."""
        return self._rung(bracket, level).costs.copy()

    def _rung(self, bracket: int, level: float) -> PromotionRung | Rung:
        rung = self._rungs_by_bracket.get((bracket, level))
        if rung is None:
            raise SettingError(f"there is no rung at {level} in bracket {bracket}: it has {self.milestones(bracket)}")
        return rung
