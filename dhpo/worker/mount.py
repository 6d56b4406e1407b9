"""The worker's side of the data: the run function and its data, on memory that the node's processes share."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from dhpo.errors import DataError, DhpoError, RunFunctionError
from dhpo.worker._bufferfile import (
    CHUNK,
    BufferFile,
    OpenFile,
    Span,
    disk_error,
    open_file,
    temporary_directory,
    write_at,
)
from dhpo.worker._node import node_identity, share
from dhpo.worker._pickling import hoist
from dhpo.worker.loader import Loader
from dhpo.worker.package import Package

Fetch = Callable[[int, int], bytes]
"""Given an offset and a length, the bytes of the package's file there."""


class Mounted:
    """A run function and its data, ready to be used in this process. A context manager.

    The arrays lie in memory that the node's processes share, and are read-only.

    Attributes:
        function: The run function; None once closed.
        data: The data; None once closed.
    """

    def __init__(self, function: Any, data: Any, resources: ExitStack) -> None:
        self.function = function
        self.data = data
        self._resources = resources

    def close(self) -> None:
        """Let go of function and data. Arrays still in use elsewhere stay valid; the mapping ends with the last."""
        self.function = self.data = None
        self._resources.close()

    def __enter__(self) -> Mounted:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def mount(package: Package, fetch: Fetch | None = None, *, scratch: Path | None = None) -> Mounted:
    """Unpickle a package on a worker, with its buffers mapped read-only.

    The file is opened where the packer put it. A node that does not see it there fetches it once into a temporary
    file without a name, which its other processes map too. ``Loader`` objects, as the data or as values in a dict of
    data, are loaded once per node and shared in the same way.

    Args:
        package: What ``pack`` made.
        fetch: Returns part of the file, given offset and length in bytes (``Packed.read`` on the driver); it is called
            for at most 16 MiB at a time. What it raises is passed on. None: a file that is not seen is an error.
        scratch: A directory of the node for the temporary files, the same for all its processes; the temporary
            directory by default.

    Returns:
        The function and the data. Mount once per process, and keep it.

    Raises:
        RunFunctionError: The function or the data cannot be unpickled here, most often because a module is missing.
        DataError: The buffers cannot be reached, or a ``Loader`` failed.
    """
    with ExitStack() as resources:
        buffers = _buffers(package, fetch, scratch, resources)
        function, data = _unpickle(package.code, buffers)
        data = _resolve(data, package.token, scratch, resources)
        return Mounted(function, data, resources.pop_all())


def _buffers(package: Package, fetch: Fetch | None, scratch: Path | None, resources: ExitStack) -> list[memoryview]:
    if package.size == 0:
        return []
    file = _open_original(package)
    if file is not None:
        try:
            return _map(file, package.spans)
        finally:
            os.close(file.descriptor)  # the mapping has its own
    if fetch is None:
        raise DataError(
            f"the data file {package.path!r} of {package.host} cannot be opened on {os.uname().nodename}: its driver "
            "has ended, or the nodes do not share its file system; put log_dir on one that they share"
        )
    directory = scratch or temporary_directory()
    node_file = share(package.token, _download(package, fetch, directory), directory)
    resources.callback(node_file.close)
    return _map(node_file.file, package.spans)


def _open_original(package: Package) -> OpenFile | None:
    """The packer's own file, where this process sees it."""
    if package.path is None or (package.path.startswith("/proc/") and package.host != node_identity()):
        return None
    file = open_file(package.path, package.token)
    if file is not None and file.size != package.size:
        os.close(file.descriptor)
        return None
    return file


def _download(package: Package, fetch: Fetch, directory: Path) -> Callable[[int], None]:
    def fill(descriptor: int) -> None:
        for offset in range(0, package.size, CHUNK):
            length = min(CHUNK, package.size - offset)
            chunk = fetch(offset, length)
            if len(chunk) != length:
                raise DataError(
                    f"package {package.token} sent {len(chunk):,} bytes instead of {length:,} from {offset:,}: "
                    "its driver has closed it"
                )
            try:
                write_at(descriptor, chunk, offset)
            except OSError as error:
                raise disk_error(error, directory, package.size) from error

    return fill


def _map(file: OpenFile, spans: Iterable[Span]) -> list[memoryview]:
    # The mapping is never closed by hand: numpy keeps it alive but does not lock it, so that arrays still in use would
    # point nowhere. It goes with the last of them.
    whole = file.map()
    return [whole[offset : offset + length] for offset, length in spans]


def _unpickle(code: bytes, buffers: Iterable[memoryview]) -> tuple[Any, Any]:
    stream = io.BytesIO(code)
    packed_by = pickle.load(stream)
    if packed_by != sys.version_info[:2]:
        driver, worker = (".".join(map(str, version)) for version in (packed_by, sys.version_info[:2]))
        raise _not_loaded(
            f"the driver runs Python {driver} and this worker Python {worker}, whose functions differ. Start both in "
            "the same environment"
        )
    try:
        function, data = pickle.load(stream, buffers=buffers)
    except DhpoError:
        raise
    except ModuleNotFoundError as error:
        raise _not_loaded(
            f"the module {error.name!r} is missing there. Install it in that environment, or put it on the workers' "
            "PYTHONPATH, or define the function in the script that starts the search, with which it travels"
        ) from error
    except (ImportError, AttributeError) as error:
        raise _not_loaded(
            f"{error}. That module is not the driver's version there. Install the same in that environment, or define "
            "the function in the script that starts the search, with which it travels"
        ) from error
    except Exception as error:  # modules that are imported, and objects that are restored, run the user's code
        raise _not_loaded(
            f"{type(error).__name__}: {error}. Importing its modules or restoring its data failed there; check "
            "that the environment is the driver's"
        ) from error
    return function, data


def _not_loaded(cause: str) -> RunFunctionError:
    return RunFunctionError(
        f"the run function or its data cannot be loaded on {os.uname().nodename} ({sys.executable}): {cause}"
    )


def _resolve(data: Any, token: str, scratch: Path | None, resources: ExitStack) -> Any:
    """The data with every Loader in it replaced by what it loads."""
    if isinstance(data, Loader):
        return _load(data, token, "", scratch, resources)
    if isinstance(data, dict) and any(isinstance(value, Loader) for value in data.values()):
        return {
            key: _load(value, token, repr(key), scratch, resources) if isinstance(value, Loader) else value
            for key, value in data.items()
        }
    return data


def _load(loader: Loader, token: str, key: str, scratch: Path | None, resources: ExitStack) -> Any:
    if loader.maps:
        return loader.load()
    part = hashlib.sha256(f"{token} {key}".encode()).hexdigest()[:32]
    directory = scratch or temporary_directory()
    filled = _Filled(loader, part, directory)
    node_file = share(part, filled, directory)
    resources.callback(node_file.close)
    index = node_file.file.read_index()
    if index == _UNSHAREABLE:
        return filled.kept.pop() if filled.kept else loader.load()
    code, spans = pickle.loads(index)
    return pickle.loads(code, buffers=_map(node_file.file, spans))


_UNSHAREABLE = b"-"  # the index of a file whose data cannot be pickled: every process loads for itself


class _Filled:
    """Loads, and writes what was loaded to the node's file. This process too then maps the file and drops its copy."""

    def __init__(self, loader: Loader, token: str, directory: Path) -> None:
        self.kept: list[object] = []
        self._loader = loader
        self._token = token
        self._directory = directory

    def __call__(self, descriptor: int) -> None:
        value = self._loader.load()
        file = BufferFile(lambda: descriptor, self._token, self._directory)
        try:
            hoisted = hoist(value, file.append)
            file.finish(pickle.dumps((hoisted.code, hoisted.spans), protocol=5))
        except DataError:
            raise
        except Exception:  # an open file, a connection: what the object's own __reduce__ raises
            self.kept.append(value)
            file.finish(_UNSHAREABLE)
