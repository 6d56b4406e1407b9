"""What a surrogate makes of the results: slices and contours of the response surface, and whether it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dhpo.encoding import Column
from dhpo.errors import SettingError
from dhpo.importance import encoded
from dhpo.plots._style import (
    ACCENT,
    DARK,
    LIGHT,
    MOST_VECTORS,
    empty,
    finished,
    goal_label,
    new_axes,
    new_figure,
    number,
    pick,
    text,
)
from dhpo.plots.data import effects_of, incumbent_of, problem_of, response_of
from dhpo.response import Response
from dhpo.results import Results
from dhpo.trial import Configuration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_TICKS = 6
_MOST_DOTS = 500
_SMOOTH = 16  # hyperparameters with fewer values are shown as cells


def plot_slice(results: Results, name: str, ax: Axes | None = None, objective: str | None = None) -> Axes:
    """The objective as a surrogate predicts it along one hyperparameter, the others as in the best configuration.

    The line is the mean, the band the standard deviation of the model around it; what trials showed at their last
    report is drawn as points (of many trials 5,000, evenly chosen), wherever their other hyperparameters lie; a few far
    outliers may lie outside. How the surrogate is made is told in :mod:`dhpo.response`.

    Args:
        results: of a search with five results at least.
        name: the hyperparameter.
        ax: where to draw.
        objective: which objective; by default the first.
    """
    goal, column = pick(results.objectives, objective)
    response, incumbent = response_of(results, column), incumbent_of(results, goal.name)
    axes: Any = new_axes(ax)
    return _slice(axes, results, response, incumbent, name, column)


def plot_slices(
    results: Results, names: Sequence[str] | None = None, objective: str | None = None, columns: int = 3
) -> list[Axes]:
    """Several hyperparameters as in :func:`plot_slice`, in one figure of its own.

    Args:
        results: of a search with five results at least.
        names: the hyperparameters; by default the six that matter most.
        objective: which objective; by default the first.
        columns: how many slices stand side by side.
    """
    goal, column = pick(results.objectives, objective)
    response, incumbent = response_of(results, column), incumbent_of(results, goal.name)
    names = list(names) if names is not None else _leading(results, goal.name)[:6]
    if not names:
        raise SettingError("no hyperparameter of this search varies: there is nothing to draw a slice along")
    across = min(columns, len(names))
    down = -(-len(names) // across)
    figure = new_figure((2.6 * across + 0.4, 2.3 * down))
    grid = figure.subplots(down, across, sharey=True, squeeze=False).ravel().tolist()
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    drawn = [_slice(axes, results, response, incumbent, name, column) for axes, name in zip(grid, names, strict=False)]
    for place, axes in enumerate(drawn):
        if place % across:
            axes.set_ylabel("")
    return drawn


def plot_contour(
    results: Results, names: tuple[str, str] | None = None, ax: Axes | None = None, objective: str | None = None
) -> Axes:
    """The objective as a surrogate predicts it over two hyperparameters, the others as in the best configuration.

    The best configuration is the star, the trials (of many 500, evenly chosen) are the points.

    Args:
        results: of a search with five results at least.
        names: the hyperparameters; by default the two that matter most.
        ax: where to draw.
        objective: which objective; by default the first.
    """
    goal, column = pick(results.objectives, objective)
    response, incumbent = response_of(results, column), incumbent_of(results, goal.name)
    first, second = names if names is not None else (*_leading(results, goal.name), "", "")[:2]
    if not second:
        raise SettingError("a contour takes two hyperparameters that vary; see plot_slice for one")
    x, y, predicted = response.contour((first, second), incumbent)
    axes: Any = new_axes(ax)
    (i, across), (j, up) = response.column_of(first), response.column_of(second)
    edges = _edges(across, x), _edges(up, y)
    if min(len(x), len(y)) >= _SMOOTH and "categorical" not in (across.kind, up.kind):
        shade = axes.contourf(x, y, predicted.mean, levels=14, cmap="viridis")
        shade.set_edgecolor("face")
    else:
        shade = axes.pcolormesh(*edges, predicted.mean, cmap="viridis", rasterized=True)
    bar = axes.figure.colorbar(shade, ax=axes)
    bar.set_label(goal_label(goal), fontsize=8)
    bar.ax.tick_params(labelsize=8)
    configs = [record.config for record in results.records()]
    chosen = np.unique(np.linspace(0, len(configs) - 1, min(_MOST_DOTS, len(configs))).astype(int)).tolist()
    rows = encoded(response.encoding, [configs[place] for place in chosen])
    axes.scatter(rows[:, i], rows[:, j], s=7, color="white", edgecolors="black", linewidths=0.4, label="trials")
    best = encoded(response.encoding, [incumbent])[0]
    axes.scatter(
        best[i], best[j], s=90, marker="*", color=ACCENT, edgecolors="white", linewidths=0.6, zorder=4, clip_on=False
    )
    _ticks(axes.xaxis, across, x)
    _ticks(axes.yaxis, up, y)
    axes.set_xlim(edges[0][0], edges[0][-1])
    axes.set_ylim(edges[1][0], edges[1][-1])
    axes.set_xlabel(text(first))
    axes.set_ylabel(text(second))
    axes.tick_params(labelsize=8)
    drawn: Axes = axes
    return drawn


def plot_model_check(results: Results, ax: Axes | None = None, objective: str | None = None) -> Axes:
    """What models predict for configurations that they have not seen, over what was observed.

    Each of five models is fitted without a fifth of the configurations. Bars are the model's standard deviation; the
    title tells Spearman's rank correlation: near 1, the search knows where to look; near 0, it searches at random.

    Args:
        results: of a search with five results at least.
        ax: where to draw.
        objective: which objective; by default the first.
    """
    goal, column = pick(results.objectives, objective)
    found = response_of(results, column).check()
    axes: Any = new_axes(ax, size=(4.0, 3.6))
    ends = [float(min(found.observed.min(), found.predicted.mean.min())),
            float(max(found.observed.max(), found.predicted.mean.max()))]  # fmt: skip
    axes.plot(ends, ends, color=LIGHT, linewidth=1.0, zorder=1)
    axes.errorbar(
        found.observed, found.predicted.mean, found.predicted.std, fmt="o", markersize=3, color=DARK,
        ecolor=LIGHT, elinewidth=0.6, markeredgewidth=0,
    )  # fmt: skip
    axes.set_title(f"rank correlation {found.correlation:.2f}", fontsize=9, loc="left")
    axes.set_xlabel(f"observed {goal_label(goal)}")
    axes.set_ylabel("predicted without it")
    return finished(axes)


def _slice(axes: Any, results: Results, response: Response, incumbent: Configuration, name: str, column: int) -> Axes:
    goal = list(results.objectives)[column]
    j, along = response.column_of(name)
    found = response.slice(name, incumbent)
    x, (mean, std) = found.places, found.predicted
    ended = [(r.config, float(r.values[goal.name])) for r in results.records() if r.values is not None]
    chosen = np.linspace(0, len(ended) - 1, min(MOST_VECTORS, len(ended))).astype(int).tolist()
    ended = [ended[place] for place in chosen]
    if not len(x):
        return empty(axes, f"{text(name)} does not vary")
    if ended:
        places = encoded(response.encoding, [config for config, _ in ended])[:, j]
        shown = [value for _, value in ended]
        axes.scatter(places, shown, s=6, color=LIGHT, linewidths=0, rasterized=len(shown) > _MOST_DOTS)
    if along.kind in ("float", "int", "ordinal") and len(x) > 1:
        axes.fill_between(x, mean - std, mean + std, color=DARK, alpha=0.2, linewidth=0)
        axes.plot(x, mean, color=DARK, linewidth=1.4)
    else:
        axes.errorbar(x, mean, std, fmt="o", markersize=4, color=DARK, elinewidth=1.2, capsize=3)
    if name in incumbent:
        best = encoded(response.encoding, [incumbent])[0, j]
        axes.axvline(best, color=ACCENT, linewidth=0.8, linestyle="--")
    axes.set_ylim(*_limits(axes, mean, std, [value for _, value in ended]))
    _ticks(axes.xaxis, along, x)
    axes.margins(x=0.04)
    axes.set_xlabel(text(name))
    axes.set_ylabel(goal_label(goal))
    return finished(axes)


def _limits(axes: Any, mean: Any, std: Any, observed: list[float]) -> tuple[float, float]:
    """Limits that show the band and most of what was observed; axes that are shared only get wider by them."""
    bulk = np.percentile(observed or mean, (5, 95))
    found = np.concatenate([mean - std, mean + std, bulk])
    low, high = float(found.min()), float(found.max())
    margin = 0.05 * (high - low) or 1.0
    low, high = low - margin, high + margin
    return (low, high) if axes.get_autoscaley_on() else (min(low, axes.get_ylim()[0]), max(high, axes.get_ylim()[1]))


def _leading(results: Results, objective: str) -> list[str]:
    """The hyperparameters that vary, what matters most first."""
    found = list(effects_of(results, objective))
    columns = problem_of(results).encoding.columns
    return found or [column.name for column in columns if column.n_choices != 1]


def _edges(column: Column, places: Any) -> Any:
    """The borders of cells around these places, within the hyperparameter's range where it is a number."""
    if len(places) < 2:
        return np.array([places[0] - 0.5, places[0] + 0.5])
    inner = (places[1:] + places[:-1]) / 2
    ends = 2 * places[0] - inner[0], 2 * places[-1] - inner[-1]
    if column.n_choices == 0:
        ends = places[0], places[-1]
    return np.concatenate([[ends[0]], inner, [ends[1]]])


def _ticks(axis: Any, column: Column, places: Any) -> None:
    """Values of the hyperparameter at a few of these places."""
    chosen = places[np.unique(np.linspace(0, len(places) - 1, min(_MOST_TICKS, len(places))).round().astype(int))]
    if column.n_choices == 0:
        chosen = column.snap(np.linspace(0.0, 1.0, 5))
    names = [number(value) if not isinstance(value, float) else text(f"{value:.3g}") for value in column.decode(chosen)]
    slanted = axis.axis_name == "x" and sum(map(len, names)) > 28
    axis.set_ticks(chosen, names, **({"rotation": 30, "ha": "right"} if slanted else {}))
