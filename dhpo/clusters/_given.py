"""What a user, or a configuration file, gives for a job script: one line, or a list of lines, and nothing else.

A text ends up in the midst of a script's directives: a second line in it would be run as a command.
"""

from __future__ import annotations

import os
from typing import Any

from dask.utils import parse_bytes

from dhpo.errors import SettingError


def one_line(name: str, value: Any) -> str | None:
    """A text of one line; None where there is none.

    Raises:
        SettingError: it is something else.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | os.PathLike):
        raise SettingError(f"{name}={value!r}: give a text")
    text = str(value)
    if any(character < " " or character == "\x7f" for character in text):
        raise SettingError(f"{name}={text!r}: give one line, without control characters")
    return text


def lines(name: str, value: Any) -> tuple[str, ...]:
    """A list of texts; empty where there is none.

    Raises:
        SettingError: it is something else, such as a text, of which every character would be taken for a line.
    """
    value = () if value is None else value
    if not isinstance(value, list | tuple) or not all(isinstance(line, str) for line in value):
        raise SettingError(f"{name}={value!r}: give a list of lines")
    return tuple(value)


def directives(name: str, value: Any) -> tuple[str, ...]:
    """Directives of a batch system, each of one line.

    Raises:
        SettingError: they are something else.
    """
    given = lines(name, value)
    for directive in given:
        one_line(name, directive)
    return given


def memory(value: Any) -> str | None:
    """An amount of memory, as a text.

    Raises:
        SettingError: it is something else.
    """
    text = one_line("memory", value)
    try:
        return None if text is None or parse_bytes(text) < 0 else text
    except ValueError as error:
        raise SettingError(f"memory={text!r}: give an amount with its unit, such as 4GB") from error
