"""The trials of a search over folds as scikit-learn's ``cv_results_``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhpo._trials import TrialRecord
from dhpo.results import Results


class Table(NamedTuple):
    """``cv_results_``, and what went wrong."""

    columns: dict[str, Any]
    errors: list[str]  # with tracebacks
    n_trials: int


def table_of(results: Results, n_splits: int, max_resource: int, error_score: Any) -> Table:
    """The table of a search.

    Args:
        results: of the search.
        n_splits: how many folds there are.
        max_resource: the folds or epochs of a complete trial.
        error_score: the score of a trial that failed; "raise" is as NaN here.
    """
    records = sorted(results.records(), key=lambda record: record.number)
    records = [record for record in records if record.reported is not None or record.failed]
    missing = nan if error_score == "raise" else float(error_score)
    last = {int(number): entries[-1] for number, entries in results.training_history.items()}
    scores = np.array([_scores(last.get(r.number), r.failed, n_splits, missing) for r in records])
    scores = scores.reshape(-1, n_splits)
    has_any = np.isfinite(scores).any(axis=1)
    means, deviations = np.full(len(records), nan), np.full(len(records), nan)
    means[has_any] = np.nanmean(scores[has_any], axis=1)
    deviations[has_any] = np.nanstd(scores[has_any], axis=1)
    reached = np.array([0 if record.failed else int(record.resource or 0) for record in records], dtype=int)
    columns: dict[str, Any] = {
        f"mean_{name}": np.array([last.get(record.number, {}).get(name, nan) for record in records])
        for name in ("fit_time", "score_time")
    }
    columns |= _parameters(records)
    columns["params"] = [dict(record.config) for record in records]
    columns |= {f"split{i}_test_score": scores[:, i] for i in range(n_splits)}
    columns |= {"mean_test_score": means, "std_test_score": deviations}
    columns["rank_test_score"] = _ranks(means, reached >= max_resource)
    columns |= {"n_resources": reached, "status": np.array([record.status.value for record in records])}
    return Table(columns, [f"{r.error}\n{r.traceback}" for r in records if r.failed], len(records))


def _scores(last: Mapping[str, Any] | None, failed: bool, n_splits: int, missing: float) -> list[float]:
    """The folds' scores by the last report of a trial."""
    if failed or last is None:
        return [missing] * n_splits
    return [last.get(f"split{i}_test_score", nan) for i in range(n_splits)]


def _parameters(records: Sequence[TrialRecord]) -> dict[str, Any]:
    """A masked column for each parameter: masked where it is inactive."""
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for record in records for name in record.config):
        column = np.ma.MaskedArray(np.empty(len(records), dtype=object), mask=True)
        for i, record in enumerate(records):
            if name in record.config:
                column[i] = record.config[name]
        columns[f"param_{name}"] = column
    return columns


def _ranks(means: NDArray[np.float64], complete: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Complete trials by their mean, then stopped ones by theirs, then failed ones; equal ones share a rank."""
    keys = [
        (not bool(whole), -float(mean)) if np.isfinite(mean) else (True, float("inf"))
        for mean, whole in zip(means, complete, strict=True)
    ]
    order = sorted(keys)
    return np.array([1 + order.index(key) for key in keys], dtype=np.int32)
