"""Known results: trials of the same task whose results come from elsewhere, read, checked, and made events.

They are read as a user has them (a table, or pairs of configurations and values), and checked all together, so that
either all of them are taken or none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, compress
from math import inf, isfinite
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from dhpo._columns import ChoiceColumn, Column
from dhpo.errors import SettingError, SpaceError, TransferError
from dhpo.events import TrialAdded
from dhpo.objectives import Objectives
from dhpo.searchers.prior import frame_from, rows_from
from dhpo.space import HpProblem
from dhpo.study import Study
from dhpo.trial import Configuration, Status

#: Where the configuration of a known trial comes from.
ORIGIN = "known"

_NO_RESULT = frozenset({"READY", "RUNNING", "CANCELLED"})  # the ``job_status`` of trials that have not ended
_BLANK = frozenset({"", "None", "nan", "NaN", "NA", "N/A", "n/a", "null", "NULL"})  # texts that tables take for nothing
_MOST_SHOWN = 10  # errors
_BRACKETS = str.maketrans({"[": "(", "]": ")", "'": None, '"': None})
_KEPT_DIGITS = 12  # by which values are told apart: a table that went through text may differ behind them

Key: TypeAlias = tuple[bytes, tuple[float, ...] | None, float | None]


class KnownResult(NamedTuple):
    """A configuration of the space, and its result."""

    config: Configuration
    values: Mapping[str, Any] | None  # the objectives, and the resource's attribute; None where it failed
    error: str  # why it failed
    resource: float | None  # at which the values stand; None where the trial is complete


class _Row(NamedTuple):
    """A result as it was given."""

    name: str  # in errors
    config: Any
    value: Any
    resource: Any


def read_known(
    problem: HpProblem,
    objectives: Objectives,
    results: Any,
    *,
    resource: float | None = None,
    time_attr: str | None = None,
) -> list[KnownResult]:
    """Read known results, and make sure that all of them can be trials of a search.

    Args:
        problem: the search's space.
        objectives: the search's objectives.
        results: pairs ``(configuration, values)``, or what :func:`~dhpo.searchers.prior.frame_from` takes, where trials
            that have not ended are left out.
        resource: the resource at which all of them stand. None: a table's ``m:resource`` where there is a
            ``time_attr``, and otherwise they are complete.
        time_attr: the reported metric that is the resource.

    Raises:
        SettingError: ``resource`` is not positive and finite.
        TransferError: something of it cannot be used; it tells the rows and their errors.
    """
    at = None if resource is None else _positive(resource)
    if at is None and resource is not None:
        raise SettingError(f"resource={resource!r}: give a positive, finite number, or leave it out")
    if isinstance(results, Sequence) and not isinstance(results, str):
        rows = _pairs(results)
    else:
        rows = _table(problem, objectives, results, with_resources=time_attr is not None)
    configs = [_as_allowed(problem, row.config) for row in rows]
    all_allowed = _all_allowed(problem, configs)
    read: list[KnownResult] = []
    errors: list[str] = []
    for row, config in zip(rows, configs, strict=True):
        try:
            if not all_allowed:
                problem.check_configuration(config)
            read.append(_result(config, row, objectives, at, time_attr))
        except (SpaceError, TransferError) as error:
            errors.append(f"{row.name}: {error}")
    if errors:
        more = [f"… and {len(errors) - _MOST_SHOWN} more"] if len(errors) > _MOST_SHOWN else []
        shown = "\n  ".join([*errors[:_MOST_SHOWN], *more])
        raise TransferError(f"{len(errors)} of {len(rows)} known results cannot be used, none was added:\n  {shown}")
    encoding = problem.encoding
    plain = encoding.decode(encoding.encode(configs)) if configs else []
    return [result._replace(config=config) for result, config in zip(read, plain, strict=True)]


def admit_known(
    study: Study, problem: HpProblem, results: Sequence[KnownResult], time: float
) -> tuple[list[TrialAdded], list[int]]:
    """Turn known results into the events that make them trials. The study changes only when these are applied.

    A result that a trial with the same configuration has already, at the same resource, is not added again.

    Returns:
        The events, and for each result the number of its trial, be it new or not.
    """
    ended = [t for t in study.trials if t.status not in (Status.RUNNING, Status.TIMED_OUT)]
    ended_costs = (None if t.status is Status.FAILED else t.costs for t in ended)
    ended_keys = _keys(problem, [t.config for t in ended], ended_costs, (t.resource for t in ended))
    costs = [None if r.values is None else study.objectives.costs(r.values) for r in results]
    keys = _keys(problem, [r.config for r in results], costs, (r.resource for r in results))
    numbers = dict(zip(reversed(ended_keys), (t.number for t in reversed(ended)), strict=True))
    events: list[TrialAdded] = []
    for key, result in zip(keys, results, strict=True):
        if key not in numbers:
            numbers[key] = len(study.trials) + len(events)
            events.append(TrialAdded(time, numbers[key], *result, ORIGIN))
    return events, [numbers[key] for key in keys]


def _keys(
    problem: HpProblem,
    configs: Sequence[Mapping[str, Any]],
    costs: Iterable[tuple[float, ...] | None],
    resources: Iterable[float | None],
) -> list[Key]:
    """One key for each result: equal for those that say the same."""
    if not configs:
        return []
    encoding = problem.encoding
    return [
        (config, None, None) if cost is None else (config, tuple(map(_rounded, cost)), at)
        for config, cost, at in zip(encoding.keys(encoding.encode(configs)), costs, resources, strict=True)
    ]


def _rounded(cost: float) -> float:
    return float(f"{cost:.{_KEPT_DIGITS}g}")


def _pairs(results: Sequence[Any]) -> list[_Row]:
    """The rows of a sequence of pairs.

    Raises:
        TransferError: one is no pair.
    """
    rows = []
    for place, pair in enumerate(results):
        is_pair = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
        if not is_pair or not isinstance(pair[0], Mapping):
            raise TransferError(
                f"row {place} is {_shortened(pair)}: give pairs (configuration, values), or a table by itself"
            )
        rows.append(_Row(f"row {place}", pair[0], pair[1], None))
    return rows


def _table(problem: HpProblem, objectives: Objectives, results: Any, *, with_resources: bool) -> list[_Row]:
    """The rows of a table that are results of trials that have ended; they are named as the frame's index does it.

    Raises:
        TransferError: it is no table of results, or has other objectives.
    """
    frame = frame_from(results)
    configs, values = rows_from(frame)
    if order := _order(getattr(results, "objectives", None), objectives):
        values = [[value[place] for place in order] for value in values]
    statuses = frame["job_status"].tolist() if "job_status" in frame.columns else [None] * len(frame)
    has_resources = with_resources and "m:resource" in frame.columns
    resources = frame["m:resource"].tolist() if has_resources else [None] * len(frame)
    names = (f"row {label}" for label in frame.index)
    rows = map(_Row, names, _unblanked(problem, configs), values, resources)
    return list(compress(rows, (status not in _NO_RESULT for status in statuses)))


def _order(theirs: Any, ours: Objectives) -> list[int] | None:
    """Where the table has each of our objectives, as far as it tells their names.

    Raises:
        TransferError: they are others.
    """
    if not isinstance(theirs, Objectives) or (theirs.single and ours.single):
        return None
    if set(theirs.names) != set(ours.names):
        raise TransferError(
            f"the results have the objectives {list(theirs.names)}, the search has {list(ours.names)}: only results of "
            "the same task can be added; for others use fit_generative_model"
        )
    return [theirs.names.index(name) for name in ours.names]


def _unblanked(problem: HpProblem, configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The configurations of a table, with the choices that it cannot tell from nothing, such as None."""
    blanks = {
        column.name: choice
        for column in problem.encoding.columns
        if isinstance(column, ChoiceColumn)
        for choice in column.choices
        if choice is None or (isinstance(choice, str) and choice in _BLANK)
    }
    return [_with_blanks(problem, config, blanks) for config in configs] if blanks else configs


def _with_blanks(problem: HpProblem, config: dict[str, Any], blanks: Mapping[str, Any]) -> dict[str, Any]:
    filled = {**blanks, **config}
    try:
        active = problem.encoding.active(problem.encoding.encode_given([_as_allowed(problem, filled)]))[0]
    except SpaceError:  # the check of all configurations will say why
        return config
    inactive = {column.name for column in compress(problem.encoding.columns, ~active)}
    return {name: value for name, value in filled.items() if name in config or name not in inactive}


def _as_allowed(problem: HpProblem, config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the space's own values, in so far as they have their like there."""
    columns = {column.name: column for column in problem.encoding.columns}
    return {str(name): _as_value(columns[name], value) if name in columns else value for name, value in config.items()}


def _as_value(column: Column, value: Any) -> Any:
    """The space's form of a value; as it is where it has none, which the check of the configuration then refuses.

    A table turns integers into floats beside missing values, tuples into lists, and a CSV file anything into text.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(column, ChoiceColumn):
        number = value if isinstance(value, int) else _number(value)
        if number is None:
            return value
        return int(number) if column.kind == "int" and float(number).is_integer() else number
    exact = (choice for choice in column.choices if type(choice) is type(value) and choice == value)
    alike = (choice for choice in column.choices if _as_text(choice) == _as_text(value))
    return next(chain(exact, alike), value)


def _all_allowed(problem: HpProblem, configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the space allows all of them: what ``check_configuration`` would find one by one, but in one go."""
    encoding = problem.encoding
    known = {column.name for column in encoding.columns}
    try:
        rows = encoding.encode_given(configs)
        active = encoding.active(rows)
        complete = bool((active != np.isnan(rows)).all())
        return complete and all(config.keys() <= known for config in configs) and bool(encoding.valid(rows).all())
    except ValueError:  # a SpaceError; or numpy's own, of numbers beside lists
        return False


def _as_text(value: Any) -> str:
    """A choice as any table may show it: floats that are whole as integers, lists as tuples, texts without quotes."""
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_as_text, value))})"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).translate(_BRACKETS).replace(",)", ")")


def _number(value: Any) -> float | None:
    """A number that may have become text; None where it is none."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _result(
    config: Mapping[str, Any], row: _Row, objectives: Objectives, at: float | None, time_attr: str | None
) -> KnownResult:
    """The result of a row.

    Raises:
        TransferError: its values or its resource cannot be used.
    """
    values, failure = _values(row.value, objectives)
    if values is None:
        return KnownResult(Configuration(config), None, failure, None)
    if at is None and row.resource is not None and row.resource == row.resource:
        at = _positive(row.resource)
        if at is None:
            raise TransferError(f"the resource {row.resource!r} is not positive and finite")
    if at is not None and time_attr is not None:
        values.setdefault(time_attr, at)
    return KnownResult(Configuration(config), values, "", at)


def _values(given: Any, objectives: Objectives) -> tuple[dict[str, Any] | None, str]:
    """The objectives by name; or None, and why it failed.

    Raises:
        TransferError: one is missing or no finite number.
    """
    names = objectives.names
    if isinstance(given, Mapping):
        if missing := [name for name in names if name not in given]:
            raise TransferError(f"the values lack the objectives {missing}; they have {list(given)}")
        parts = [given[name] for name in names]
    else:
        listed = given.tolist() if isinstance(given, np.ndarray) else given
        parts = list(listed) if isinstance(listed, list | tuple) else [listed]
    if failure := next((part for part in parts if isinstance(part, str) and part[:1] == "F"), None):
        return None, " ".join(failure.split())
    if len(parts) != len(names):
        raise TransferError(f"it has {len(parts)} values for the {len(names)} objectives {list(names)}")
    values = {}
    for name, part in zip(names, parts, strict=True):
        number = _number(part)
        if number is None or not isfinite(number):
            raise TransferError(
                f"{name}={part!r} is no finite number: leave the row out, or give 'F_reason' if it failed"
            )
        values[name] = number
    return values, ""


def _positive(value: Any) -> float | None:
    """A resource, whole where it can be; None where it is none."""
    number = None if isinstance(value, str) else _number(value)
    if number is None or not 0 < number < inf:
        return None
    return int(number) if number.is_integer() else number


def _shortened(value: Any) -> str:
    text = repr(value)
    return f"a {type(value).__name__}" if len(text) > 80 or "\n" in text else text
