"""Who ran what and when, and how busy the workers were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dhpo.dashboard import workers
from dhpo.plots._style import DARK, LIGHT, OUTCOMES, empty, finished, new_axes, stairs
from dhpo.plots.data import view_of
from dhpo.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_RUNS = 5000
_MANY = 1000  # more bars than this are drawn as pixels
_TIME = "time since the start (s)"


def plot_workers(results: Results, ax: Axes | None = None) -> Axes:
    """The latest 5,000 runs of trials as bars, a row for each worker, coloured by how they ended.

    Args:
        results: of a search.
        ax: where to draw.
    """
    axes: Any = new_axes(ax)
    bars = workers.timeline(view_of(results), _MOST_RUNS)["bars"]
    if not bars["row"]:
        return empty(axes, "no trial has run on a worker")
    from matplotlib.collections import PolyCollection
    from matplotlib.ticker import MaxNLocator

    row, start, end = (np.array(bars[name], dtype=float) for name in ("row", "start", "end"))
    kind = np.array(bars["kind"])
    corners = np.stack([np.stack([x, y], axis=1) for x, y in (
        (start, row - 0.4), (end, row - 0.4), (end, row + 0.4), (start, row + 0.4),
    )], axis=1)  # fmt: skip
    for outcome, colour in OUTCOMES.items():
        here = kind == outcome
        if here.any():
            axes.add_collection(
                PolyCollection(
                    corners[here],
                    facecolors=colour,
                    edgecolors=colour,
                    linewidths=0.3,
                    label=outcome,
                    rasterized=here.sum() > _MANY,
                )
            )
    axes.set_xlim(min(0.0, float(start.min())), float(end.max()) or 1.0)
    axes.set_ylim(float(row.max()) + 0.6, -0.6)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=min(9, int(row.max()) + 1)))
    axes.set_xlabel(_TIME)
    axes.set_ylabel("worker")
    finished(
        axes, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(OUTCOMES), columnspacing=1.2, handlelength=1.0
    )
    axes.grid(False, axis="y")
    drawn: Axes = axes
    return drawn


def plot_utilisation(results: Results, ax: Axes | None = None) -> Axes:
    """How many workers were busy over time, of those seen so far; the title tells the share of their time.

    Args:
        results: of a search.
        ax: where to draw.
    """
    from matplotlib.ticker import MaxNLocator

    axes: Any = new_axes(ax)
    view = view_of(results)
    found, share = workers.busy(view), workers.utilisation(view)
    if not found["time"]:
        return empty(axes, "no trial has run on a worker")
    time, busy, seen = stairs(*(np.array(found[name], dtype=float) for name in ("time", "busy", "seen")))
    axes.plot(time, seen, color=LIGHT, linewidth=1.2, label="workers seen")
    axes.fill_between(time, busy, color=DARK, alpha=0.25, linewidth=0)
    axes.plot(time, busy, color=DARK, linewidth=1.0, label="busy")
    axes.set_ylim(bottom=0.0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(_TIME)
    axes.set_ylabel("workers")
    if share is not None:
        axes.set_title(f"busy for {100 * share:.0f}% of the workers' time", fontsize=9, loc="left")
    return finished(axes, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
