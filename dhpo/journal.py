"""The journal: every event of a search, in order, durable before anyone acts on it.

``journal.jsonl`` in a search's directory is a text file. Its first line is the header; each further line is one batch
of events (see ``dhpo/_codec.py``) with a checksum before it (see ``dhpo/_lines.py``). It only ever grows, by whole
lines, and one driver at a time writes it. A line that a crash left unfinished can only be the last one: nobody was told
of it, so it is dropped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from dhpo._codec import decode, decode_value, encode, encode_value
from dhpo._lines import (
    create,
    drop_torn_end,
    framed,
    lock,
    open_file,
    sync_directory,
    unframed,
    unwritable,
    write_durably,
)
from dhpo.errors import JournalError
from dhpo.events import Event

#: The version of the format that this module writes, and the newest that it reads.
VERSION = 1
#: The journal's name within the directory of its search.
FILE_NAME = "journal.jsonl"

_BLOCK = 1 << 16
_PACK_AT = 1 << 17  # bytes: compressed within two milliseconds
_TORN_HEADER = re.compile(rb"[0-9a-f]{1,8}|[0-9a-f]{8} (\{[^\n]*)?")

logger = logging.getLogger(__name__)


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


class Journal(Protocol):
    """Where the events of a search are kept."""

    @property
    def header(self) -> Header:
        """What defines the search."""

    def append(self, events: Sequence[Event]) -> None:
        """Add a batch at the end. It is durable when this returns, and not there when this raises.

        Raises:
            JournalError: it could not be written.
        """

    def replay(self) -> Iterator[list[Event]]:
        """The batches that the journal holds now, oldest first."""

    def close(self) -> None:
        """Let go of it. Closing twice does no harm."""


class MemoryJournal:
    """A journal that lives and dies with its process, for searches without a directory. Old batches are compressed."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._packed: list[bytes] = []
        self._recent: list[bytes] = []
        self._recent_size = 0

    @property
    def header(self) -> Header:
        """What defines the search."""
        return self._header

    def append(self, events: Sequence[Event]) -> None:
        """Add a batch at the end."""
        if not events:
            return
        body = encode(events)
        self._recent.append(body)
        self._recent_size += len(body)
        if self._recent_size >= _PACK_AT:
            self._packed.append(zlib.compress(b"\n".join(self._recent), level=1))
            self._recent, self._recent_size = [], 0

    def replay(self) -> Iterator[list[Event]]:
        """The batches that the journal holds now, oldest first."""
        packed, recent = list(self._packed), list(self._recent)
        return (decode(body) for bodies in (*map(_unpacked, packed), recent) for body in bodies)

    def close(self) -> None:
        """Nothing to let go of."""


def _unpacked(block: bytes) -> Iterator[bytes]:
    yield from zlib.decompress(block).split(b"\n")


class FileJournal:
    """A journal in a file, written by one driver at a time. Made by :meth:`open`."""

    def __init__(self, path: Path, descriptor: int, header: Header, start: int, size: int, is_new: bool) -> None:
        self.path = path
        self._is_new = is_new  # was begun here, not gone on with
        self._descriptor = descriptor
        self._header = header
        self._start = start  # where the first batch begins
        self._size = size  # up to here everything is good and durable
        _open_journals.add(self)

    @classmethod
    def open(cls, directory: Path | str, header_if_new: Header | Callable[[], Header]) -> FileJournal:
        """Go on with the journal of a directory, or begin one.

        Args:
            directory: the search's directory; made, readable by its owner only, where it does not exist.
            header_if_new: the header of a journal that has to be begun, or what makes it.

        Raises:
            JournalLockedError: another driver is writing to it.
            JournalError: the file cannot be opened or written, is no journal, or is of a newer version of dhpo.
        """
        path = Path(directory) / FILE_NAME
        begun = not path.exists() and create(path, lambda: _header_line(path, _made(header_if_new)))
        descriptor = open_file(path)
        try:
            lock(descriptor, path)
            if is_new := _is_new(descriptor, path):
                header = _made(header_if_new)
                start = size = _begin(descriptor, path, header)
            else:
                header, start = _read_header(path)
                size = drop_torn_end(descriptor, path, start)
            return cls(path, descriptor, header, start, size, is_new or begun)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError):
                raise JournalError(f"the journal {path} cannot be used: {error.strerror}") from error
            raise

    @property
    def header(self) -> Header:
        """What defines the search."""
        return self._header

    def append(self, events: Sequence[Event]) -> None:
        """Write a batch as one line and force it to the disk.

        Raises:
            JournalError: it could not be written; the file is again what it was before.
        """
        if not events:
            return
        line = framed(encode(events))
        if self._descriptor < 0:
            raise JournalError(f"the journal {self.path} is closed")
        try:
            if os.fstat(self._descriptor).st_size != self._size:  # the only guard where there are no locks
                raise JournalError(f"another process changed the journal {self.path}: let only one driver write to it")
            write_durably(self._descriptor, line, self._size)
        except OSError as error:
            raise JournalError(unwritable(self.path, error)) from error
        self._size += len(line)

    def replay(self) -> Iterator[list[Event]]:
        """The batches that the journal holds now, oldest first.

        Raises:
            JournalError: while iterating, at a line that is damaged.
        """
        return _batches(self.path, self._start, self._size)

    def close(self) -> None:
        """Close the file, which also releases its lock. Closing twice does no harm."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def withdraw(self) -> None:
        """Close the file; take it away, and its directory if nothing else is in there, where it was begun by this."""
        if self._is_new and self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self.path.unlink()
                self.path.parent.rmdir()
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def read(source: Path | str) -> tuple[Header, Iterator[list[Event]]]:
    """Read a journal without writing to it, also while a driver is writing to it.

    Args:
        source: the directory of a search, or its journal file.

    Returns:
        The header, and the batches of events, oldest first. An unfinished last line is left out.

    Raises:
        JournalError: there is no journal, or it is of a newer version; while iterating, at a damaged line.
    """
    path = Path(source)
    if path.is_dir():
        path = path / FILE_NAME
    header, start = _read_header(path)
    return header, _batches(path, start, None)


#: A forked child would hold the driver's lock for as long as it lives: it lets go of it at once.
_open_journals: weakref.WeakSet[FileJournal] = weakref.WeakSet()


def _let_go_in_child() -> None:
    for journal in list(_open_journals):
        journal.close()


os.register_at_fork(after_in_child=_let_go_in_child)


def _is_new(descriptor: int, path: Path) -> bool:
    """Whether the file holds nothing, or only the beginning of a header that a crash cut off."""
    head = os.pread(descriptor, _BLOCK, 0)
    size = os.fstat(descriptor).st_size
    if size and head.rstrip(b"\0"):
        if size > len(head) or b"\n" in head or not _TORN_HEADER.fullmatch(head.rstrip(b"\0")):
            return False
        logger.warning("%s ends within its header: it is begun anew", path)
    return True


def _made(header_if_new: Header | Callable[[], Header]) -> Header:
    return header_if_new() if callable(header_if_new) else header_if_new


def _header_line(path: Path, header: Header) -> bytes:
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


def _begin(descriptor: int, path: Path, header: Header) -> int:
    """Write the header into a file that is there already; return the file's size."""
    line = _header_line(path, header)
    try:
        os.ftruncate(descriptor, 0)
        write_durably(descriptor, line, 0)
        sync_directory(path.parent)
    except OSError as error:
        raise JournalError(unwritable(path, error)) from error
    return len(line)


def _read_header(path: Path) -> tuple[Header, int]:
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


def _batches(path: Path, start: int, end: int | None) -> Iterator[list[Event]]:
    """The batches from ``start`` to ``end``, or to the end of a file that may be growing (None)."""
    offset = start
    with open(path, "rb", buffering=1 << 20) as file:
        file.seek(start)
        for number, line in enumerate(file, start=2):
            if end is not None and offset >= end:
                return
            if end is None and not line.endswith(b"\n"):
                return
            body = unframed(line)
            if body is None and end is None and not file.readline():
                return
            try:
                events = decode(body or b"")
            except ValueError as error:
                raise JournalError(
                    f"{path} is damaged at line {number}, byte {offset}: restore it from a backup, or cut it off there "
                    f"(head -c {offset}), which loses what comes after"
                ) from error
            yield events
            offset += len(line)
