"""A search that is followed: its journal read as it grows, also where it is yet to begin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dhpo import control, journal
from dhpo._tail import Tail
from dhpo.cli.facts import facts_of
from dhpo.dashboard.summary import state_of, summary
from dhpo.dashboard.view import View


class Follower:
    """Keeps what is shown of a search up to date. Each look reads what has been added to the journal since the last.

    Args:
        directory: of the search, which may be yet to come.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.paused = False
        self._path = directory / journal.FILE_NAME
        self._tail: Tail | None = None
        self._view: View | None = None
        self._seen: tuple[Any, ...] = ()

    @property
    def has_begun(self) -> bool:
        """Whether there is a journal."""
        return self._tail is not None

    @property
    def view(self) -> View:
        """What is known of the search, once it has begun."""
        assert self._view is not None
        return self._view

    @property
    def is_over(self) -> bool:
        """Whether the search is finished, and nobody goes on with it."""
        return self.has_begun and self.view.finished is not None and not self.view.facts.running

    @property
    def state(self) -> str:
        """Where the search stands, in a word or two."""
        if not self.has_begun:
            return "not begun"
        state = state_of(self.view)
        return "stopped" if state == "interrupted" and control.was_stopped(self.directory) else state

    def look(self) -> bool:
        """Take in what is new; return whether anything has changed.

        Raises:
            JournalError: the journal cannot be read, or is gone.
        """
        if not self.has_begun and not self._begin():
            return False
        self._read()
        self.view.facts = facts_of(self.directory, self.view)
        if not self.view.facts.running:  # it may have ended after its last events were read
            self._read()
        self.paused = control.is_paused(self.directory)
        seen = (self.view.n_events, self.view.facts.running, self.paused)
        changed, self._seen = seen != self._seen, seen
        return changed

    def as_dict(self) -> dict[str, Any]:
        """The JSON form of what is known."""
        return {"directory": str(self.directory), "paused": self.paused, **summary(self.view), "state": self.state}

    def _begin(self) -> bool:
        try:
            with open(self._path, "rb") as file:
                if not file.readline().endswith(b"\n"):  # its header is being written
                    return False
        except FileNotFoundError:
            return False
        self._tail = Tail(self._path)
        header = self._tail.header
        self._view = View(header.settings, header.search_id, self.directory.name)
        return True

    def _read(self) -> None:
        assert self._tail is not None
        while (block := self._tail.read()) is not None:
            self.view.extend([block])
