"""The searches that one server shows, and their place in its HTTP application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dhpo.dashboard.live import Live

#: So many searches are kept, the newest.
_MOST_SEARCHES = 8


class Hub:
    """Searches by their ids."""

    def __init__(self) -> None:
        self._searches: dict[str, Live] = {}

    def add(self, live: Live) -> None:
        """Show a search, in the place of an earlier run of it."""
        self._searches.pop(live.search_id, None)
        self._searches[live.search_id] = live
        while len(self._searches) > _MOST_SEARCHES:
            del self._searches[next(iter(self._searches))]

    def all(self) -> Mapping[str, Live]:
        """Them all by their ids, the newest last."""
        return dict(self._searches)

    def find(self, search_id: str) -> Live | None:
        """One of them; the newest one for ""."""
        if not search_id:
            return next(reversed(self._searches.values()), None)
        return self._searches.get(search_id)

    def names(self) -> dict[str, str]:
        """What people call them."""
        return {search_id: live.name for search_id, live in self._searches.items()}

    def document(self, document: Any) -> None:
        """Fill a session's Bokeh document with the page of the search that it asks for."""
        from dhpo.dashboard.page import Page  # loaded with the first page

        arguments: Mapping[str, list[bytes]] = document.session_context.request.arguments
        wanted = b"".join(arguments.get("search", [])[:1]).decode(errors="replace")
        live = self.find(wanted) or self.find("")
        if live is None:
            document.title = "dhpo: no search"
            return
        live.look()
        Page(document, live, self.names)
