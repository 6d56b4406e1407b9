"""HTML from plain values. Whatever comes from a search passes through :func:`escaped`."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import Any

_LONGEST = 300  # characters of a cell


def escaped(value: Any, longest: int | None = _LONGEST) -> str:
    """A value as text that no browser takes for anything else: six significant digits, one line, cut off if long."""
    if value is None or (isinstance(value, float) and isnan(value)):
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    text = " ".join(text.split()) if longest is not None else text
    text = text if longest is None or len(text) <= longest else text[: longest - 1] + "…"
    text = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
    return html.escape(text)


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A table, numbers to the right."""
    head = "".join(f"<th>{escaped(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>\n" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _cell(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f'<td class="n">{escaped(value)}</td>' if is_number else f"<td>{escaped(value)}</td>"


def facts(pairs: Mapping[str, Any]) -> str:
    """Names and values; those without a value are left out."""
    shown = {name: value for name, value in pairs.items() if value is not None and value != ""}
    return "<dl>" + "".join(f"<dt>{escaped(n)}</dt><dd>{escaped(v)}</dd>" for n, v in shown.items()) + "</dl>"


def details(title: Any, text: str) -> str:
    """Preformatted text to be unfolded."""
    return f"<details><summary>{escaped(title)}</summary><pre>{escaped(text, None)}</pre></details>"


def note(text: str) -> str:
    """A remark."""
    return f'<p class="note">{escaped(text, None)}</p>'


def section(identifier: str, title: str, *parts: str) -> str:
    """A section with its heading; nothing where all its parts are empty."""
    content = "\n".join(part for part in parts if part)
    return f'<section id="{identifier}"><h2>{escaped(title)}</h2>\n{content}\n</section>' if content else ""
