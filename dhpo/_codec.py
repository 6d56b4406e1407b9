"""Batches of events as JSON: what a journal stores, without knowing where.

A batch is an array of events, each ``[tag, field, ...]`` in the order of its fields. JSON has no NaN, no
infinity, no integers beyond 64 bits and no lone surrogates: such a value is written as ``{"__dhpo__": [kind, text]}``.
Events hold next to none of them, so only a batch that has one pays for the search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import partial
from math import isfinite
from typing import Any

import orjson

from dhpo.errors import JournalError
from dhpo.events import KINDS, TAGS, Event, TrialAdded, TrialCompleted

_MARK = "__dhpo__"
_MARK_BYTES = _MARK.encode()
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS  # refused: they would come back as text
#: What makes an event of its row, tag included, and the length of that row: half the time of a named tuple's ``_make``.
_MAKERS = {tag: (partial(tuple.__new__, kind), len(kind._fields) + 1) for tag, kind in KINDS.items()}


def encode(events: Sequence[Event]) -> bytes:
    """Write a batch of events as JSON, without newlines.

    Raises:
        JournalError: an event holds a value that JSON cannot express.
    """
    rows = [(TAGS[type(event)], *event) for event in events]
    try:
        body = orjson.dumps(rows, option=_OPTIONS)
    except TypeError:
        return _encode_carefully(rows)
    # orjson writes null for NaN and infinity: more nulls than fields known to be None call for a closer look.
    nulls = body.count(b"null")
    if (not nulls or nulls == sum(map(_n_absent, events))) and _MARK_BYTES not in body:
        return body
    return _encode_carefully(rows)


def decode(body: bytes) -> list[Event]:
    """Read a batch of events back; mappings come as plain dictionaries, tuples as lists.

    Raises:
        ValueError: the text is no batch of events.
    """
    try:
        return [event_of(row) for row in decode_rows(body)]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not a list of events: {error!r}") from error


def decode_rows(body: bytes) -> list[Sequence[Any]]:
    """Read a batch of events back as rows, each a tag and its fields.

    Raises:
        ValueError: the text is no list.
    """
    rows = orjson.loads(body)
    if type(rows) is not list:
        raise ValueError("not a list of events")
    if _MARK_BYTES in body:
        rows = _restored(rows)
    return rows  # type: ignore[no-any-return]


def event_of(row: Sequence[Any]) -> Event:
    """The event of a row, which other than sequences may also be none at all (KeyError, TypeError, IndexError).

    Raises:
        ValueError: it has not as many fields as such an event.
    """
    make, length = _MAKERS[row[0]]
    if len(row) != length:
        raise ValueError(f"not a list of events: {row[0]!r} with {len(row) - 1} fields")
    event: Event = make(row[1:])
    return event


def _n_absent(event: Event) -> int:
    """How many of an event's fields are None, as they may be."""
    if type(event) is TrialCompleted:
        return int(event.values is None)
    return int(event.values is None) + int(event.resource is None) if type(event) is TrialAdded else 0


def encode_value(value: Any) -> bytes:
    """Write any JSON value, such as a journal's header.

    Raises:
        TypeError: JSON cannot express it.
    """
    return orjson.dumps(_plain(value), option=_OPTIONS)


def decode_value(body: bytes) -> Any:
    """The inverse of :func:`encode_value`. Raises ValueError when the text is no JSON."""
    return _restored(orjson.loads(body))


def _encode_carefully(rows: list[tuple[Any, ...]]) -> bytes:
    texts = []
    for row in rows:
        try:
            texts.append(encode_value(row))
        except (TypeError, RecursionError) as error:
            fields = KINDS[row[0]]._fields
            trial = f" of trial {row[2]}" if "trial" in fields else ""
            raise JournalError(
                f"the event {row[0]!r}{trial} cannot be written to the journal: {error}. Report and return numbers, "
                "strings, booleans, None, and lists or string-keyed mappings of these"
            ) from error
    return b"[" + b",".join(texts) + b"]"


def _plain(value: Any) -> Any:
    """The same value in types that orjson writes without loss, others marked."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, str):
        return _plain_text(str(value))
    if isinstance(value, float):
        return float(value) if isfinite(value) else {_MARK: ["float", repr(float(value))]}
    if isinstance(value, int):
        return int(value) if -(1 << 63) <= value < 1 << 64 else {_MARK: ["int", hex(value)]}
    if isinstance(value, Mapping):
        plain = {key: _plain(item) for key, item in value.items()}
        return {_MARK: ["mapping", plain]} if _MARK in plain else plain
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TypeError(f"{value!r} is of the type {type(value).__qualname__}")


def _plain_text(text: str) -> Any:
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates, as in file names that are no UTF-8
        return {_MARK: ["str", text.encode("unicode_escape").decode()]}
    return text


def _restored(value: Any) -> Any:
    """Undo the marks of :func:`_plain`."""
    if isinstance(value, list):
        return [_restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _MARK not in value:
        return {key: _restored(item) for key, item in value.items()}
    kind, content = value[_MARK]
    if kind == "mapping":
        return {key: _restored(item) for key, item in content.items()}
    if kind == "str":
        return content.encode().decode("unicode_escape")
    return float(content) if kind == "float" else int(content, 16)
