"""Small pieces of HTML for notebooks, made of plain values; everything is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import isfinite
from typing import Any, NamedTuple

_WIDTH, _HEIGHT, _MARGIN = 420, 240, 44


def shown(value: Any) -> str:
    """A value as text, escaped: floats with six digits."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return escape(str(value))


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> str:
    """A table with a title above it."""
    head = "".join(f"<th>{shown(name)}</th>" for name in headers)
    body = "".join(f"<tr>{''.join(f'<td>{shown(cell)}</td>' for cell in row)}</tr>" for row in rows)
    above = f"<p><b>{shown(title)}</b></p>" if title else ""
    return f"{above}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def pairs(values: Mapping[str, Any], title: str = "") -> str:
    """A table of names and values."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{shown(n)}</th><td>{shown(v)}</td></tr>" for n, v in values.items()
    )
    above = f"<p><b>{shown(title)}</b></p>" if title else ""
    return f"{above}<table><tbody>{rows}</tbody></table>"


class Chart(NamedTuple):
    """What a chart shows: points, and a line."""

    x: str  # the axes' names
    y: str
    points: Sequence[tuple[float, float]]
    line: Sequence[tuple[float, float]]

    def svg(self) -> str:
        """As SVG, with the extremes written at the axes."""
        points = [point for point in self.points if all(map(isfinite, point))]
        if not points:
            return ""
        xs, ys = [x for x, _ in (*points, *self.line)], [y for _, y in (*points, *self.line)]
        across, up = _Axis(min(xs), max(xs), _WIDTH), _Axis(min(ys), max(ys), _HEIGHT)

        def place(x: float, y: float) -> tuple[float, float]:
            return across.at(x), _HEIGHT - up.at(y)

        dots = "".join("<circle cx='{:.1f}' cy='{:.1f}' r='3' fill='#8aa4c8'/>".format(*place(*p)) for p in points)
        path = " ".join("{:.1f},{:.1f}".format(*place(*p)) for p in self.line)
        return (
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{_HEIGHT}' "
            "font-family='sans-serif' font-size='11'>"
            f"<rect x='{_MARGIN}' y='8' width='{_WIDTH - _MARGIN - 8}' height='{_HEIGHT - _MARGIN - 8}' "
            f"fill='none' stroke='#bbb'/>{dots}"
            f"<polyline points='{path}' fill='none' stroke='#c0392b' stroke-width='2'/>"
            f"{_label(_MARGIN, _HEIGHT - 28, across.low, 'start')}"
            f"{_label(_WIDTH - 8, _HEIGHT - 28, across.high, 'end')}"
            f"{_label(_MARGIN - 4, _HEIGHT - _MARGIN, up.low, 'end')}{_label(_MARGIN - 4, 16, up.high, 'end')}"
            f"{_label(_WIDTH / 2, _HEIGHT - 10, self.x, 'middle')}{_label(_MARGIN + 6, 20, self.y, 'start')}</svg>"
        )


class _Axis(NamedTuple):
    low: float
    high: float
    length: float

    def at(self, value: float) -> float:
        share = 0.5 if self.high == self.low else (value - self.low) / (self.high - self.low)
        return _MARGIN + 8 + share * (self.length - _MARGIN - 24)


def _label(x: float, y: float, value: Any, anchor: str) -> str:
    text = f"{value:.4g}" if isinstance(value, float | int) else escape(str(value))
    return f"<text x='{x:.0f}' y='{y:.0f}' text-anchor='{anchor}'>{text}</text>"
