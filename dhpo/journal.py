"""The journal: every event of a search, in order, durable before anyone acts on it.

``journal.jsonl`` in a search's directory is a text file. Its first line is the header; each further line is one batch
of events (see ``dhpo/_codec.py``) with a checksum before it that covers all lines so far (see ``dhpo/_lines.py``). It
only ever grows, by whole lines, and one driver at a time writes it. A line that a crash left unfinished can only be the
last one: nobody was told of it, so it is dropped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self

from dhpo._blocks import BLOCK, Block, Builder
from dhpo._cache import FILE_NAME as CACHE
from dhpo._cache import Cache
from dhpo._codec import decode, decode_rows, encode
from dhpo._header import VERSION, Header, header_line, read_header
from dhpo._lines import (
    End,
    checksum,
    create,
    drop_torn,
    find_end,
    framed,
    last_line_with,
    lock,
    open_file,
    sync_directory,
    unframed,
    unwritable,
    write_durably,
)
from dhpo._reading import SEGMENT, batches, blocks, cache_of, fresh_blocks, goals
from dhpo.errors import JournalError
from dhpo.events import TAGS, Event, SessionOpened

__all__ = ["FILE_NAME", "VERSION", "FileJournal", "Header", "Journal", "MemoryJournal", "read", "read_blocks"]

#: The journal's name within the directory of its search.
FILE_NAME = "journal.jsonl"

_BLOCK = 1 << 16
_PACK_AT = 1 << 17  # bytes: compressed within two milliseconds
_CHANGED = "another process changed the journal {}: let only one driver write to it"
_TORN_HEADER = re.compile(rb"[0-9a-f]{1,8}|[0-9a-f]{8} (\{[^\n]*)?")

logger = logging.getLogger(__name__)


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

    def blocks(self) -> Iterator[Block]:
        """The same events by the block; of what was reported the objectives only, those that the header names."""

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
        return map(decode, self._bodies())

    def blocks(self) -> Iterator[Block]:
        """The same events by the block."""
        builder = Builder(goals(self._header))
        for body in self._bodies():
            builder.add(decode_rows(body))
            if len(builder) >= BLOCK:
                yield builder.block()
        if len(builder):
            yield builder.block()

    def _bodies(self) -> Iterator[bytes]:
        packed, recent = list(self._packed), list(self._recent)
        return (body for bodies in (*map(_unpacked, packed), recent) for body in bodies)

    def close(self) -> None:
        """Nothing to let go of."""


def _unpacked(block: bytes) -> Iterator[bytes]:
    yield from zlib.decompress(block).split(b"\n")


class FileJournal:
    """A journal in a file, written by one driver at a time. Made by :meth:`open`."""

    def __init__(self, path: Path, descriptor: int, header: Header, start: int, end: End, is_new: bool) -> None:
        self.path = path
        self._is_new = is_new  # was begun here, not gone on with
        self._descriptor = descriptor
        self._header = header
        self._start = start  # where the first batch begins
        self._size = end.size  # up to here everything is good and durable
        self._torn = end.torn  # bytes that lie behind it until the first line is added
        self._seed = end.seed  # of the next line's checksum
        self._cache: Cache | None = None  # once all is in it that was there at the beginning
        self._caching: threading.Thread | None = None
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
        begun = not path.exists() and create(path, lambda: header_line(path, _made(header_if_new)))
        descriptor = open_file(path)
        try:
            lock(descriptor, path, lambda: _last_driver(path))
            if is_new := _is_new(descriptor, path):
                header = _made(header_if_new)
                _begin(descriptor, path, header)
            header, start = read_header(path)
            end = find_end(descriptor, path, start, chained=header.chained)
            return cls(path, descriptor, header, start, end, is_new or begun)
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
        line = framed(encode(events), self._seed)
        if self._descriptor < 0:
            raise JournalError(f"the journal {self.path} is closed")
        try:
            self._check_hold()
            if self._torn:
                if unframed(os.pread(self._descriptor, self._torn, self._size), self._seed) is not None:
                    raise JournalError(_CHANGED.format(self.path))  # it was cut off already, and a line of its length …
                drop_torn(self._descriptor, self._size)  # … came in its place
                self._torn = 0
            write_durably(self._descriptor, line, self._size)
            if os.pread(self._descriptor, len(line), self._size) != line:  # someone was faster, since the check
                raise JournalError(_CHANGED.format(self.path))
        except OSError as error:
            raise JournalError(unwritable(self.path, error)) from error
        self._size += len(line)
        self._seed = checksum(line) if self._header.chained else 0
        if self._cache is not None and self._size - self._cache.covered.offset >= SEGMENT:
            self._extend_cache()

    def _check_hold(self) -> None:
        """Refuse to write to what is no longer this driver's: the only guard where locks do not work, or are lost.

        Every driver begins by writing a line, so whoever took the journal over has made it longer.
        """
        found = os.fstat(self._descriptor)
        if not found.st_nlink:
            raise JournalError(f"the journal {self.path} was deleted while the search ran: what was in it is lost")
        if found.st_size != self._size + self._torn:
            raise JournalError(_CHANGED.format(self.path))

    def replay(self) -> Iterator[list[Event]]:
        """The batches that the journal holds now, oldest first.

        Raises:
            JournalError: while iterating, at a line that is damaged.
        """
        return batches(self.path, self._header, self._start, self._size)

    def blocks(self) -> Iterator[Block]:
        """The same events by the block, from the cache beside the journal as far as that goes.

        Reading them the first time brings the cache up to date; from then on it is kept so, in a thread.

        Raises:
            JournalError: while iterating, at a line that is damaged.
        """
        cache, size = cache_of(self.path, self._header, self._start), self._size
        yield from blocks(self.path, self._header, cache, size, keep=self._cache is None)
        if self._cache is None and self._descriptor >= 0:
            self._cache = cache

    def _extend_cache(self) -> None:
        """Add to the cache what was appended, while the search goes on."""
        cache, size = self._cache, self._size
        if cache is None or (self._caching is not None and self._caching.is_alive()):
            return

        def extend() -> None:
            try:
                for _ in fresh_blocks(self.path, self._header, cache, size, keep=True):
                    pass
            except (JournalError, OSError) as error:
                self._cache = None
                logger.info("%s is not kept up to date: %s", cache.path, error)

        self._caching = threading.Thread(target=extend, name="dhpo-journal-cache", daemon=True)
        self._caching.start()

    def close(self) -> None:
        """Close the file, which also releases its lock. Closing twice does no harm."""
        if self._caching is not None:
            self._caching.join()
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def withdraw(self) -> None:
        """Close the file; take it away, and its directory if nothing else is in there, where it was begun by this."""
        if self._is_new and self._descriptor >= 0:
            if self._caching is not None:
                self._caching.join()
            with contextlib.suppress(OSError):
                self.path.unlink()
                self.path.with_name(CACHE).unlink(missing_ok=True)
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
    header, start = read_header(path)
    return header, batches(path, header, start, None)


def read_blocks(source: Path | str) -> tuple[Header, Iterator[Block]]:
    """As :func:`read`, with the events by the block, which is much faster for many reports.

    Of what was reported a block holds the objectives only, those that the header names.
    """
    path = Path(source)
    if path.is_dir():
        path = path / FILE_NAME
    header, start = read_header(path)
    return header, blocks(path, header, cache_of(path, header, start), None, keep=False)


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
    text = head.rstrip(b"\0")
    if size > len(head) or b"\n" in head or (text and not _TORN_HEADER.fullmatch(text)):
        return False
    if size:
        logger.warning("%s ends within its header: it is begun anew", path)
    return True


def _last_driver(path: Path) -> str:
    """Who has gone on with the journal last, for an error message; "" where nobody can tell."""
    try:
        line = last_line_with(path, b' [["%b",' % TAGS[SessionOpened].encode())
        events = decode((line or b"")[9:])
    except (OSError, ValueError):
        return ""
    found = [event for event in events if isinstance(event, SessionOpened)]
    return f" (the last one to begin there: process {found[-1].pid} on {found[-1].host})" if found else ""


def _made(header_if_new: Header | Callable[[], Header]) -> Header:
    return header_if_new() if callable(header_if_new) else header_if_new


def _begin(descriptor: int, path: Path, header: Header) -> None:
    """Write the header into a file that is there already."""
    line = header_line(path, header)
    try:
        os.ftruncate(descriptor, 0)
        write_durably(descriptor, line, 0)
        sync_directory(path.parent)
    except OSError as error:
        raise JournalError(unwritable(path, error)) from error
