"""Transfer by the space: distributions that are narrowed around the best configuration of an earlier search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dhpo.encoding import Column
from dhpo.errors import TransferError
from dhpo.objectives import Objectives
from dhpo.pareto import non_dominated_rank
from dhpo.searchers.prior import costs_of, encode_source
from dhpo.space import HpProblem

_ORDERED = ("GT", "LT")  # conditions that compare by order, which a categorical does not have


def narrowed(
    problem: HpProblem,
    rows: Sequence[Mapping[str, Any]],
    objectives: Sequence[Any],
    *,
    directions: Objectives | None = None,
    rename: Mapping[str, str] | None = None,
    fac_numerical: float = 0.125,
    fac_categorical: float = 10,
) -> HpProblem:
    """A copy of a space whose distributions lie around the best configuration of an earlier search.

    A number becomes a truncated normal distribution around the best value, on its own (logarithmic) scale; a
    categorical's best choice gets a larger weight, and so does an ordinal's, which becomes a categorical. Ordinals
    that a condition compares by order, constants, and whatever the source does not know stay as they are, and so do
    ranges, conditions, forbidden clauses and constraints. The best values become the defaults.

    Args:
        problem: the space.
        rows: the source's configurations.
        objectives: their results, as :func:`~dhpo.searchers.prior.fit_prior` takes them. Of several objectives, the
            first configuration of the front is taken for the best.
        directions: the source's objectives; None means that all are to be maximised.
        rename: source's names to the space's names, where these differ.
        fac_numerical: standard deviation, as a share of the range.
        fac_categorical: how many times as probable as each other choice the best one is.

    Raises:
        TransferError: there are no results, none succeeded, no hyperparameter is shared, or a factor is not positive.
    """
    for name, value in (("fac_numerical", fac_numerical), ("fac_categorical", fac_categorical)):
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
            raise TransferError(f"{name}={value!r}: give a positive number")
    if not rows or len(rows) != len(objectives):
        raise TransferError(f"there are {len(rows)} configurations and {len(objectives)} results: give one for each")
    costs = costs_of(objectives, directions)
    succeeded = np.flatnonzero(np.isfinite(costs).all(axis=1))
    place = int(succeeded[np.argmin(non_dominated_rank(costs[succeeded]))])
    best = encode_source(problem, [rows[place]], dict(rename or {}))[0]
    data = problem.to_json()
    columns = {column.name: (column, entry) for column, entry in zip(problem.encoding.columns, best, strict=True)}
    ordered = {str(c.get("parent")) for c in _clauses(data["space"]["conditions"]) if c.get("type") in _ORDERED}
    data["space"]["hyperparameters"] = [
        _narrow(item, *columns[item["name"]], fac_numerical, fac_categorical, item["name"] in ordered)
        for item in data["space"]["hyperparameters"]
    ]
    result = HpProblem.from_json(data)
    for constraint in problem.constraints:
        result.add_constraint(constraint)
    return result


def _narrow(
    item: dict[str, Any], column: Column, entry: float, fac_numerical: float, fac_categorical: float, ordered: bool
) -> dict[str, Any]:
    """The JSON form of one hyperparameter, narrowed around an encoded value."""
    if np.isnan(entry) or column.kind == "constant" or (column.kind == "ordinal" and ordered):
        return item
    value = column.decode(np.array([entry]))[0]
    common = {"name": item["name"], "default_value": value, "meta": item["meta"]}
    if column.kind in ("float", "int"):
        low, high = item["lower"], item["upper"]
        # ConfigSpace takes the deviation of a logarithmic scale as a ratio.
        sigma = (high / low) ** fac_numerical if column.log else (high - low) * fac_numerical
        bounds = {"lower": low, "upper": high, "log": column.log}
        return {"type": f"normal_{column.kind}", "mu": value, "sigma": sigma, **bounds, **common}
    choices = item["choices"] if column.kind == "categorical" else item["sequence"]
    ranks = np.arange(len(choices), dtype=np.float64)
    given = column.decode(ranks if column.kind == "categorical" else ranks / max(len(choices) - 1, 1))
    weights = [fac_categorical if choice == value else 1.0 for choice in given]
    return {"type": "categorical", "choices": choices, "weights": weights, **common}


def _clauses(conditions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All conditions, those within conjunctions and disjunctions included."""
    inner = [clause for c in conditions for clause in _clauses(c.get("conditions", ()))]
    return [*conditions, *inner]
