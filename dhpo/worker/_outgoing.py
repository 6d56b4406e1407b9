"""The records of a worker's trials that are to be sent, and those that are under way."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Any

Items = list[list[Any]]
"""Records as they travel, each with the key of its trial in second place."""


class Outgoing:
    """Gathers records; trials put them here in threads of their own, and the event loop takes them.

    What was taken is *under way* until it has :meth:`arrived` or is :meth:`put_back`: whoever speaks for a trial by
    another way learns whether he would come before what it said earlier.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Items = []
        self._under_way: list[Items] = []
        self._is_due = False  # somebody will take what waits

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def put(self, item: list[Any], *, urgent: bool) -> bool:
        """Have a record wait; return whether somebody has to be told to take what waits."""
        with self._lock:
            self._waiting.append(item)
            was_due, self._is_due = self._is_due, True
            return urgent or not was_due

    def take(self) -> Items:
        """All that wait, in their order."""
        with self._lock:
            items, self._waiting = self._waiting, []
            self._is_due = False
            self._set_out(items)
        return items

    def take_of(self, key: str, last: list[Any]) -> Items:
        """What waits of one trial, and a record after it."""
        with self._lock:
            items = [*self._pick({key}), last]
            self._set_out(items)
        return items

    def take_away(self, keys: Collection[str], last: list[Any]) -> Items | None:
        """What waits of some trials, and a record after it, for another way; None where some is under way already."""
        with self._lock:
            if any(item[1] in keys for items in self._under_way for item in items):
                return None
            return [*self._pick(keys), last]

    def arrived(self, items: Items) -> None:
        """Forget what was taken."""
        with self._lock:
            self._forget(items)

    def put_back(self, items: Items, *, due: bool) -> None:
        """Have what was taken wait again, before all else; ``due`` says whether somebody will take it."""
        with self._lock:
            self._forget(items)
            self._waiting[:0] = items
            self._is_due = due

    def _set_out(self, items: Items) -> None:
        if items:
            self._under_way.append(items)

    def _pick(self, keys: Collection[str]) -> Items:
        picked = [item for item in self._waiting if item[1] in keys]
        self._waiting = [item for item in self._waiting if item[1] not in keys]
        return picked

    def _forget(self, items: Items) -> None:
        self._under_way = [other for other in self._under_way if other is not items]
