"""The driver's end of the dashboard on the Dask scheduler: it sends the journal, once somebody looks.

It is best effort, beside the loop, and bounded: whatever goes wrong with it harms nothing but the page.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Any, Protocol

from dhpo._blocks import Block, blocks_of
from dhpo._packing import to_bytes
from dhpo._tail import Tail
from dhpo.events import Event
from dhpo.executors.base import Executor
from dhpo.journal import FileJournal, Journal
from dhpo.objectives import Objectives
from dhpo.study import Study

logger = logging.getLogger(__name__)

#: Seconds between two looks for news, and before the scheduler is tried again.
_PERIOD, _AGAIN = 1.0, 5.0
#: Seconds that the scheduler may take to answer at the search's start and end.
_PATIENCE = 5.0
#: Batches of a journal in memory that are read at once.
_BATCHES = 64
#: Events that are packed, or opened, at once.
_PART = 4096


class Source(Protocol):
    """Where the events come from."""

    def read(self) -> Block | None:
        """The events that have come since the last call, or the first of many; None where there are none."""


class MemorySource:
    """The events of a journal that is kept in memory. It is a watcher of the loop, from the first call of ``read`` on.

    Args:
        journal: the journal, which the loop appends to just before it calls its watchers.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._past: Iterator[list[Event]] | None = None
        self._news: list[list[Event]] = []

    def __call__(self, events: Sequence[Event], study: Study) -> None:
        """Take note of what happened."""
        if self._past is not None:
            self._news.append(list(events))

    def rewind(self) -> None:
        """Begin again at the beginning."""
        self._past, self._news = None, []

    def read(self) -> Block | None:
        """The events that have come since the last call, or the first of many; None where there are none."""
        if self._past is None:
            self._past = self._journal.replay()
        batches = list(islice(self._past, _BATCHES))
        if not batches:
            batches, self._news = self._news[:_BATCHES], self._news[_BATCHES:]
        goals = Objectives.parse(self._journal.header.settings.get("objectives")).names
        return next(blocks_of([[event for batch in batches for event in batch]], goals), None)


class Feed:
    """Keeps the page of one search up to date.

    Args:
        executor: of the search; only one that has a Dask client has a page.
        journal: of the search.
        name: what people call the search.
        num_trials: the budget of trials.
        time_limit: when the time is up, by the search's clock.
    """

    def __init__(
        self, executor: Executor, journal: Journal, name: str, num_trials: int | None, time_limit: float | None
    ) -> None:
        self._executor = executor
        self._journal = journal
        self._name = name
        self._budget = {"num_trials": num_trials, "time_limit": time_limit}
        self._memory = None if isinstance(journal, FileJournal) else MemorySource(journal)
        self._token = ""
        self._source_followed: Source | None = None  # of which a part has been sent
        self.url: str | None = None  # of the page

    @property
    def watchers(self) -> list[Callable[[Sequence[Event], Study], None]]:
        """What the loop has to call after each batch."""
        return [] if self._memory is None else [self._memory]

    async def mount(self) -> bool:
        """Put the page on the scheduler; return whether there is one."""
        client = getattr(self._executor, "client", None)
        link = self._executor.address() if client is not None else None
        if client is None or link is None:
            return False
        from dhpo.dashboard.plugin import DashboardPlugin  # loads distributed, which searches in threads do without

        header, self._token = self._journal.header, self._executor.token  # type: ignore[attr-defined]
        name = self._name or f"search {header.search_id[:8]}"
        plugin = DashboardPlugin(self._token, client.id, header.search_id, name, header.settings)
        await client.register_plugin(plugin)
        if await self._call("mounted"):
            self.url = f"{link.removesuffix('/status')}/dhpo"
        return self.url is not None

    async def run(self) -> None:
        """Follow the search until this is cancelled."""
        while True:
            try:
                if self._executor.token != self._token and not await self.mount():  # type: ignore[attr-defined]
                    return
                await self._follow()
            except Exception as error:  # the scheduler is lost, or is of another version
                logger.debug("the dashboard is out of reach: %r", error)
            await asyncio.sleep(_AGAIN)

    async def leave(self) -> None:
        """Send the rest, where somebody looks, and take the feed off the scheduler."""
        source, self._source_followed = self._source_followed, None
        while source is not None and (blocks := await self._read(source)):
            await self._call("feed", blocks=blocks, all=False, facts=self._facts())
        await self._call("leave")

    async def _follow(self) -> None:
        source = self._source()
        while self._executor.token == self._token:  # type: ignore[attr-defined]
            if not await self._call("wanted"):
                return
            self._source_followed = source
            blocks = await self._read(source)
            await self._call("feed", blocks=blocks, all=not blocks, facts=self._facts())
            if not blocks:
                await asyncio.sleep(_PERIOD)

    def _source(self) -> Source:
        if self._memory is not None:
            self._memory.rewind()
            return self._memory
        assert isinstance(self._journal, FileJournal)
        return Tail(self._journal.path)

    async def _read(self, source: Source) -> list[bytes]:
        """The news, packed."""
        if source is self._memory:  # which the loop's thread writes to
            return packed(source.read())
        return await asyncio.to_thread(lambda: packed(source.read()))

    def _facts(self) -> dict[str, Any]:
        cluster = getattr(getattr(self._executor, "cluster", None), "state", None)
        status = self._executor.status() or (cluster() if cluster is not None else "")
        return {"running": True, "now": round(self._executor.now(), 3), "cluster": status or "", **self._budget}

    async def _call(self, operation: str, **message: Any) -> Any:
        client = self._executor.client  # type: ignore[attr-defined]
        return await getattr(client.scheduler, f"dhpo_dashboard_{operation}_{self._token}")(**message)


def packed(block: Block | None) -> list[bytes]:
    """A block in parts that are opened one after the other: whoever does it can do something else in between."""
    return [] if block is None else [to_bytes(part) for part in block.parts(_PART)]


@asynccontextmanager
async def followed(feed: Feed) -> AsyncIterator[Feed]:
    """Have the page there, where there can be one, while the search runs."""
    try:
        there = await asyncio.wait_for(feed.mount(), _PATIENCE)
    except Exception as error:
        logger.debug("there is no dashboard: %r", error)
        there = False
    task = asyncio.create_task(feed.run()) if there else None
    try:
        yield feed
    finally:
        if task is not None:
            task.cancel()
            with suppress(Exception):
                await asyncio.wait_for(feed.leave(), _PATIENCE)
