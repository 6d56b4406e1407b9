"""A file of aligned buffers: written once by one process, mapped read-only by many."""

from __future__ import annotations

import mmap
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from dhpo.errors import DataError

Span = tuple[int, int]
"""Offset and length of one buffer in its file, in bytes."""

ALIGNMENT = 64
CHUNK = 16 * 2**20

_MAGIC = b"dhpobuf1"
_HEADER = struct.Struct("<8s32s24x")  # magic, token
_FOOTER = struct.Struct("<8s32sQQ8x")  # magic, token, offset and length of the index


def has_descriptor_paths() -> bool:
    """Whether ``/proc/<pid>/fd/<n>`` lets one process open another's file that has no name (Linux)."""
    return os.path.isdir("/proc/self/fd")


def temporary_directory() -> Path:
    """The directory for temporary files, also where none is usable: the error then comes when a file is made there."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path(os.environ.get("TMPDIR", "/tmp"))


def unnamed_file(directory: Path) -> int:
    """Open a temporary file that has no name, so that nothing is left of it however its processes end.

    Args:
        directory: Where its blocks lie.

    Returns:
        A descriptor, open for reading and writing.

    Raises:
        DataError: The directory cannot be written to.
    """
    try:
        if hasattr(os, "O_TMPFILE"):
            try:
                return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except OSError:
                pass  # not every file system knows it; an unlinked file is nearly as good
        descriptor, name = tempfile.mkstemp(prefix="dhpo-", dir=directory)
        os.unlink(name)
    except OSError as error:
        raise disk_error(error, directory, 0) from error
    return descriptor


def disk_error(error: OSError, directory: Path, needed: int) -> DataError:
    """Say why a file could not be written, with the room that is needed and the room there is."""
    try:
        room = f"{shutil.disk_usage(directory).free:,} bytes are free there"
    except OSError:
        room = "its free space cannot be read"
    return DataError(
        f"the data of the search cannot be written in {str(directory)!r} on {os.uname().nodename}: "
        f"{error.strerror or error}; at least {needed:,} bytes are needed and {room}. "
        "Free space, or choose another directory (log_dir=; TMPDIR for temporary files)"
    )


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data``, however little the system takes at a time."""
    view = memoryview(data)
    while len(view):
        written = os.pwrite(descriptor, view[:CHUNK], offset)
        view, offset = view[written:], offset + written


def read_at(descriptor: int, offset: int, length: int) -> bytes:
    """Read ``length`` bytes from ``offset``; fewer only at the end of the file."""
    pieces = []
    while length > 0 and (piece := os.pread(descriptor, min(length, CHUNK), offset)):
        pieces.append(piece)
        offset, length = offset + len(piece), length - len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class BufferFile:
    """A buffer file being written. It comes into being with its first buffer.

    Args:
        create: Opens the empty file and returns its descriptor, which stays the caller's to close.
        token: 32 hexadecimal digits that say which packing this is; a reader checks them.
        directory: Where the file lies, for error messages.
    """

    def __init__(self, create: Callable[[], int], token: str, directory: Path) -> None:
        self._create = create
        self._token = token.encode("ascii")
        self._directory = directory
        self._end = 0
        self._descriptor: int | None = None

    def append(self, pieces: Iterable[memoryview]) -> Span:
        """Write one buffer, given piece by piece.

        Returns:
            Where it lies.

        Raises:
            DataError: The disk is full, or refuses otherwise.
        """
        descriptor = self._open()
        start = end = self._aligned()
        for piece in pieces:
            self._write(descriptor, piece, end)
            end += piece.nbytes
        self._end = end
        return start, end - start

    def finish(self, index: bytes = b"") -> int:
        """Close the file's contents with ``index`` (any bytes for its readers) and the footer.

        Returns:
            The size of the file in bytes; 0 where nothing was ever written, and so no file made.
        """
        if self._descriptor is None and not index:
            return 0
        offset, length = self.append([memoryview(index)])
        end = self._aligned()
        self._write(self._open(), memoryview(_FOOTER.pack(_MAGIC, self._token, offset, length)), end)
        return end + _FOOTER.size

    def _open(self) -> int:
        if self._descriptor is None:
            try:
                self._descriptor = self._create()
            except OSError as error:
                raise disk_error(error, self._directory, 0) from error
            self._write(self._descriptor, memoryview(_HEADER.pack(_MAGIC, self._token)), 0)
            self._end = _HEADER.size
        return self._descriptor

    def _write(self, descriptor: int, piece: memoryview, offset: int) -> None:
        try:
            write_at(descriptor, piece, offset)
        except OSError as error:
            raise disk_error(error, self._directory, offset + piece.nbytes) from error

    def _aligned(self) -> int:
        return -(-self._end // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A complete buffer file, open for reading."""

    descriptor: int
    size: int
    index: Span

    def read_index(self) -> bytes:
        """The bytes that the writer gave to ``finish``."""
        return read_at(self.descriptor, *self.index)

    def map(self) -> memoryview:
        """Map the whole file read-only; its pages are shared by all processes of the node that map it."""
        return memoryview(mmap.mmap(self.descriptor, self.size, access=mmap.ACCESS_READ))


def check(descriptor: int, token: str) -> OpenFile | None:
    """The open file, if it is a complete buffer file of this token."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size < _HEADER.size + _FOOTER.size:
        return None
    head = read_at(descriptor, 0, _HEADER.size)
    foot = read_at(descriptor, status.st_size - _FOOTER.size, _FOOTER.size)
    if len(head) != _HEADER.size or len(foot) != _FOOTER.size:
        return None
    expected = (_MAGIC, token.encode("ascii"))
    magic, owner, offset, length = _FOOTER.unpack(foot)
    if _HEADER.unpack(head) != expected or (magic, owner) != expected:
        return None
    return OpenFile(descriptor, status.st_size, (offset, length))


def open_file(path: str, token: str) -> OpenFile | None:
    """Open ``path`` if it is a complete buffer file of this token that this process may read.

    The path of a dead process's descriptor may by now lead to anything: it is looked at before it is opened, and
    opened without blocking.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    try:
        found = check(descriptor, token)
    except OSError:
        found = None
    if found is None:
        os.close(descriptor)
    return found
