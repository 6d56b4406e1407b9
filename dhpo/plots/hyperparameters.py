"""Hyperparameters: which matter, and how the best configurations look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dhpo.dashboard.hyperparameters import parallel
from dhpo.importance import shares
from dhpo.plots._style import PALETTE, empty, finished, new_axes, pick, series, text
from dhpo.plots.data import effects_of, problem_of, view_of
from dhpo.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_BARS = 20


def plot_importance(results: Results, ax: Axes | None = None, objective: str | None = None, seed: int = 0) -> Axes:
    """How much each hyperparameter matters for the objectives, as shares of 1 (see :mod:`dhpo.importance`).

    Args:
        results: of a search.
        ax: where to draw.
        objective: which objective; by default all of them.
        seed: of the estimate.
    """
    axes: Any = new_axes(ax)
    goals = list(results.objectives) if objective is None else [pick(results.objectives, objective)[0]]
    estimates = {goal.name: shares(effects_of(results, goal.name, seed)) for goal in goals}
    estimates = {name: found for name, found in estimates.items() if found}
    if not estimates:
        return empty(axes, "too few results to tell")
    sums = {name: sum(found.get(name, 0.0) for found in estimates.values()) for name in next(iter(estimates.values()))}
    names = sorted(sums, key=lambda name: -sums[name])[:_MOST_BARS]
    height = 0.8 / len(estimates)
    for place, (goal, found) in enumerate(estimates.items()):
        rows = np.arange(len(names)) + (place - (len(estimates) - 1) / 2) * height
        widths = [found[name] for name in names]
        axes.barh(rows, widths, height * 0.95, color=PALETTE[place % len(PALETTE)], label=series(goal))
    axes.set_yticks(range(len(names)), [text(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlim(left=0.0)
    axes.set_xlabel("importance (share of the variance)")
    finished(axes, loc="lower right")
    axes.grid(False, axis="y")
    drawn: Axes = axes
    return drawn


def plot_parallel(results: Results, ax: Axes | None = None, objective: str | None = None) -> Axes:
    """Configurations as lines over an axis for each hyperparameter, and one for an objective, the best ones on top.

    At most 300 trials are drawn, the best and the latest. A line leaves out what is not active.

    Args:
        results: of a search.
        ax: where to draw.
        objective: which objective; by default the first.
    """
    _, column = pick(results.objectives, objective)
    problem_of(results)
    found = parallel(view_of(results), column)
    lines, axis = found["lines"], found["axes"]
    wide = max(5.0, 1.0 + 0.9 * len(axis["name"]))
    axes: Any = new_axes(ax, size=(wide, 3.4))
    if not lines["xs"]:
        return empty(axes, "there are no results yet")
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    ranks = np.array(lines["rank"])
    segments = [np.column_stack([xs, ys]) for xs, ys in zip(lines["xs"], lines["ys"], strict=True)]
    drawn: Any = LineCollection(segments, colors=colormaps["viridis_r"](ranks), alpha=0.7)
    drawn.set_linewidths(0.5 + 1.2 * ranks**4)
    axes.add_collection(drawn)
    axes.set_xlim(-0.2, len(axis["name"]) - 0.8)
    axes.set_ylim(-0.12, 1.12)
    axes.set_yticks([])
    axes.set_xticks(axis["x"], [text(name) for name in axis["name"]], rotation=20, ha="right")
    for x, low, high in zip(axis["x"], axis["low"], axis["high"], strict=True):
        axes.text(x, -0.02, text(low), ha="center", va="top", fontsize=7)
        axes.text(x, 1.02, text(high), ha="center", va="bottom", fontsize=7)
    shade = axes.figure.colorbar(_scale(), ax=axes, ticks=[0.0, 1.0], format="", pad=0.02, fraction=0.04)
    shade.ax.set_yticklabels(["worst", "best"], fontsize=8)
    shade.outline.set_visible(False)
    finished(axes)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x", linewidth=1.0)
    shown: Axes = axes
    return shown


def _scale() -> Any:
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(cmap="viridis_r")
