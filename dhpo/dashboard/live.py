"""A search that is being watched: followed as long as somebody looks, without holding up the event loop it lives in.

What computes is loaded with the first look: until then a watched search costs the Dask scheduler next to nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dhpo._codec import decode

if TYPE_CHECKING:
    from dhpo.dashboard.frame import Choice, Frame
    from dhpo.dashboard.frames import Frames
    from dhpo.dashboard.view import Facts, View

#: Seconds for which a search is followed after the last look at it.
_ATTENTION = 60.0
#: Events that are folded at once.
_AT_ONCE = 500


class Live:
    """One search.

    Args:
        search_id: of its journal.
        name: what people call it.
        settings: of its journal's header.
    """

    def __init__(self, search_id: str, name: str, settings: Mapping[str, Any]) -> None:
        self.search_id = search_id
        self.name = name
        self.settings = settings
        self.is_over = False  # nothing more will come
        self._wanted = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._seen = -_ATTENTION

    @cached_property
    def view(self) -> View:
        """What has happened so far."""
        from dhpo.dashboard.view import View

        return View(self.settings, self.search_id, self.name)

    @cached_property
    def _frames(self) -> Frames:
        from dhpo.dashboard.frames import Frames

        return Frames(self.view)

    # For those who look.

    def look(self) -> None:
        """Say that somebody looks: the view is kept up to date from now on, for a while."""
        self._seen = time.monotonic()
        self._wanted.set()

    async def ready(self, timeout: float) -> bool:
        """Wait until the view is up to date, for so many seconds at most; return whether it is."""
        if not self.is_wanted() and not self.is_over:
            self._caught_up.clear()  # what was known then may be old by now
        self.look()
        try:
            await asyncio.wait_for(self._caught_up.wait(), timeout)
        except TimeoutError:
            return False
        return True  # it was, even if there is news again by now

    @property
    def is_caught_up(self) -> bool:
        """Whether the view has taken in all that there was."""
        return self._caught_up.is_set()

    def frame(self, choice: Choice) -> Frame:
        """What is to be shown now."""
        self.look()
        return self._frames.at(choice, complete=self.is_caught_up)

    # For those who tell.

    def is_wanted(self) -> bool:
        """Whether somebody has looked lately."""
        if time.monotonic() - self._seen >= _ATTENTION:
            self._wanted.clear()
        return self._wanted.is_set()

    async def until_wanted(self) -> None:
        """Wait until somebody looks."""
        self.is_wanted()
        await self._wanted.wait()

    async def extend(self, bodies: Sequence[bytes], *, all: bool, facts: Facts | None = None) -> None:
        """Take in batches of events.

        Args:
            bodies: as JSON, the oldest first.
            all: whether these were the last ones there are now.
            facts: what the events do not tell.
        """
        for body in bodies:
            events = decode(body)
            for begin in range(0, len(events), _AT_ONCE):
                self.view.apply(events[begin : begin + _AT_ONCE])
                await asyncio.sleep(0)
        if facts is not None:
            self.view.facts = facts
        if all:
            self._caught_up.set()
        else:
            self._caught_up.clear()

    def close(self) -> None:
        """Say that nothing more will come. What there is stays."""
        self.is_over = True
        self._caught_up.set()
        if "view" in self.__dict__:
            self.view.facts = self.view.facts._replace(running=False, workers=None)
