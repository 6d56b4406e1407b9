"""Trade-offs: Pareto fronts, and what repeated runs attain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dhpo._front import front_rows
from dhpo.compare import Searches, attainment, named
from dhpo.errors import ObjectiveError
from dhpo.objectives import Direction, Objectives
from dhpo.plots._style import (
    DARK,
    LIGHT,
    MOST_VECTORS,
    PALETTE,
    finished,
    goal_label,
    new_axes,
    runs_label,
    series,
    stairs,
)
from dhpo.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]


def plot_front(searches: Searches, ax: Axes | None = None) -> Axes:
    """The Pareto front, for two or three objectives; of a single search all reported points in grey as well.

    Of repeated runs the front of all of them together is drawn.

    Args:
        searches: one or several (see :mod:`dhpo.plots`).
        ax: where to draw; of three objectives, axes with the projection "3d".
    """
    groups = named(searches)
    goals = list(_objectives(groups))
    if len(goals) not in (2, 3):
        raise ObjectiveError(f"a front of {len(goals)} objectives cannot be drawn: it takes two or three")
    spatial = len(goals) == 3
    axes: Any = new_axes(ax, projection="3d" if spatial else None)
    many = False
    for place, (label, runs) in enumerate(groups.items()):
        everything, front = _points(runs)
        name, colour = "Pareto front", DARK
        if len(groups) == 1:
            many = len(everything) > MOST_VECTORS
            axes.scatter(*everything.T, s=6, color=LIGHT, label="reported", rasterized=many, linewidths=0)
        else:
            name, colour = series(label), PALETTE[place % len(PALETTE)]
        if len(front) and not spatial:
            front = front[front[:, 0].argsort()]
            # Towards worse values of the first objective the second stays attained, which is what the steps show.
            where = "post" if goals[0].direction is Direction.MIN else "pre"
            axes.step(*front.T, where=where, color=colour, linewidth=1.0)
        axes.scatter(*front.T, s=20, color=colour, label=name, zorder=3)
    if spatial:
        axes.set_zlabel(goal_label(goals[2]))
    axes.set_xlabel(goal_label(goals[0]))
    axes.set_ylabel(goal_label(goals[1]))
    # Looking for the best place among so many points takes long.
    return finished(axes, loc="upper right" if many else "best")


def plot_attainment(
    searches: Searches, ax: Axes | None = None, percentiles: tuple[float, float, float] = (25, 50, 75)
) -> Axes:
    """What repeated runs attain, for two objectives: the median attainment surface, and those around it as a band.

    The line shows the trade-offs that half of the runs have found or bettered (Grunert da Fonseca et al. 2001).

    Args:
        searches: one or several (see :mod:`dhpo.plots`), each a list of runs.
        ax: where to draw.
        percentiles: of the runs, that attain the near side of the band, the line, and the far side.
    """
    groups = named(searches)
    objectives = _objectives(groups)
    if len(objectives) != 2:
        raise ObjectiveError(f"attainment surfaces of {len(objectives)} objectives cannot be drawn: it takes two")
    axes: Any = new_axes(ax)
    signs = np.array(objectives.signs)
    has_points = any(run.n_with_values for runs in groups.values() for run in runs)
    surfaces = {label: attainment(runs, percentiles) for label, runs in groups.items()}
    corners = [surface * signs for found in surfaces.values() for surface in found.values()]
    worst = _worst(np.vstack(corners)) if has_points else np.ones(2)
    for place, (label, found) in enumerate(surfaces.items()):
        grid = np.unique(np.concatenate([*(surface[:, 0] * signs[0] for surface in found.values()), worst[:1]]))
        low, middle, high = (_height(found[p] * signs, grid, worst[1]) for p in percentiles)
        x, *heights = stairs(grid, low, middle, high)
        colour, n = PALETTE[place % len(PALETTE)], len(groups[label])
        low, middle, high = (signs[1] * height for height in heights)
        if n > 1:
            axes.fill_between(signs[0] * x, low, high, color=colour, alpha=0.2, linewidth=0)
        shown = heights[1] < worst[1]
        name = runs_label(label, n, "median").replace("quartiles", f"{percentiles[0]:g} to {percentiles[2]:g}%")
        axes.plot(signs[0] * x[shown], middle[shown], color=colour, linewidth=1.4, label=name)
    axes.set_xlabel(goal_label(objectives.items[0]))
    axes.set_ylabel(goal_label(objectives.items[1]))
    return finished(axes)


def _objectives(groups: dict[str, list[Results]]) -> Objectives:
    return next(iter(groups.values()))[0].objectives


def _points(runs: Sequence[Results]) -> tuple[Array, Array]:
    """All points of these runs, and the front among them, in the objectives' own values."""
    costs = np.vstack([run.folded.arrivals().costs for run in runs])
    signs = np.array(runs[0].objectives.signs)
    return costs * signs, costs[front_rows(costs, strict=True, unique=True)] * signs


def _worst(costs: Array) -> Array:
    """A little beyond the worst costs: so far the surfaces are drawn."""
    low, high = costs.min(axis=0), costs.max(axis=0)
    return np.asarray(high + 0.05 * np.where(high > low, high - low, 1.0))


def _height(corners: Array, grid: Array, worst: float) -> Array:
    """The least second cost that is attained with at most so much of the first one."""
    corners = corners[np.argsort(corners[:, 0], kind="stable")]
    heights = np.append(worst, np.minimum.accumulate(corners[:, 1]))
    return np.asarray(heights[np.searchsorted(corners[:, 0], grid, side="right")])
