"""Trials as rows of a table, with DeepHyper's columns: shared by the data frame and the live CSV file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from dhpo._trials import TrialRecord
from dhpo.objectives import Objectives
from dhpo.pareto import non_dominated
from dhpo.trial import Status

if TYPE_CHECKING:
    import pandas as pd

_OWN = (
    "timestamp_submit", "timestamp_gather", "timestamp_start", "timestamp_end", "worker", "attempt", "resource",
    "bracket", "stopped",
)  # fmt: skip
#: The column that tells which trials were added with their results; there only where some were.
_ORIGIN = "origin"


class Columns:
    """The columns that every row has, in order, and how a trial fills them."""

    def __init__(self, hyperparameters: Sequence[str], objectives: Objectives) -> None:
        self.hyperparameters = tuple(hyperparameters)
        self.objectives = objectives
        n = len(objectives)
        #: The objectives' columns: "objective", or "objective_0", "objective_1", … in the order of the objectives.
        self.goals = ["objective"] if objectives.single else [f"objective_{i}" for i in range(n)]
        self.names = [
            *(f"p:{name}" for name in self.hyperparameters), *self.goals, "job_id", "job_status",
            *(f"m:{name}" for name in _OWN),
        ]  # fmt: skip

    def row(self, record: TrialRecord, *, cancelled: bool = False) -> dict[str, Any]:
        """The row of a trial; metadata that is named like one of dhpo's own columns becomes ``m:user.<name>``."""
        return {
            **{f"p:{name}": record.config.get(name, nan) for name in self.hyperparameters},
            **dict(zip(self.goals, self._results(record, cancelled), strict=True)),
            "job_id": record.number,
            "job_status": _job_status(record, cancelled),
            "m:timestamp_submit": record.submitted,
            "m:timestamp_gather": record.gathered,
            "m:timestamp_start": record.started,
            "m:timestamp_end": record.ended,
            "m:worker": record.worker,
            "m:attempt": record.attempt,
            "m:resource": nan if record.resource is None else record.resource,
            "m:bracket": record.bracket,
            "m:stopped": record.status in (Status.STOPPED, Status.PAUSED),
            **({f"m:{_ORIGIN}": record.origin} if record.known else {}),
            **{_metadata_column(key): value for key, value in record.metadata.items()},
        }

    def _results(self, record: TrialRecord, cancelled: bool) -> list[Any]:
        values = record.values
        if record.failed or (values is None and cancelled):
            return [failure_reason(record)] * len(self.goals)
        return [nan if values is None else float(values[name]) for name in self.objectives.names]


def failure_reason(record: TrialRecord) -> str:
    """A failure as DeepHyper has it: ``"F_<reason>"``."""
    if record.status in (Status.RUNNING, Status.CANCELLED):
        return "F_CANCELLED"
    if record.status is Status.TIMED_OUT:
        return "F_TIMED_OUT"
    if record.error.startswith("F") and not record.traceback:  # returned as such by the run function
        return record.error
    name = record.error.partition(":")[0].strip().rpartition(".")[2]
    return f"F_{name}" if name.isidentifier() else "F_error"


def _job_status(record: TrialRecord, cancelled: bool) -> str:
    if record.status is Status.PAUSED:
        return "PAUSED"
    if record.status is Status.CANCELLED:
        return "CANCELLED"
    if record.status is not Status.RUNNING:
        return "DONE"
    return "CANCELLED" if cancelled else "RUNNING"


def _metadata_column(key: str) -> str:
    return f"m:user.{key}" if key in (*_OWN, _ORIGIN) else f"m:{key}"


def added_columns(rows: Iterable[Mapping[str, Any]], known: Iterable[str]) -> list[str]:
    """The columns that rows have beyond the known ones, in the order of their first appearance."""
    seen = dict.fromkeys(known)
    before = len(seen)
    for row in rows:
        if len(row) > len(seen) or not seen.keys() >= row.keys():
            seen.update(dict.fromkeys(row))
    return list(seen)[before:]


def to_frame(rows: Sequence[Mapping[str, Any]], columns: Columns) -> pd.DataFrame:
    """Make a data frame of rows, with ``pareto_efficient`` where there are several objectives."""
    import pandas as pd

    goals = set(columns.goals)
    content = {}
    for name in [*columns.names, *added_columns(rows, columns.names)]:
        cells = [row.get(name, nan) for row in rows]
        failures = name in goals and any(isinstance(cell, str) for cell in cells)
        content[name] = pd.Series(cells, dtype=object if failures else float if name in goals else None)
    frame = pd.DataFrame(content)
    if not columns.objectives.single:
        frame["pareto_efficient"] = _efficient(frame, columns)
    return frame


def _efficient(frame: pd.DataFrame, columns: Columns) -> Any:
    """Which trials' results no other trial's result dominates."""
    import pandas as pd

    values = frame[columns.goals].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    costs = values * np.array(columns.objectives.signs)
    return non_dominated(costs) if len(costs) else np.empty(0, dtype=bool)
