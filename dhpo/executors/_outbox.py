"""The records that wait for the driver: numbered, and kept until it has them in its journal."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

#: Seconds for which reports that need no decision may be gathered.
INTERVAL = 0.1
#: At most this many records travel in one answer to the driver.
_MAX_RECORDS = 20_000
_POLL = 20.0
#: Seconds between looks at the slots: that a worker begins, pauses or goes on is told to no plugin.
_GLANCE = 0.5
#: A count of the slots that took so long stands for so many times that: with 10,000 workers it takes 3 to 10 ms, and
#: records come in hundreds of messages per second.
_COUNT_STANDS = 50.0
#: Seconds that lie between two answers to the driver, for each slot, and at most. A turn of the driver costs it, the
#: scheduler and the disk about as much as a trial: with thousands of slots it is to be for many trials at once.
_BREATH, _LONGEST_BREATH = 20e-6, 0.05
#: The event loop's timers count milliseconds: a wait for less than one would be longer than it is worth.
_LEAST_BREATH = 0.001


class Outbox:
    """Answers the driver's long polls: with records, and with the number of slots when that changes."""

    def __init__(self) -> None:
        self._records: deque[tuple[int, list[Any]]] = deque()
        self._last = 0  # the number of the last record
        self._slots = 0  # as the driver was told last
        self._counted = 0
        self._count_ends = -inf  # by the loop's clock: when the slots are to be counted again
        self._changed = asyncio.Event()
        self._answered = -inf  # by the loop's clock
        self._urgent = True  # the first answer tells the driver how many slots there are

    def __len__(self) -> int:
        """How many records are kept."""
        return len(self._records)

    def put(self, record: list[Any]) -> None:
        """Number a record and keep it. It waits for others, unless :meth:`hurry` is called."""
        self._last += 1
        self._records.append((self._last, record))

    def look(self) -> None:
        """Have a poll that waits look at what has come."""
        self._changed.set()

    def hurry(self) -> None:
        """Have the poll answered at once."""
        self._urgent = True
        self._changed.set()

    def recount(self) -> None:
        """Have the slots counted at the next look, since there are fewer: no trial is to wait for one that has gone."""
        self._count_ends = -inf

    def _count(self, slots: Callable[[], int]) -> int:
        clock = asyncio.get_running_loop().time
        began = clock()
        if began >= self._count_ends:
            self._counted = slots()
            ended = clock()
            self._count_ends = ended + _COUNT_STANDS * (ended - began)
        return self._counted

    async def breathe(self) -> None:
        """Wait until the time between two answers has passed."""
        ends = self._answered + min(_BREATH * self._slots, _LONGEST_BREATH)
        if (rest := ends - asyncio.get_running_loop().time()) >= _LEAST_BREATH:
            await asyncio.sleep(rest)

    async def exchange(self, after: int, acknowledged: int, slots: Callable[[], int]) -> dict[str, Any]:
        """Wait for something new, and hand it over; forget the records that are acknowledged.

        Args:
            after: the last number that the driver has.
            acknowledged: the last number that is in its journal.
            slots: counts the slots.
        """
        while self._records and self._records[0][0] <= acknowledged:
            self._records.popleft()
        loop = asyncio.get_running_loop()
        end = loop.time() + _POLL
        while not self._urgent and self._count(slots) == self._slots and (rest := end - loop.time()) > 0:
            self._changed.clear()
            if self._last > after and (wait := INTERVAL) < rest:
                rest = wait  # there is something, but nothing that cannot wait a little for more
                end = min(end, loop.time() + rest)
            try:
                await asyncio.wait_for(self._changed.wait(), min(rest, _GLANCE))
            except TimeoutError:
                continue
        self._urgent = False
        self._answered = loop.time()
        self._slots = self._count(slots)
        fresh = [record for record in self._records if record[0] > after][:_MAX_RECORDS]
        if fresh and fresh[-1][0] < self._last:
            self._urgent = True
        return {"records": fresh, "slots": self._slots}
