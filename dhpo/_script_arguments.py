"""The command line of a program that runs a trial: where the configuration stands in it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

from dhpo.errors import SettingError

_Part = tuple[str, str | None, str]  # literal text, the name that follows it, and how it is formatted


def command_of(command: Any) -> list[str]:
    """The words of a command.

    Raises:
        SettingError: it is neither a text nor a list of texts, or it is empty.
    """
    try:
        words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    except (TypeError, ValueError) as error:
        raise SettingError(f"command={command!r}: give a list of arguments, or a text ({error})") from error
    if not words or any("\0" in word for word in words):
        raise SettingError(f"command={command!r}: name a program")
    return words


def template_of(word: str) -> list[_Part]:
    """A word with places, ``--lr={lr:.3g}``, in parts.

    Raises:
        SettingError: its braces do not match.
    """
    try:
        return [(text, name, spec or "") for text, name, spec, _ in Formatter().parse(word)]
    except ValueError as error:
        raise SettingError(f"the command's {word!r}: {error}; write {{{{ and }}}} for braces") from error


def named_in(word: str) -> list[str]:
    """The names of a word's places."""
    return [name for _, name, _ in template_of(word) if name is not None]


def shown(value: Any) -> str:
    """A hyperparameter's value as an argument: texts as they are, all else as in JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def arguments_of(
    words: Sequence[str],
    config: Mapping[str, Any],
    places: Mapping[str, str],
    quote: Callable[[str], str] = str,
) -> list[str]:
    """A command's words with a configuration in its places, or behind them where there are none.

    Args:
        words: the command.
        config: the active hyperparameters.
        places: what else can be named.
        quote: makes a value safe where a shell reads it.
    """
    named = [named_in(word) for word in words]
    if not any(named):
        return [*(_filled(word, config, places, quote) for word in words), *_options(config, quote)]
    made: list[str] = []
    for word, names in zip(words, named, strict=True):
        inactive = any(name not in config and name not in places for name in names)
        if not inactive or len(words) == 1:
            made.append(_filled(word, config, places, quote))
        elif word == f"{{{names[0]}}}" and made and made[-1].startswith("-") and "=" not in made[-1]:
            made.pop()  # "--momentum" before "{momentum}"
    return made


def _filled(word: str, config: Mapping[str, Any], places: Mapping[str, str], quote: Callable[[str], str]) -> str:
    made = ""
    for text, name, spec in template_of(word):
        made += text
        if name is None:
            continue
        if name in config:
            value = config[name]
            made += quote(format(value, spec) if spec else shown(value))
        else:
            made += quote(places.get(name, ""))
    return made


def _options(config: Mapping[str, Any], quote: Callable[[str], str]) -> list[str]:
    made = []
    for name, value in config.items():
        text = shown(value)
        if text.startswith("-"):  # which a program would take for an option
            made.append(quote(f"--{name}={text}"))
        else:
            made += [quote(f"--{name}"), quote(text)]
    return made
