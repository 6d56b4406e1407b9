"""A pickler that hoists every large buffer out of the pickle, and what puts the buffers back."""

from __future__ import annotations

import mmap
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np

from dhpo.errors import DataError
from dhpo.worker._bufferfile import CHUNK, Span

Place = Callable[[Iterable[memoryview]], Span]
"""Stores one buffer, given piece by piece, and says where it lies."""

SMALLEST = 4096
"""Buffers of fewer bytes stay in the pickle."""

_PLAIN_KINDS = "biufcmMSUV"  # dtypes whose elements are their bytes; objects and variable-width strings are not


@dataclass(frozen=True, slots=True)
class Hoisted:
    """A pickle without its large buffers.

    Attributes:
        code: The small part; empty where it grew beyond the limit.
        spans: Where each hoisted buffer lies, in the order in which the pickle asks for them. One buffer that is
            asked for twice stands here twice.
        code_size: Bytes of the small part, also where it grew beyond the limit.
    """

    code: bytes
    spans: tuple[Span, ...]
    code_size: int


def hoist(value: object, place: Place, limit: int = sys.maxsize) -> Hoisted:
    """Pickle ``value`` with protocol 5 and give its large buffers to ``place``.

    Args:
        value: Anything that cloudpickle takes.
        place: Stores a buffer.
        limit: Bytes of the small part that are kept in memory; beyond it they are only counted.

    Returns:
        The small part and the places of the buffers.
    """
    sink = _Sink(limit)
    pickler = _Pickler(sink, place)
    try:
        pickler.dump(value)
    finally:
        pickler.clear_memo()  # pickler and callback form a cycle: without this the user's arrays would outlive them
    return Hoisted(b"".join(sink.pieces), tuple(pickler.spans), sink.size)


def in_band_size(value: object) -> int:
    """Bytes that ``value`` would take in the pickle's small part. Nothing is stored."""
    return hoist(value, lambda pieces: (0, 0), limit=0).code_size


class _Sink:
    """The file that the pickler writes to: keeps what is within the limit, counts the rest."""

    def __init__(self, limit: int) -> None:
        self.pieces: list[bytes] = []
        self.size = 0
        self._limit = limit

    def write(self, piece: bytes) -> int:
        self.size += len(piece)
        if self.size <= self._limit:
            self.pieces.append(bytes(piece))
        else:
            self.pieces.clear()
        return len(piece)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, sink: _Sink, place: Place) -> None:
        super().__init__(sink, protocol=5, buffer_callback=self._take)
        self.spans: list[Span] = []
        self._place = place
        # Where the memory at an address was stored, with its owner: alive, it keeps the address from being used again.
        self._stored: dict[tuple[object, ...], tuple[Span, object]] = {}
        self._placeholders: dict[int, tuple[pickle.PickleBuffer, Span]] = {}

    def reducer_override(self, obj: Any) -> Any:
        """Arrays are hoisted, memory-mapped ones go by reference, the rest is cloudpickle's."""
        if type(obj) is np.ndarray or type(obj) is np.memmap:
            return self._reduce_array(obj)
        return super().reducer_override(obj)

    def _reduce_array(self, array: np.ndarray[Any, Any]) -> Any:
        plain = array.view(np.ndarray)
        if array.nbytes < SMALLEST or array.dtype.hasobject or array.dtype.kind not in _PLAIN_KINDS:
            return NotImplemented if type(array) is np.ndarray else plain.__reduce_ex__(5)
        if reference := _file_reference(array):
            return _open_reference, reference
        # With the axes in the order of the memory, C order, F order and any transposition of them are one case.
        axes = tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))
        base = plain.transpose(axes)
        address = array.__array_interface__["data"][0]
        contiguous = base.flags.c_contiguous
        key = (address, array.nbytes) if contiguous else (address, array.itemsize, base.shape, base.strides)
        span = self._store(key, array, _pieces(base))
        # The array is written already, piece by piece. An empty buffer stands in for it in the pickle.
        placeholder = pickle.PickleBuffer(b"")
        self._placeholders[id(placeholder)] = (placeholder, span)
        return _restore_array, (placeholder, array.dtype, base.shape, axes)

    def _take(self, buffer: pickle.PickleBuffer) -> bool:
        """Pickle's buffer callback: true keeps the buffer in the pickle."""
        if known := self._placeholders.pop(id(buffer), None):
            self.spans.append(known[1])
            return False
        raw = buffer.raw()
        if raw.nbytes < SMALLEST:
            return True
        address = np.frombuffer(raw, np.uint8).__array_interface__["data"][0]
        self.spans.append(self._store((address, raw.nbytes), buffer, [raw]))
        return False

    def _store(self, key: tuple[object, ...], owner: object, pieces: Iterable[memoryview]) -> Span:
        if key not in self._stored:
            self._stored[key] = (self._place(pieces), owner)
        return self._stored[key][0]

    def clear_memo(self) -> None:
        super().clear_memo()
        self._stored.clear()
        self._placeholders.clear()


def _pieces(base: np.ndarray[Any, Any]) -> Iterator[memoryview]:
    """The bytes of an array in C order. What is not contiguous is copied, but never more than a chunk at a time."""
    if base.flags.c_contiguous or base.nbytes <= CHUNK:
        yield np.ascontiguousarray(base).reshape(-1).view(np.uint8).data
        return
    rows = max(1, CHUNK // base[0].nbytes)
    for start in range(0, len(base), rows):
        yield from _pieces(base[start] if rows == 1 else base[start : start + rows])


def _restore_array(
    buffer: memoryview, dtype: np.dtype[Any], shape: Sequence[int], axes: Sequence[int]
) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype, buffer=buffer)
    in_order = all(axis == place for place, axis in enumerate(axes))
    return array if in_order else array.transpose([axes.index(axis) for axis in range(len(axes))])


Reference = tuple[str, int, int, "np.dtype[Any]", tuple[int, ...], tuple[int, ...], int]


def _file_reference(array: np.ndarray[Any, Any]) -> Reference | None:
    """Where in which file a memory-mapped array lies: path, first byte, length, dtype, shape, strides, own offset.

    None where the array is no view of a memory-mapped file, has private changes, or its file is gone.
    """
    root: object = array
    while isinstance(root, np.ndarray) and not isinstance(root, np.memmap):
        root = root.base
    mapping = getattr(root, "_mmap", None)
    if not isinstance(root, np.memmap) or mapping is None or root.mode == "c" or root.filename is None:
        return None
    address = array.__array_interface__["data"][0]
    reach = [(extent - 1) * stride for extent, stride in zip(array.shape, array.strides, strict=True)]
    before = -sum(min(0, step) for step in reach)
    length = before + sum(max(0, step) for step in reach) + array.itemsize
    mapped_at = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
    in_mapping = address - before - mapped_at
    path = os.path.abspath(root.filename)
    # A slice of a memmap keeps the offset that its root was opened with; the mapping begins on a page before it.
    first = root.offset - root.offset % mmap.ALLOCATIONGRANULARITY + in_mapping
    if in_mapping < 0 or in_mapping + length > len(mapping) or not _readable(path, first + length):
        return None
    if root.mode != "r":
        root.flush()
    return path, first, length, array.dtype, array.shape, array.strides, before


def _readable(path: str, size: int) -> bool:
    try:
        return os.access(path, os.R_OK) and os.stat(path).st_size >= size
    except OSError:
        return False


def _open_reference(
    path: str,
    first: int,
    length: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    before: int,
) -> np.ndarray[Any, Any]:
    try:
        raw = np.memmap(path, np.uint8, mode="r", offset=first, shape=(length,))
    except (OSError, ValueError) as error:
        raise DataError(
            f"the memory-mapped file {path!r} cannot be mapped on {os.uname().nodename}: {error}. Memory-mapped arrays "
            "are shipped by their path: put the file where every node sees it, or ship its contents with np.array(...)"
        ) from error
    return np.ndarray(shape, dtype, buffer=raw, offset=before, strides=strides)
