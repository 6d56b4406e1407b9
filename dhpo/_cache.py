"""``journal.cache``: the columns of a long journal, beside it, so that it is read back without reading its JSON.

It holds nothing that is not in the journal, and may be deleted at any time. The driver adds a segment for every block
of events (see ``dhpo/_blocks.py``); shorter journals have none. A segment is a line of JSON with a checksum,

    {"cache": version, "search_id", "names", "begin", "end", "lines", "seed", "checksum", "size", "columns",
     "others", "content"}

and what it describes: the columns of the reports as little-endian numbers, one after the other, then the other events
and their places. ``begin`` and ``end`` say for which bytes of the journal it stands, ``checksum`` is that of these
bytes, ``content`` that of what follows the line. A segment counts only if all of that is found to be so, and if it goes
on where the one before it ends. The first that does not, and all behind it, are passed over; the journal's own lines
are read instead.
"""

from __future__ import annotations

import contextlib
import logging
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from dhpo._blocks import Block
from dhpo._lines import framed, unframed
from dhpo._packing import content_size, packed, unpacked
from dhpo._scan import Place

#: The version of the format: files of any other are passed over.
VERSION = 1
#: The cache's name within the directory of its search.
FILE_NAME = "journal.cache"

_CHUNK = 1 << 22
_MAX_HEAD = 1 << 16

logger = logging.getLogger(__name__)


class Cache:
    """The cache of one journal.

    Args:
        journal: the journal's path.
        search_id: of its header.
        names: of the objectives, whose values are kept of each report.
        start: where the journal's second line begins.
    """

    def __init__(self, journal: Path, search_id: str, names: Sequence[str], start: Place) -> None:
        self.path = journal.with_name(FILE_NAME)
        self.covered = start  # up to here of the journal
        self._journal = journal
        self._search_id = search_id
        self._names = tuple(names)
        self._size = 0  # of its own segments that are good
        self._usable = True

    def blocks(self, end: int) -> Iterator[Block]:
        """The blocks of the segments that count, read one ahead. At their end, ``covered`` is where they end.

        Args:
            end: the size of the journal.
        """
        try:
            with open(self.path, "rb") as file, open(self._journal, "rb") as journal:
                with ThreadPoolExecutor(1) as ahead:  # checksums take most of the time, and need no lock
                    coming = ahead.submit(self._segment, file, journal, end)
                    while (found := coming.result()) is not None:
                        coming = ahead.submit(self._segment, file, journal, end)
                        yield found
                if file.seek(0, os.SEEK_END) > self._size:
                    logger.info("%s does not fit the journal from byte %d on: not used", self.path, self._size)
        except FileNotFoundError:
            return
        except OSError as error:
            logger.info("%s cannot be read: %s", self.path, error.strerror)

    def _segment(self, file: BinaryIO, journal: BinaryIO, end: int) -> Block | None:
        file.seek(self._size)
        line = file.readline(_MAX_HEAD)
        body = unframed(line)
        if not body:
            return None
        try:
            head = orjson.loads(body)
            if any(head[key] != value for key, value in self._identity().items()) or not head["end"] <= end:
                return None
            length = content_size(head)
            content = file.read(length)
            if len(content) != length or zlib.crc32(content) != head["content"]:
                return None
            journal.seek(head["begin"])
            if _checksum(journal, head["end"] - head["begin"]) != head["checksum"]:
                return None
            block = unpacked(head, content, self._names)
        except (KeyError, TypeError, ValueError, IndexError):  # of another version
            return None
        self._size += len(line) + length
        self.covered = Place(head["end"], self.covered.number + head["lines"], head["seed"])
        return block

    def _identity(self) -> dict[str, Any]:
        names = list(self._names)
        return {"cache": VERSION, "search_id": self._search_id, "names": names, "begin": self.covered.offset}

    def add(self, block: Block, end: Place) -> None:
        """Add the segment of the journal's next block. Where that cannot be written, there is no cache from there on.

        Args:
            block: the events from :attr:`covered` on.
            end: where the line after them begins.
        """
        if not self._usable:
            return
        try:
            with open(self._journal, "rb") as journal:
                journal.seek(self.covered.offset)
                checksum = _checksum(journal, end.offset - self.covered.offset)
            described, content = packed(block)
            line = framed(orjson.dumps({
                **self._identity(), "end": end.offset, "lines": end.number - self.covered.number, "seed": end.seed,
                "checksum": checksum, "content": zlib.crc32(content), **described,
            }))  # fmt: skip
            self._append(line + content)
        except OSError as error:
            self._usable = False
            logger.info("%s cannot be written: %s", self.path, error.strerror)
            return
        self._size += len(line) + len(content)
        self.covered = end

    def _append(self, segment: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, self._size)
            os.lseek(descriptor, self._size, os.SEEK_SET)
            rest = memoryview(segment)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self._size)
            raise
        finally:
            os.close(descriptor)


def _checksum(file: BinaryIO, length: int) -> int | None:
    """The checksum of the next bytes of a file; None where there are fewer."""
    found = 0
    while length > 0:
        data = file.read(min(length, _CHUNK))
        if not data:
            return None
        found = zlib.crc32(data, found)
        length -= len(data)
    return found
