"""The plots of the page, as Bokeh figures over data that come later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from bokeh.models import (
    AdaptiveTicker,
    CDSView,
    ColumnDataSource,
    CompositeTicker,
    CustomJSTickFormatter,
    FixedTicker,
    GroupFilter,
    HoverTool,
    LabelSet,
    LinearColorMapper,
    Range1d,
)
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

from dhpo.dashboard.frame import Frame
from dhpo.objectives import Objectives

Sources: TypeAlias = Mapping[str, ColumnDataSource]

#: Colours that stand out on white and on black.
COLOURS = {
    "best": "#e8590c",
    "running": "#12a594",
    "completed": "#3b7dd8",
    "stopped": "#97a3b0",
    "paused": "#9b72cf",
    "failed": "#d6336c",
    "lost": "#e0a800",
}
_GREY = "#8a94a0"
_KINDS = ("running", "completed", "stopped", "paused", "failed")
#: What the page explains beside each plot: the names of renderers, which a click hides, and their colours.
LEGENDS: dict[str, dict[str, str]] = {
    "front": {"Pareto front": COLOURS["best"], "all results": COLOURS["stopped"]},
    "history": {kind: COLOURS[kind] for kind in _KINDS[:-1]},
    "curves": {"best": COLOURS["best"], **{kind: COLOURS[kind] for kind in _KINDS}, "rung": _GREY},
    "timeline": {**{kind: COLOURS[kind] for kind in (*_KINDS, "lost")}, "waiting": _GREY},
    "busy": {"busy": COLOURS["running"], "seen so far": COLOURS["stopped"]},
}
_HEIGHT = 340
_SECONDS = """
if (tick < 0) return "";
const far = Math.max(...ticks.map(Math.abs));
if (far <= 60) return `${+tick.toPrecision(4)}s`;
const parts = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
let left = Math.round(tick);
let text = "";
for (const [unit, length] of parts) {
    const count = Math.floor(left / length);
    left -= count * length;
    if (count) text += count + unit;
}
return text || "0";
"""
_AXIS_NAMES = """
const names = axes.data.name;
return names[tick] === undefined ? "" : names[tick].length > 22 ? names[tick].slice(0, 21) + "…" : names[tick];
"""


def make_figures(sources: Sources, objectives: Objectives, labels: Mapping[str, str]) -> dict[str, figure]:
    """All plots that a search with these objectives has, by name."""
    plots = {
        "incumbent": _incumbent(sources, labels),
        "curves": _curves(sources, labels),
        "timeline": _timeline(sources),
        "busy": _busy(sources),
        "parallel": _parallel(sources),
        "importance": _importance(sources),
    }
    if objectives.single:
        plots["history"] = _history(sources, labels)
    else:
        plots["front"] = _front(sources, labels)
        plots["hypervolume"] = _hypervolume(sources)
    for name, plot in plots.items():
        plot.name = name
    return plots


def relabel(plots: Mapping[str, figure], frame: Frame) -> None:
    """Let the plots say which objectives they show, and have as many axes and bars as there are hyperparameters."""
    labels = frame.labels
    plots["curves"].yaxis.axis_label = labels["objective"]
    plots["incumbent"].yaxis.axis_label = f"best {labels['objective']}"
    if "front" in plots:
        front = plots["front"]
        front.xaxis.axis_label, front.yaxis.axis_label = labels["x"], labels["y"]
        for tool in front.select(HoverTool):
            tool.tooltips = _front_rows(labels)
    parallel, axes = plots["parallel"], list(frame.columns["axes"]["x"])
    parallel.x_range.end = max(1, len(axes)) - 0.6
    parallel.xaxis.ticker.ticks = axes
    plots["importance"].y_range.factors = list(reversed(frame.columns["importance"]["name"]))


def _plot(height: int = _HEIGHT, tools: str = "pan,box_zoom,wheel_zoom,reset,save", **options: Any) -> figure:
    plot = figure(
        height=height, sizing_mode="stretch_width", tools=tools, active_scroll=None, active_drag="box_zoom",
        output_backend="canvas", background_fill_alpha=0, border_fill_alpha=0, outline_line_color=None, min_width=240,
        **options,
    )  # fmt: skip
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    for axis in plot.axis:
        axis.axis_label_text_font_style = "normal"
        axis.minor_tick_line_color = None
    return plot


def _timed(plot: figure) -> figure:
    plot.xaxis.formatter = CustomJSTickFormatter(code=_SECONDS)
    plot.xaxis.axis_label = "time since the search began"
    plot.xaxis.ticker = CompositeTicker(
        tickers=[
            AdaptiveTicker(base=10, mantissas=[1, 2, 5], min_interval=0, max_interval=0.5),
            AdaptiveTicker(base=60, mantissas=[1, 2, 5, 10, 15, 30], min_interval=1, max_interval=1800),
            AdaptiveTicker(base=24, mantissas=[1, 2, 4, 6, 12], min_interval=3600, max_interval=43_200),
            AdaptiveTicker(base=10, mantissas=[1, 2, 5], min_interval=86_400),
        ],
        desired_num_ticks=5,
        num_minor_ticks=0,
    )
    return plot


def _hover(plot: figure, renderers: list[Any], rows: list[tuple[str, str]], **options: Any) -> None:
    """Bokeh fills these in as text, not as HTML."""
    plot.add_tools(HoverTool(renderers=renderers, tooltips=rows, **options))


def _kind(kind: str) -> CDSView:
    return CDSView(filter=GroupFilter(column_name="kind", group=kind))


def _front(sources: Sources, labels: Mapping[str, str]) -> figure:
    plot = _plot(x_axis_label=labels["x"], y_axis_label=labels["y"])
    seen = plot.scatter(
        "x", "y", source=sources["points"], size=5, color=COLOURS["stopped"], alpha=0.55, line_color=None,
        name="all results",
    )  # fmt: skip
    plot.line("x", "y", source=sources["steps"], color=COLOURS["best"], line_width=1.5, alpha=0.7, name="Pareto front")
    best = plot.scatter(
        "x", "y", source=sources["front"], size=9, color=COLOURS["best"], line_color="white", name="Pareto front"
    )
    _hover(plot, [seen, best], _front_rows(labels), limit=3)
    return plot


def _front_rows(labels: Mapping[str, str]) -> list[tuple[str, str]]:
    values = [(labels["x"], "@x"), (labels["y"], "@y")]
    return [("trial", "@trial"), (labels["resource"], "@resource"), *values, ("", "@config")]


def _history(sources: Sources, labels: Mapping[str, str]) -> figure:
    plot = _plot(x_axis_label="trial", y_axis_label=labels["objective"])
    drawn = [
        plot.scatter(
            "trial", "value", source=sources["history"], view=_kind(kind), size=6, color=colour, alpha=0.8,
            line_color=None, name=kind,
        )
        for kind, colour in LEGENDS["history"].items()
    ]  # fmt: skip
    _hover(plot, drawn, [("trial", "@trial"), ("value", "@value"), ("", "@config")], limit=3)
    return plot


def _incumbent(sources: Sources, labels: Mapping[str, str]) -> figure:
    plot = _timed(_plot(y_axis_label=f"best {labels['objective']}"))
    source = sources["incumbent"]
    plot.step("time", "value", source=source, mode="after", color=COLOURS["completed"], line_width=2)
    dots = plot.scatter("time", "value", source=source, size=6, color=COLOURS["completed"], line_color="white")
    _hover(plot, [dots], [("trial", "@trial"), ("value", "@value"), ("", "@config")], limit=2)
    return plot


def _hypervolume(sources: Sources) -> figure:
    plot = _timed(_plot(y_axis_label="hypervolume (maximise)"))
    plot.step("time", "value", source=sources["hypervolume"], mode="after", color=COLOURS["running"], line_width=2)
    line = plot.scatter("time", "value", source=sources["hypervolume"], size=4, color=COLOURS["running"])
    _hover(plot, [line], [("hypervolume", "@value")], limit=1)
    return plot


def _curves(sources: Sources, labels: Mapping[str, str]) -> figure:
    plot = _plot(420, x_axis_label=labels["resource"], y_axis_label=labels["objective"])
    plot.vspan(x="level", source=sources["levels"], line_color=_GREY, line_dash="dotted", line_width=1.5, name="rung")
    drawn = []
    for kind in ("stopped", "completed", "paused", "running", "failed", "best"):
        best = kind == "best"
        drawn.append(
            plot.multi_line(
                "xs", "ys", source=sources["curves"], view=_kind(kind), color=COLOURS[kind], name=kind,
                line_width=2.4 if best else 1.2, line_alpha=1.0 if best else 0.6,
            )
        )  # fmt: skip
        plot.scatter(
            "x", "y", source=sources["ends"], view=_kind(kind), size=5, color=COLOURS[kind], line_color=None, name=kind
        )
    _hover(plot, drawn, [("trial", "@trial"), ("", "@kind"), ("", "@config")], limit=2, line_policy="nearest")
    return plot


def _timeline(sources: Sources) -> figure:
    plot = _timed(_plot(460, y_axis_label="worker"))
    waits = {"x0": "start", "x1": "end", "y0": "row", "y1": "row"}
    plot.segment(**waits, source=sources["waits"], color=_GREY, line_alpha=0.7, name="waiting")
    drawn = [
        plot.hbar(
            y="row", left="start", right="end", height=0.8, source=sources[name], view=_kind(kind),
            fill_color=COLOURS[kind], line_color=None, fill_alpha=0.85, name=kind,
        )
        for name, kinds in (("bars", (*_KINDS[1:], "lost")), ("out", ("running",)))
        for kind in kinds
    ]  # fmt: skip
    plot.scatter(
        "time", "row", source=sources["losses"], marker="x", size=9, line_width=2.5, color=COLOURS["lost"], name="lost"
    )
    rows = [("trial", "@trial (attempt @attempt)"), ("", "@kind"), ("worker", "@worker"), ("seconds", "@seconds")]
    _hover(plot, drawn, [*rows, ("", "@config")], limit=2)
    plot.y_range.flipped = True
    plot.ygrid.grid_line_color = None
    plot.yaxis.ticker.min_interval = 1
    return plot


def _busy(sources: Sources) -> figure:
    plot = _timed(_plot(240, y_axis_label="workers"))
    source = sources["busy"]
    plot.step("time", "busy", source=source, mode="after", color=COLOURS["running"], line_width=2, name="busy")
    plot.step(
        "time", "seen", source=source, mode="after", color=COLOURS["stopped"], line_width=1.5, line_dash="dashed",
        name="seen so far",
    )  # fmt: skip
    plot.y_range.start = 0
    plot.yaxis.ticker.min_interval = 1
    return plot


def _parallel(sources: Sources) -> figure:
    axes = sources["axes"]
    plot = _plot(430, x_range=Range1d(-0.4, 1.4), y_range=Range1d(-0.14, 1.14))
    mapper = LinearColorMapper(palette=Viridis256, low=0.0, high=1.0)
    plot.segment(x0="x", x1="x", y0=0, y1=1, source=axes, line_color=_GREY)
    lines = plot.multi_line(
        "xs", "ys", source=sources["lines"], line_color={"field": "rank", "transform": mapper}, line_alpha=0.65,
        line_width=1.3,
    )  # fmt: skip
    for column, place, baseline in (("low", -0.02, "top"), ("high", 1.02, "bottom")):
        ends = LabelSet(
            x="x", y=place, text=column, source=axes, text_align="center", text_baseline=baseline,
            text_font_size="11px", text_color=_GREY,
        )  # fmt: skip
        plot.add_layout(ends)
    plot.xaxis.ticker = FixedTicker(ticks=[])
    plot.xaxis.formatter = CustomJSTickFormatter(args={"axes": axes}, code=_AXIS_NAMES)
    plot.xaxis.major_label_orientation = 0.8
    plot.yaxis.visible = False
    plot.grid.grid_line_color = None
    _hover(plot, [lines], [("trial", "@trial"), ("value", "@value"), ("", "@config")], limit=2, line_policy="interp")
    return plot


def _importance(sources: Sources) -> figure:
    plot = _plot(430, y_range=[], x_axis_label="share of the explained variation")
    bars = plot.hbar(y="name", right="share", height=0.7, source=sources["importance"], color=COLOURS["completed"])
    _hover(plot, [bars], [("", "@name"), ("share", "@share{0.0 %}")])
    plot.x_range.start = 0
    plot.ygrid.grid_line_color = None
    plot.yaxis.major_label_text_font_size = "12px"
    return plot
