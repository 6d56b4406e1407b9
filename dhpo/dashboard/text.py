"""Values as short text for people. What is made here is plain text: whoever shows it sees to its escaping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from dhpo.objectives import Objective

_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_LONGEST = 240  # characters of a configuration
_JOINT = "\u200b"  # a space without width


def encodable(text: str) -> str:
    """Text without halves of surrogate pairs, as odd file names have them: no encoding takes these."""
    return text.encode("utf-8", "replace").decode()


def to_json(value: Any) -> bytes:
    """Any value as JSON: null for NaN, text for what JSON has no form for."""
    try:
        return orjson.dumps(value, option=_JSON, default=str)
    except TypeError:
        return orjson.dumps(_plain(value), option=_JSON, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return str(value)
    if isinstance(value, Mapping):
        return {encodable(str(key)): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def value_text(value: Any) -> str:
    """A value with four significant digits, in one line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return encodable(" ".join(str(value).split()))


def config_text(config: Mapping[str, Any]) -> str:
    """A configuration in one line, cut off where it is long."""
    text = encodable(", ".join(f"{name}={value_text(value)}" for name, value in config.items()))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def label(text: str) -> str:
    """Text for an axis or a legend. Bokeh would take some of it for TeX, and load what sets that."""
    for mark in ("$$", "\\[", "\\("):
        text = text.replace(mark, mark[0] + _JOINT + mark[1])
    return encodable(text)


def objective_label(objective: Objective) -> str:
    """An objective with its direction."""
    return label(f"{objective.name} ({'maximise' if objective.direction == 'MAX' else 'minimise'})")


def host_of(worker: str) -> str:
    """A worker's address without its protocol."""
    return worker.partition("://")[2] or worker
