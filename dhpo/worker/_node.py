"""What the processes of one node share: an identity, and temporary files that one of them makes for all.

A shared file has no name. Each process that uses it keeps a descriptor of it, and a small *rendezvous* file lists these
as process and descriptor numbers, so that another process opens it through ``/proc``. A lock on the rendezvous lets one
process make the file while the others wait. Killed processes leave no data behind, only dead entries in the list; these
are skipped, and the next process that shares anything clears them away.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import hashlib
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dhpo.errors import DataError
from dhpo.worker._bufferfile import OpenFile, check, disk_error, has_descriptor_paths, open_file, unnamed_file

Holder = tuple[int, int]
"""A process number and its descriptor of the shared file."""


@functools.cache
def node_identity() -> str:
    """A text that is equal in two processes only if process numbers mean the same to both.

    It consists of the running kernel's boot, the name space of the process numbers, and the host's name.
    """
    name = os.uname().nodename
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{name}:{boot}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return name


class NodeFile:
    """This process's hold on a file that the node's processes share. It ends with ``close``, or with the interpreter.

    Attributes:
        file: The open file.
    """

    def __init__(self, file: OpenFile, rendezvous: Path | None) -> None:
        self.file = file
        # The garbage collector may come while this very thread holds the lock: it must not wait for it.
        self._finalizer = weakref.finalize(self, _leave, file.descriptor, rendezvous, os.getpid(), wait=False)
        self._finalizer.atexit = False
        _open_files.add(self)

    def close(self) -> None:
        """Give up this process's hold; the last one to do so removes the rendezvous. Closing twice is allowed."""
        if held := self._finalizer.detach():
            _leave(*held[2], wait=True)


_open_files: weakref.WeakSet[NodeFile] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for node_file in list(_open_files):
        node_file.close()


def share(token: str, fill: Callable[[int], None], directory: Path) -> NodeFile:
    """Open the node's file of this token, making it first if no living process of the node has it.

    Where the system has no ``/proc``, every process makes its own.

    Args:
        token: 32 hexadecimal digits: what the file holds.
        fill: Writes a complete buffer file of this token to the descriptor it is given. It runs in one process at a
            time; when it raises, the next process tries.
        directory: Where the rendezvous and the file's blocks lie, the same for all processes that are to share.

    Returns:
        The hold on the file.

    Raises:
        DataError: The directory cannot be used, or ``fill`` did not write a complete file.
    """
    if not has_descriptor_paths():
        return NodeFile(_make(token, fill, directory), None)
    _sweep(directory)
    rendezvous = directory / f"{_prefix()}{token}"
    with _locked(rendezvous, directory) as lock:
        holders = _living(lock)
        opened = (open_file(f"/proc/{process}/fd/{number}", token) for process, number in holders)
        file = next((found for found in opened if found is not None), None)
        if file is None:
            try:
                file, holders = _make(token, fill, directory), []
            except BaseException:
                os.unlink(rendezvous)
                raise
        _write_holders(lock, [*holders, (os.getpid(), file.descriptor)])
    return NodeFile(file, rendezvous)


def _make(token: str, fill: Callable[[int], None], directory: Path) -> OpenFile:
    descriptor = unnamed_file(directory)
    try:
        fill(descriptor)
        file = check(descriptor, token)
        if file is None:
            raise DataError(f"the shared file of package {token} is incomplete on {os.uname().nodename}")
    except BaseException:
        os.close(descriptor)
        raise
    return file


def _leave(descriptor: int, rendezvous: Path | None, owner: int, *, wait: bool) -> None:
    if os.getpid() != owner:  # a forked child that ends does not speak for its parent
        return
    if rendezvous is not None:
        with suppress(OSError), _existing(rendezvous, wait) as lock:
            rest = [holder for holder in _living(lock) if holder != (owner, descriptor)]
            if rest:
                _write_holders(lock, rest)
            else:
                os.unlink(rendezvous)
    os.close(descriptor)


def _sweep(directory: Path) -> None:
    """Remove the rendezvous of which all holders are dead, and which nobody is using."""
    with suppress(OSError):
        for name in os.listdir(directory):
            if name.startswith(_prefix()):
                with suppress(OSError), _existing(directory / name, wait=False) as lock:
                    if not _living(lock):
                        os.unlink(directory / name)


@contextmanager
def _existing(path: Path, wait: bool) -> Iterator[int]:
    """Hold the lock of a rendezvous that exists; FileNotFoundError if it does not, BlockingIOError if it is held."""
    lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_current(lock, path):
            raise FileNotFoundError(path)
        yield lock
    finally:
        _unlock(lock)


@functools.cache
def _prefix() -> str:
    # A directory may be seen by several nodes or containers; process numbers mean something in one of them only.
    node = hashlib.sha256(node_identity().encode()).hexdigest()[:12]
    return f"dhpo-{os.geteuid()}-{node}-"


@contextmanager
def _locked(path: Path, directory: Path) -> Iterator[int]:
    """Hold the rendezvous's lock, making the file where it is not there."""
    while True:
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise disk_error(error, directory, 0) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_current(lock, path):
                continue  # removed while we waited
            if os.fstat(lock).st_uid != os.geteuid():
                raise DataError(f"{str(path)!r} belongs to another user; choose another temporary directory (TMPDIR)")
            yield lock
            return
        finally:
            _unlock(lock)


def _unlock(lock: int) -> None:
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_UN)  # a child forked meanwhile shares the lock; closing would leave it locked
    os.close(lock)


def _is_current(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), os.lstat(path))
    except FileNotFoundError:
        return False


def _living(lock: int) -> list[Holder]:
    """The holders whose process still has the descriptor. What is not two numbers is a torn write, and is skipped."""
    rows = (line.split() for line in os.pread(lock, 2**20, 0).splitlines())
    holders = [(int(row[0]), int(row[1])) for row in rows if len(row) == 2 and row[0].isdigit() and row[1].isdigit()]
    return [(process, number) for process, number in holders if os.path.exists(f"/proc/{process}/fd/{number}")]


def _write_holders(lock: int, holders: list[Holder]) -> None:
    content = "".join(f"{process} {number}\n" for process, number in holders).encode("ascii")
    os.ftruncate(lock, 0)
    os.pwrite(lock, content, 0)
