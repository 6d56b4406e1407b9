"""Figures of what searches found, with matplotlib (``pip install 'dhpo[plots]'``).

Each function draws into ``ax``, or into a figure of its own that no global state holds on to, and returns the axes.
Save one by ``axes.figure.savefig("front.pdf")``. For the results of one search ``results.plot.front()`` is short for
``plot_front(results)``, and so on.

Those that compare searches take one ``Results``, a list of such, or a mapping from labels to them. A list of runs in
the place of one of these are its repetitions: they are drawn as their median, with the quartiles as a band around it
(``middle="mean"``: their mean with its 95% confidence interval).

All functions raise :class:`~dhpo.errors.DhpoError` where matplotlib is not installed,
:class:`~dhpo.errors.ObjectiveError` where there is no such objective or a figure does not go with the number of
objectives, and :class:`~dhpo.errors.SettingError` where there is too little to draw.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

from dhpo.plots.fronts import plot_attainment, plot_front
from dhpo.plots.gallery import drawable, save_all
from dhpo.plots.hyperparameters import plot_importance, plot_parallel
from dhpo.plots.model import plot_contour, plot_model_check, plot_slice, plot_slices
from dhpo.plots.trajectories import plot_hypervolume, plot_incumbent
from dhpo.plots.trials import plot_learning_curves, plot_rungs
from dhpo.plots.workers import plot_utilisation, plot_workers
from dhpo.results import Results

__all__ = [
    "Plot",
    "drawable",
    "plot_attainment",
    "plot_contour",
    "plot_front",
    "plot_hypervolume",
    "plot_importance",
    "plot_incumbent",
    "plot_learning_curves",
    "plot_model_check",
    "plot_parallel",
    "plot_rungs",
    "plot_slice",
    "plot_slices",
    "plot_utilisation",
    "plot_workers",
    "save_all",
]

_FIGURES: dict[str, Callable[..., Any]] = {
    name.removeprefix("plot_"): value for name, value in list(globals().items()) if name.startswith("plot_")
}


class Plot:
    """``results.plot``: every ``plot_<name>`` of this module as ``<name>``, for one search.

    Args:
        results: of the search.
    """

    def __init__(self, results: Results) -> None:
        self._results = results

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in _FIGURES:
            raise AttributeError(f"there is no figure {name!r}; there are {', '.join(sorted(_FIGURES))}")
        drawing = partial(_FIGURES[name], self._results)
        return update_wrapper(drawing, _FIGURES[name])

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *_FIGURES]
