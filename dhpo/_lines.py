"""A file of checksummed lines that only grows: opened by one process at a time, cut back to whole lines, synced.

A line is ``crc32 SPACE json NEWLINE``. The checksum goes on from that of the line before it, so that a line is good at
its own place only: one that is missing, doubled, moved or from elsewhere is noticed. What the JSON means, only the
journal knows.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import orjson

from dhpo.errors import JournalError, JournalLockedError

_BLOCK = 1 << 16
_LOCKS_UNSUPPORTED = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS})
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

#: Seconds after which a held lock is tried again: who only asks whether there is a driver holds it for an instant.
_PAUSES = (0.01, 0.05, 0.1)

logger = logging.getLogger(__name__)


def framed(body: bytes, seed: int = 0) -> bytes:
    """The line of a JSON text: its checksum before it, a newline behind it.

    Args:
        body: the text, without newlines.
        seed: the checksum of the line before it; 0 for a first line, and where lines are not chained.
    """
    return b"%08x %s\n" % (zlib.crc32(body, seed), body)


def unframed(line: bytes, seed: int = 0) -> bytes | None:
    """The JSON text of a line; None when the line is torn, or does not fit its checksum or its place."""
    body = line[9:-1]
    return body if line[:9] == b"%08x " % zlib.crc32(body, seed) and line[-1:] == b"\n" else None


def checksum(line: bytes) -> int:
    """The checksum before a line. Raises ValueError where there is none."""
    return int(line[:8], 16)


def create(path: Path, first_line: Callable[[], bytes]) -> bool:
    """Have a file appear with its first line in it: who reads it never finds it empty.

    Returns:
        Whether it did: False where another process was faster, or the file system has no links.

    Raises:
        JournalError: the file or its directory, made for their owner only, cannot be written.
    """
    _make_directory(path)
    draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    line = first_line()
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        try:
            write_durably(descriptor, line, 0)
        finally:
            os.close(descriptor)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise JournalError(unwritable(path, error)) from error
    try:
        os.link(draft, path)
    except OSError as error:
        logger.debug("%s was not made by a link: %s", path, error)
        return False
    finally:
        os.unlink(draft)
    sync_directory(path.parent)
    return True


def _make_directory(path: Path) -> None:
    directory = path.parent
    try:
        if not directory.is_dir():
            directory.parent.mkdir(parents=True, exist_ok=True)
            directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> JournalError:
    return JournalError(
        f"the journal {path} cannot be opened: {error.strerror}. Choose a directory that you may write to"
    )


def open_file(path: Path) -> int:
    """Open the file for appending; make it and its directory, for their owner only, where they do not exist."""
    _make_directory(path)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error


def lock(descriptor: int, path: Path, holder: Callable[[], str]) -> None:
    """Make sure that no other process writes to the file. Closing the descriptor releases it.

    Args:
        descriptor: of the file, open for writing.
        path: names it.
        holder: says who the other process may be, where there is one.
    """
    try:
        _flock(descriptor)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise JournalLockedError(
                f"another driver is writing to {path.parent}{holder()}: wait for its end, stop it, or choose another "
                "directory"
            ) from error
        if error.errno not in _LOCKS_UNSUPPORTED:
            raise
        logger.warning(
            "%s lies on a file system without locks (%s): see to it yourself that only one driver writes there",
            path.parent,
            error.strerror,
        )


def _flock(descriptor: int) -> None:
    for pause in _PAUSES:
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(pause)
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sync_directory(directory: Path) -> None:
    """Make a new file's name as durable as its content, on file systems that can."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


class End(NamedTuple):
    """Where a file ends."""

    size: int  # of what is good
    torn: int  # bytes after it: a last line that is unfinished or damaged, as a crash leaves it
    seed: int  # of the checksum of the next line


def find_end(descriptor: int, path: Path, start: int, *, chained: bool) -> End:
    """Where the good lines end, as far as the last one tells. The file is left as it is: see :func:`drop_torn`.

    Args:
        descriptor: of the file, open for reading.
        path: names it.
        start: where the second line begins.
        chained: whether each line's checksum goes on from that of the line before it.
    """
    size = os.fstat(descriptor).st_size
    good = _line_start(descriptor, size)
    if good == size > start:  # the last line is whole, but a crash may have left holes in it
        begin = _line_start(descriptor, size - 1)
        if not _is_intact(os.pread(descriptor, size - begin, begin), _seed_at(descriptor, begin, chained)):
            good = begin
    if good < size:
        logger.warning("%s ends with an unfinished line, as a crash leaves it: %d bytes dropped", path, size - good)
    return End(good, size - good, _seed_at(descriptor, good, chained))


def drop_torn(descriptor: int, size: int) -> None:
    """Cut a file back to what is good of it."""
    os.ftruncate(descriptor, size)
    os.fsync(descriptor)


def _seed_at(descriptor: int, end: int, chained: bool) -> int:
    """The seed of the checksum of a line that begins at ``end``."""
    if not chained or not end:
        return 0
    try:
        return checksum(os.pread(descriptor, 8, _line_start(descriptor, end - 1)))
    except ValueError:  # that line is damaged, as whoever replays the file will find
        return 0


def _line_start(descriptor: int, end: int) -> int:
    """Where the line begins that goes on at ``end``: behind the last newline before it."""
    while end > 0:
        begin = max(0, end - _BLOCK)
        found = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _is_intact(line: bytes, seed: int) -> bool:
    """Whether the line fits its checksum and is JSON."""
    body = unframed(line, seed)
    try:
        orjson.loads(body or b"")
    except ValueError:
        return False
    return True


def write_durably(descriptor: int, line: bytes, size: int) -> None:
    """Append a line to a file of this size; when that fails, for whatever reason, the file keeps its size."""
    try:
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fdatasync(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):  # if even this fails, the next append sees the wrong size and refuses
            if line.startswith(os.pread(descriptor, len(line) + 1, size)):  # nobody else has written there
                os.ftruncate(descriptor, size)
        raise


def last_line_with(path: Path, text: bytes) -> bytes | None:
    """The last line that holds a text, looked for from the end; None where there is none."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            begin = max(0, end - _BLOCK)
            file.seek(begin)
            if (found := file.read(end - begin + len(text)).rfind(text)) >= 0:
                return _line_at(file, begin + found)
            end = begin
    return None


def _line_at(file: BinaryIO, place: int) -> bytes:
    """The whole line that a place of a file lies in."""
    file.seek(_line_start(file.fileno(), place))
    return file.readline()


def unwritable(path: Path, error: OSError) -> str:
    """What to tell a user whose journal could not be written."""
    remedy = (
        "free space or raise your quota there"
        if error.errno in _DISK_FULL
        else "see whether its file system is mounted and writable"
    )
    return (
        f"the journal {path} cannot be written: {error.strerror}. All that was acknowledged is safe: {remedy}, "
        "then run the same command again to go on"
    )
