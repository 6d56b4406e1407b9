"""The Pareto front in AutoGluon's form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhpo.errors import ObjectiveError
from dhpo.objectives import Objectives
from dhpo.pareto import non_dominated

#: AutoGluon's key of the trial and the resource of a point of the front, spelt as there.
KEY = "task_id-ressource"
#: Of more points than that, those are left out first that some point of a sample of this size is better than.
_MANY, _SAMPLE = 50_000, 2_000


def retrieve_pareto_front(
    training_history: Mapping[str, Sequence[Mapping[str, Any]]],
    objectives: Mapping[str, str] | Objectives,
    *,
    strict: bool = False,
    unique: bool = False,
    final_only: bool = False,
    resource_attr: str | None = None,
) -> list[dict[str, Any]]:
    """Find the best trade-offs among all that was reported.

    Called with two arguments it answers as AutoGluon's function of this name: all reports compete, and a point is
    dropped only when another is better in *all* objectives. It differs where that went wrong: a report with a NaN (or
    None) never is in the front and drops nothing, and an empty history has an empty front.

    Args:
        training_history: for each trial its reports, in order; such as ``Results.training_history``.
        objectives: ``{name: "MAX" | "MIN"}``.
        strict: also drop a point when another is as good in all objectives and better in one.
        unique: of equal points, keep the first only.
        final_only: let only the last report of each trial compete.
        resource_attr: the reported metric (such as "epoch") to give as resource, instead of the report's number.

    Returns:
        For each point of the front, in the order of the history,
        ``{"task_id-ressource": (trial, resource), objective: value, ...}``.

    Raises:
        KeyError: a report lacks an objective or the resource.
        ObjectiveError: a direction is unknown, or a value is no number.
    """
    goals = Objectives.parse(objectives)
    points = list(_competitors(training_history, final_only))
    costs = _costs([report for _, _, report in points], goals)
    front = []
    for row in front_rows(costs, strict=strict, unique=unique):
        trial, index, report = points[row]
        resource = index if resource_attr is None else _value(report, resource_attr)
        front.append(front_point(trial, resource, costs[row], goals))
    return front


def front_rows(costs: NDArray[np.float64], *, strict: bool, unique: bool) -> NDArray[np.intp]:
    """The rows that are in the front; ``strict`` as in :func:`retrieve_pareto_front`."""
    rows = contenders(costs)
    if not len(rows):
        return rows
    return rows[non_dominated(costs[rows], strict=not strict, unique=unique)]


def contenders(costs: NDArray[np.float64]) -> NDArray[np.intp]:
    """The rows without most of those that another row is better than in all columns: what is left has the same front.

    Args:
        costs: (n, m); a row with a NaN is left.
    """
    rows = np.arange(len(costs))
    if len(costs) <= _MANY:
        return rows
    sample = costs[:: len(costs) // _SAMPLE]
    for point in sample[non_dominated(sample, unique=True)]:
        rows = rows[~np.all(costs[rows] > point, axis=1)]
    return rows


def front_point(trial: str, resource: Any, costs: NDArray[np.float64], objectives: Objectives) -> dict[str, Any]:
    """One point of the front in AutoGluon's form."""
    return {KEY: (trial, resource), **objectives.values(costs.tolist())}


def _competitors(
    history: Mapping[str, Sequence[Mapping[str, Any]]], final_only: bool
) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    for trial, reports in history.items():
        first = len(reports) if final_only else 1
        for index, report in enumerate(reports[first - 1 :] if reports else (), start=first):
            yield trial, index, report


def _costs(reports: list[Mapping[str, Any]], objectives: Objectives) -> NDArray[np.float64]:
    columns = []
    for name, sign in zip(objectives.names, objectives.signs, strict=True):
        values = [_value(report, name) for report in reports]
        try:
            columns.append(sign * np.array(values, dtype=float))
        except (TypeError, ValueError) as error:
            raise ObjectiveError(f"the objective {name!r} has a value that is no number: {error}") from error
    return np.column_stack(columns)


def _value(report: Mapping[str, Any], name: str) -> Any:
    try:
        return report[name]
    except KeyError:
        raise KeyError(f"the report {dict(report)} lacks {name!r}") from None
