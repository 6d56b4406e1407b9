"""A search that is being watched: followed as long as somebody looks, without holding up the event loop it lives in.

What computes is loaded with the first look: until then a watched search costs the Dask scheduler next to nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dhpo._blocks import Block
    from dhpo.dashboard.desk import Desk
    from dhpo.dashboard.frame import Choice, Frame
    from dhpo.dashboard.frames import Frames
    from dhpo.dashboard.view import Facts, View
    from dhpo.objectives import Objectives

T = TypeVar("T")

#: Seconds for which a search is followed after the last look at it.
_ATTENTION = 60.0


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
    def _desk(self) -> Desk:
        from dhpo.dashboard.desk import Desk

        return Desk(self._empty())

    def _empty(self) -> View:
        from dhpo.dashboard.view import View

        return View(self.settings, self.search_id, self.name)

    @cached_property
    def _frames(self) -> Frames:
        from dhpo.dashboard.frames import Frames

        return Frames(self._empty(), self.ask)

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

    @property
    def is_being_read(self) -> bool:
        """Whether anybody has looked so far."""
        return "_desk" in self.__dict__

    async def ask(self, question: Callable[[View], T]) -> T:
        """What a question finds in the view of what has happened so far. It is asked in the thread of the view."""
        return await self._desk.ask(question)

    @cached_property
    def objectives(self) -> Objectives:
        """What the search is for."""
        from dhpo.objectives import Objectives

        return Objectives.parse(self.settings.get("objectives"))

    def blank(self, choice: Choice) -> Frame:
        """What is shown before the first frame of a choice is there."""
        return self._frames.blank(choice)

    def frame(self, choice: Choice) -> Frame | None:
        """What is to be shown now; None where that is yet to be drawn up."""
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

    async def extend(self, blocks: Sequence[Block], *, all: bool, facts: Facts | None = None) -> None:
        """Take in events.

        Args:
            blocks: the oldest first, from the first one of the search on.
            all: whether these were the last ones there are now.
            facts: what the events do not tell.
        """

        def take(view: View) -> None:
            view.extend(blocks)
            if facts is not None:
                view.facts = facts

        await self.ask(take)
        if all:
            self._caught_up.set()
        else:
            self._caught_up.clear()

    async def close(self) -> None:
        """Say that nothing more will come. What there is stays."""
        self.is_over = True
        self._caught_up.set()
        if self.is_being_read:

            def leave(view: View) -> None:
                view.facts = view.facts._replace(running=False, workers=None)

            await self.ask(leave)
