"""Searches side by side: their trajectories, what several runs of one search have in common, and who is ahead when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dhpo._front import front_rows
from dhpo._progress import as_costs, column_of
from dhpo.errors import ObjectiveError, SettingError
from dhpo.objectives import Objectives
from dhpo.pareto import hypervolume, reference_point
from dhpo.results import Results
from dhpo.trial import Status

Array: TypeAlias = NDArray[np.float64]
By: TypeAlias = Literal["time", "trials"]
#: How the runs of one search are shown: their median and quartiles, or their mean and its 95% confidence interval.
Middle: TypeAlias = Literal["median", "mean"]
#: One search, or several: by label, each one run or a list of repeated runs.
Searches: TypeAlias = Results | Mapping[str, Results | Sequence[Results]] | Sequence[Results | Sequence[Results]]

FRACTIONS = (0.1, 0.25, 0.5, 0.75, 1.0)
_MOST_STEPS = 2_000


class Curve(NamedTuple):
    """A staircase: from ``x[i]`` on it is at ``y[i]``, up to ``end``. Before ``x[0]`` there is nothing."""

    x: Array
    y: Array
    end: float

    def at(self, x: Array) -> Array:
        """The heights at these places; NaN before the beginning."""
        step = np.searchsorted(self.x, x, side="right")
        return np.append(np.nan, self.y)[step]


class Band(NamedTuple):
    """The middle of several staircases and the band around it, from where all have begun to where the first ends."""

    x: Array
    middle: Array
    low: Array
    high: Array
    n: int  # of how many


class Row(NamedTuple):
    """One search as :func:`compare` sees it; of repeated runs, the medians."""

    label: str
    runs: int
    trials: float
    failed: float
    seconds: float
    final: float | None  # the best value, or the hypervolume
    front_size: float | None
    regret_by_trials: tuple[float | None, ...]  # at each fraction of the common budget
    regret_by_time: tuple[float | None, ...]


class Comparison(NamedTuple):
    """What :func:`compare` found."""

    measure: str  # the objective, or "hypervolume"
    best: float | None  # of all: regrets are counted from there
    reference: dict[str, float] | None  # of the hypervolume
    fractions: tuple[float, ...]
    common_trials: float  # the budgets that all have had
    common_seconds: float
    rows: list[Row]

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**self._asdict(), "rows": [row._asdict() for row in self.rows]}


def named(searches: Searches) -> dict[str, list[Results]]:
    """Searches by their labels, each a list of runs; what has no label gets its directory's name, or a number.

    Raises:
        SettingError: there is none.
        ObjectiveError: their objectives differ.
    """
    if isinstance(searches, Results):
        searches = [searches]
    if isinstance(searches, Mapping):
        found = {str(k): [v] if isinstance(v, Results) else list(v) for k, v in searches.items()}
    else:
        found = {}
        for number, entry in enumerate(searches, start=1):
            runs = [entry] if isinstance(entry, Results) else list(entry)
            directory = runs[0].directory if runs else None
            label = directory.name if directory is not None else f"search {number}"
            found[label if label not in found else f"{label} ({number})"] = runs
    if not found or not all(found.values()):
        raise SettingError("there are no results to show: give at least one Results for each label")
    first, *others = (run.objectives for runs in found.values() for run in runs)
    if differing := next((o for o in others if o != first), None):
        raise ObjectiveError(
            f"the searches have the objectives {first.as_dict()} and {differing.as_dict()}: only searches with the "
            "same ones can be put side by side"
        )
    return found


def trajectory(results: Results, objective: str | None = None, by: By = "time") -> Curve:
    """The best value so far of one objective.

    Args:
        results: of a search.
        objective: which; needed where there are several.
        by: "time", in seconds of the search's clock, or "trials", the trials that had shown a value by then.
    """
    return _curve(results, results.incumbents(objective), "value", by)


def hypervolume_trajectory(results: Results, reference: Mapping[str, float] | None = None, by: By = "time") -> Curve:
    """The hypervolume of the front so far; ``reference`` as of ``Results.hypervolume``."""
    return _curve(results, results.hypervolume(reference), "hypervolume", by)


def _curve(results: Results, frame: Any, column: str, by: By) -> Curve:
    if by not in ("time", "trials"):
        raise SettingError(f"by={by!r}: write 'time' or 'trials'")
    x, y = (frame[name].to_numpy(dtype=float) for name in ("time" if by == "time" else "n_trials", column))
    last = np.append(x[1:] != x[:-1], True)[: len(x)]  # of several improvements at one place the last counts
    end = results.last_time if by == "time" else float(results.n_with_values)
    return Curve(x[last], y[last], end)


def band(curves: Sequence[Curve], middle: Middle = "median") -> Band:
    """What several runs of one search have in common.

    Args:
        curves: one for each run; those without any value do not count.
        middle: "median", with the quartiles as the band; or "mean", with its 95% confidence interval by Student's t
            distribution.
    """
    if middle not in ("median", "mean"):
        raise SettingError(f"middle={middle!r}: write 'median' or 'mean'")
    curves = [curve for curve in curves if len(curve.x)]
    if not curves:
        nothing: Array = np.empty(0)
        return Band(nothing, nothing, nothing, nothing, 0)
    start, end = max(curve.x[0] for curve in curves), min(curve.end for curve in curves)
    x = np.unique(np.concatenate([[start, max(start, end)], *(curve.x for curve in curves)]))
    x = x[(x >= start) & (x <= max(start, end))]
    if len(x) > _MOST_STEPS:
        x = x[np.linspace(0, len(x) - 1, _MOST_STEPS).astype(int)]
    heights = np.stack([curve.at(x) for curve in curves])
    if middle == "median":
        low, centre, high = np.percentile(heights, (25, 50, 75), axis=0)
        return Band(x, centre, low, high, len(curves))
    centre = heights.mean(axis=0)
    wide = np.zeros_like(centre)
    if len(curves) > 1:
        from scipy.special import stdtrit

        n = len(curves)
        wide = heights.std(axis=0, ddof=1) / n**0.5 * float(stdtrit(n - 1, 0.975))
    return Band(x, centre, centre - wide, centre + wide, len(curves))


def common_reference(runs: Sequence[Results]) -> dict[str, float] | None:
    """A reference point for the hypervolumes of several searches: a tenth of the range worse than the worst of all."""
    objectives = runs[0].objectives
    costs = [run.folded.arrivals().costs for run in runs if run.n_with_values]
    ends = [end for found in costs for end in (found.min(axis=0), found.max(axis=0))]
    return objectives.values(reference_point(np.vstack(ends)).tolist()) if ends else None


def attainment(runs: Sequence[Results], percentiles: Sequence[float] = (25, 50, 75)) -> dict[float, Array]:
    """The empirical attainment surfaces of repeated runs: what a share of them has attained.

    Grunert da Fonseca et al. 2001, *Inferential performance assessment of stochastic optimisers and the attainment
    function*; computed by moocore.

    Args:
        runs: of one search, with two or three objectives.
        percentiles: the shares of the runs.

    Returns:
        For each percentile the corners (k, m) of its surface, in the objectives' own values.
    """
    import moocore

    objectives = runs[0].objectives
    if len(objectives) not in (2, 3):
        raise ObjectiveError(f"attainment surfaces of {len(objectives)} objectives cannot be had: two or three can")
    fronts = [_front(run) for run in runs if run.n_with_values]
    if not fronts:
        return {p: np.empty((0, len(objectives))) for p in percentiles}
    sets = np.repeat(np.arange(len(fronts)), [len(front) for front in fronts])
    surface = np.asarray(moocore.eaf(np.vstack(fronts), sets, percentiles=list(percentiles)))
    signs = np.array(objectives.signs)
    return {p: surface[np.isclose(surface[:, -1], p)][:, :-1] * signs for p in percentiles}


def _front(run: Results) -> Array:
    costs = run.folded.arrivals().costs
    return costs[front_rows(costs, strict=True, unique=True)]


def compare(
    searches: Searches,
    *,
    objective: str | None = None,
    reference: Mapping[str, float] | None = None,
    fractions: Sequence[float] = FRACTIONS,
) -> Comparison:
    """Put searches side by side: what each found, and how far behind it was along the way.

    The regret is how much worse the best value so far is than the best that any of the searches found; with several
    objectives, how much smaller the hypervolume of the front so far is. It is told at fractions of the budget that all
    searches have had, in trials and in seconds of their own clocks; None where a search had nothing by then.

    Args:
        searches: by label; a list of runs counts by its medians.
        objective: look at this one only; by default the only one, or the hypervolume of all.
        reference: of the hypervolume; by default a tenth of the range worse than the worst value of all.
        fractions: of the common budget, in (0, 1].

    Raises:
        SettingError: there is nothing to compare, or a fraction is out of range.
        ObjectiveError: the objectives of the searches differ, or there is none of this name.
    """
    if not all(0 < f <= 1 for f in fractions):
        raise SettingError(f"fractions={tuple(fractions)!r}: each must be above 0 and at most 1")
    groups = named(searches)
    runs = [run for group in groups.values() for run in group]
    objectives = runs[0].objectives
    by_volume = objective is None and not objectives.single
    if by_volume:
        given = None if reference is None else objectives.values(as_costs(reference, objectives).tolist())
        reference = given or common_reference(runs)
    else:
        reference = None
    sign = -1.0 if by_volume else objectives.signs[column_of(objectives, objective)]

    def curve(run: Results, by: By) -> Curve:
        if not by_volume:
            return trajectory(run, objective, by)
        return hypervolume_trajectory(run, reference, by)

    curves = {by: {label: [curve(run, by) for run in group] for label, group in groups.items()}
              for by in ("trials", "time")}  # fmt: skip
    finals = [c.y[-1] for group in curves["time"].values() for c in group if len(c.y)]
    best = float(min(finals, key=lambda value: sign * value)) if finals else None
    common = {by: min((c.end for group in found.values() for c in group), default=0.0) for by, found in curves.items()}
    places = {by: np.array(fractions) * end for by, end in common.items()}
    rows = []
    for label, group in groups.items():
        regrets = [_regrets(curves[by][label], places[by], best, sign) for by in ("trials", "time")]
        rows.append(_row(label, group, curves["time"][label], by_volume, regrets, reference, objectives))
    measure = "hypervolume" if by_volume else objectives.names[column_of(objectives, objective)]
    return Comparison(measure, best, None if reference is None else dict(reference), tuple(fractions),
                      common["trials"], common["time"], rows)  # fmt: skip


def _row(
    label: str,
    group: Sequence[Results],
    curves: Sequence[Curve],
    by_volume: bool,
    regrets: Sequence[tuple[float | None, ...]],
    reference: Mapping[str, float] | None,
    objectives: Objectives,
) -> Row:
    failed = [sum(s in (Status.FAILED, Status.TIMED_OUT) for s in run.statuses().values()) for run in group]
    finals = [float(curve.y[-1]) for curve in curves if len(curve.y)]
    if by_volume and reference is not None:  # a front that does not beat the reference has a hypervolume of 0
        bound = as_costs(reference, objectives)
        finals = [hypervolume(_front(run), bound) for run in group if run.n_with_values]
    sizes = None if objectives.single else _median([len(_front(run)) for run in group])
    return Row(label, len(group), _median([len(run) for run in group]), _median(failed),
               _median([run.last_time for run in group]), _median(finals) if finals else None, sizes,
               *regrets)  # fmt: skip


def _regrets(curves: Sequence[Curve], places: Array, best: float | None, sign: float) -> tuple[float | None, ...]:
    if best is None:
        return (None,) * len(places)
    heights = np.stack([curve.at(places) for curve in curves])
    found = []
    for column in (sign * (heights - best)).T:
        # A run that has nothing yet is as far behind as can be.
        median = _median(np.where(np.isnan(column), np.inf, column))
        found.append(median if np.isfinite(median) else None)
    return tuple(found)


def _median(values: Sequence[float] | Array) -> float:
    return float(np.median(values))
