"""Rows of tables, as the page asks for them: filtered, sorted, and one page of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

from dhpo._trials import TrialRecord
from dhpo.dashboard.text import host_of
from dhpo.dashboard.view import View


class Wanted(NamedTuple):
    """Which rows of a table are wanted."""

    text: str = ""  # that a cell of the row contains, in any case
    status: str = ""  # of the trial; "" for all
    sort: str = ""  # the column to sort by; "" for the order that the rows have
    descending: bool = False
    offset: int = 0
    limit: int = 50


class Page(NamedTuple):
    """A part of a table."""

    columns: tuple[str, ...]
    rows: list[list[Any]]
    total: int  # rows that match


def trial_columns(view: View) -> tuple[str, ...]:
    """The columns of the trials' table: dhpo's own, ``objective:<name>``, and ``hp:<name>``."""
    goals = [f"objective:{name}" for name in view.objectives.names]
    parameters = [f"hp:{name}" for name in view.names]
    return ("trial", "status", *goals, "resource", "seconds", "attempt", "bracket", "worker", *parameters, "error")


def trials(view: View, wanted: Wanted) -> Page:
    """The trials that are wanted."""
    columns = trial_columns(view)
    records = (r for r in view.trials if wanted.status in ("", _status(r)))
    return page(columns, (_trial_row(view, record) for record in records), wanted)


def _trial_row(view: View, record: TrialRecord) -> list[Any]:
    values: Mapping[str, Any] = record.values or {}
    seconds = record.ended - record.started
    return [
        record.number,
        _status(record),
        *(values.get(name) for name in view.objectives.names),
        record.resource,
        round(seconds, 3) if isfinite(seconds) else None,
        record.attempt,
        record.bracket,
        host_of(record.worker),
        *(record.config.get(name) for name in view.names),
        record.error,
    ]


def _status(record: TrialRecord) -> str:
    return "KNOWN" if record.known else record.status.value


def page(columns: Sequence[str], rows: Iterable[list[Any]], wanted: Wanted) -> Page:
    """The rows that match, in order, and of these the ones from ``offset`` on."""
    text = wanted.text.casefold()
    found = [row for row in rows if not text or any(text in str(cell).casefold() for cell in row if cell is not None)]
    place = columns.index(wanted.sort) if wanted.sort in columns else None
    if place is not None:
        found.sort(key=lambda row: _order(row[place], wanted.descending), reverse=wanted.descending)
    offset = max(0, wanted.offset)
    return Page(tuple(columns), found[offset : offset + max(0, wanted.limit)], len(found))


def _order(cell: Any, descending: bool) -> tuple[int, float, str]:
    """Numbers before text, and what is missing last, whichever way."""
    missing = -1 if descending else 2
    if cell is None or cell == "" or (isinstance(cell, float) and not isfinite(cell)):
        return (missing, 0.0, "")
    if isinstance(cell, int | float):
        return (1 if descending else 0, float(cell), "")
    return (0 if descending else 1, 0.0, str(cell))
