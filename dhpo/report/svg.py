"""Figures as SVG within an HTML page, in the colours of the page: light or dark, as its reader has it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from dhpo.plots._style import ACCENT, DARK, GRID, LIGHT
from dhpo.plots.gallery import figure_of

_INK = "#010203"  # stands for the colour of text
#: The colours that the page has its own of.
_COLOURS = {_INK: "--ink", GRID: "--grid", LIGHT: "--faint", DARK: "--main", ACCENT: "--accent"}
_RC = {
    "svg.fonttype": "none", "svg.hashsalt": "dhpo", "text.color": _INK, "axes.labelcolor": _INK,
    "axes.edgecolor": _INK, "xtick.color": _INK, "ytick.color": _INK, "font.size": 9.0, "axes.labelsize": 9.0,
}  # fmt: skip
_DPI = 150  # of what is drawn as pixels
_STYLE = re.compile(r'style="[^"]*"')
_SIZE = re.compile(r'(<svg\b[^>]*?) width="([\d.]+)pt" height="[\d.]+pt"')


def inline_svg(name: str, draw: Callable[[], Any]) -> str:
    """Draw a figure, and give it as an ``<svg>`` element.

    Args:
        name: of the figure, for the element's identifiers.
        draw: draws it, and returns its axes.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context(_RC):
        figure_of(draw()).savefig(buffer, format="svg", transparent=True, dpi=_DPI, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text, count=2).replace("xlink:href=", "href=")
    text = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = _STYLE.sub(lambda found: _themed(found.group()), text)
    # As wide as it was drawn, or as there is room.
    return _SIZE.sub(r'\1 role="img" style="width: \2pt"', text, count=1)


def _themed(style: str) -> str:
    for colour, variable in _COLOURS.items():
        style = style.replace(colour, f"var({variable})")
    return style
