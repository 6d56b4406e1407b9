"""The rungs of a search: who came, who went on, and how far each rung can be trusted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhpo.dashboard.roster import code_of
from dhpo.dashboard.view import View
from dhpo.ranks import rank_correlation
from dhpo.trial import Status

_LEAST_PAIRS, _MOST_PAIRS = 3, 20_000  # trials at two rungs, for a correlation


class RungRow(NamedTuple):
    """One rung as it stands."""

    bracket: int  # 0 for all where the brackets share the rungs
    level: float
    entered: int
    promoted: int  # went on
    stopped: int
    paused: int  # rest here; they may go on later
    correlation: float | None  # of ranks with the next rung (for several objectives their mean)


def rung_rows(view: View) -> list[RungRow]:
    """Every rung that a trial has come to, by bracket and level."""
    rungs, points = view.rungs, view.points
    brackets, codes = view.trials.by_slot(points)
    order = points.in_order()
    rows: list[RungRow] = []
    for system in range(rungs.n_brackets):
        mine = (brackets == system) | (rungs.n_brackets == 1)
        for place, level in enumerate(rungs.of(system), start=system):
            arrived = points.arrived(place)
            here = mine & (arrived >= 0)
            if not here.any():
                break
            beyond = points.arrived(place + 1) if place + 1 < len(rungs.levels) else np.full(len(arrived), -1)
            ended = codes[here & (beyond < 0)]
            stopped, paused = (int((ended == code_of(status)).sum()) for status in (Status.STOPPED, Status.PAUSED))
            both = order[(here & (beyond >= 0))[order]]
            correlation = _correlation(points.rows.costs, arrived[both], beyond[both])
            entered = int(here.sum())
            rows.append(RungRow(system, level, entered, entered - stopped - paused, stopped, paused, correlation))
    return rows


def _correlation(costs: NDArray[np.float64], here: NDArray[np.int64], beyond: NDArray[np.int64]) -> float | None:
    """The correlation of the ranks at two rungs; of very many trials as evenly chosen ones show it."""
    if len(here) < _LEAST_PAIRS:
        return None
    chosen = np.linspace(0, len(here) - 1, min(len(here), _MOST_PAIRS)).astype(np.intp)
    a, b = costs[here[chosen]], costs[beyond[chosen]]
    return float(np.mean([rank_correlation(a[:, j], b[:, j]) for j in range(costs.shape[1])]))
