"""What programs can ask for: JSON below ``/dhpo/api/``, and metrics for Prometheus at ``/dhpo/metrics``.

What answers is loaded with the first request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tornado.web import HTTPError, RedirectHandler, RequestHandler

from dhpo.dashboard.live import Live

#: Seconds to wait for a view that is not up to date.
_PATIENCE = 30.0


class Searches(Protocol):
    """The searches that are served."""

    def all(self) -> Mapping[str, Live]:
        """Them all by their ids, the newest last."""

    def find(self, search_id: str) -> Live | None:
        """One of them; the newest one for "", None where there is no such search."""


class _Handler(RequestHandler):
    """What both handlers have in common."""

    def initialize(self, searches: Searches) -> None:
        self.searches = searches

    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")


class _Answer(_Handler):
    """JSON about one search."""

    async def get(self, name: str) -> None:
        from dhpo.dashboard.answers import ANSWERS, answer

        live = self.searches.find(self.get_query_argument("search", ""))
        if live is None or name not in ANSWERS:
            raise HTTPError(404, reason="no such search" if live is None else "nothing is known by this name")
        if not await live.ready(_PATIENCE):
            self.set_header("Retry-After", "5")
            raise HTTPError(503, reason="the search is still being read")
        arguments = {key: self.get_query_argument(key) for key in self.request.query_arguments}
        try:
            text = await live.ask(lambda view: answer(name, view, arguments))
        except ValueError as error:
            raise HTTPError(400, reason=str(error)) from error
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(text)


class _Metrics(_Handler):
    """The metrics of all searches."""

    async def get(self) -> None:
        from dhpo.dashboard.metrics import exposition
        from dhpo.dashboard.summary import summary

        found = [await live.ask(summary) for live in self.searches.all().values() if await live.ready(_PATIENCE)]
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish(exposition(found))


def routes(searches: Searches, prefix: str = "") -> list[tuple[Any, ...]]:
    """The routes, for a Tornado application."""
    known = {"searches": searches}
    return [
        (rf"{prefix}/dhpo/api/([a-z]+)\.json", _Answer, known),
        (rf"{prefix}/dhpo/metrics", _Metrics, known),
        (rf"{prefix}/dhpo/", RedirectHandler, {"url": "../dhpo", "permanent": False}),
    ]
