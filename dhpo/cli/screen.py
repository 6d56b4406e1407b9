"""A followed search as lines of text: the screen of ``dhpo watch``, and its one-line form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhpo.cli.follow import Follower
from dhpo.cli.tables import cell, duration, printable, table
from dhpo.cli.views import speed
from dhpo.dashboard import workers
from dhpo.dashboard.rungs import rung_rows
from dhpo.dashboard.summary import summary
from dhpo.dashboard.view import View

#: The marks of a sparkline from low to high, and of a bar's done and open parts: in Unicode, and in ASCII.
UNICODE, ASCII = "▁▂▃▄▅▆▇█", "_.-:=+*#"
_SPARK, _BAR = 32, 32  # columns
_MOST_FRONT, _MOST_RUNGS = 8, 8  # rows
_MOST_PROBLEM = 200  # characters of an error


class Line(NamedTuple):
    """A line of the screen."""

    text: str
    style: str = ""  # "bold", "red", "dim", …, as rich has them


class Block(NamedTuple):
    """A titled table: its header and its rows."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


def screen(search: Follower, height: int, marks: str = UNICODE) -> list[Line]:
    """What a terminal of this height shows of a search.

    Args:
        search: that is followed.
        height: lines; tables are cut so that all of them keep some.
        marks: of the sparklines and the bar, from low to high.
    """
    if not search.has_begun:
        return [Line(f"{search.directory}: no search has begun there yet; waiting")]
    view = search.view
    numbers = summary(view)
    head = [_title(search), *_progress(view, numbers, marks), *_best(view, numbers, marks), *_trouble(numbers)]
    blocks = [block for block in (_front(view), _rungs(view), _running(view)) if block.rows]
    room = height - len(head) - 3 * len(blocks)  # a blank line, a title and a header each
    lines = list(head)
    for place, block in enumerate(blocks):
        most = max(1, room // (len(blocks) - place))
        shown = block.rows if len(block.rows) <= most else block.rows[: max(1, most - 1)]
        header, *rows = table(block.header, shown).splitlines()
        lines += [Line(""), Line(block.title, "bold"), Line(header, "dim"), *map(Line, rows)]
        room -= len(rows)
        if (left := len(block.rows) - len(shown)) > 0:
            lines.append(Line(f"… and {left} more", "dim"))
            room -= 1
    return lines


def one_line(search: Follower) -> str:
    """How a search stands, in a line."""
    view = search.view
    numbers = summary(view)
    parts = [f"{search.state}{', paused' if search.paused else ''}: {_counts(view, numbers)}"]
    if numbers["front_size"]:
        parts.append(f"front of {numbers['front_size']} points")
    parts += [f"{b['objective']} {cell(b['value'])} (trial {b['trial']})" for b in numbers["best"]]
    return "; ".join(parts)


def _title(search: Follower) -> Line:
    view, style = search.view, "bold"
    text = f"{search.directory}: {search.state}"
    if view.facts.running and view.opened is not None:
        text += f" on {view.opened.host} (process {view.opened.pid})"
    elif view.finished is not None:
        text += f" ({view.finished})"
    if search.paused:
        text, style = f"{text}; paused: `dhpo unpause {search.directory}` lets it go on", "bold yellow"
    elif search.state in ("interrupted", "stopped"):
        text, style = f"{text}; `dhpo resume {search.directory}` goes on", "bold yellow"
    return Line(printable(text), style)


def _counts(view: View, numbers: dict[str, Any]) -> str:
    of = "" if view.facts.num_trials is None else f" of {view.facts.num_trials}"
    trials = numbers["trials"]
    more = [f"{trials[name]} {name.lower().replace('_', ' ')}" for name in trials if trials[name]]
    return f"{numbers['ended']}{of} ended" + (f" ({', '.join(more)})" if more else "")


def _progress(view: View, numbers: dict[str, Any], marks: str) -> list[Line]:
    lines = []
    if view.facts.num_trials:
        share = min(1.0, numbers["ended"] / view.facts.num_trials)
        done = round(share * _BAR)
        lines.append(Line(f"  {marks[-1] * done}{marks[0] * (_BAR - done)} {100 * share:.0f} %", "cyan"))
    parts = [duration(view.now)]
    if numbers["trials_per_hour"] is not None:
        parts.append(f"{speed(numbers['trials_per_hour'])} trials per hour")
    if numbers["eta_s"] is not None:
        parts.append(f"about {duration(numbers['eta_s'])} left")
    lines.append(Line(f"  trials   {_counts(view, numbers)}"))
    lines.append(Line(f"  time     {', '.join(parts)}"))
    found = numbers["workers"]
    used = "" if found["utilisation"] is None else f", busy {100 * found['utilisation']:.0f} % of the time"
    lost = f", {found['losses']} losses" if found["losses"] else ""
    lines.append(Line(f"  workers  {found['seen']} seen{used}{lost}; {len(workers.running(view))} trials are out"))
    return lines


def _best(view: View, numbers: dict[str, Any], marks: str) -> list[Line]:
    """A line for each objective: the incumbent, how it got there, and its configuration where that is all there is."""
    lines = []
    width = max((len(best["objective"]) for best in numbers["best"]), default=0)
    for column, best in enumerate(numbers["best"]):
        at = "" if best["resource"] is None else f", {view.resource_name} {cell(best['resource'])}"
        curve = sparkline(incumbent(view, column), _SPARK, marks)
        text = f"  best     {best['objective']:<{width}} {cell(best['value']):<10} {curve}  trial {best['trial']}{at}"
        lines.append(Line(printable(text), "green"))
        if view.objectives.single:
            lines.append(Line(printable(f"           {view.text_of(best['trial'])}")))
    return lines


def _trouble(numbers: dict[str, Any]) -> list[Line]:
    if (error := numbers["last_error"]) is None:
        return []
    text = " ".join(str(error["error"]).split())[:_MOST_PROBLEM]
    return [Line(printable(f"  failed   {numbers['failed']}; the last one, trial {error['trial']}: {text}"), "red")]


def incumbent(view: View, column: int) -> NDArray[np.float64]:
    """The best cost of an objective so far, at some results that are evenly chosen."""
    points = view.points
    better = points.leaders.incumbents(column)
    if not len(better):
        return np.empty(0)
    places = np.linspace(0, len(points.rows) - 1, min(_SPARK, len(points.rows))).astype(np.intp)
    places = np.maximum(places, better[0])
    best = better[np.searchsorted(better, places, side="right") - 1]
    return np.asarray(points.rows.costs[best, column])


def sparkline(costs: NDArray[np.float64], width: int, marks: str = UNICODE) -> str:
    """Falling costs as a rising line of marks, ``width`` of them at most."""
    if not len(costs):
        return ""
    chosen = costs[np.linspace(0, len(costs) - 1, min(width, len(costs))).astype(np.intp)]
    worst, best = float(chosen[0]), float(chosen[-1])
    share = (worst - chosen) / (worst - best) if worst > best else np.zeros(len(chosen))
    return "".join(marks[level] for level in np.rint(share * (len(marks) - 1)).astype(int))


def _front(view: View) -> Block:
    names = view.objectives.names
    title = "Pareto front, best first objective first"
    header = ("trial", view.resource_name, *names, "configuration")
    if view.objectives.single or not len(view.points):
        return Block(title, header, ())
    points, front = view.points.rows, view.points.leaders.front
    rows = front[np.argsort(points.costs[front, 0], kind="stable")][:_MOST_FRONT]
    values = points.costs[rows] * np.array(view.objectives.signs)
    trials, resources = points.trial[rows].tolist(), points.resource[rows].tolist()
    found = [
        (trial, None if resource != resource else resource, *row, view.text_of(trial))
        for trial, resource, row in zip(trials, resources, values.tolist(), strict=True)
    ]
    return Block(f"{title} ({len(front)} points)", header, found)


def _rungs(view: View) -> Block:
    found = rung_rows(view)
    several = len({row.bracket for row in found}) > 1
    header = ("bracket",) if several else ()
    rows = [
        (*((r.bracket,) if several else ()), r.level, r.entered, r.promoted, r.stopped, r.paused)
        for r in found[:_MOST_RUNGS]
    ]
    return Block("Rungs", (*header, view.resource_name, "came", "went on", "stopped", "paused"), rows)


def _running(view: View) -> Block:
    records, names = view.trials, view.objectives.names
    rows = []
    for run in sorted(workers.running(view), key=lambda run: run.trial):
        record = records[run.trial]
        last = record.reported or {}
        seconds = duration(run.ended - run.submitted)
        rows.append((run.trial, seconds, record.resource, *(last.get(n) for n in names), view.text_of(run.trial)))
    header = ("trial", "since", view.resource_name, *names, "configuration")
    return Block(f"Running ({len(rows)})", header, rows)
