"""Events by the block: reports, of which there may be millions, as columns, and everything else as the event it is.

An event object for each report costs more than all that is done with most of them. A report whose fields are of the
usual types becomes a row of numbers; of its values only the objectives are kept. Any other report stays an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhpo._codec import event_of
from dhpo.events import TAGS, Event, SessionOpened, TrialReported

#: Trials from this number on, which no search has, are not worth the columns that are as long as they are many.
MAX_TRIALS = 1 << 24
#: So many events, or some more, make a block …
BLOCK = 1 << 16
_PART = 1 << 12  # … of which so many become columns at once
_MAX_COUNT = 1 << 31
_MAX_WHOLE = 1 << 53  # the integers that a double holds exactly
_REPORT = TAGS[TrialReported]
#: Makes an event of its fields in half the time of a named tuple's ``_make``.
_REPORTED = partial(tuple.__new__, TrialReported)
_FIELDS = len(TrialReported._fields) + 1
_NUMBER = frozenset({int, float})


class Reports(NamedTuple):
    """Reports as columns, in their order; every value is finite."""

    place: NDArray[np.int64]  # among the events of the block
    time: NDArray[np.float64]
    trial: NDArray[np.int64]
    attempt: NDArray[np.int64]
    index: NDArray[np.int64]  # type: ignore[assignment]
    resource: NDArray[np.float64]
    is_whole: NDArray[np.bool_]  # whether the resource was an integer
    values: NDArray[np.float64]  # (reports, objectives), with the user's own signs

    def __len__(self) -> int:
        return len(self.place)

    def taken(self, rows: Any) -> Reports:
        """Some of the rows."""
        return Reports(*(column[rows] for column in self))

    def events(self, names: Sequence[str]) -> Iterator[TrialReported]:
        """The rows as events again, their values reduced to the objectives of these names."""
        columns = (column.tolist() for column in self[1:5])
        named = [dict(zip(names, row, strict=True)) for row in self.values.tolist()]
        return map(_REPORTED, zip(*columns, self.resources(), named, strict=True))

    def resources(self) -> list[float]:
        """The resources as they were reported: integers where they were such."""
        if self.is_whole.all():
            return self.resource.astype(np.int64).tolist()  # type: ignore[no-any-return]
        pairs = zip(self.resource.tolist(), self.is_whole.tolist(), strict=True)
        return [int(resource) if whole else resource for resource, whole in pairs]


class Block(NamedTuple):
    """Events that follow each other."""

    names: tuple[str, ...]  # of the objectives
    size: int  # how many events there are
    reports: Reports
    others: list[Event]
    places: NDArray[np.int64]  # of the others among the events

    def sessions(self) -> Iterator[Block]:
        """The block cut in parts, so that a driver's start is the first event of its part."""
        cuts = [p for p, e in zip(self.places.tolist(), self.others, strict=True) if p and type(e) is SessionOpened]
        begin = 0
        for end in (*cuts, self.size):
            yield self if not cuts else self._part(begin, end)
            begin = end

    def parts(self, most: int) -> Iterator[Block]:
        """The block cut in parts of so many events at most."""
        for begin in range(0, self.size, most):
            yield self if self.size <= most else self._part(begin, min(begin + most, self.size))

    def _part(self, begin: int, end: int) -> Block:
        rows = slice(*np.searchsorted(self.reports.place, [begin, end]))
        first, last = np.searchsorted(self.places, [begin, end])
        reports = self.reports.taken(rows)
        return Block(
            self.names, end - begin, Reports(reports.place - begin, *reports[1:]), self.others[first:last],
            self.places[first:last] - begin,
        )  # fmt: skip


class Builder:
    """Makes a block of the rows of a journal, each a tag and the fields of an event, as they come.

    Args:
        names: of the objectives.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._parts: list[tuple[NDArray[Any], ...]] = []
        self._others: list[Event] = []
        self._places: list[NDArray[np.int64]] = []
        self._rows: list[Sequence[Any]] = []
        self._size = 0

    def __len__(self) -> int:
        """How many events there are in it."""
        return self._size + len(self._rows)

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take in rows.

        Raises:
            ValueError: one is no event.
        """
        self._rows += rows
        if len(self._rows) >= _PART:
            self._pack()

    def block(self) -> Block:
        """What was taken in since the last call."""
        if self._rows or not self._parts:
            self._pack()
        reports = Reports(*map(np.concatenate, zip(*self._parts, strict=True)))
        block = Block(self._names, self._size, reports, self._others, np.concatenate(self._places))
        self._parts, self._others, self._places, self._size = [], [], [], 0
        return block

    def _pack(self) -> None:
        """Turn rows into columns. Done while they are few, and still in the processor's cache."""
        rows, self._rows = self._rows, []
        try:
            plain = [row[0] == _REPORT for row in rows]
            columns = _columns([row for row, is_plain in zip(rows, plain, strict=True) if is_plain], self._names)
            if columns is None:
                plain = [row[0] == _REPORT and _columns([row], self._names) is not None for row in rows]
                columns = _columns([row for row, is_plain in zip(rows, plain, strict=True) if is_plain], self._names)
                assert columns is not None
            self._others += [event_of(row) for row, is_plain in zip(rows, plain, strict=True) if not is_plain]
        except (TypeError, IndexError, KeyError) as error:
            raise ValueError(f"not a list of events: {error!r}") from error
        is_report = np.array(plain, dtype=bool)
        self._parts.append((self._size + np.flatnonzero(is_report), *columns))
        self._places.append(self._size + np.flatnonzero(~is_report))
        self._size += len(rows)


def blocks_of(batches: Iterable[Sequence[Event]], names: Sequence[str]) -> Iterator[Block]:
    """Batches of events as blocks.

    Args:
        batches: the events.
        names: of the objectives.
    """
    builder = Builder(names)
    for batch in batches:
        builder.add([(TAGS[type(event)], *event) for event in batch])
        if len(builder) >= BLOCK:
            yield builder.block()
    if len(builder):
        yield builder.block()


def _columns(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> tuple[NDArray[Any], ...] | None:
    """The columns of reports, but their places; None where a row is not of the usual types."""
    if not rows:
        no, none = np.empty(0), np.empty(0, dtype=np.int64)
        return no, none, none, none, no, np.empty(0, dtype=bool), np.empty((0, len(names)))
    if set(map(len, rows)) != {_FIELDS}:
        return None
    _, times, trials, attempts, indices, resources, values = zip(*rows, strict=True)
    if set(map(type, times)) != {float} or set(map(type, values)) != {dict}:
        return None
    if set(map(type, chain(trials, attempts, indices))) != {int} or not _NUMBER.issuperset(map(type, resources)):
        return None
    try:
        goals = [list(map(itemgetter(name), values)) for name in names]
        if not all(_NUMBER.issuperset(map(type, goal)) for goal in goals):
            return None
        time, resource = np.array(times), np.array(resources, dtype=float)
        trial, attempt, index = np.array(trials), np.array(attempts), np.array(indices)
        costs = np.array(goals, dtype=float).T
    except (KeyError, OverflowError):
        return None
    if not (trial.dtype == attempt.dtype == index.dtype == np.int64):
        return None
    is_whole = np.fromiter((type(r) is int for r in resources), dtype=bool, count=len(rows))
    usable = (
        (trial.min() >= 0 and trial.max() < MAX_TRIALS and min(attempt.min(), index.min()) > 0)
        and (max(attempt.max(), index.max()) < _MAX_COUNT and np.abs(resource).max() < _MAX_WHOLE)
        and (np.isfinite(time).all() and np.isfinite(costs).all())
    )
    return (time, trial, attempt, index, resource, is_whole, np.ascontiguousarray(costs)) if usable else None
