"""What waits for its results while CBO proposes: how much of it counts, and the maximisers that count it in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, TypeAlias

import numpy as np

from dhpo.searchers.acquisition import Array
from dhpo.searchers.maximiser import Maximiser

PENDING = 256  # of so many trials, the latest ones that have not ended, a model takes account at most …
_DROPPED = 64  # … and of so many less, at times
_ALONE = 16  # one in so many of those that wait need not count, where leaving it out saves time …
_TOGETHER = 8  # … but no more than one less than so many

#: Whether a proposal goes by earlier searches, and the resource that counts for it.
Key: TypeAlias = tuple[bool, float | None]


class Waiting:
    """The trials without results: those that were given out, and what is proposed now.

    Of many, the latest count. Of those next to each other by their numbers, which a model counts in together, none
    counts for the others: to count one in costs almost as much as to count in eight. How many these are follows from
    how many wait, so that a proposal is the same however a batch is cut.

    Args:
        trials: the numbers of those that were given out, ascending.
        rows: (k, d) their encoded configurations.
    """

    def __init__(self, trials: Sequence[int], rows: Array) -> None:
        self._trials = list(trials)
        self._rows = rows
        self._fresh: list[Array] = []

    def __len__(self) -> int:
        return len(self._trials)

    def add(self, trial: int, row: Array) -> None:
        """A proposal was made."""
        self._trials.append(trial)
        self._fresh.append(row)

    def counted(self, trial: int) -> Array:
        """The rows that count for the proposal of this number."""
        n = len(self._trials)
        first = first_counted(n)
        together = counted_together(n)
        begin = trial - trial % together
        n -= sum(1 for _ in takewhile(lambda other: begin <= other < trial, reversed(self._trials)))
        if self._fresh:
            self._rows, self._fresh = np.vstack([self._rows, *self._fresh]), []
        return self._rows[first : max(first, n)]


class Standing:
    """The maximisers of one model, which are kept as long as what they count in only grows.

    What is kept saves time and changes nothing.

    Args:
        make: makes the maximiser of the present model for a key, which counts nothing in yet.
    """

    def __init__(self, make: Callable[[Key], Maximiser]) -> None:
        self._make = make
        self._at = -1
        self._kept: dict[Key, tuple[Maximiser, Array]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_at": -1, "_kept": {}}

    def counting(self, key: Key, rows: Array, at: int) -> Maximiser:
        """The maximiser that counts these rows (k, d) in; ``at`` tells which model is the present one."""
        if at != self._at:
            self._at, self._kept = at, {}
        maximiser, known = self._kept.get(key, (None, rows[:0]))
        k = len(known)
        if maximiser is None or not np.array_equal(known, rows[:k], equal_nan=True):
            maximiser, k = self._make(key), 0
        maximiser.believe(rows[k:])
        self._kept[key] = maximiser, rows
        return maximiser


def first_counted(n: int) -> int:
    """The first of ``n`` waiting trials that counts. It moves by steps, so that a batch needs few new beginnings."""
    return max(0, -(-(n - PENDING) // _DROPPED) * _DROPPED)


def counted_together(n: int) -> int:
    """How many of ``n`` waiting trials are counted in at once: a power of two."""
    return min(1 << max((n // _ALONE).bit_length() - 1, 0), _TOGETHER)
