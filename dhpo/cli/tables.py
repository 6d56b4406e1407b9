"""How the commands print: aligned tables, durations, and JSON with nothing else on standard output."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import Any

import orjson
import typer

#: What a terminal would obey instead of showing it: control characters (newlines and tabs apart), and those that turn
#: the direction of writing; and halves of surrogate pairs, as in odd file names, which have no encoding.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text that may come from anywhere, such as a trial's error, with its control characters escaped."""
    return _OBEYED.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def say(text: str, *, err: bool = False) -> None:
    """Print text for a person, whatever is in it."""
    typer.echo(printable(text), err=err)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """An aligned table: numbers to the right, text to the left, nothing for None."""
    header = [printable(name) for name in header]
    cells = [[cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    numeric = [all(_is_number(value) for value in column if value is not None) for column in zip(*rows, strict=True)]
    to_right = numeric or [False] * len(header)
    return "\n".join(_line(line, widths, to_right) for line in (header, *cells))


def cell(value: Any) -> str:
    """A value as a person reads it: six significant digits are enough."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else printable(" ".join(str(value).split()))


def duration(seconds: float) -> str:
    """A duration with its two largest units, such as "2 h 5 min"."""
    left = round(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def print_json(value: Any, *, one_line: bool = False) -> None:
    """Write JSON to standard output, over several lines or as one; null stands for NaN and infinity."""
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | (0 if one_line else orjson.OPT_INDENT_2)
    try:
        text = orjson.dumps(value, option=options, default=str).decode()
    except TypeError:  # integers beyond 64 bits, and halves of surrogate pairs
        text = json.dumps(_finite(value), indent=None if one_line else 2, default=str)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


@contextmanager
def stdout_to_stderr(wanted: bool) -> Iterator[None]:
    """Send what is printed to standard error meanwhile, also by child processes that start meanwhile."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _line(cells: Sequence[str], widths: Sequence[int], to_right: Sequence[bool]) -> str:
    aligned = (
        text.rjust(width) if right else text.ljust(width)
        for text, width, right in zip(cells, widths, to_right, strict=True)
    )
    return "  ".join(aligned).rstrip()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
