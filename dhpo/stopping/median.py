"""The median rule: a trial that does worse than half of the others did so far is stopped.

Golovin et al. 2017, "Google Vizier", section 3.2.1, made asynchronous: a trial is compared with all that came that far,
not only with those that were completed.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import asdict, dataclass
from math import floor, inf
from typing import Any

import numpy as np

from dhpo.stopping._settings import check_number, check_time_attr, check_whole
from dhpo.stopping.ranking import BoundRanking, Ranking
from dhpo.trial import Decision

#: A resource this little below the next cell is in it: 0.1 * 3 is no less than 0.3.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class MedianStopper:
    """Stop a trial whose best so far is worse than the median of the others' running averages.

    The resource is divided into steps of ``interval``. At a trial's first report in each step from ``grace_time`` on,
    the best that it has shown since then is compared with the running averages, since then, of the trials that came to
    this step before it, stopped ones included; it is stopped if it is worse than their median.

    With several objectives, its best in each objective is ranked together with those averages, and the median is that
    of their places. So a trial is never stopped that is the best in all objectives.

    Args:
        time_attr: the reported metric that is the resource.
        grace_time: nobody is stopped before, and what is reported before does not count.
        grace_population: nobody is stopped at a step that fewer others have come to.
        interval: the length of a step. Trials that report at different resources need one that most of them report in.
        ranking: how several objectives are ranked, see :mod:`dhpo.stopping.ranking`.
        max_t: the resource at which a trial is complete; None lets trials end by themselves.

    Raises:
        SettingError: a setting is not usable.
    """

    time_attr: str = "epoch"
    grace_time: float = 1
    grace_population: int = 5
    interval: float = 1
    ranking: str = "eps_net"
    max_t: float | None = None

    def __post_init__(self) -> None:
        check_time_attr(self.time_attr)
        check_number("grace_time", self.grace_time, positive=False)
        check_number("interval", self.interval)
        if self.max_t is not None:
            check_number("max_t", self.max_t)
        check_whole("grace_population", self.grace_population)
        Ranking(self.ranking)

    def bind(self, n_objectives: int, *, max_t: float | None, seed: int) -> MedianState:
        """Make the state for one search."""
        return MedianState(self, n_objectives, Ranking(self.ranking).bind(n_objectives, seed))

    def settings(self) -> dict[str, Any]:
        """The JSON form."""
        return {"stopper": "MedianStopper", **asdict(self)}


class _Curve:
    """What is kept of one trial's reports."""

    __slots__ = ("best", "n", "step", "total")

    def __init__(self, n_objectives: int) -> None:
        self.n = 0
        self.total = [0.0] * n_objectives
        self.best = [inf] * n_objectives
        self.step = -1  # the last one at which it was compared

    def add(self, costs: tuple[float, ...]) -> None:
        self.n += 1
        self.total = [total + cost for total, cost in zip(self.total, costs, strict=True)]
        self.best = [min(best, cost) for best, cost in zip(self.best, costs, strict=True)]

    @property
    def average(self) -> list[float]:
        return [total / self.n for total in self.total]


class MedianState:
    """The running averages at each step of one search."""

    def __init__(self, rule: MedianStopper, n_objectives: int, ranking: BoundRanking) -> None:
        self.max_t = rule.max_t
        self.every = float(rule.grace_time)
        self._interval = rule.interval
        self._population = rule.grace_population
        self._n_objectives = n_objectives
        self._ranking = ranking
        self._curves: dict[int, _Curve] = {}
        self._averages: dict[int, list[list[float]]] = {}  # at each step, in order of arrival
        self._scores: dict[int, list[float]] = {}  # instead, ascending, where they do not depend on the others

    def bracket(self, rng: np.random.Generator) -> int:
        """All trials share one bracket."""
        return 0

    def milestones(self, bracket: int) -> tuple[float, ...]:
        """None: a decision is due at every report from ``grace_time`` on."""
        return ()

    def judge(self, trial: int, bracket: int, milestone: float, costs: tuple[float, ...]) -> Decision:
        """Take a report in, and compare the trial if this is its first in a step."""
        curve = self._curves.get(trial)
        if curve is None:
            curve = self._curves[trial] = _Curve(self._n_objectives)
        curve.add(costs)
        step = floor(milestone / self._interval + _ROUNDING)
        if step <= curve.step:
            return Decision.CONTINUE
        curve.step = step
        stops = self._stops_alone(step, curve) if self._ranking.pointwise else self._stops_among(step, curve)
        if stops:
            del self._curves[trial]
        return Decision.STOP if stops else Decision.CONTINUE

    def _stops_alone(self, step: int, curve: _Curve) -> bool:
        """The rule where scores are fixed: a sorted list serves."""
        scores = self._scores.setdefault(step, [])
        best, average = self._ranking.scores(np.array([curve.best, curve.average])).tolist()
        n = len(scores)
        stops = n >= self._population and best > (scores[(n - 1) // 2] + scores[n // 2]) / 2
        insort(scores, average)
        return stops

    def _stops_among(self, step: int, curve: _Curve) -> bool:
        """The rule where the scores of all depend on all: only the places about the median have to be exact."""
        others = self._averages.setdefault(step, [])
        n = len(others)
        stops = False
        if n >= self._population:
            scores = self._ranking.scores(np.array([*others, curve.best]), ((n - 1) // 2, n // 2 + 1))
            stops = bool(scores[-1] > np.median(scores[:-1]))
        others.append(curve.average)
        return stops
