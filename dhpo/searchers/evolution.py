"""Regularised (ageing) evolution: the best of a sample of the youngest configurations is changed a little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dhpo.errors import SettingError
from dhpo.objectives import Objectives
from dhpo.pareto import non_dominated_rank
from dhpo.searchers.acquisition import Array
from dhpo.searchers.base import proposal_rng
from dhpo.searchers.random import FirstPoints, Known, check_initial_points, proposals
from dhpo.space import HpProblem
from dhpo.trial import Observation, Phase, Proposal

#: The standard deviation of a numeric change, as a share of the range.
_STEP = 0.2
#: How many changes of a parent are looked at for a new one, and how many parents.
_CHILDREN = 16
_PARENTS = 4


@dataclass(frozen=True)
class RegularizedEvolution:
    """Regularised evolution (Real et al. 2019, arXiv 1802.01548, algorithm 1), asynchronous.

    The population are the latest ``population_size`` trials that have shown values: whoever is older has died, however
    good it is. For each proposal ``sample_size`` of them are drawn, and the best of these is the parent; its child has
    one hyperparameter changed: another choice, or a normal step of a fifth of the range. Until there is a population,
    configurations are drawn at random. Failed trials are no parents.

    With several objectives the best are those of the first non-dominated front of the sample, one drawn from them. With
    rungs, those that came furthest are compared only: a trial that was stopped is no better than one that was not.

    Args:
        population_size: how many live.
        sample_size: how many compete to be the parent; more means greedier.
        initial_points: configurations to start with.
        default_first: whether the space's default configuration is the first of all.

    Raises:
        SettingError: an argument is unusable.
    """

    population_size: int = 50
    sample_size: int = 10
    initial_points: Sequence[Mapping[str, Any]] = ()
    default_first: bool = True

    def __post_init__(self) -> None:
        check_initial_points(self.initial_points)
        for name in ("population_size", "sample_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SettingError(f"{name}={value!r}: give a whole number of at least 1")
        if self.sample_size > self.population_size:
            raise SettingError(
                f"sample_size={self.sample_size} is above population_size={self.population_size}: lower it"
            )

    def bind(self, problem: HpProblem, objectives: Objectives, *, seed: int, max_t: float | None) -> EvolutionState:
        """Make the state for one search.

        Raises:
            SpaceError: an initial point is no configuration of the space.
        """
        first = FirstPoints(problem, self.initial_points, self.default_first)
        return EvolutionState(problem, seed, first, self, rungs=max_t is not None)

    def settings(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "searcher": "RegularizedEvolution",
            "population_size": self.population_size,
            "sample_size": self.sample_size,
            "initial_points": [dict(p) for p in self.initial_points],
            "default_first": self.default_first,
        }


class _Member(NamedTuple):
    row: Array
    resource: float  # 0 where there are no rungs
    costs: tuple[float, ...]


class EvolutionState:
    """The state of an evolution: whoever has shown values, by age."""

    cheap = True

    def __init__(
        self, problem: HpProblem, seed: int, first: FirstPoints, rule: RegularizedEvolution, *, rungs: bool
    ) -> None:
        self._known = Known(problem)
        self._seed = seed
        self._first = first
        self._rule = rule
        self._rungs = rungs
        self._members: dict[int, _Member] = {}  # by trial, the oldest first
        self._n_observed = 0

    def observe(self, observations: Sequence[Observation]) -> None:
        """Take in what happened."""
        self._known.add(observations)
        for o in observations:
            if o.phase is Phase.PENDING:
                continue
            self._n_observed += 1
            if o.phase is Phase.FAILED:
                self._members.pop(o.trial, None)  # it had passed a rung
            elif o.costs is not None:
                self._live(o, o.costs)

    def _live(self, o: Observation, costs: tuple[float, ...]) -> None:
        """Take a trial in, or note that it has come further; whoever is too old goes."""
        known = self._members.get(o.trial)
        row = self._known.encoding.encode([o.config])[0] if known is None else known.row
        self._members[o.trial] = _Member(row, (o.resource or 0.0) if self._rungs else 0.0, costs)
        if len(self._members) > self._rule.population_size:
            del self._members[next(iter(self._members))]

    def propose(self, numbers: Sequence[int]) -> list[Proposal]:
        """Propose a configuration for each number; fewer when the space is exhausted."""
        taken: set[bytes] = set()
        chosen = self._first.left(self._known, taken, len(numbers))
        population = list(self._members.values())
        for number in numbers[len(chosen) :]:
            rng = proposal_rng(self._seed, number)
            row = self._child(population, rng, taken) if len(population) >= self._rule.population_size else None
            origin = "random" if row is None else "model"
            if row is None:
                row = self._known.draw(rng, taken)
            if row is None:
                break
            chosen.append((origin, row))
        return proposals(self._known, chosen, self._n_observed)

    def _child(self, population: list[_Member], rng: np.random.Generator, taken: set[bytes]) -> Array | None:
        """A new configuration that one change makes of a parent; None where there is none near."""
        for _ in range(_PARENTS):
            sample = [population[i] for i in rng.choice(len(population), self._rule.sample_size, replace=False)]
            parent = _best(sample, rng)
            children = self._known.encoding.neighbours(parent.row, rng, _CHILDREN, _STEP)
            new = self._known.new(children, taken) if len(children) else children
            if len(new):
                return self._known.take(new[rng.integers(len(new))], taken)
        return None


def _best(sample: list[_Member], rng: np.random.Generator) -> _Member:
    """One of the best of those that came furthest."""
    furthest = max(member.resource for member in sample)
    ahead = [member for member in sample if member.resource == furthest]
    ranks = non_dominated_rank(np.array([member.costs for member in ahead]))
    return ahead[int(rng.choice(np.flatnonzero(ranks == 0)))]
