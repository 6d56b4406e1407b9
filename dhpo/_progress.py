"""How a search got better: from points to incumbents and hypervolumes over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dhpo._blocks import MAX_TRIALS
from dhpo._rows import Arrivals
from dhpo.errors import ObjectiveError
from dhpo.objectives import Objectives
from dhpo.pareto import hypervolume_trace, reference_point

if TYPE_CHECKING:
    import pandas as pd


def column_of(objectives: Objectives, name: str | None) -> int:
    """The column of an objective, which needs no name where it is the only one.

    Raises:
        ObjectiveError: the name is unknown, or is needed.
    """
    names = objectives.names
    if name is None and objectives.single:
        return 0
    if name is None:
        raise ObjectiveError(f"there are several objectives: name one of {list(names)}, or see the Pareto front")
    if name not in names:
        raise ObjectiveError(f"there is no objective {name!r}: name one of {list(names)}")
    return names.index(name)


def as_costs(reference: Mapping[str, float] | Sequence[float], objectives: Objectives) -> NDArray[np.float64]:
    """A reference point, given in the objectives' own values, as costs.

    Raises:
        ObjectiveError: it lacks an objective, has one too many, or is not finite.
    """
    names = objectives.names
    given = reference if isinstance(reference, Mapping) else dict(zip(names, reference, strict=False))
    if len(reference) != len(names) or set(given) != set(names) or not all(isfinite(v) for v in given.values()):
        raise ObjectiveError(f"reference={reference!r}: give one finite number for each of {list(names)}")
    return np.array([sign * float(given[name]) for name, sign in zip(names, objectives.signs, strict=True)])


def incumbents(points: Arrivals, objectives: Objectives, column: int) -> pd.DataFrame:
    """A row for each improvement of one objective."""
    import pandas as pd

    costs = points.costs[:, column]
    better = falls(costs)
    return pd.DataFrame(
        {
            "time": points.time[better],
            "n_trials": _trials_so_far(points.trial)[better],
            "trial": points.trial[better],
            "resource": points.resource[better],
            "value": costs[better] * objectives.signs[column],
        }
    )


def hypervolumes(points: Arrivals, objectives: Objectives, reference: NDArray[np.float64] | None) -> pd.DataFrame:
    """A row for each growth of the hypervolume.

    Raises:
        ObjectiveError: there is one objective only.
    """
    import pandas as pd

    if objectives.single:
        raise ObjectiveError("the hypervolume needs several objectives: see the incumbents of a single one")
    costs, volumes = points.costs, np.empty(0)
    if len(costs):
        volumes = hypervolume_trace(costs, reference_point(costs) if reference is None else reference)
    grows = falls(-volumes)
    return pd.DataFrame(
        {
            "time": points.time[grows],
            "n_trials": _trials_so_far(points.trial)[grows],
            "hypervolume": volumes[grows],
        }
    )


def falls(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a series goes below all that came before."""
    before = np.append(np.inf, np.minimum.accumulate(values)[:-1])[: len(values)]
    return np.asarray(values < before)


def _trials_so_far(trials: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of distinct trials up to each row."""
    new = np.zeros(len(trials), dtype=np.int64)
    if len(trials) and trials.min() >= 0 and trials.max() < MAX_TRIALS:
        first = np.empty(int(trials.max()) + 1, dtype=np.int64)
        first[trials[::-1]] = np.arange(len(trials))[::-1]  # of equal ones the last assignment stays
        new[first[trials]] = 1
    else:
        new[np.unique(trials, return_index=True)[1]] = 1
    return np.cumsum(new)
