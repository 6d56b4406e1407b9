"""The dashboard on a Dask scheduler: mounted on its HTTP application, fed by the drivers of the searches there.

Nothing is sent and nothing is kept as long as nobody looks. When somebody does, the driver sends the journal so far,
and then what it grows by.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distributed import Scheduler, SchedulerPlugin

if TYPE_CHECKING:
    from dhpo.dashboard.hub import Hub
    from dhpo.dashboard.live import Live
    from dhpo.dashboard.view import LiveWorker

logger = logging.getLogger(__name__)

_EXTENSION = "dhpo-dashboard"


class DashboardPlugin(SchedulerPlugin):  # type: ignore[misc]
    """One search's part of the dashboard.

    Args:
        token: of the search's session, as in the keys of its tasks.
        client: the identity of the driver's client: when it goes, nobody drives the search any more.
        search_id: of its journal.
        name: what people call it.
        settings: of its journal's header.
    """

    def __init__(self, token: str, client: str, search_id: str, name: str, settings: Mapping[str, Any]) -> None:
        self.token = token
        self.client = client
        self.name = f"dhpo-dashboard-{token}"
        self.search_id = search_id
        self.search_name = name
        self.settings = settings

    async def start(self, scheduler: Scheduler) -> None:
        """Called by the scheduler."""
        self.scheduler = scheduler
        self.live: Live | None = None
        hub = mounted(scheduler)
        if hub is not None:
            from dhpo.dashboard.live import Live

            self.live = Live(self.search_id, self.search_name, self.settings)
            hub.add(self.live)
        for name, handler in self._operations().items():
            scheduler.handlers[name] = handler

    def _operations(self) -> dict[str, Any]:
        operations = (self.mounted, self.wanted, self.feed, self.leave)
        return {f"dhpo_dashboard_{each.__name__}_{self.token}": each for each in operations}

    async def close(self) -> None:
        """Called when the scheduler ends."""
        await self.leave()

    async def leave(self) -> None:
        """The driver ends. What is shown stays, as long as the scheduler lives."""
        self._take_away()
        if self.live is not None:
            await self.live.close()

    def _take_away(self) -> None:
        for name in self._operations():
            self.scheduler.handlers.pop(name, None)

    async def mounted(self) -> bool:
        """Whether there is a page."""
        return self.live is not None

    async def wanted(self) -> bool:
        """Return once somebody looks."""
        if self.live is not None:
            await self.live.until_wanted()
        return self.live is not None

    async def feed(self, blocks: Sequence[bytes], all: bool, facts: Mapping[str, Any]) -> bool:
        """Take in packed blocks of events, the oldest first; whether these were all there are now; and other facts.

        Returns:
            Whether somebody still looks.
        """
        if self.live is None:
            return False
        from dhpo._packing import from_bytes
        from dhpo.dashboard.view import Facts

        opened = await asyncio.to_thread(lambda: [from_bytes(block) for block in blocks])
        await self.live.extend(opened, all=all, facts=Facts(**facts, workers=self._workers()))
        return self.live.is_wanted()

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Called by the scheduler: the driver may have died without a word."""
        if client == self.client:
            self._take_away()
            scheduler.loop.add_callback(self.leave)
            scheduler.remove_plugin(self.name)

    def _workers(self) -> tuple[LiveWorker, ...]:
        from dhpo.dashboard.view import LiveWorker

        prefix = f"trial-{self.token}-"
        found = []
        for ws in self.scheduler.workers.values():
            keys = (ts.key for ts in ws.processing)
            trials = tuple(
                int(key.rsplit("-", 2)[1]) for key in keys if isinstance(key, str) and key.startswith(prefix)
            )
            memory, limit = ws.metrics.get("memory", 0), ws.memory_limit or 0
            found.append(LiveWorker(ws.address, str(ws.name), ws.nthreads, memory, limit, ws.status.name, trials))
        return tuple(found)


def mounted(scheduler: Scheduler) -> Hub | None:
    """The hub of a scheduler, mounted at the first call; None where the scheduler has no dashboard."""
    if _EXTENSION in scheduler.extensions:
        found: Hub | None = scheduler.extensions[_EXTENSION]
        return found
    hub = _mount(scheduler)
    scheduler.extensions[_EXTENSION] = hub
    return hub


def _mount(scheduler: Scheduler) -> Hub | None:
    pages = [each for each in scheduler.http_application.applications if "Bokeh" in type(each).__name__]
    if not pages:  # Dask shows none of its own, for lack of Bokeh or because nobody wants any
        logger.info("there is no page /dhpo: the Dask scheduler has no dashboard (pip install 'dhpo[dashboard]')")
        return None
    from distributed.dashboard.core import BokehApplication
    from tornado.ioloop import IOLoop

    from dhpo.dashboard.hub import Hub
    from dhpo.dashboard.routes import routes

    hub, prefix = Hub(), pages[0].prefix
    scheduler.http_application.add_handlers(r".*", routes(hub, prefix))
    application = BokehApplication({"/dhpo": _open}, _Server(scheduler, hub), prefix=prefix)
    scheduler.http_application.add_application(application)
    application.initialize(IOLoop.current())
    return hub


class _Server:
    """What Dask's Bokeh application wants to know of its server."""

    def __init__(self, scheduler: Scheduler, hub: Hub) -> None:
        self.http_server = scheduler.http_server
        self.hub = hub


def _open(server: _Server, extra: Mapping[str, Any], document: Any) -> None:
    del extra
    server.hub.document(document)
