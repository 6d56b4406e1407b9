"""What trials reported, and how rungs judged them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dhpo.dashboard.rungs import RungRow, rung_rows
from dhpo.plots._style import (
    ACCENT,
    DARK,
    LIGHT,
    MOST_VECTORS,
    OUTCOMES,
    empty,
    finished,
    goal_label,
    new_axes,
    number,
    pick,
    text,
)
from dhpo.plots.data import view_of
from dhpo.results import Results
from dhpo.trial import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_learning_curves(
    results: Results, ax: Axes | None = None, objective: str | None = None, most: int = 5_000
) -> Axes:
    """What each trial reported over its resource; trials that the stopper ended are grey, the best one stands out.

    Args:
        results: of a search whose trials report.
        ax: where to draw.
        objective: which objective; by default the first.
        most: of so many trials, evenly chosen, curves are drawn; the best one is among them.
    """
    goal, column = pick(results.objectives, objective)
    axes: Any = new_axes(ax)
    from matplotlib.collections import LineCollection
    from matplotlib.ticker import MaxNLocator

    styles = {"stopped early": (LIGHT, 0.7), "trials": (DARK, 0.6), "best trial": (ACCENT, 1.8)}
    for group, lines in _curves(results, goal.name, column, most).items():
        if lines:
            colour, width = styles[group]
            many = len(lines) > 1000 or sum(map(len, lines)) > 2 * MOST_VECTORS
            curves = LineCollection(lines, colors=colour, linewidths=width, label=group, rasterized=many)
            axes.add_collection(curves)
            ends = np.array([line[-1] for line in lines])
            axes.scatter(*ends.T, s=6 * width, color=colour, zorder=3, linewidths=0, rasterized=many)
    axes.autoscale_view()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(text(results.resource_name))
    axes.set_ylabel(goal_label(goal))
    return finished(axes)


def _curves(results: Results, objective: str, column: int, most: int) -> dict[str, list[Any]]:
    """The trials' curves, (reports, 2) each, by what became of the trials."""
    groups: dict[str, list[Any]] = {"stopped early": [], "trials": [], "best trial": []}
    best, statuses = results.best(objective), results.statuses()
    trials = np.unique(results.folded.arrivals().trial)
    if len(trials) > most:
        chosen = trials[np.linspace(0, len(trials) - 1, most).astype(int)]
        trials = np.unique(np.append(chosen, [] if best is None else [best.trial]).astype(int))
    for trial, (resources, reported) in results.values_of(trials).items():
        line = np.column_stack([resources, reported[:, column]])[np.isfinite(resources)]
        stopped = statuses[trial] in (Status.STOPPED, Status.PAUSED)
        if len(line):
            group = "best trial" if best and trial == best.trial else "stopped early" if stopped else "trials"
            groups[group].append(line)
    return groups


def plot_rungs(results: Results, ax: Axes | None = None) -> Axes:
    """How many trials came to each rung, and what became of them there.

    Above each bar stands the rank correlation of the trials' values there with those at the next rung: how far a
    decision at this rung can be trusted. It needs three trials that came to both.

    Args:
        results: of a search with Hyperband.
        ax: where to draw.
    """
    axes: Any = new_axes(ax)
    rows = rung_rows(view_of(results))
    if not rows:
        return empty(axes, "no trial has come to a rung")
    kinds = {"went on": "completed", "paused": "paused", "stopped": "stopped"}
    places, names = _places(rows)
    bottom = np.zeros(len(rows))
    for name, outcome in kinds.items():
        heights = np.array([getattr(row, "promoted" if name == "went on" else name) for row in rows], dtype=float)
        if heights.any():
            axes.bar(places, heights, 0.75, bottom=bottom, color=OUTCOMES[outcome], label=name)
        bottom += heights
    for place, row, top in zip(places, rows, bottom, strict=True):
        shown = "" if row.correlation is None else f"ρ {row.correlation:.2f}"
        axes.annotate(shown, (place, top), (0, 2), textcoords="offset points", ha="center", fontsize=7)
    axes.set_xticks(places, names)
    axes.set_ylabel("trials")
    several = len({row.bracket for row in rows}) > 1
    axes.set_xlabel(text(results.resource_name) + (" of the rung, by bracket" if several else " of the rung"))
    axes.margins(y=0.12)
    return finished(axes)


def _places(rows: list[RungRow]) -> tuple[list[float], list[str]]:
    """Where the bars stand, with a gap between brackets, and what is written below them."""
    several = len({row.bracket for row in rows}) > 1
    places, names, place = [], [], 0.0
    for i, row in enumerate(rows):
        first = i == 0 or rows[i - 1].bracket != row.bracket
        place += 0.0 if i == 0 else 1.6 if first else 1.0
        places.append(place)
        names.append(number(row.level) + (f"\nbracket {row.bracket}" if several and first else ""))
    return places, names
