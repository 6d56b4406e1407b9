"""A journal file read as it grows: each call gives what has come since the last one, and nothing is read twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dhpo import journal
from dhpo._blocks import Block, Builder
from dhpo._codec import decode_rows
from dhpo._reading import cache_of, goals
from dhpo._scan import Place, damaged, scan
from dhpo.errors import JournalError


class Tail:
    """Reads a journal that another process may be writing to, the past of a long one from the cache beside it.

    Args:
        source: the directory of a search, or its journal file.

    Raises:
        JournalError: there is no journal, or it is of a newer version.
    """

    def __init__(self, source: Path | str) -> None:
        self.path = Path(source) / journal.FILE_NAME if Path(source).is_dir() else Path(source)
        self.header, _ = journal.read(self.path)
        with open(self.path, "rb") as file:
            size = len(file.readline())
        self._cache = cache_of(self.path, self.header, size)
        self._place: Place | None = None  # all before it has been handed out; None while the cache is read
        self._past: Iterator[Block] | None = None

    def read(self, limit: int = 1 << 20) -> Block | None:
        """The events that have come since the last call, or the first of many; None where there are none.

        Args:
            limit: about how many bytes of the journal to read at most; a longer batch is read as a whole.

        Raises:
            JournalError: the file is gone, or a line is damaged that is not the last one.
        """
        try:
            if self._place is None:
                if (block := self._of_past()) is not None:
                    return block
                self._place = self._cache.covered
            return self._of_lines(self._place, limit)
        except OSError as error:
            raise JournalError(f"the journal {self.path} cannot be read: {error.strerror}") from error

    def _of_past(self) -> Block | None:
        if self._past is None:
            self._past = self._cache.blocks(os.stat(self.path).st_size)
        return next(self._past, None)

    def _of_lines(self, begin: Place, limit: int) -> Block | None:
        builder, place = Builder(goals(self.header)), begin
        for rows, after in scan(self.path, begin, None, decode_rows, chained=self.header.chained):
            try:
                builder.add(rows)
            except ValueError as error:
                raise damaged(self.path, place) from error
            place = after
            if place.offset - begin.offset >= limit:
                break
        self._place = place
        return builder.block() if len(builder) else None
