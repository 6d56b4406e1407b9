"""Columns of an encoded space: one hyperparameter each, between its values and numbers in double precision.

Doubles in a range and doubles in the unit interval do not correspond one to one. Floats are therefore kept on a decimal
grid that is finer than anyone tunes (about 13 significant digits of the range; 12 of the value on a log scale) and
coarser than the rounding errors of the transformation. On that grid the round trip is exact in both directions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dhpo._configspace import CategoricalHyperparameter, Constant, Hyperparameter
from dhpo._space_values import FLOATS, INTEGERS, PRIORS, is_number, plain
from dhpo.errors import SpaceError

Floats = npt.NDArray[np.float64]
Kind = Literal["float", "int", "ordinal", "categorical", "constant"]


class Absent(Enum):
    """The place of an inactive hyperparameter in a list of values; an enum, so that pickling keeps its identity."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT
_MOST_ONE_HOT = 10
_POWERS = np.array([float(f"1e{k}") for k in range(23)])  # all the powers of ten that a double holds exactly


@dataclass(frozen=True)
class Column(ABC):
    """One column of an encoded space.

    Attributes:
        name: The hyperparameter's name.
        kind: ``"float"``, ``"int"``, ``"ordinal"``, ``"categorical"`` or ``"constant"``.
        n_choices: The number of distinct values; 0 for a float.
        log: Whether the scale is logarithmic.
        default: The encoded default value.
    """

    name: str
    kind: Kind
    n_choices: int
    log: bool
    default: float = field(init=False)

    @property
    def where(self) -> str:
        """The column's name in error messages."""
        return f"hyperparameter {self.name!r}"

    @property
    @abstractmethod
    def allowed(self) -> str:
        """The allowed values, in words."""

    @abstractmethod
    def encode(self, configs: Sequence[Mapping[str, Any]], *, clip: bool) -> Floats:
        """The column of these configurations; NaN where absent."""

    @abstractmethod
    def decode(self, column: Floats) -> list[Any]:
        """The plain Python values of an encoded column; ``ABSENT`` where NaN."""

    @abstractmethod
    def comparable(self, column: Floats) -> npt.NDArray[Any]:
        """The values of a column without NaN as an array, for relations between hyperparameters."""

    @abstractmethod
    def snap(self, column: Floats) -> Floats:
        """The nearest representable entries; NaN stays NaN."""

    @abstractmethod
    def nth(self, ranks: npt.NDArray[np.int64]) -> Floats:
        """The encoded values with these ranks, for a column with finitely many."""

    @abstractmethod
    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """Draw ``n`` entries from the hyperparameter's distribution, not yet snapped."""

    @abstractmethod
    def perturb(self, entry: float, n: int, rng: np.random.Generator, scale: float | Floats) -> Floats:
        """Draw ``n`` other entries near this one; ``scale`` is a standard deviation in the unit interval, or n such."""

    @abstractmethod
    def features(self, column: Floats) -> Floats:
        """The model's view of a column, of shape (n, number of features)."""


@dataclass(frozen=True)
class NumericColumn(Column):
    """A float or an integer in a range, encoded in [0, 1] on its own scale."""

    lower: float
    upper: float
    default_value: float
    prior: Hyperparameter | None  # where it is not uniform: what draws from its distribution

    def __post_init__(self) -> None:
        object.__setattr__(self, "default", float(self._to_unit(np.array([self.default_value]))[0]))

    @property
    def allowed(self) -> str:
        if self.kind == "int":
            return f"an integer in [{self.lower:.0f}, {self.upper:.0f}]"
        return f"a number in [{self.lower!r}, {self.upper!r}]"

    def encode(self, configs: Sequence[Mapping[str, Any]], *, clip: bool) -> Floats:
        values = self._numbers([config.get(self.name, math.nan) for config in configs])
        slack = self._end_tolerances
        wrong = (values < self.lower - slack[0]) | (values > self.upper + slack[1])
        if self.kind == "int":
            wrong |= (values != np.rint(values)) & ~np.isnan(values)
        if not clip and wrong.any():
            raise SpaceError(
                f"{self.where}: {float(values[wrong][0])!r} is not allowed; it must be {self.allowed} "
                "(clip=True clips it)"
            )
        return self._to_unit(values)

    def decode(self, column: Floats) -> list[Any]:
        values = self._from_unit(column)
        inactive = np.isnan(values)
        if not inactive.any():
            return list(values.astype(np.int64).tolist() if self.kind == "int" else values.tolist())
        convert = int if self.kind == "int" else float
        return [ABSENT if absent else convert(value) for value, absent in zip(values, inactive, strict=True)]

    def comparable(self, column: Floats) -> npt.NDArray[Any]:
        return self._from_unit(column)

    def snap(self, column: Floats) -> Floats:
        return self._to_unit(self._from_unit(column))

    def nth(self, ranks: npt.NDArray[np.int64]) -> Floats:
        return self._to_unit(np.asarray(self.lower + ranks, dtype=np.float64))

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        if self.prior is not None:
            legacy = np.random.RandomState(int(rng.integers(2**32)))  # the generator that ConfigSpace takes
            return np.asarray(self.prior.sample_vector(n, seed=legacy), dtype=np.float64)
        if self.kind == "float":
            return rng.random(n)
        if not self.log:
            return self._to_unit(rng.integers(int(self.lower), int(self.upper), n, endpoint=True).astype(np.float64))
        # Integer k gets the mass of [k, k + 1), so that the last one is not cut short.
        exponents = rng.uniform(np.log(self.lower), np.log(self.upper + 1), n)
        return self._to_unit(np.floor(np.exp(exponents)))

    def perturb(self, entry: float, n: int, rng: np.random.Generator, scale: float | Floats) -> Floats:
        moved = np.abs(entry + rng.normal(0.0, scale, n))
        moved = _within(np.where(moved > 1.0, 2.0 - moved, moved), 0.0, 1.0)  # reflected at both ends
        if self.kind == "float":
            return moved
        old = self._from_unit(np.array([entry]))[0]
        values = _step_off(old, self._from_unit(moved), self.lower, self.upper, rng)
        return self._to_unit(values)

    def features(self, column: Floats) -> Floats:
        return np.where(np.isnan(column), -1.0, column)[:, None]

    @cached_property
    def _log_bounds(self) -> tuple[float, float]:
        low, high = np.log(np.array([self.lower, self.upper]))
        return float(low), float(high)

    @cached_property
    def _places(self) -> int:
        """The decimals of a linear float's grid."""
        largest = max(abs(self.lower), abs(self.upper), self.upper - self.lower)
        return min(14 - math.ceil(math.log10(largest)), len(_POWERS) - 1)

    @cached_property
    def _end_tolerances(self) -> tuple[float, float]:
        """Half a grid step at either bound: what is as near to the bound as that is the bound."""
        if self.kind == "int":
            return 0.0, 0.0
        if not self.log:
            return 0.5 * 10.0**-self._places, 0.5 * 10.0**-self._places
        low, high = (0.5 * 10.0 ** -_log_places(np.array([bound]))[0] for bound in (self.lower, self.upper))
        return float(low), float(high)

    def _numbers(self, values: list[Any]) -> Floats:
        array = np.asarray(values) if values else np.empty(0)
        if array.dtype.kind not in "iuf" or array.ndim != 1:
            for value in values:
                if not is_number(value):
                    raise SpaceError(f"{self.where}: {value!r} is not allowed; it must be {self.allowed}")
        return array.astype(np.float64)

    def _round(self, values: Floats) -> Floats:
        """The nearest values of the grid, bounds included, inside the range."""
        if self.kind == "int":
            return _within(np.rint(values), self.lower, self.upper)
        rounded = _round_significant(values) if self.log else np.round(values, self._places)
        below, above = self._end_tolerances
        rounded = np.where(rounded < self.lower + below, self.lower, rounded)
        return np.where(rounded > self.upper - above, self.upper, rounded)

    def _to_unit(self, values: Floats) -> Floats:
        values = self._round(_within(values, self.lower, self.upper))
        if self.log:
            low, high = self._log_bounds
            unit = (np.log(values) - low) / (high - low)
        else:
            unit = (values - self.lower) / (self.upper - self.lower)
        unit = np.where(values == self.lower, 0.0, unit)
        return np.asarray(np.where(values == self.upper, 1.0, unit), dtype=np.float64)

    def _from_unit(self, column: Floats) -> Floats:
        unit = _within(np.asarray(column, dtype=np.float64), 0.0, 1.0)
        if self.log:
            low, high = self._log_bounds
            return self._round(np.exp(low + unit * (high - low)))
        return self._round(self.lower + unit * (self.upper - self.lower))


@dataclass(frozen=True)
class ChoiceColumn(Column):
    """One of finitely many values: the index for a categorical or a constant, the rank in [0, 1] for an ordinal."""

    choices: tuple[Any, ...]
    default_value: Any
    probabilities: tuple[float, ...] | None

    def __post_init__(self) -> None:
        rank = self.choices.index(self.default_value)
        object.__setattr__(self, "default", float(rank / self._span))

    @property
    def allowed(self) -> str:
        if self.kind == "constant":
            return repr(self.choices[0])
        return f"one of {list(self.choices)!r}"

    def encode(self, configs: Sequence[Mapping[str, Any]], *, clip: bool) -> Floats:
        values = [config.get(self.name, ABSENT) for config in configs]
        lookup = self._lookup
        try:
            ranks = [lookup[value] for value in values]
        except (KeyError, TypeError):
            ranks = [self._rank(value, clip=clip) for value in values]
        return np.array(ranks, dtype=np.float64) / self._span

    def decode(self, column: Floats) -> list[Any]:
        ranks = np.where(np.isnan(column), self.n_choices, self._ranks(column)).astype(np.int64)
        values = (*self.choices, ABSENT)
        return [values[rank] for rank in ranks.tolist()]

    def comparable(self, column: Floats) -> npt.NDArray[Any]:
        ranks = self._ranks(column).astype(np.int64)
        if all(is_number(choice) for choice in self.choices):
            return np.array(self.choices)[ranks]
        values = np.empty(self.n_choices, dtype=object)
        values[:] = self.choices
        return values[ranks]

    def snap(self, column: Floats) -> Floats:
        return self._ranks(column) / self._span

    def nth(self, ranks: npt.NDArray[np.int64]) -> Floats:
        return np.asarray(ranks / self._span, dtype=np.float64)

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        if self.probabilities is None:
            return rng.integers(self.n_choices, size=n) / self._span
        return rng.choice(self.n_choices, size=n, p=self.probabilities) / self._span

    def perturb(self, entry: float, n: int, rng: np.random.Generator, scale: float | Floats) -> Floats:
        last = self.n_choices - 1
        old = float(self._ranks(np.array([entry]))[0])
        if self.kind == "categorical":
            return np.asarray((old + 1 + rng.integers(last, size=n)) % self.n_choices, dtype=np.float64)
        moved = np.clip(np.rint(old + rng.normal(0.0, scale * last, n)), 0, last)
        return _step_off(old, moved, 0, last, rng) / self._span

    def features(self, column: Floats) -> Floats:
        if self.kind == "constant":
            return np.empty((len(column), 0))
        if self.kind == "categorical" and 2 < self.n_choices <= _MOST_ONE_HOT:
            return np.asarray(column[:, None] == np.arange(self.n_choices), dtype=np.float64)
        scaled = column if self.kind == "ordinal" else column / max(self.n_choices - 1, 1)
        filled = np.where(np.isnan(scaled), -1.0, scaled)
        return np.asarray(filled[:, None], dtype=np.float64)

    @property
    def _span(self) -> int:
        return max(self.n_choices - 1, 1) if self.kind == "ordinal" else 1

    @cached_property
    def _lookup(self) -> dict[Any, float]:
        return {ABSENT: math.nan, **{choice: float(rank) for rank, choice in enumerate(self.choices)}}

    def _ranks(self, column: Floats) -> Floats:
        return np.clip(np.rint(column * self._span), 0, self.n_choices - 1)

    def _rank(self, value: Any, *, clip: bool) -> float:
        """The rank of one value that may be unhashable, missing, or none of the choices."""
        if isinstance(value, float | np.floating) and math.isnan(value):
            return math.nan
        try:
            rank = self._lookup.get(value)
        except TypeError:
            rank = self._lookup.get(plain(value, self.where))
        if rank is not None:
            return rank
        if clip and self.kind == "ordinal" and is_number(value) and all(is_number(choice) for choice in self.choices):
            return float(np.argmin(np.abs(np.array(self.choices, dtype=np.float64) - float(value))))
        raise SpaceError(f"{self.where}: {value!r} is not allowed; it must be {self.allowed}")


def make_column(hyperparameter: Hyperparameter) -> Column:
    """The column of a ConfigSpace hyperparameter."""
    name = str(hyperparameter.name)
    if isinstance(hyperparameter, FLOATS + INTEGERS):
        lower, upper, integer = hyperparameter.lower, hyperparameter.upper, isinstance(hyperparameter, INTEGERS)
        return NumericColumn(
            name=name,
            kind="int" if integer else "float",
            n_choices=int(upper) - int(lower) + 1 if integer else 0,
            log=bool(hyperparameter.log),
            lower=float(lower),
            upper=float(upper),
            default_value=float(hyperparameter.default_value),
            prior=hyperparameter if isinstance(hyperparameter, PRIORS) else None,
        )
    kind: Kind = "ordinal"
    probabilities = None
    if isinstance(hyperparameter, CategoricalHyperparameter):
        kind, choices = "categorical", hyperparameter.choices
        if hyperparameter.weights is not None:
            probabilities = tuple(float(p) for p in hyperparameter.probabilities)
    elif isinstance(hyperparameter, Constant):
        kind, choices = "constant", (hyperparameter.value,)
    else:
        choices = hyperparameter.sequence
    where = f"hyperparameter {name!r}"
    return ChoiceColumn(
        name=name,
        kind=kind,
        n_choices=len(choices),
        log=False,
        choices=plain(tuple(choices), where),
        default_value=plain(hyperparameter.default_value, where),
        probabilities=probabilities,
    )


def _step_off(old: float, moved: Floats, lowest: float, highest: float, rng: np.random.Generator) -> Floats:
    """Move the entries that stayed at ``old`` by one step, up or down, inside the bounds."""
    steps = rng.choice([-1.0, 1.0], size=len(moved))
    if old <= lowest:
        steps = np.abs(steps)
    elif old >= highest:
        steps = -np.abs(steps)
    return np.where(moved == old, old + steps, moved)


def _within(values: Floats, low: float, high: float) -> Floats:
    """As ``np.clip``, whose own way to this takes longer than the rest for the few values that there mostly are."""
    result: Floats = np.minimum(np.maximum(values, low), high)
    return result


def _log_places(values: Floats) -> npt.NDArray[np.int64]:
    """The decimals at which values above zero have 12 significant digits, as far as doubles hold the power of ten."""
    with np.errstate(invalid="ignore"):
        places = 11 - np.floor(np.log10(values))
    places = _within(np.where(np.isnan(places), 0.0, places), 1 - len(_POWERS), len(_POWERS) - 1)
    return np.asarray(places, dtype=np.int64)


def _round_significant(values: Floats) -> Floats:
    places = _log_places(values)
    power = _POWERS[np.abs(places)]
    rounded = np.where(places >= 0, np.rint(values * power) / power, np.rint(values / power) * power)
    return np.asarray(rounded, dtype=np.float64)
