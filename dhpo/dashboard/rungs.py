"""The rungs of a search, from its settings and results: who came, who went on, and how far each rung can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhpo._points import Points
from dhpo.dashboard.view import View
from dhpo.errors import SettingError
from dhpo.ranks import rank_correlation
from dhpo.stopping.hyperband import Hyperband
from dhpo.trial import Status

_LEAST_PAIRS = 3  # trials at two rungs, for a correlation


class RungRow(NamedTuple):
    """One rung as it stands."""

    bracket: int  # 0 for all where the brackets share the rungs
    level: float
    entered: int
    promoted: int  # went on
    stopped: int
    paused: int  # rest here; they may go on later
    correlation: float | None  # of ranks with the next rung (for several objectives their mean)


class Rungs:
    """The rung levels that a stopper's settings say.

    Args:
        stopper: the settings of the stopper, as in a journal's header.
        constants: the constants of the space, which may tell the largest resource.
    """

    def __init__(self, stopper: Mapping[str, Any] | None, constants: Mapping[str, Any]) -> None:
        settings = _hyperband(stopper or {})
        self.levels: tuple[float, ...] = ()
        self.n_brackets = 1
        if settings is None:
            return
        attribute = settings["time_attr"]
        names = ("max_t", f"max_{attribute}", f"max_{attribute}s", f"{attribute}s", "epochs", "max_epochs")
        largest = next((constants[name] for name in names if name in constants), None)
        fields = {name: settings[name] for name in Hyperband.__dataclass_fields__ if name in settings}
        try:
            bound = Hyperband(**fields).bind(1, max_t=largest, seed=0)
        except (SettingError, TypeError):  # the largest resource is not known, or the settings are of another version
            return
        self.levels = bound.milestones(0)
        self.n_brackets = 1 if not settings.get("rung_system_per_bracket", True) else bound.n_brackets

    def of(self, bracket: int) -> tuple[float, ...]:
        """The levels of a bracket."""
        return self.levels[bracket:]


def rungs_of(view: View) -> Rungs:
    """The rungs of a search."""
    constants = {} if view.problem is None else view.problem.constants
    return Rungs(view.settings.get("stopper"), constants)


def rung_rows(view: View) -> list[RungRow]:
    """Every rung that a trial has come to, by bracket and level."""
    rungs = rungs_of(view)
    points, records = view.points(), view.by_number()
    rows: list[RungRow] = []
    for system in range(rungs.n_brackets):
        bracket = {n for n, r in records.items() if r.bracket == system or rungs.n_brackets == 1}
        levels = rungs.of(system)
        arrivals = [_arrivals(points, level, bracket) for level in levels]
        for place, level in enumerate(levels):
            here = arrivals[place]
            if not here:
                break
            beyond = arrivals[place + 1] if place + 1 < len(levels) else {}
            ended = [records[trial].status for trial in here if trial not in beyond]
            stopped, paused = ended.count(Status.STOPPED), ended.count(Status.PAUSED)
            correlation = _correlation(points.costs, here, beyond)
            rows.append(RungRow(system, level, len(here), len(here) - stopped - paused, stopped, paused, correlation))
    return rows


def _hyperband(settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The settings of the stopper that has rungs, if one does."""
    if settings.get("stopper") == "Hyperband":
        return settings
    members = settings.get("stoppers") or ()
    return next((found for member in members if (found := _hyperband(member)) is not None), None)


def _arrivals(points: Points, level: float, trials: set[int]) -> dict[int, int]:
    """For each of these trials that has come to a level, the row of its first result there."""
    rows = np.flatnonzero(points.resource >= level)
    numbers, first = np.unique(points.trial[rows], return_index=True)
    return {n: int(row) for n, row in zip(numbers.tolist(), rows[first], strict=True) if n in trials}


def _correlation(costs: NDArray[np.float64], here: Mapping[int, int], beyond: Mapping[int, int]) -> float | None:
    both = [trial for trial in here if trial in beyond]
    if len(both) < _LEAST_PAIRS:
        return None
    a, b = costs[[here[t] for t in both]], costs[[beyond[t] for t in both]]
    return float(np.mean([rank_correlation(a[:, j], b[:, j]) for j in range(costs.shape[1])]))
