"""How searches got better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dhpo.compare import (
    By,
    Curve,
    Middle,
    Searches,
    band,
    common_reference,
    hypervolume_trajectory,
    named,
    trajectory,
)
from dhpo.errors import ObjectiveError
from dhpo.plots._style import PALETTE, finished, goal_label, new_axes, pick, runs_label, stairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_X_LABELS = {"time": "time since the start (s)", "trials": "trials with results"}


def plot_incumbent(
    searches: Searches,
    ax: Axes | None = None,
    objective: str | None = None,
    by: By = "time",
    middle: Middle = "median",
) -> Axes:
    """The best value so far, by the searches' time or by their trials.

    Args:
        searches: one or several (see :mod:`dhpo.plots`).
        ax: where to draw.
        objective: which objective; by default the first.
        by: "time", in seconds of the search's clock, or "trials", those that had shown a value by then.
        middle: of repeated runs, "median" with quartiles or "mean" with its 95% confidence interval.
    """
    groups = named(searches)
    goal, _ = pick(next(iter(groups.values()))[0].objectives, objective)
    axes: Any = new_axes(ax)
    curves = {label: [trajectory(run, goal.name, by) for run in runs] for label, runs in groups.items()}
    _draw(axes, curves, middle)
    axes.set_xlabel(_X_LABELS[by])
    axes.set_ylabel(f"best {goal_label(goal)}")
    return finished(axes)


def plot_hypervolume(
    searches: Searches,
    ax: Axes | None = None,
    by: By = "time",
    reference: Mapping[str, float] | None = None,
    middle: Middle = "median",
) -> Axes:
    """The hypervolume of the front so far, by the searches' time or by their trials.

    Args:
        searches: one or several (see :mod:`dhpo.plots`).
        ax: where to draw.
        by: "time", in seconds of the search's clock, or "trials", those that had shown a value by then.
        reference: the reference point, in the objectives' own values; by default, a tenth of each objective's range
            worse than the worst value that any of the searches saw.
        middle: of repeated runs, "median" with quartiles or "mean" with its 95% confidence interval.
    """
    groups = named(searches)
    runs = [run for group in groups.values() for run in group]
    if runs[0].objectives.single:
        raise ObjectiveError("the hypervolume needs several objectives: see plot_incumbent for a single one")
    reference = reference or common_reference(runs)
    axes: Any = new_axes(ax)
    curves = {label: [hypervolume_trajectory(run, reference, by) for run in group] for label, group in groups.items()}
    _draw(axes, curves, middle)
    axes.set_xlabel(_X_LABELS[by])
    axes.set_ylabel("hypervolume (maximise)")
    return finished(axes)


def _draw(axes: Any, curves: Mapping[str, Sequence[Curve]], middle: Middle) -> None:
    for place, (label, group) in enumerate(curves.items()):
        found = band(group, middle)
        if not found.n:
            continue
        colour = PALETTE[place % len(PALETTE)]
        name = runs_label(label, found.n, middle) if len(curves) > 1 or found.n > 1 else None
        x, centre, low, high = stairs(found.x, found.middle, found.low, found.high)
        if found.n > 1:
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(x, centre, color=colour, linewidth=1.4, label=name)
        if len(curves) == 1 and found.n == 1:
            (curve,) = (curve for curve in group if len(curve.x))
            axes.scatter(curve.x, curve.y, s=10, color=colour, zorder=3, linewidths=0, rasterized=len(curve.x) > 500)
    if len(curves) == 1 and axes.get_legend_handles_labels()[1]:  # a single band says what it is
        axes.legend(frameon=False, fontsize=8)
