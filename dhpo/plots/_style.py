"""What all figures share: their axes, colours and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dhpo._progress import column_of
from dhpo.compare import Middle
from dhpo.errors import DhpoError
from dhpo.objectives import Direction, Objective, Objectives

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (5.0, 3.4)  # inches: a column of a journal page
DARK, ACCENT, LIGHT, GRID = "#1f4e79", "#c8501e", "#a9b4bf", "#e3e6ea"
#: One colour for each search: told apart also by the colour-blind (after Okabe and Ito 2008).
PALETTE = (DARK, ACCENT, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b4c9a", "#7f7f7f")
#: How a trial's run ended.
OUTCOMES = {
    "completed": DARK, "stopped": LIGHT, "paused": "#e69f00", "failed": ACCENT, "lost": "#cc79a7", "running": "#009e73",
}  # fmt: skip
#: More marks than this are drawn as pixels, also in a vector format: the file stays small.
MOST_VECTORS = 5_000
_LONGEST = 40  # characters of a label


def new_axes(ax: Axes | None, projection: str | None = None, size: tuple[float, float] = SIZE) -> Any:
    """The given axes, or those of a new figure that no global state holds on to."""
    if ax is not None:
        return ax
    figure = new_figure(size)
    axes: Any = figure.add_subplot(projection=projection)
    if projection == "3d":
        axes.set_box_aspect(None, zoom=0.8)  # the layout does not see the labels of this kind
    return axes


def new_figure(size: tuple[float, float] = SIZE) -> Any:
    """A figure that no global state holds on to."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DhpoError("plots need matplotlib: pip install 'dhpo[plots]'") from error
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def pick(objectives: Objectives, name: str | None) -> tuple[Objective, int]:
    """An objective, the first by default, and its column."""
    column = column_of(objectives, name or objectives.names[0])
    return list(objectives)[column], column


def text(label: object) -> str:
    """Anything as a label: one short line that matplotlib shows as it is, and does not read as TeX."""
    line = " ".join(str(label).encode("utf-8", "replace").decode().split())
    line = "".join(c if c.isprintable() else "\ufffd" for c in line)
    line = line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
    return line.replace("$", r"\$")


def series(label: object) -> str:
    """A label for a legend, which leaves out those that begin with an underscore."""
    line = text(label)
    return f"\u200b{line}" if line.startswith("_") else line


def goal_label(goal: Objective) -> str:
    """An objective with its direction."""
    return f"{text(goal.name)} ({'maximise' if goal.direction is Direction.MAX else 'minimise'})"


def number(value: object) -> str:
    """A value as an axis shows it."""
    return text(f"{value:.4g}" if isinstance(value, float) else value)


def runs_label(label: str, n: int, middle: Middle) -> str:
    """What a band shows, for a legend."""
    if n == 1:
        return series(label)
    what = "median and quartiles" if middle == "median" else "mean and 95% CI"
    return f"{series(label)} ({what} of {n})"


def stairs(x: NDArray[Any], *heights: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """The corners of staircases that keep each height up to the next place."""
    return (np.repeat(x, 2)[1:], *(np.repeat(y, 2)[:-1] for y in heights))


def legend(ax: Any, **options: Any) -> None:
    """A legend, where there is more than one thing to tell apart."""
    if len(ax.get_legend_handles_labels()[1]) > 1:
        ax.legend(**{"frameon": False, "fontsize": 8, **options})


def finished(ax: Any, **options: Any) -> Axes:
    """The axes with the common style, and a legend with these options where it is needed."""
    if ax.name != "3d":
        ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    ax.grid(True, linewidth=0.4, color=GRID)
    ax.set_axisbelow(True)
    legend(ax, **options)
    drawn: Axes = ax
    return drawn


def empty(ax: Any, message: str) -> Axes:
    """Axes that say why there is nothing on them."""
    ax.text(0.5, 0.5, message, transform=ax.transAxes, ha="center", va="center", fontsize=9)
    ax.set_xticks([])
    ax.set_yticks([])
    return finished(ax)
