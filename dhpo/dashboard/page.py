"""The live page: a Bokeh document that shows the frames of a search, and streams what is new in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bokeh.document import Document
from bokeh.models import ColumnDataSource, CustomJS
from jinja2 import Environment, Template

from dhpo.dashboard.charts import Columns
from dhpo.dashboard.figures import LEGENDS, make_figures, relabel
from dhpo.dashboard.frame import Choice, Frame
from dhpo.dashboard.live import Live
from dhpo.dashboard.text import label, to_json

#: Milliseconds between two looks at whether there is a new frame.
_PERIOD = 1000
#: Milliseconds after which a frame may be there that was asked for.
_SOON = (50, 200, 500)
_FILES = Path(__file__).parent
_SHOW = "window.dhpo.show(JSON.parse(numbers.data.json[0]))"
_READY = f"window.dhpo.connect((data) => {{ choice.data = data; }}); {_SHOW}"


@cache
def template() -> Template:
    """The page around the plots, complete with its style and script: nothing else has to be fetched."""
    text = {name: (_FILES / f"page.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    # Bokeh's own parts of the page are HTML already; of dhpo's only names of plots go through here.
    made = Environment(autoescape=False, trim_blocks=True).from_string(text["html"])
    made.globals.update(style=text["css"], script=text["js"])
    return made


class Page:
    """One person's page.

    Args:
        document: the session's empty document.
        live: the search.
        others: the searches that there are besides, as ``{id: name}``.
    """

    def __init__(self, document: Document, live: Live, others: Callable[[], Mapping[str, str]] = dict) -> None:
        self._document = document
        self._live = live
        self._others = others
        self._choice = Choice()
        self._frame: Frame = live.frame(self._choice) or live.blank(self._choice)
        self._is_complete = self._frame.is_complete  # once it has been
        self._sources = {name: ColumnDataSource(columns) for name, columns in self._frame.columns.items()}
        self._shown: dict[str, Columns] = dict(self._frame.columns)
        self._numbers = ColumnDataSource({"json": [self._json()]})
        self._chosen = ColumnDataSource({name: [value] for name, value in self._choice._asdict().items()})
        self._plots = make_figures(self._sources, live.objectives, self._frame.labels)
        relabel(self._plots, self._frame)
        self._titled = _titles(self._frame)
        self._unsent: list[str] = []  # the sources that are yet to show the frame
        self._assemble()

    def _assemble(self) -> None:
        document = self._document
        document.template = template()
        document.title = label(f"dhpo: {self._live.name}")
        document.template_variables.update(legends=LEGENDS, single=self._live.objectives.single)
        # What belongs to no plot is sent with one: only what hangs on a root is kept in step with the browser.
        self._plots["incumbent"].tags = [self._numbers, self._chosen]
        for plot in self._plots.values():
            document.add_root(plot)
        arguments = {"numbers": self._numbers, "choice": self._chosen}
        document.js_on_event("document_ready", CustomJS(args=arguments, code=_READY))
        self._numbers.js_on_change("data", CustomJS(args={"numbers": self._numbers}, code=_SHOW))
        self._chosen.on_change("data", self._choose)
        document.add_periodic_callback(self.update, _PERIOD)
        self._look_soon()

    def _look_soon(self) -> None:
        """Look for a frame that has just been asked for."""
        for milliseconds in _SOON:
            self._document.add_timeout_callback(self.update, milliseconds)

    def update(self) -> None:
        """Look for what is new, and send it."""
        if self._unsent:
            return
        frame = self._live.frame(self._choice)
        if frame is not None and frame is not self._frame:
            self._frame = frame
            self._is_complete = self._is_complete or frame.is_complete
            self._unsent = [name for name, columns in frame.columns.items() if columns != self._shown[name]]
        self._send_next()

    def _send_next(self) -> None:
        """Send one source, and the next one a turn of the event loop later: nobody there waits for all of them."""
        if self._unsent:
            name = self._unsent.pop()
            self._document.add_next_tick_callback(self._send_next)
            columns = self._frame.columns[name]
            send(self._sources[name], self._shown[name], columns)
            self._shown[name] = columns
            return
        if self._titled != _titles(self._frame):
            self._titled = _titles(self._frame)
            relabel(self._plots, self._frame)
        text = self._json()
        if text != self._numbers.data["json"][0]:
            self._numbers.data = {"json": [text]}

    def _json(self) -> str:
        numbers = self._frame.summary | {
            "searches": dict(self._others()),
            "caught_up": self._is_complete,
            "over": self._live.is_over,
        }
        return to_json(numbers | {"empty": _empty(self._frame), "kinds": _kinds(self._frame)}).decode()

    def _choose(self, attribute: str, old: Any, new: Mapping[str, Any]) -> None:
        """A person has chosen an objective; what comes from a browser may be anything."""
        try:
            values = {name: int(new[name][0]) for name in Choice._fields}
        except (KeyError, IndexError, TypeError, ValueError):
            return
        self._choice = Choice(**values).within(len(self._live.objectives))
        self.update()
        self._look_soon()


def _empty(frame: Frame) -> list[str]:
    """The plots that have nothing to show yet."""
    behind = {
        "front": "points", "history": "history", "incumbent": "incumbent", "hypervolume": "hypervolume",
        "curves": "curves", "busy": "busy", "parallel": "lines", "importance": "importance",
    }  # fmt: skip
    empty = [plot for plot, name in behind.items() if name in frame.columns and not _length(frame.columns[name])]
    return empty + ["timeline"] * (not _length(frame.columns["bars"]) and not _length(frame.columns["out"]))


def _kinds(frame: Frame) -> dict[str, list[str]]:
    """The kinds of trials and runs that a plot shows: what its legend has to explain."""
    behind = {"history": ("history",), "curves": ("curves",), "timeline": ("bars", "out")}
    kinds = {
        plot: sorted({kind for name in names for kind in frame.columns.get(name, {}).get("kind", ())})
        for plot, names in behind.items()
    }
    kinds["timeline"] += ["waiting"] * bool(_length(frame.columns["waits"]))
    kinds["curves"] += ["rung"] * bool(_length(frame.columns["levels"]))
    return kinds


def _titles(frame: Frame) -> tuple[Any, ...]:
    """What the plots are labelled by."""
    return frame.labels, frame.columns["axes"]["x"], frame.columns["importance"]["name"]


def _length(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def send(source: ColumnDataSource, old: Columns, new: Columns) -> None:
    """Make a source hold new columns: by a patch, a stream, or, where they have little in common, as a whole."""
    n_old, n_new = _length(old), _length(new)
    gone = _gone(old, new)
    if gone is None or not n_old:
        if old != new:
            source.data = new
        return
    kept = n_old - gone
    changed = _changed(old, new, gone, kept)
    if 2 * len(changed) > n_new or (gone and changed):
        source.data = new
        return
    if changed:
        source.patch({name: [(row, column[row]) for row in changed] for name, column in new.items()})
    if n_new > kept:
        tail = {name: column[kept:] for name, column in new.items()}
        source.stream(tail, rollover=n_new if gone else None)


def _gone(old: Columns, new: Columns) -> int | None:
    """How many of the old rows are no longer there, at the beginning; None where that does not tell the difference."""
    n_old, n_new = _length(old), _length(new)
    if not n_new:
        return None
    name, first = next(iter(new.items()))
    gone = -1
    while first[0] in old[name][gone + 1 :]:
        gone = old[name].index(first[0], gone + 1)
        if all(column[0] == old[name][gone] for name, column in new.items()):
            return gone if n_old - gone <= n_new else None
    return 0 if n_old <= n_new else None


def _changed(old: Columns, new: Columns, gone: int, kept: int) -> list[int]:
    """Which of the rows that were there before are no longer the same."""
    changed: set[int] = set()
    for name, column in new.items():
        before, now = old[name][gone:], column[:kept]
        if before != now:
            changed.update(row for row in range(kept) if before[row] != now[row])
    return sorted(changed)
