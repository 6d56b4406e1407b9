"""The columns behind the plots of hyperparameters: parallel coordinates, and what matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhpo._trials import TrialRecord
from dhpo.dashboard.charts import Columns, spread
from dhpo.dashboard.text import label, value_text
from dhpo.dashboard.view import View
from dhpo.importance import LEAST, encoded, importance
from dhpo.space import HpProblem

Array = NDArray[np.float64]

_MOST_LINES = 300
_BEST_SHARE = 0.5  # of the lines; the others are the latest trials
_MOST_SAMPLES = 1000  # of trials that the importance is estimated from


class Sample(NamedTuple):
    """Trials with results: all that the importance of hyperparameters is estimated from."""

    problem: HpProblem
    configs: list[Mapping[str, Any]]
    values: Array  # (n,), of one objective


def parallel(view: View, column: int) -> dict[str, Columns]:
    """Trials as lines over an axis for each hyperparameter and one for an objective, the best ones last.

    Returns:
        ``lines`` (rank: from 0 for the worst to 1 for the best), which leave out the axes of hyperparameters that are
        not active; and ``axes``, with their names and the values at their ends.
    """
    lines: Columns = {name: [] for name in ("xs", "ys", "rank", "trial", "value", "config")}
    axes: Columns = {name: [] for name in ("x", "name", "low", "high")}
    if view.problem is None:
        return {"lines": lines, "axes": axes}
    records, costs = _chosen(view, column)
    names, unit, ends = _axes_of(view.problem, [r.config for r in records])
    goal = view.objectives.items[column]
    values = costs * view.objectives.signs[column]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    scaled = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    unit = np.column_stack([unit, scaled]) if len(records) else np.empty((0, len(names) + 1))
    ranks = _ranks(costs)
    for row in np.argsort(ranks, kind="stable").tolist():
        record, present = records[row], np.flatnonzero(np.isfinite(unit[row]))
        entries = (present.tolist(), unit[row][present].tolist(), float(ranks[row]), record.number)
        texts = (value_text(float(values[row])), view.text_of(record.number))
        for cells, entry in zip(lines.values(), (*entries, *texts), strict=True):
            cells.append(entry)
    for x, (name, (least, most)) in enumerate(zip([*names, goal.name], [*ends, (low, high)], strict=True)):
        ticks = (label(name), label(value_text(least)), label(value_text(most)))
        for cells, entry in zip(axes.values(), (x, *ticks), strict=True):
            cells.append(entry)
    return {"lines": lines, "axes": axes}


def _chosen(view: View, column: int) -> tuple[list[TrialRecord], Array]:
    """The trials with a value, the best ones and the latest, and their costs."""
    records, costs = view.trials.with_values()
    best = np.argsort(costs[:, column], kind="stable")[: int(_BEST_SHARE * _MOST_LINES)].tolist()
    chosen = dict.fromkeys(best) if len(records) > _MOST_LINES else dict.fromkeys(range(len(records)))
    for place in range(len(records) - 1, -1, -1):
        if len(chosen) >= min(_MOST_LINES, len(records)):
            break
        chosen[place] = None
    return [records[place] for place in chosen], costs[list(chosen), column]


def _ranks(costs: Array) -> Array:
    """From 0 for the worst to 1 for the best."""
    order = np.argsort(np.argsort(-costs, kind="stable"), kind="stable")
    return order / max(len(costs) - 1, 1)


def _axes_of(
    problem: HpProblem, configs: Sequence[Mapping[str, Any]]
) -> tuple[list[str], Array, list[tuple[Any, Any]]]:
    """The hyperparameters that vary, the configurations on [0, 1] (NaN where not active), and each axis's ends."""
    encoding = problem.encoding
    varying = [j for j, column in enumerate(encoding.columns) if column.kind != "constant"]
    unit = encoded(encoding, configs)[:, varying]
    ends: list[tuple[Any, Any]] = []
    for place, j in enumerate(varying):
        column = encoding.columns[j]
        last = 1.0
        if column.kind == "categorical":
            last = max(column.n_choices - 1, 1)
            unit[:, place] /= last
        least, most = column.decode(np.array([0.0, last]))
        ends.append((least, most))
    return [encoding.columns[j].name for j in varying], unit, ends


def sample(view: View, column: int) -> Sample | None:
    """What the importance is estimated from; None where there are too few results."""
    records, costs = view.trials.with_values()
    if view.problem is None or len(records) < LEAST:
        return None
    places = spread(len(records), _MOST_SAMPLES)
    values = costs[places, column] * view.objectives.signs[column]
    return Sample(view.problem, [records[place].config for place in places.tolist()], values)


def shares(sample: Sample) -> Columns:
    """How much each hyperparameter matters for an objective, as shares of 1, the largest first."""
    found = importance(sample.problem, sample.configs, sample.values)
    return {"name": [label(name) for name in found], "share": list(found.values())}
