"""A search as an Optuna study, for optuna-dashboard and whatever else reads Optuna's storages."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from datetime import datetime
from math import isfinite, isnan
from pathlib import Path
from typing import Any

import orjson

from dhpo._columns import ChoiceColumn, Column, NumericColumn
from dhpo._trials import TrialRecord
from dhpo.errors import DhpoError, SettingError
from dhpo.events import SessionOpened
from dhpo.objectives import Direction
from dhpo.results import Results
from dhpo.trial import Status

#: What becomes of a trial where there is one objective. Optuna prunes no trials of several objectives: what the stopper
#: ended is complete there, with its last values.
_STATES = {
    Status.RUNNING: "RUNNING",
    Status.PAUSED: "PRUNED",
    Status.COMPLETED: "COMPLETE",
    Status.STOPPED: "PRUNED",
    Status.FAILED: "FAIL",
    Status.TIMED_OUT: "FAIL",
    Status.CANCELLED: "PRUNED",
}


def to_optuna(results: Results, path: Path | str, study_name: str | None = None) -> str:
    """Write a search into an Optuna storage, as a new study.

    Each trial keeps its number, parameters with their distributions, state, times, and values; with one objective its
    reports are the intermediate values (at whole resources; Optuna has none for several objectives). What Optuna has no
    place for (worker, bracket, resource, error, metadata) are user attributes; so is the status that dhpo knows.

    Args:
        results: of a search.
        path: the file: a journal of Optuna where it ends in ".log", else an SQLite database. A database may hold other
            studies already.
        study_name: by default the name of the search's directory.

    Returns:
        The name of the study.

    Raises:
        SettingError: the storage has a study of this name, or the space cannot be read.
        DhpoError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise DhpoError("writing an Optuna study needs Optuna: pip install 'dhpo[optuna]'") from error
    if results.problem is None:
        raise SettingError("the space of this search cannot be read: an Optuna study needs it for its distributions")
    name = study_name or ("dhpo" if results.directory is None else results.directory.resolve().name)
    directions = ["maximize" if goal.direction is Direction.MAX else "minimize" for goal in results.objectives]
    storage = _storage(Path(path))
    verbosity = optuna.logging.get_verbosity()
    try:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(storage=storage, study_name=name, directions=directions)
    except optuna.exceptions.DuplicatedStudyError as error:
        raise SettingError(f"{path} has a study {name!r} already: give another file, or remove it there") from error
    finally:
        optuna.logging.set_verbosity(verbosity)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls this experimental
        study.set_metric_names(list(results.objectives.names))
    study.set_user_attr("dhpo", {"objectives": results.objectives.as_dict(), "resource": results.resource_name})
    for trial in _trials(results):
        study.add_trial(trial)
    return name


def _storage(path: Path) -> Any:
    """An Optuna storage in a file. It is made of objects: a path in a URL would need escaping."""
    from optuna import storages

    if path.suffix == ".log":
        from optuna.storages.journal import JournalFileBackend

        return storages.JournalStorage(JournalFileBackend(str(path)))
    import sqlalchemy

    url = sqlalchemy.URL.create("sqlite", database=str(path))
    return storages.RDBStorage(url.render_as_string())


def _trials(results: Results) -> Iterator[Any]:
    """The trials in the order of their numbers, which Optuna gives anew as they come."""
    from optuna.trial import TrialState, create_trial

    assert results.problem is not None
    columns = {column.name: column for column in results.problem.encoding.columns}
    started = next((e.epoch for batch in results.events() for e in batch if isinstance(e, SessionOpened)), 0.0)
    reports = results.values_by_trial() if results.objectives.single else {}
    for record in sorted(results.records(), key=lambda record: record.number):
        state = "FAIL" if record.failed else _STATES[record.status]
        if not results.objectives.single and state == "PRUNED":
            state = "COMPLETE"
        values = None
        if record.values is not None and state in ("COMPLETE", "PRUNED"):
            values = [float(record.values[name]) for name in results.objectives.names]
        distributions = {name: _distribution(column) for name, column in columns.items() if name in record.config}
        params = {name: _param(columns[name], record.config[name]) for name in distributions}
        legal = {name for name, found in distributions.items() if _holds(found, params[name])}
        trial = create_trial(
            state=TrialState[state],
            values=values,
            params={name: params[name] for name in legal},
            distributions={name: distributions[name] for name in legal},
            intermediate_values=_steps(*reports[record.number]) if record.number in reports else {},
            user_attrs=_attributes(record, legal),
        )
        trial.datetime_start = _moment(started, record.started, record.submitted)
        if state != "RUNNING":
            trial.datetime_complete = _moment(started, record.ended, record.gathered)
        yield trial


def _distribution(column: Column) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(column, NumericColumn):
        if column.kind == "int":
            return IntDistribution(int(column.lower), int(column.upper), log=column.log)
        return FloatDistribution(float(column.lower), float(column.upper), log=column.log)
    assert isinstance(column, ChoiceColumn)
    return CategoricalDistribution([_choice(choice) for choice in column.choices])


def _param(column: Column, value: Any) -> Any:
    if isinstance(column, NumericColumn):
        return int(value) if column.kind == "int" else float(value)
    return _choice(value)


def _choice(value: Any) -> Any:
    """A choice as Optuna stores it: what is not a plain value becomes JSON text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return orjson.dumps(value, default=str).decode()


def _holds(distribution: Any, value: Any) -> bool:
    """Whether a value is in the space; that of a trial from a wider one may not be."""
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except ValueError:
        return False


def _steps(resources: Any, values: Any) -> dict[int, float]:
    """The reports by their resources where these are whole numbers, else by their places."""
    found = resources.tolist()
    whole = all(isfinite(r) and float(r).is_integer() for r in found)
    steps = map(int, found) if whole else range(1, len(found) + 1)
    return dict(zip(steps, values[:, 0].tolist(), strict=True))


def _attributes(record: TrialRecord, legal: set[str]) -> dict[str, Any]:
    foreign = {name: value for name, value in record.config.items() if name not in legal}
    known: Mapping[str, Any] = {
        "dhpo_trial": record.number, "dhpo_status": record.status.value, "worker": record.worker or None,
        "bracket": record.bracket, "resource": record.resource, "attempt": record.attempt, "origin": record.origin,
        "error": record.error or None, "not_in_space": foreign or None, **record.metadata,
    }  # fmt: skip
    # By way of JSON, as Optuna keeps them: it must be able to write what users put into metadata.
    text = orjson.dumps({k: v for k, v in known.items() if v is not None}, default=str, option=_OPTIONS)
    attributes: dict[str, Any] = orjson.loads(text)
    return attributes


_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def _moment(epoch: float, *times: float) -> datetime:
    """The first of these times of the search's clock that is known, as Optuna has it: local, without a zone."""
    return datetime.fromtimestamp(epoch + next((time for time in times if not isnan(time)), 0.0))
