"""All figures that results allow, by name: for ``dhpo plot`` and for the report."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dhpo.compare import Searches, named
from dhpo.errors import SettingError
from dhpo.importance import encoded
from dhpo.plots.fronts import plot_attainment, plot_front
from dhpo.plots.hyperparameters import plot_importance, plot_parallel
from dhpo.plots.model import plot_contour, plot_model_check, plot_slices
from dhpo.plots.trajectories import plot_hypervolume, plot_incumbent
from dhpo.plots.trials import plot_learning_curves, plot_rungs
from dhpo.plots.workers import plot_utilisation, plot_workers
from dhpo.response import LEAST
from dhpo.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Draws one figure, which may have several axes.
Draw = Callable[[], "Axes | list[Axes]"]

FORMATS = ("png", "pdf", "svg")
_AT_ONCE = 256  # configurations
_MOST_OBJECTIVES = 4  # of more, figures of single objectives are not drawn for each


def drawable(searches: Searches) -> dict[str, Draw]:
    """What can be drawn of these results: functions without arguments, by the figure's name.

    Of several searches these are the figures that compare them; of one, those of its trials, workers and
    hyperparameters as well. What stands for each of several objectives has the objective's number in its name.
    """
    groups = named(searches)
    first = next(iter(groups.values()))[0]
    single = len(groups) == 1 and len(next(iter(groups.values()))) == 1
    figures = _progress(groups, first)
    if single:
        figures |= _of_trials(first)
        figures |= _of_hyperparameters(first)
    return figures


def _progress(groups: dict[str, list[Results]], first: Results) -> dict[str, Draw]:
    figures: dict[str, Draw] = {}
    goals = list(first.objectives)[:_MOST_OBJECTIVES]
    if len(goals) in (2, 3) and len(goals) == len(first.objectives):
        figures["front"] = partial(plot_front, groups)
    if len(first.objectives) == 2 and any(len(runs) > 1 for runs in groups.values()):
        figures["attainment"] = partial(plot_attainment, groups)
    if len(first.objectives) > 1:
        figures["hypervolume"] = partial(plot_hypervolume, groups)
        figures["hypervolume_by_trials"] = partial(plot_hypervolume, groups, by="trials")
    for suffix, name in _each(goals):
        figures[f"incumbent{suffix}"] = partial(plot_incumbent, groups, objective=name)
        figures[f"incumbent_by_trials{suffix}"] = partial(plot_incumbent, groups, objective=name, by="trials")
    return figures


def _of_trials(results: Results) -> dict[str, Draw]:
    figures: dict[str, Draw] = {}
    if np.isfinite(results.folded.arrivals().resource).any():
        for suffix, name in _each(list(results.objectives)[:_MOST_OBJECTIVES]):
            figures[f"learning_curves{suffix}"] = partial(plot_learning_curves, results, objective=name)
    if (results.settings.get("stopper") or {}).get("time_attr"):
        figures["rungs"] = partial(plot_rungs, results)
    if any(record.worker for record in results.records()):
        figures["workers"] = partial(plot_workers, results)
        figures["utilisation"] = partial(plot_utilisation, results)
    return figures


def _of_hyperparameters(results: Results) -> dict[str, Draw]:
    problem = results.problem
    if problem is None:
        return {}
    varying = sum(column.n_choices != 1 for column in problem.encoding.columns)
    ended = (r.config for r in results.records() if r.values is not None and not r.failed)
    shown = 0  # that belong to the space; so many as make a difference
    while shown < LEAST and (some := list(islice(ended, _AT_ONCE))):
        shown += int((~np.isnan(encoded(problem.encoding, some)).all(axis=1)).sum())
    figures: dict[str, Draw] = {}
    if not varying or not shown:
        return figures
    figures["importance"] = partial(plot_importance, results)
    for suffix, name in _each(list(results.objectives)[:_MOST_OBJECTIVES]):
        figures[f"parallel{suffix}"] = partial(plot_parallel, results, objective=name)
        if shown < LEAST:
            continue
        figures[f"slices{suffix}"] = partial(plot_slices, results, objective=name)
        if varying > 1:
            figures[f"contour{suffix}"] = partial(plot_contour, results, objective=name)
        figures[f"model_check{suffix}"] = partial(plot_model_check, results, objective=name)
    return figures


def _each(goals: Sequence[Any]) -> list[tuple[str, str]]:
    """A suffix for the names of figures of each objective, none where there is only one, and the objective's name."""
    return [("" if len(goals) == 1 else f"_{number}", goal.name) for number, goal in enumerate(goals)]


def save_all(
    searches: Searches, directory: Path | str, *, names: Collection[str] | None = None, suffix: str = "png"
) -> list[Path]:
    """Write every figure that the results allow into a directory, which is made where it does not exist.

    Args:
        searches: one or several (see :mod:`dhpo.plots`).
        directory: where to.
        names: draw these only; those of :func:`drawable`, and without an objective's number all of a kind.
        suffix: "png" (200 dots per inch), "pdf" or "svg".

    Returns:
        The files.

    Raises:
        SettingError: there is no such figure or format.
        DhpoError: matplotlib is not installed.
    """
    if suffix not in FORMATS:
        raise SettingError(f"suffix={suffix!r}: write one of {FORMATS}")
    figures = drawable(searches)
    if names is not None:
        kinds = {name: {name, name.rstrip("0123456789").removesuffix("_")} for name in figures}
        missing = [name for name in names if not any(name in kind for kind in kinds.values())]
        if missing:
            raise SettingError(f"there is no figure {missing[0]!r} of these results: there are {', '.join(figures)}")
        figures = {name: draw for name, draw in figures.items() if kinds[name] & set(names)}
    Path(directory).mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in figures.items():
        path = Path(directory) / f"{name}.{suffix}"
        figure_of(draw()).savefig(path, dpi=200)
        paths.append(path)
    return paths


def figure_of(drawn: Any) -> Any:
    """The figure of what a function has drawn."""
    return (drawn[0] if isinstance(drawn, list) else drawn).figure
