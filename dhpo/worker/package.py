"""The driver's side of the data: the run function and its data are packed once per search."""

from __future__ import annotations

import os
import pickle
import re
import sys
import uuid
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from dhpo.errors import DataError, DhpoError, RunFunctionError
from dhpo.worker._bufferfile import (
    CHUNK,
    BufferFile,
    Span,
    disk_error,
    has_descriptor_paths,
    read_at,
    temporary_directory,
    unnamed_file,
    write_at,
)
from dhpo.worker._captures import find_largest, find_unpicklable
from dhpo.worker._node import node_identity
from dhpo.worker._pickling import Hoisted, hoist

LARGEST_CODE = 10_000_000
"""Bytes that the small part of a package may take: it travels to every worker through the scheduler."""

_DATA_FILE = re.compile(r"data-[0-9a-f]{32}\.bin")


@dataclass(frozen=True, slots=True)
class Package:
    """What travels to every worker: small, and enough to find the rest.

    Attributes:
        token: Unique to this packing.
        code: The small pickled part: Python's version, then function and data without their large buffers.
        spans: Offset and length in bytes of each buffer in the file, in the order in which the pickle asks for them.
        size: Bytes of the file; 0 where there is none.
        path: Where the file lies for whoever shares the file system, or, as ``/proc/<pid>/fd/<n>``, for the processes
            of the packer's node; None where there is no file.
        host: The identity of the packer's node, see ``node_identity``.
    """

    token: str
    code: bytes
    spans: tuple[Span, ...]
    size: int
    path: str | None
    host: str


class Packed:
    """The driver's hold on a packing: while it is open, workers can map or fetch the buffers.

    A context manager. It also closes itself when it is garbage-collected and when the interpreter ends.

    Attributes:
        package: What is given to the workers.
    """

    def __init__(self, package: Package, descriptor: int | None, name: Path | None) -> None:
        self.package = package
        self._descriptor = descriptor
        self._name = name
        self._finalizer = weakref.finalize(self, _release, descriptor, name, os.getpid())

    def read(self, offset: int, length: int) -> bytes:
        """Part of the file, for a node that does not see it.

        Args:
            offset: First byte.
            length: Number of bytes; fewer come back at the end of the file.

        Returns:
            The bytes.

        Raises:
            DataError: The packing is closed, or has no buffers.
        """
        if self._descriptor is None or not self._finalizer.alive:
            raise DataError(f"package {self.package.token} cannot be read: it is closed, or has no buffers")
        return read_at(self._descriptor, offset, length)

    def hide(self) -> None:
        """Remove the file's name, where it has one. The driver keeps its contents."""
        if self._name is not None:
            self._name.unlink(missing_ok=True)

    def show(self) -> None:
        """Write the file again where :meth:`hide` has removed it.

        Raises:
            DataError: It cannot be written.
        """
        if self._name is None or self._descriptor is None or not self._finalizer.alive or self._name.exists():
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            copy = os.open(self._name, flags, 0o600)
            try:
                for offset in range(0, self.package.size, CHUNK):
                    write_at(copy, read_at(self._descriptor, offset, CHUNK), offset)
            finally:
                os.close(copy)  # as in _Place.publish: closed before others look
            copy = os.open(self._name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            self.hide()
            raise disk_error(error, self._name.parent, self.package.size) from error
        os.dup2(copy, self._descriptor, inheritable=False)  # the blocks of the removed file become free
        os.close(copy)

    def close(self) -> None:
        """Remove the file. Workers that have mapped it keep their pages. Closing twice is allowed."""
        self._finalizer()

    def __enter__(self) -> Packed:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def pack(function: object, data: object = None, *, directory: Path | None) -> Packed:
    """Pickle a run function and its data once, every large buffer in one file that workers map.

    Large buffers are those of numpy arrays, pandas frames and whatever else supports pickle's protocol 5: given as
    ``data``, closed over by the function, or used by it as globals of ``__main__``. Arrays that are the same object,
    or look at the same memory, are stored once. A ``numpy.memmap`` of a file goes by its path, and is not copied.
    On the workers **the arrays are read-only**: a run function that wants to change one copies it.

    Args:
        function: The run function: a function, lambda, generator function, ``functools.partial`` or callable object.
        data: Any picklable object, or a ``Loader``; it is handed to the run function.
        directory: The search's run directory, best on a file system that all nodes share; the file is
            ``data-<token>.bin`` in it, readable by its owner only. Data files of earlier packings in it are removed,
            so it must have one driver at a time. None: a temporary file without a name (on Linux), of which nothing
            is left however the driver ends.

    Returns:
        The open packing.

    Raises:
        RunFunctionError: Something that is captured cannot be pickled, or without the large buffers there are still
            more than 10 MB; the error names it.
        DataError: The buffers cannot be written.
    """
    token = uuid.uuid4().hex
    place = _Place(token, directory)
    buffers = BufferFile(place.create, token, place.directory)
    try:
        if directory is not None:
            _remove_stale(directory)
        hoisted = _hoist(function, data, buffers)
        size = buffers.finish()
        path = place.publish()
        code = pickle.dumps(sys.version_info[:2]) + hoisted.code
        package = Package(token, code, hoisted.spans, size, path, node_identity())
    except BaseException:
        _release(place.descriptor, place.name, os.getpid())
        raise
    return Packed(package, place.descriptor, place.name)


class _Place:
    """Where a packing's file lies: in the run directory under a name, or in the temporary directory without one."""

    def __init__(self, token: str, directory: Path | None) -> None:
        self.descriptor: int | None = None
        self.name: Path | None = None
        self.directory = directory if directory is not None else temporary_directory()
        if directory is not None or not has_descriptor_paths():
            self._wanted: Path | None = self.directory.absolute() / f"data-{token}.bin"
        else:
            self._wanted = None

    def create(self) -> int:
        if self._wanted is None:
            self.descriptor = unnamed_file(self.directory)
        else:
            self.descriptor = os.open(self._wanted, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self.name = self._wanted
        return self.descriptor

    def publish(self) -> str | None:
        """The path under which others find the complete file."""
        if self.descriptor is None:
            return None
        if self.name is None:
            return f"/proc/{os.getpid()}/fd/{self.descriptor}"
        # A network file system shows other nodes what was written only once the file has been closed, and may refuse
        # the last of it (a quota) only then.
        descriptor, self.descriptor = self.descriptor, None
        try:
            os.close(descriptor)
            self.descriptor = os.open(self.name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise disk_error(error, self.directory, 0) from error
        return str(self.name)


def _hoist(function: object, data: object, buffers: BufferFile) -> Hoisted:
    roots = {"the run function": function, "data": data}
    try:
        hoisted = hoist((function, data), buffers.append, limit=LARGEST_CODE)
    except DhpoError:
        raise
    except Exception as error:
        culprit = find_unpicklable(roots) or "the run function together with its data"
        raise RunFunctionError(
            f"the run function cannot be shipped to the workers: {culprit} cannot be pickled "
            f"({type(error).__name__}: {error}). Create it inside the run function, or where it is data, give "
            "data=Loader(function) with a function that makes it on the worker"
        ) from error
    if hoisted.code_size > LARGEST_CODE:
        largest = ", ".join(f"{name}: {size / 1e6:,.1f} MB" for name, size in find_largest(roots))
        raise RunFunctionError(
            f"the run function cannot be shipped to the workers: without its large arrays it still takes "
            f"{hoisted.code_size / 1e6:,.1f} MB, and {LARGEST_CODE / 1e6:,.0f} MB are allowed "
            f"({largest or 'in many parts'}). Turn it into numpy arrays or pandas frames of numbers, whose buffers are "
            "shipped beside the pickle, or give data=Loader(path or function) to load it on the worker"
        )
    return hoisted


def _remove_stale(directory: Path) -> None:
    """Remove what a driver that was killed has left."""
    try:
        for name in os.listdir(directory):
            if _DATA_FILE.fullmatch(name):
                os.unlink(directory / name)
    except OSError as error:
        raise disk_error(error, directory, 0) from error


def _release(descriptor: int | None, name: Path | None, owner: int) -> None:
    if os.getpid() != owner:  # a forked child that ends must not take its parent's file away
        return
    if descriptor is not None:
        os.close(descriptor)
    if name is not None:
        name.unlink(missing_ok=True)
