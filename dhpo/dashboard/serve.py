"""The dashboard served alone, over the journal of a search that runs anywhere, or has ended."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dhpo._tail import Tail
from dhpo.dashboard.hub import Hub
from dhpo.dashboard.live import Live
from dhpo.dashboard.view import Facts, View
from dhpo.errors import DhpoError

if TYPE_CHECKING:
    from bokeh.server.tornado import BokehTornado
    from tornado.httpserver import HTTPServer

#: Seconds between two looks whether the journal has grown.
_PERIOD = 1.0


class Dashboard:
    """A server of the page of one search.

    Args:
        directory: of the search.
        facts: tells what the journal does not, such as whether a driver is at work; called about once a second.

    Raises:
        JournalError: there is no journal, or it cannot be read.
    """

    def __init__(self, directory: Path | str, facts: Callable[[View], Facts] = lambda view: Facts()) -> None:
        self._tail = Tail(directory)
        self._facts = facts
        header = self._tail.header
        name = self._tail.path.parent.resolve().name
        self._live = Live(header.search_id, name, header.settings)
        self._pages: BokehTornado | None = None
        self._server: HTTPServer | None = None
        self._task: asyncio.Task[None] | None = None
        self.url = ""

    async def start(self, address: str = "127.0.0.1", port: int = 0) -> None:
        """Begin to serve; :attr:`url` is known then.

        Args:
            address: to listen at: an address or name of this machine, "0.0.0.0" or "::" for all of them.
            port: to listen at; 0 takes a free one.

        Raises:
            DhpoError: Bokeh is not installed, or the address or port cannot be used.
        """
        try:
            from bokeh.application import Application
            from bokeh.application.handlers.function import FunctionHandler
            from bokeh.server.tornado import BokehTornado
        except ImportError as error:
            raise DhpoError("the dashboard needs Bokeh: pip install 'dhpo[dashboard]'") from error
        from tornado.httpserver import HTTPServer
        from tornado.ioloop import IOLoop
        from tornado.web import RedirectHandler

        from dhpo.dashboard.routes import routes

        sockets = _listen(address, port)
        hub = Hub()
        hub.add(self._live)
        redirect = (r"/", RedirectHandler, {"url": "dhpo", "permanent": False})
        self._pages = BokehTornado(
            {"/dhpo": Application(FunctionHandler(hub.document))},
            use_index=False,
            extra_patterns=[redirect, *routes(hub)],
            extra_websocket_origins=_origins(address),
            absolute_url="",
        )
        self._server = HTTPServer(self._pages)
        self._server.add_sockets(sockets)
        self._pages.initialize(IOLoop.current())
        self._pages.start()
        self.url = f"http://{_shown(address)}:{sockets[0].getsockname()[1]}/dhpo"
        self._task = asyncio.create_task(self._follow())

    async def serve(self) -> None:
        """Serve until this is cancelled, or the journal can no longer be read.

        Raises:
            JournalError: the journal is gone, or damaged.
        """
        assert self._task is not None
        await self._task

    async def close(self) -> None:
        """End the server."""
        if self._task is not None:
            self._task.cancel()
        if self._server is not None and self._pages is not None:
            self._pages.stop()
            self._server.stop()

    async def _follow(self) -> None:
        live = self._live
        while True:
            await live.until_wanted()
            block = await asyncio.to_thread(self._tail.read)
            await live.extend([] if block is None else [block], all=block is None, facts=await live.ask(self._facts))
            if block is None:
                await asyncio.sleep(_PERIOD)


def _listen(address: str, port: int) -> list[socket.socket]:
    from tornado.netutil import bind_sockets

    try:
        return bind_sockets(port, address)
    except OSError as error:
        raise DhpoError(
            f"{address}, port {port} cannot be listened at ({error.strerror}): give another --address or --port"
        ) from error


def _origins(address: str) -> list[str]:
    """The hosts under whose names a browser may connect, at any port: a tunnel may have another one."""
    names = {"localhost", "127.0.0.1", address}
    if not _is_loopback(address):
        names |= {socket.gethostname(), socket.getfqdn()}
    return [f"{name}:*" for name in names]


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _shown(address: str) -> str:
    if address in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{address}]" if ":" in address else address
