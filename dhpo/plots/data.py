"""What several figures, and the report, draw from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from dhpo._points import Points
from dhpo.dashboard.view import View
from dhpo.errors import SettingError
from dhpo.importance import Effect, effects, encoded
from dhpo.response import Response
from dhpo.results import Results
from dhpo.space import HpProblem
from dhpo.trial import Configuration, Observation, Phase

#: A surrogate is fitted to a choice of no more points than that.
_MOST_POINTS = 20_000

T = TypeVar("T")
_MADE: WeakKeyDictionary[Results, dict[object, Any]] = WeakKeyDictionary()


def view_of(results: Results) -> View:
    """The same results as the live page sees them."""
    return _once(results, "view", lambda: _view(results))


def _view(results: Results) -> View:
    view = View(results.settings, fold=results.folded)
    view.extend(results.blocks())
    return view


def _once(results: Results, key: object, make: Callable[[], T]) -> T:
    """What several figures of the same results need, made once."""
    made = _MADE.setdefault(results, {})
    if key not in made:
        made[key] = make()
    found: T = made[key]
    return found


def problem_of(results: Results) -> HpProblem:
    """The search space.

    Raises:
        SettingError: it cannot be read.
    """
    if results.problem is None:
        raise SettingError("the space of this search cannot be read: figures of hyperparameters cannot be drawn")
    return results.problem


def effects_of(results: Results, objective: str, seed: int = 0) -> dict[str, Effect]:
    """The effects of the hyperparameters on an objective, by each trial's last values."""

    def make() -> dict[str, Effect]:
        shown = [(record.config, record.values) for record in results.records() if record.values and not record.failed]
        values = [float(found[objective]) for _, found in shown]
        return effects(problem_of(results), [config for config, _ in shown], values, seed=seed)

    return _once(results, ("effects", objective, seed), make)


def response_of(results: Results, column: int) -> Response:
    """A surrogate of an objective, of the family that the search used.

    Raises:
        SettingError: the space cannot be read, or there are too few results.
    """
    return _once(results, ("response", column), lambda: _response(results, column))


def _response(results: Results, column: int) -> Response:
    encoding, points = problem_of(results).encoding, _chosen(results, column)
    configs = {record.number: record.config for record in results.records()}
    trials = np.unique(points.trial).tolist()
    rows = encoded(encoding, [configs[trial] for trial in trials])
    own = ~np.isnan(rows).all(axis=1)  # others were added from a wider space
    legal = dict(zip(np.array(trials, dtype=int)[own].tolist(), encoding.decode(rows[own]), strict=True))
    columns = (values.tolist() for values in (points.trial, points.resource, points.costs))
    observations = [
        Observation(trial, legal[trial], Phase.ENDED, resource if resource == resource else None, tuple(costs))
        for trial, resource, costs in zip(*columns, strict=True)
        if trial in legal
    ]
    searcher, stopper = results.settings.get("searcher") or {}, results.settings.get("stopper") or {}
    largest = stopper.get("max_t")
    return Response(
        problem_of(results), observations, sign=results.objectives.signs[column], column=column,
        model=searcher.get("surrogate_model"), max_t=largest if isinstance(largest, int | float) else None,
    )  # fmt: skip


def _chosen(results: Results, column: int) -> Points:
    """The points to fit to: all, or where they are many those of the best and of evenly chosen trials."""
    points = results.folded.arrivals()
    if len(points.trial) <= _MOST_POINTS:
        return results.points
    trials = np.unique(points.trial)
    n = max(2, int(_MOST_POINTS * len(trials) / len(points.trial)) // 2)
    best = points.trial[np.argsort(points.costs[:, column], kind="stable")[:n]]
    spread = trials[np.linspace(0, len(trials) - 1, n).astype(int)]
    return results.folded.points_of(np.concatenate([best, spread]))


def incumbent_of(results: Results, objective: str) -> Configuration:
    """The configuration of the best result.

    Raises:
        SettingError: there is no result.
    """
    best = results.best(objective)
    if best is None:
        raise SettingError("there are no results yet: nothing can be drawn of a model")
    return Configuration(best.config)
