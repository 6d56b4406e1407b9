"""A journal read back: by the batch, as it was written, or by the block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dhpo._blocks import BLOCK, Block, Builder
from dhpo._cache import Cache
from dhpo._codec import decode, decode_rows
from dhpo._header import Header
from dhpo._scan import after_header, scan
from dhpo.events import Event
from dhpo.objectives import DEFAULT_OBJECTIVE

#: Bytes: so many of the journal become one segment of its cache, or fewer where they hold a block.
SEGMENT = 1 << 23


def batches(path: Path, header: Header, start: int, end: int | None) -> Iterator[list[Event]]:
    """The batches from ``start`` to ``end``, or to the end of a file that may be growing (None)."""
    place = after_header(path, start, chained=header.chained)
    return (events for events, _ in scan(path, place, end, decode, chained=header.chained))


def goals(header: Header) -> tuple[str, ...]:
    """The names of a search's objectives."""
    return tuple(header.settings.get("objectives") or (DEFAULT_OBJECTIVE,))


def cache_of(path: Path, header: Header, start: int) -> Cache:
    """The cache of a journal whose first batch begins at ``start``; nothing was read of it yet."""
    return Cache(path, header.search_id, goals(header), after_header(path, start, chained=header.chained))


def blocks(path: Path, header: Header, cache: Cache, end: int | None, *, keep: bool) -> Iterator[Block]:
    """All events of a file, from the cache as far as it goes; see :func:`fresh_blocks`."""
    yield from cache.blocks(os.stat(path).st_size if end is None else end)
    yield from fresh_blocks(path, header, cache, end, keep=keep)


def fresh_blocks(path: Path, header: Header, cache: Cache, end: int | None, *, keep: bool) -> Iterator[Block]:
    """The events that are not in the cache.

    Args:
        path: of the journal.
        header: of the journal.
        cache: of the journal.
        end: where to end; None: at the end of a file that may be growing.
        keep: whether to add them to the cache, as far as they fill segments. For the driver only.
    """
    builder, begin = Builder(goals(header)), cache.covered
    try:
        for rows, place in scan(path, begin, end, decode_rows, chained=header.chained):
            builder.add(rows)
            if len(builder) >= BLOCK or place.offset - begin.offset >= SEGMENT:
                block, begin = builder.block(), place
                if keep:
                    cache.add(block, place)
                yield block
        if len(builder):
            yield builder.block()
    except ValueError:
        for _ in scan(path, begin, end, decode, chained=header.chained):  # says at which line
            pass
        raise
