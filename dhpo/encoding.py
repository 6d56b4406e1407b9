"""Configurations and numeric matrices: whole batches, in NumPy, with no ConfigSpace object per configuration.

An encoded configuration is a row of doubles with one column for each hyperparameter, in the order in which they were
added: numbers and ordinals lie in [0, 1] (on their own scale, linear or logarithmic), categoricals are the index of
their choice, constants are 0, and what is inactive is NaN. A row is *snapped* when each entry stands for a legal value
and exactly the inactive ones are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from dhpo._columns import ABSENT, Column, Floats, make_column
from dhpo._conditions import Mask, Predicate, activation_order, compile_clause
from dhpo._configspace import ConfigurationSpace
from dhpo.errors import SpaceError
from dhpo.trial import Configuration

__all__ = ["Column", "Constraint", "Encoding", "constraint_name"]

Constraint = Callable[[Configuration], Any]

_CHUNK = 4096  # rows of an enumeration made at once
_LARGEST_DRAW = 65_536
_FREE_DRAWS = 20_000  # draws that may all be rejected before sampling gives up
_DRAWS_PER_ROW = 1_000
_NEIGHBOUR_ROUNDS = 4


class Encoding:
    """The columns of a space, and the way between configurations and rows.

    Args:
        space: The ConfigSpace; it must not change afterwards.
        names: Its hyperparameters, in the order of the columns; None for ConfigSpace's own order.
        constraints: Predicates on a configuration that must all hold.

    Attributes:
        columns: One for each hyperparameter.
    """

    columns: tuple[Column, ...]

    def __init__(
        self, space: ConfigurationSpace, names: Sequence[str] | None = None, constraints: Sequence[Constraint] = ()
    ) -> None:
        self.columns = tuple(make_column(space[name]) for name in (list(space) if names is None else names))
        self._names = [column.name for column in self.columns]
        index = {name: position for position, name in enumerate(self._names)}
        self._defaults = np.array([column.default for column in self.columns], dtype=np.float64)
        self._conditions: list[tuple[int, str, Predicate]] = [
            (index[condition.child.name], str(condition), compile_clause(condition, self.columns, index))
            for condition in activation_order(space.conditions, index)
        ]
        self._forbidden: list[tuple[str, Predicate]] = [
            (str(clause), compile_clause(clause, self.columns, index)) for clause in space.forbidden_clauses
        ]
        self._constraints = tuple(constraints)
        self._plain = all(column.kind in ("float", "int", "ordinal") for column in self.columns)  # features as they are

    @property
    def n_distinct(self) -> int | None:
        """An upper bound of the number of distinct configurations; None where a float makes them infinitely many."""
        if any(column.n_choices == 0 for column in self.columns):
            return None
        return prod(column.n_choices for column in self.columns)

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """Draw rows from the hyperparameters' distributions; what is forbidden is drawn again.

        Args:
            n: How many.
            rng: The random generator.

        Returns:
            The snapped rows, of shape (n, d). They may repeat.

        Raises:
            SpaceError: Too few draws are allowed by the forbidden clauses and constraints.
        """
        kept = [np.empty((0, len(self.columns)))]
        got = drawn = 0
        while got < n:
            if drawn >= (_FREE_DRAWS if got == 0 else _FREE_DRAWS + _DRAWS_PER_ROW * n):
                raise SpaceError(
                    f"of {drawn} random configurations, the forbidden clauses and constraints allow {got}, "
                    f"and {n} are wanted; loosen them, or narrow the ranges to where they hold"
                )
            rate = max(got, 1) / drawn if drawn else 1.0
            size = min(int((n - got) / rate * 1.1) + 1 if drawn else n, _LARGEST_DRAW)
            rows = self.snap(
                np.column_stack([column.draw(size, rng) for column in self.columns] or [np.empty((size, 0))])
            )
            rows = rows[self._allowed(rows)][: n - got]
            kept.append(rows)
            got, drawn = got + len(rows), drawn + size
        return np.concatenate(kept)

    def encode(self, configs: Sequence[Mapping[str, Any]], *, clip: bool = False) -> Floats:
        """Encode configurations.

        Args:
            configs: Mappings from names to values; hyperparameters that a mapping lacks, or has as a NaN, are absent,
                names that the space lacks are ignored.
            clip: Take the nearest legal value for numbers outside the range (of floats, integers and numeric
                ordinals), as is wanted for configurations of a wider space.

        Returns:
            The rows, of shape (n, d), with NaN where inactive or absent.

        Raises:
            SpaceError: A value is not legal. Unknown categories are refused even with ``clip``.
        """
        return self._deactivate(self.encode_given(configs, clip=clip))

    def encode_given(self, configs: Sequence[Mapping[str, Any]], *, clip: bool = False) -> Floats:
        """Encode as :meth:`encode`, but keep the values that were given to inactive hyperparameters."""
        if not self.columns:
            return np.empty((len(configs), 0))
        return np.column_stack([column.encode(configs, clip=clip) for column in self.columns])

    def decode(self, rows: npt.ArrayLike, *, snapped: bool = False) -> list[Configuration]:
        """Decode rows; those that are not snapped are snapped first.

        Args:
            rows: A matrix of shape (n, d).
            snapped: Whether the rows are known to be snapped, which saves doing it again.

        Returns:
            The configurations, of plain Python values, without the inactive hyperparameters.
        """
        return self._decode_snapped(self._matrix(rows) if snapped else self.snap(rows))

    def snap(self, rows: npt.ArrayLike) -> Floats:
        """Move rows to the nearest legal entries.

        Args:
            rows: A matrix of shape (n, d).

        Returns:
            A new matrix: numbers clipped to [0, 1] and rounded to values that exist, inactive entries NaN, and active
            ones that were NaN at their default.
        """
        given = self._matrix(rows)
        snapped = np.empty(given.shape)
        for j, column in enumerate(self.columns):
            entries = column.snap(given[:, j])
            snapped[:, j] = np.where(np.isnan(entries), self._defaults[j], entries)
        return self._deactivate(snapped)

    def active(self, rows: npt.ArrayLike) -> Mask:
        """Which hyperparameters are active in snapped rows: a mask of shape (n, d)."""
        rows = self._matrix(rows).copy()
        active = np.ones(rows.shape, dtype=np.bool_)
        for j, _, condition in self._conditions:
            active[:, j] = condition(rows)
            rows[~active[:, j], j] = np.nan
        return active

    def valid(self, rows: npt.ArrayLike) -> Mask:
        """Which rows, once snapped, the forbidden clauses and the constraints allow: a mask of shape (n,)."""
        return self._allowed(self.snap(rows))

    def violated(self, row: npt.ArrayLike) -> str | None:
        """The first forbidden clause or constraint that a snapped row, of shape (d,), breaks; None if it is allowed."""
        rows = self._matrix(np.asarray(row)[None, :])
        for text, forbidden in self._forbidden:
            if forbidden(rows)[0]:
                return text
        config = self._decode_snapped(rows)[0]
        for constraint in self._constraints:
            if not _holds(constraint, config):
                return f"Constraint: {constraint_name(constraint)}"
        return None

    def condition_of(self, name: str) -> str:
        """The condition of a hyperparameter in words; empty if it is always active."""
        return next((text for j, text, _ in self._conditions if self._names[j] == name), "")

    def keys(self, rows: npt.ArrayLike, *, snapped: bool = False) -> list[bytes]:
        """One key for each row: equal for those, and only those, that stand for the same configuration.

        Args:
            rows: A matrix of shape (n, d).
            snapped: Whether the rows are known to be snapped, which saves doing it again.
        """
        legal = self._matrix(rows) if snapped else self.snap(rows)
        entries = np.ascontiguousarray(np.where(np.isnan(legal), -1.0, legal) + 0.0)
        data, width = entries.tobytes(), entries.shape[1] * entries.itemsize
        return [data[i * width : (i + 1) * width] for i in range(len(entries))]

    def enumerate(self) -> Iterator[Floats]:
        """Go through all allowed configurations of a finite space.

        Yields:
            Snapped rows of shape (d,), each configuration once.

        Raises:
            SpaceError: The space has a float.
        """
        total = self.n_distinct
        if total is None:
            floats = [column.name for column in self.columns if column.n_choices == 0]
            raise SpaceError(f"the space cannot be enumerated: {floats} are floats; give lists of values, or sample")
        for start in range(0, total, _CHUNK):
            yield from self._enumerate_chunk(range(start, min(start + _CHUNK, total)))

    def neighbours(
        self,
        row: npt.ArrayLike,
        rng: np.random.Generator,
        n: int,
        scale: float | Sequence[float] = 0.05,
        *,
        snapped: bool = True,
    ) -> Floats:
        """Draw one-exchange neighbours: rows in which one active hyperparameter is changed.

        A number moves by a Gaussian step (reflected at the bounds), an integer or ordinal by at least one step, and a
        categorical to another choice. What becomes active by the change takes its default.

        Args:
            row: The encoded row, of shape (d,).
            rng: The random generator.
            n: How many.
            scale: The standard deviation of a numeric step, as a fraction of the range; of several, each is used for
                as many neighbours.
            snapped: False leaves floats off their grid, which saves time where the rows are only looked at. Then the
                given row may be off the grid as well.

        Returns:
            Snapped, allowed rows other than the given one, of shape (m, d); ``m < n`` where few are allowed.
        """
        origin = np.asarray(row, dtype=np.float64)
        if snapped:
            origin = self.snap(origin[None, :])[0]
        kept = [np.empty((0, len(self.columns)))]
        scales = np.resize(np.asarray(scale, dtype=np.float64), n)
        movable = [j for j, column in enumerate(self.columns) if column.n_choices != 1 and not np.isnan(origin[j])]
        missing = n if movable else 0
        for _ in range(_NEIGHBOUR_ROUNDS):
            if missing == 0:
                break
            rows = np.repeat(origin[None, :], missing, axis=0)
            moved = rng.choice(movable, size=missing)
            for j in np.unique(moved):
                here = np.flatnonzero(moved == j)
                column = self.columns[j]
                entries = column.perturb(float(origin[j]), len(here), rng, scales[here])
                rows[here, j] = column.snap(entries) if snapped else entries
            if self._conditions:  # what became active takes its default
                rows = self.snap(rows)
            changed = ((rows != origin) & ~(np.isnan(rows) & np.isnan(origin))).any(axis=1)
            kept.append(rows[changed & self._allowed(rows)])
            missing -= len(kept[-1])
        return np.concatenate(kept)

    def features(self, rows: npt.ArrayLike) -> Floats:
        """The rows as a regression model takes them: finite, of shape (n, f).

        Numbers and ordinals are one feature in [0, 1], -1 where inactive. A categorical with three to ten choices is
        one indicator for each choice, all zero where inactive; with two or more than ten it is its index scaled to
        [0, 1], -1 where inactive. Constants are left out. Activity needs no features of its own: these show it.
        """
        rows = self._matrix(rows)
        if self._plain:
            return np.where(np.isnan(rows), -1.0, rows)
        blocks = [column.features(rows[:, j]) for j, column in enumerate(self.columns)]
        return np.concatenate(blocks, axis=1) if blocks else np.empty((len(rows), 0))

    def _matrix(self, rows: npt.ArrayLike) -> Floats:
        matrix = np.asarray(rows, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != len(self.columns):
            raise SpaceError(
                f"encoded rows have the shape {matrix.shape}; they must be (n, {len(self.columns)}), "
                f"one column for each of {self._names}"
            )
        return matrix

    def _deactivate(self, rows: Floats) -> Floats:
        for j, _, condition in self._conditions:
            rows[~condition(rows), j] = np.nan
        return rows

    def _allowed(self, snapped: Floats) -> Mask:
        allowed = np.ones(len(snapped), dtype=np.bool_)
        for _, forbidden in self._forbidden:
            allowed &= ~forbidden(snapped)
        if self._constraints:
            configs = self._decode_snapped(snapped[allowed])
            allowed[allowed] = [
                all(_holds(constraint, config) for constraint in self._constraints) for config in configs
            ]
        return allowed

    def _decode_snapped(self, snapped: Floats) -> list[Configuration]:
        if not self.columns:
            return [Configuration() for _ in snapped]
        names = self._names
        rows = zip(*[column.decode(snapped[:, j]) for j, column in enumerate(self.columns)], strict=True)
        if not np.isnan(snapped).any():
            return [Configuration(zip(names, row, strict=True)) for row in rows]
        return [
            Configuration([(name, value) for name, value in zip(names, row, strict=True) if value is not ABSENT])
            for row in rows
        ]

    def _enumerate_chunk(self, numbers: range) -> Iterator[Floats]:
        # The digits are taken with Python's integers: a product of ranges soon exceeds 64 bits.
        digits = np.zeros((len(numbers), len(self.columns)), dtype=np.int64)
        rest = list(numbers)
        for j in reversed(range(len(self.columns))):
            base = self.columns[j].n_choices
            digits[:, j] = [number % base for number in rest]
            rest = [number // base for number in rest]
        rows = np.empty(digits.shape)
        for j, column in enumerate(self.columns):
            rows[:, j] = column.nth(digits[:, j])
        rows = self.snap(rows)
        # Of the assignments that differ only in inactive hyperparameters, the one with zeros there stands for all.
        rows = rows[~(np.isnan(rows) & (digits > 0)).any(axis=1)]
        yield from rows[self._allowed(rows)]


def constraint_name(constraint: Constraint) -> str:
    """The qualified name of a predicate: of the function where it is a partial, of the class where it is an object."""
    function = getattr(constraint, "func", constraint)
    if not hasattr(function, "__qualname__"):
        function = type(function)
    return f"{function.__module__}.{function.__qualname__}"


def _holds(constraint: Constraint, config: Configuration) -> bool:
    try:
        return bool(constraint(config))
    except Exception as error:
        raise SpaceError(
            f"the constraint {constraint_name(constraint)} raised {error!r} for {dict(config)}; it must return True or "
            "False for every configuration, also where hyperparameters are inactive (absent)"
        ) from error
