"""Random search, and what every searcher shares: knowing which configurations were given out already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dhpo.errors import SettingError
from dhpo.objectives import Objectives
from dhpo.searchers.acquisition import Array
from dhpo.searchers.base import proposal_rng
from dhpo.space import HpProblem
from dhpo.trial import Observation, Phase, Proposal

#: Finite spaces of up to this many configurations are enumerated when sampling finds nothing new.
ENUMERABLE = 200_000
_STALL = (1, 16, 256, 4096)  # sizes of the samples that are tried, one after the other


class Known:
    """The configurations that are known to a search, and draws of new ones."""

    def __init__(self, problem: HpProblem) -> None:
        self.encoding = problem.encoding
        self.keys: set[bytes] = set()
        self._trials: set[int] = set()
        self._all: tuple[Array, list[bytes]] | None = None

    def add(self, observations: Sequence[Observation]) -> None:
        """Take in the configurations of these observations."""
        new = {o.trial: o.config for o in observations if o.trial not in self._trials}
        if new:
            self._trials.update(new)
            self.add_rows(self.encoding.encode(list(new.values())))

    def add_rows(self, rows: Array) -> None:
        """Take in encoded configurations (n, d)."""
        self.keys.update(self.encoding.keys(rows, snapped=True))

    def new(self, rows: Array, taken: set[bytes]) -> Array:
        """The rows, which are snapped, in order, that are neither known nor taken."""
        keys = self.encoding.keys(rows, snapped=True)
        fresh = [i for i, key in enumerate(keys) if key not in self.keys and key not in taken]
        return rows[fresh]

    def draw(self, rng: np.random.Generator, taken: set[bytes]) -> Array | None:
        """Draw a new row from the space's distributions, and take it; None when there is none left."""
        for size in _STALL:
            rows = self.new(self.encoding.sample(size, rng), taken)
            if len(rows):
                return self.take(rows[0], taken)
        left = self._enumerated(taken)
        return self.take(left[rng.integers(len(left))], taken) if len(left) else None

    def take(self, row: Array, taken: set[bytes]) -> Array:
        """Mark a row, which is snapped, as taken, and return it."""
        taken.update(self.encoding.keys(row[None, :], snapped=True))
        return row

    def _enumerated(self, taken: set[bytes]) -> Array:
        n = self.encoding.n_distinct
        if n is None or n > ENUMERABLE:
            return np.empty((0, len(self.encoding.columns)))
        if self._all is None:
            rows = np.array(list(self.encoding.enumerate()), dtype=float).reshape(-1, len(self.encoding.columns))
            self._all = rows, self.encoding.keys(rows, snapped=True)
        rows, keys = self._all
        return rows[[i for i, key in enumerate(keys) if key not in self.keys and key not in taken]]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_all": None}  # made again when needed: it may be large


class FirstPoints:
    """The configurations that come before any drawn one: the default one, then the user's."""

    def __init__(self, problem: HpProblem, initial_points: Iterable[Mapping[str, Any]], default_first: bool) -> None:
        points: list[tuple[str, Mapping[str, Any]]] = []
        if default_first:
            points.append(("default", problem.default_configuration))
        for point in initial_points:
            problem.check_configuration(point)
            points.append(("initial", point))
        self._origins = [origin for origin, _ in points]
        empty = np.empty((0, len(problem.encoding.columns)))
        self._rows = problem.encoding.encode([config for _, config in points]) if points else empty

    def left(self, known: Known, taken: set[bytes], n: int) -> list[tuple[str, Array]]:
        """At most ``n`` of those that are neither known nor taken, with their origins; they are taken."""
        found: list[tuple[str, Array]] = []
        for origin, row in zip(self._origins, self._rows, strict=True):
            if len(found) < n and len(known.new(row[None, :], taken)):
                found.append((origin, known.take(row, taken)))
        return found


def check_initial_points(initial_points: Any) -> None:
    """Refuse what is no sequence of configurations.

    Raises:
        SettingError: it is something else.
    """
    if not isinstance(initial_points, Sequence) or not all(isinstance(p, Mapping) for p in initial_points):
        raise SettingError(f"initial_points={initial_points!r}: give a list of configurations (mappings)")


def proposals(known: Known, chosen: Sequence[tuple[str, Array]], n_observed: int) -> list[Proposal]:
    """Decode (origin, row) pairs; the rows are snapped."""
    if not chosen:
        return []
    configs = known.encoding.decode(np.array([row for _, row in chosen]), snapped=True)
    return [Proposal(config, origin, n_observed) for config, (origin, _) in zip(configs, chosen, strict=True)]


@dataclass(frozen=True)
class RandomSearcher:
    """Random search: each configuration is drawn from the space's own distributions.

    Args:
        initial_points: configurations to start with.
        default_first: whether the space's default configuration is the first of all.

    Raises:
        SettingError: ``initial_points`` is no list of mappings.
    """

    initial_points: Sequence[Mapping[str, Any]] = ()
    default_first: bool = True

    learns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_initial_points(self.initial_points)

    def bind(self, problem: HpProblem, objectives: Objectives, *, seed: int, max_t: float | None) -> RandomState:
        """Make the state for one search.

        Raises:
            SpaceError: an initial point is no configuration of the space.
        """
        return RandomState(problem, seed, FirstPoints(problem, self.initial_points, self.default_first))

    def settings(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "searcher": "RandomSearcher",
            "initial_points": [dict(p) for p in self.initial_points],
            "default_first": self.default_first,
        }


class RandomState:
    """The state of a random search: which configurations are known."""

    cheap = True  # a proposal takes well under a millisecond: no need to leave the caller's thread

    def __init__(self, problem: HpProblem, seed: int, first: FirstPoints) -> None:
        self._known = Known(problem)
        self._seed = seed
        self._first = first
        self._n_observed = 0

    def observe(self, observations: Sequence[Observation]) -> None:
        """Take in what happened."""
        self._known.add(observations)
        self._n_observed += sum(o.phase is not Phase.PENDING for o in observations)

    def propose(self, numbers: Sequence[int]) -> list[Proposal]:
        """Propose a configuration for each number; fewer when the space is exhausted."""
        taken: set[bytes] = set()
        chosen = self._first.left(self._known, taken, len(numbers))
        for number in numbers[len(chosen) :]:
            row = self._known.draw(proposal_rng(self._seed, number), taken)
            if row is None:
                break
            chosen.append(("random", row))
        return proposals(self._known, chosen, self._n_observed)
