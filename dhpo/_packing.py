"""Blocks of events as bytes, for files and connections: columns of numbers, other events as JSON, never a pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from dhpo._blocks import Block, Reports
from dhpo._codec import decode, encode

_PART = 1 << 10  # so many events are written as JSON at once: nobody else's Python runs meanwhile
_SMALL = ("|u1", "<u2", "<u4")  # in which columns of whole numbers are written where these hold them
_KINDS = frozenset({*_SMALL, "<i8", "<f8", "|b1"})


def packed(block: Block) -> tuple[dict[str, Any], bytes]:
    """What describes a block, for JSON, and its content: columns as little-endian numbers, then the other events."""
    parts = (encode(block.others[at : at + _PART]) for at in range(0, len(block.others), _PART))
    others = b"[" + b",".join(part[1:-1] for part in parts) + b"]"
    columns = [(_narrow(column), 0, 1) for column in block.reports[1:-1]]
    columns += [(block.reports.values, 0, block.reports.values.shape[1]), (_narrow(block.places), 1, 1)]
    described = {
        "size": block.size,
        "columns": [(column.dtype.str, at, width) for column, at, width in columns],
        "others": (len(block.others), len(others)),
    }
    return described, b"".join(column.tobytes() for column, _, _ in columns) + others


def content_size(described: Mapping[str, Any]) -> int:
    """How many bytes the content has. Raises ValueError, KeyError or TypeError where nothing is described."""
    n_others, length = described["others"]
    sizes = [described["size"] - n_others, n_others]
    return int(sum(np.dtype(kind).itemsize * sizes[at] * width for kind, at, width in described["columns"]) + length)


def unpacked(described: Mapping[str, Any], content: bytes, names: Sequence[str]) -> Block:
    """The block of objectives of these names. Raises ValueError, KeyError or TypeError where that is none."""
    n_others, length = described["others"]
    sizes, offset = [described["size"] - n_others, n_others], 0
    columns: list[NDArray[Any]] = []
    for kind, at, width in described["columns"]:
        if kind not in _KINDS:
            raise ValueError(f"no column is of the type {kind!r}")
        columns.append(np.frombuffer(content, kind, sizes[at] * width, offset))
        offset += columns[-1].nbytes
    time, trial, attempt, index, resource, is_whole, values, places = columns
    others = decode(content[offset : offset + length])
    is_report = np.ones(described["size"], dtype=bool)
    is_report[places] = False
    trial, attempt, index = (column.astype(np.int64) for column in (trial, attempt, index))
    reports = Reports(
        np.flatnonzero(is_report), time.astype(float), trial, attempt, index, resource.astype(float),
        is_whole.astype(bool), values.astype(float).reshape(-1, len(names)),
    )  # fmt: skip
    return Block(tuple(names), described["size"], reports, others, places.astype(np.int64))


def to_bytes(block: Block) -> bytes:
    """A block as a message."""
    described, content = packed(block)
    return orjson.dumps({**described, "names": block.names}) + b"\n" + content


def from_bytes(message: bytes) -> Block:
    """The inverse of :func:`to_bytes`."""
    head, _, content = bytes(message).partition(b"\n")
    described = orjson.loads(head)
    return unpacked(described, content, described["names"])


def _narrow(column: NDArray[Any]) -> NDArray[Any]:
    """A column of the smallest type that holds its numbers exactly."""
    if column.dtype == bool or not len(column):
        return column
    if column.dtype == np.float64 and not ((column == np.floor(column)).all() and (column >= 1).all()):
        return column
    largest = column.max()
    kind = next((kind for kind in _SMALL if largest <= np.iinfo(kind).max), None)
    return column if kind is None else column.astype(kind)
