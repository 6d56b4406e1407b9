"""The first line of a journal: what defines the search, and the version of the format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dhpo._codec import decode_value, encode_value
from dhpo._lines import framed, unframed
from dhpo.errors import JournalError

#: The version of the format that this dhpo writes, and the newest that it reads. A journal keeps the one that it has.
VERSION = 2
#: From this version on, the checksum of a line goes on from that of the line before it.
_CHAINED = 2


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a journal.

    Args:
        search_id: names the search among all others.
        created: the unix time at which it was first started.
        settings: the JSON form of what defines it: problem, objectives, stopper, searcher, seed, …
        version: of the journal's format.
    """

    search_id: str
    created: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: int = VERSION

    @property
    def chained(self) -> bool:
        """Whether the checksum of a line goes on from that of the line before it."""
        return self.version >= _CHAINED


def header_line(path: Path, header: Header) -> bytes:
    """The line of a header. Raises JournalError where the settings are no JSON."""
    content = {
        "dhpo_journal": header.version,
        "search_id": header.search_id,
        "created": header.created,
        "settings": header.settings,
    }
    try:
        return framed(encode_value(content))
    except TypeError as error:
        raise JournalError(f"the settings cannot be written to the journal {path}: {error}") from error


def read_header(path: Path) -> tuple[Header, int]:
    """The header, and where the first batch begins."""
    try:
        with open(path, "rb") as file:
            line = file.readline()
    except FileNotFoundError as error:
        raise JournalError(f"there is no journal at {path}: give the directory (log_dir) of a search") from error
    except OSError as error:
        raise JournalError(f"the journal {path} cannot be read: {error.strerror}") from error
    body = unframed(line)
    try:
        content = decode_value(body or b"")
        version = content["dhpo_journal"]
        if version <= VERSION:
            header = Header(content["search_id"], content["created"], content["settings"], version)
            return header, len(line)
    except (ValueError, KeyError, TypeError) as error:
        raise JournalError(f"{path} does not begin with the header of a dhpo journal: its line 1 is damaged") from error
    raise JournalError(f"{path} is a journal of version {version}, this dhpo reads up to {VERSION}: update dhpo")
