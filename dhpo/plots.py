"""Figures of a search's results, with matplotlib (``pip install 'dhpo[plots]'``).

Each function draws into ``ax``, or into a figure of its own, and returns the axes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dhpo._progress import column_of
from dhpo.errors import DhpoError, ObjectiveError
from dhpo.objectives import Direction, Objective
from dhpo.results import Results
from dhpo.trial import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = (5.0, 3.4)  # inches: a column of a journal page
_DARK, _ACCENT, _LIGHT = "#1f4e79", "#c8501e", "#a9b4bf"


def plot_front(results: Results, ax: Axes | None = None) -> Axes:
    """All reported points in grey and the Pareto front among them, for two or three objectives.

    Raises:
        ObjectiveError: there are fewer than two or more than three objectives.
        DhpoError: matplotlib is not installed.
    """
    goals = list(results.objectives)
    if len(goals) not in (2, 3):
        raise ObjectiveError(f"a front of {len(goals)} objectives cannot be drawn: it takes two or three")
    spatial = len(goals) == 3
    axes: Any = _axes(ax, projection="3d" if spatial else None)
    values = results.values_by_trial()
    everything = np.vstack([rows for _, rows in values.values()]) if values else np.empty((0, len(goals)))
    front = np.array([[p[g.name] for g in goals] for p in results.pareto_front(strict=True, unique=True)])
    front = front.reshape(-1, len(goals))
    axes.scatter(*everything.T, s=6, color=_LIGHT, label="reported", rasterized=len(everything) > 5000, linewidths=0)
    if spatial:
        axes.set_zlabel(_label(goals[2]))
    elif len(front):
        front = front[front[:, 0].argsort()]
        # Towards worse values of the first objective the second stays attained, which is what the steps show.
        where = "post" if goals[0].direction is Direction.MIN else "pre"
        axes.step(*front.T, where=where, color=_DARK, linewidth=1.0)
    axes.scatter(*front.T, s=20, color=_DARK, label="Pareto front", zorder=3)
    axes.set_xlabel(_label(goals[0]))
    axes.set_ylabel(_label(goals[1]))
    return _finished(axes)


def plot_learning_curves(results: Results, ax: Axes | None = None, objective: str | None = None) -> Axes:
    """What each trial reported over its resource; trials that the stopper ended are grey, the best one stands out.

    Args:
        results: of a search whose trials report.
        ax: where to draw.
        objective: which objective; by default the first.

    Raises:
        ObjectiveError: there is no such objective.
        DhpoError: matplotlib is not installed.
    """
    goal, column = _pick(results, objective)
    axes: Any = _axes(ax)
    from matplotlib.collections import LineCollection
    from matplotlib.ticker import MaxNLocator

    best = results.best(goal.name)
    groups: dict[str, list[Any]] = {"stopped early": [], "trials": [], "best trial": []}
    statuses = results.statuses()
    for trial, (resources, values) in results.values_by_trial().items():
        stopped = statuses[trial] in (Status.STOPPED, Status.PAUSED)
        group = "best trial" if best and trial == best.trial else "stopped early" if stopped else "trials"
        groups[group].append(np.column_stack([resources, values[:, column]])[np.isfinite(resources)])
    styles = {"stopped early": (_LIGHT, 0.7), "trials": (_DARK, 0.6), "best trial": (_ACCENT, 1.8)}
    for group, lines in groups.items():
        lines = [line for line in lines if len(line)]
        if lines:
            colour, width = styles[group]
            curves = LineCollection(lines, colors=colour, linewidths=width, label=group, rasterized=len(lines) > 1000)
            axes.add_collection(curves)
            ends = np.array([line[-1] for line in lines])
            axes.scatter(*ends.T, s=6 * width, color=colour, zorder=3, linewidths=0)
    axes.autoscale_view()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(results.resource_name)
    axes.set_ylabel(_label(goal))
    return _finished(axes)


def plot_incumbent(results: Results, ax: Axes | None = None, objective: str | None = None) -> Axes:
    """The best value so far over the search's time.

    Args:
        results: of a search.
        ax: where to draw.
        objective: which objective; by default the first.

    Raises:
        ObjectiveError: there is no such objective.
        DhpoError: matplotlib is not installed.
    """
    goal, _ = _pick(results, objective)
    axes: Any = _axes(ax)
    frame = results.incumbents(goal.name)
    _staircase(axes, frame["time"].tolist(), frame["value"].tolist(), results.last_time)
    axes.set_ylabel(f"best {_label(goal)}")
    return _finished(axes)


def plot_hypervolume(results: Results, ax: Axes | None = None) -> Axes:
    """The hypervolume of the front over the search's time, with the reference that ``Results.hypervolume`` takes.

    Raises:
        ObjectiveError: there is one objective only.
        DhpoError: matplotlib is not installed.
    """
    frame = results.hypervolume()
    axes: Any = _axes(ax)
    _staircase(axes, frame["time"].tolist(), frame["hypervolume"].tolist(), results.last_time)
    axes.set_ylabel("hypervolume (maximise)")
    return _finished(axes)


def save_all(results: Results, directory: Path | str) -> list[Path]:
    """Write every figure that the results allow as PNG into a directory, which is made where it does not exist.

    Returns:
        The files.

    Raises:
        DhpoError: matplotlib is not installed.
    """
    figures: dict[str, Callable[[Results], Axes]] = {"learning_curves": plot_learning_curves}
    if results.objectives.single:
        figures["incumbent"] = plot_incumbent
    else:
        figures["hypervolume"] = plot_hypervolume
    if len(results.objectives) in (2, 3):
        figures["front"] = plot_front
    Path(directory).mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in figures.items():
        figure: Any = draw(results).figure
        path = Path(directory) / f"{name}.png"
        figure.savefig(path, dpi=200)
        paths.append(path)
    return paths


def _axes(ax: Axes | None, projection: str | None = None) -> Any:
    """The given axes, or those of a new figure that no global state holds on to."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DhpoError("plots need matplotlib: pip install 'dhpo[plots]'") from error
    if ax is not None:
        return ax
    figure = Figure(figsize=_SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot(projection=projection)
    if projection == "3d":
        axes.set_box_aspect(None, zoom=0.8)  # the layout does not see the labels of this kind
    return axes


def _pick(results: Results, name: str | None) -> tuple[Objective, int]:
    column = column_of(results.objectives, name or results.objectives.names[0])
    return list(results.objectives)[column], column


def _label(goal: Objective) -> str:
    return f"{goal.name} ({'maximise' if goal.direction is Direction.MAX else 'minimise'})"


def _staircase(ax: Any, times: list[float], values: list[float], end: float) -> None:
    if times:
        ax.step([*times, max(end, times[-1])], [*values, values[-1]], where="post", color=_DARK, linewidth=1.4)
        ax.scatter(times, values, s=10, color=_DARK, zorder=3, linewidths=0)
    ax.set_xlabel("time since the start (s)")


def _finished(ax: Any) -> Axes:
    if ax.name != "3d":
        ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    ax.grid(True, linewidth=0.4, color="#e3e6ea")
    ax.set_axisbelow(True)
    if len(ax.get_legend_handles_labels()[1]) > 1:
        ax.legend(frameon=False, fontsize=8)
    drawn: Axes = ax
    return drawn
