"""Space-filling designs: Sobol, Halton, Latin hypercube, grid; as searchers, and as the first points of others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dhpo.encoding import Column, Encoding
from dhpo.errors import SettingError
from dhpo.objectives import Objectives
from dhpo.searchers.acquisition import Array
from dhpo.searchers.base import proposal_rng
from dhpo.searchers.random import FirstPoints, Known, check_initial_points, proposals
from dhpo.space import HpProblem
from dhpo.trial import Observation, Phase, Proposal

#: The designs. "kronecker" needs no library and no length in advance, and serves model-based searches as their start.
DESIGNS = ("kronecker", "sobol", "halton", "lhs", "grid", "random")


def check_design(design: Any, argument: str) -> None:
    """Refuse an unknown design.

    Raises:
        SettingError: it is not one of :data:`DESIGNS`.
    """
    if design not in DESIGNS:
        raise SettingError(f"{argument}={design!r} is unknown: write one of {', '.join(map(repr, DESIGNS))}")


class Design:
    """Point ``i`` of a design over an encoded space, for any ``i``.

    Quasi-random designs cover the encoded cube evenly: they follow a hyperparameter's scale (log or not), not its
    other distribution or weights. "random" does follow them.
    """

    def __init__(self, encoding: Encoding, design: str, seed: int, n_points: int, levels: int) -> None:
        self._encoding = encoding
        self._design = design
        self._seed = seed
        self._n_points = n_points
        self._levels = [_levels(column, levels) for column in encoding.columns]

        self.finite = design == "grid"

    def __len__(self) -> int:
        """How many points there are: very many, but for a grid."""
        return min(math.prod(self._levels), 2**62) if self.finite else 2**31

    def row(self, index: int) -> Array | None:
        """Point ``index``, encoded; None where a constraint or a forbidden clause forbids it."""
        if self._design == "random":
            return np.asarray(self._encoding.sample(1, proposal_rng(self._seed, index))[0])
        grid = self._design == "grid"
        row = self._grid(index) if grid else _from_unit(self._unit(index), self._encoding.columns)
        snapped = self._encoding.snap(row[None, :])
        return snapped[0] if self._encoding.valid(snapped)[0] else None

    def _unit(self, index: int) -> Array:
        d = len(self._encoding.columns)
        if self._design == "kronecker":
            return kronecker(index, d, self._seed)
        from scipy.stats import qmc

        if self._design == "lhs":
            block, place = divmod(index, self._n_points)
            cube = qmc.LatinHypercube(d, seed=np.random.default_rng([self._seed, block]))
            return np.asarray(cube.random(self._n_points)[place])
        sampler = (qmc.Sobol if self._design == "sobol" else qmc.Halton)(d, seed=np.random.default_rng(self._seed))
        if index:
            sampler.fast_forward(index)
        return np.asarray(sampler.random(1)[0])

    def _grid(self, index: int) -> Array:
        row = np.zeros(len(self._levels))
        for j, (column, n) in enumerate(zip(self._encoding.columns, self._levels, strict=True)):
            index, digit = divmod(index, n)
            row[j] = digit if column.kind == "categorical" else (digit / (n - 1) if n > 1 else 0.5)
        return row


def kronecker(index: int, d: int, seed: int) -> Array:
    """Point ``index`` of a randomly shifted additive recurrence in the unit cube.

    The steps are the powers of the inverse of the generalised golden ratio, the positive root of
    ``x^(d+1) = x + 1`` (Roberts 2018, "The unreasonable effectiveness of quasirandom sequences").
    """
    phi = 2.0
    for _ in range(40):
        phi = (1.0 + phi) ** (1.0 / (d + 1))
    shift = np.random.default_rng(seed).random(d)
    return np.asarray((shift + index * phi ** -np.arange(1.0, d + 1)) % 1.0)


def _from_unit(unit: Array, columns: Sequence[Column]) -> Array:
    row = unit.copy()
    for j, column in enumerate(columns):
        if column.kind == "categorical":
            row[j] = min(int(unit[j] * column.n_choices), column.n_choices - 1)
    return row


def _levels(column: Column, levels: int) -> int:
    if column.kind == "float":
        return levels
    return max(min(column.n_choices, levels), 1) if column.kind == "int" else max(column.n_choices, 1)


@dataclass(frozen=True)
class DesignSearcher:
    """A space-filling design as a search of its own.

    Args:
        design: "sobol" (scrambled), "halton" (scrambled), "lhs" (Latin hypercube), "grid", "kronecker" or "random".
        n_points: length of one Latin hypercube; a longer search goes on with further ones.
        levels: grid points of each numeric hyperparameter; ordinal and categorical ones take all their values.
        initial_points: configurations to start with.
        default_first: whether the space's default configuration is the first of all.

    Raises:
        SettingError: an argument is unusable.
    """

    design: str = "sobol"
    n_points: int = 64
    levels: int = 5
    initial_points: Sequence[Mapping[str, Any]] = ()
    default_first: bool = False

    learns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_design(self.design, "design")
        check_initial_points(self.initial_points)
        for name in ("n_points", "levels"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SettingError(f"{name}={value!r}: give a positive integer")

    def bind(self, problem: HpProblem, objectives: Objectives, *, seed: int, max_t: float | None) -> DesignState:
        """Make the state for one search."""
        design = Design(problem.encoding, self.design, seed, self.n_points, self.levels)
        return DesignState(problem, design, seed, FirstPoints(problem, self.initial_points, self.default_first))

    def settings(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "searcher": "DesignSearcher",
            "design": self.design,
            "n_points": self.n_points,
            "levels": self.levels,
            "initial_points": [dict(p) for p in self.initial_points],
            "default_first": self.default_first,
        }


class DesignState:
    """The state of a design: the points that were not given out yet, in their order.

    A finite design (a grid) exhausts the search; any other is followed by random points where the space is finite and
    its points repeat.
    """

    def __init__(self, problem: HpProblem, design: Design, seed: int, first: FirstPoints) -> None:
        self._known = Known(problem)
        self.cheap = not design.finite  # a grid may have to pass many points that are forbidden, or equal
        self._design = design
        self._seed = seed
        self._first = first
        self._n_observed = 0
        self._next = 0  # every point of the design before this one is known, or not permitted

    def observe(self, observations: Sequence[Observation]) -> None:
        """Take in what happened."""
        self._known.add(observations)
        self._n_observed += sum(o.phase is not Phase.PENDING for o in observations)

    def propose(self, numbers: Sequence[int]) -> list[Proposal]:
        """The next points of the design."""
        taken: set[bytes] = set()
        chosen = self._first.left(self._known, taken, len(numbers))
        index, misses, advanced = self._next, 0, True
        for number in numbers[len(chosen) :]:
            row = None
            while row is None and index < len(self._design) and (self._design.finite or misses < 1000):
                point = self._design.row(index)
                new = point is not None and len(self._known.new(point[None, :], taken)) > 0
                row = self._known.take(point, taken) if new and point is not None else None
                misses = 0 if new else misses + 1
                advanced = advanced and not new
                index += 1
                self._next = index if advanced else self._next
            origin = "design"
            if row is None and not self._design.finite:
                origin, row = "random", self._known.draw(proposal_rng(self._seed, number), taken)
            if row is None:
                break
            chosen.append((origin, row))
        return proposals(self._known, chosen, self._n_observed)
