"""The lines of a journal, checked one after the other, from any line on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from dhpo._lines import checksum, unframed
from dhpo.errors import JournalError

Content = TypeVar("Content")


class Place(NamedTuple):
    """Where a line of a journal begins."""

    offset: int  # bytes
    number: int  # of the line, from 1
    seed: int  # of its checksum: that of the line before, where lines are chained, else 0


def after_header(path: Path, size: int, *, chained: bool) -> Place:
    """Where the second line begins, behind a header of this size."""
    with open(path, "rb") as file:
        return Place(size, 2, checksum(file.read(8)) if chained else 0)


def scan(
    path: Path, place: Place, end: int | None, decode: Callable[[bytes], Content], *, chained: bool
) -> Iterator[tuple[Content, Place]]:
    """What the lines from a place on hold, each with the place of the line after it.

    Args:
        path: the journal.
        place: where to begin.
        end: where to end; None: at the end of a file that may be growing. Its last line is left out if unfinished.
        decode: reads the text of a line; raises ValueError where it is no such text.
        chained: whether each line's checksum goes on from that of the line before it.

    Raises:
        JournalError: a line is damaged.
    """
    with open(path, "rb", buffering=1 << 20) as file:
        file.seek(place.offset)
        for line in file:
            if end is not None and place.offset >= end:
                return
            if end is None and not line.endswith(b"\n"):
                return
            body = unframed(line, place.seed)
            if body is None and end is None and not file.readline():
                return
            try:
                content = decode(body or b"")
            except ValueError as error:
                raise damaged(path, place) from error
            place = Place(place.offset + len(line), place.number + 1, checksum(line) if chained else 0)
            yield content, place


def damaged(path: Path, place: Place) -> JournalError:
    """The error for a line that is damaged."""
    return JournalError(
        f"{path} is damaged at line {place.number}, byte {place.offset}: restore it from a backup, or cut it off there "
        f"(head -c {place.offset}), which loses what comes after"
    )
