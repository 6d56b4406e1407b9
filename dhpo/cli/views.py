"""What the commands print: the JSON forms of results, and the same for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from dhpo._front import KEY
from dhpo.cli.status import SearchStatus, State, point
from dhpo.cli.tables import cell, duration, table
from dhpo.results import Results
from dhpo.trial import Status


def front_points(
    results: Results, *, strict: bool = False, unique: bool = False, final_only: bool = False
) -> list[dict[str, Any]]:
    """The points of the Pareto front: ``{"trial", "resource", "values", "config"}``, best first objective first."""
    configs = {str(record.number): dict(record.config) for record in results.records()}
    points = []
    for entry in results.pareto_front(strict=strict, unique=unique, final_only=final_only, resource=True):
        trial, resource = entry[KEY]
        values = {name: entry[name] for name in results.objectives.names}
        points.append({"trial": int(trial), "resource": resource, "values": values, "config": configs[trial]})
    name, sign = results.objectives.names[0], results.objectives.signs[0]
    return sorted(points, key=lambda point: sign * point["values"][name])


def front_table(results: Results, points: Sequence[Mapping[str, Any]]) -> str:
    """The points as a table, with their hyperparameters."""
    names = _hyperparameters(points)
    header = ["trial", results.resource_name, *results.objectives.names, *names]
    rows = [
        [p["trial"], p["resource"], *p["values"].values(), *(p["config"].get(name) for name in names)] for p in points
    ]
    return table(header, rows)


def trial_rows(results: Results) -> list[dict[str, Any]]:
    """Every trial by its number: ``{"trial", "status", "known", "resource", "values", "error", "config"}``."""
    known = set(results.known())
    statuses, records = results.statuses(), {record.number: record for record in results.records()}
    errors = _errors(results) if any(s in (Status.FAILED, Status.TIMED_OUT) for s in statuses.values()) else {}
    rows = []
    for number, status in statuses.items():
        resource, last, record = None, None, records[number]
        if record.values is not None and number not in errors:
            resource = None if record.resource is None else _plain(float(record.resource))
            last = {name: float(record.values[name]) for name in results.objectives.names}
        row = {"trial": number, "status": status.value, "known": number in known, "resource": resource}
        rows.append({**row, "values": last, "error": errors.get(number), "config": dict(record.config)})
    return rows


def trial_table(results: Results, rows: Sequence[Mapping[str, Any]]) -> str:
    """The trials as a table; the column of errors is there where one failed."""
    names, goals = _hyperparameters(rows), results.objectives.names
    has_errors = any(row["error"] for row in rows)
    header = ["trial", "status", results.resource_name, *goals, *names, *(["error"] if has_errors else [])]
    cells = [
        [
            row["trial"], row["status"] + (" (known)" if row["known"] else ""), row["resource"],
            *((row["values"] or {}).get(goal) for goal in goals),
            *(row["config"].get(name) for name in names), *([row["error"]] if has_errors else []),
        ]
        for row in rows
    ]  # fmt: skip
    return table(header, cells)


def summary(status: SearchStatus) -> dict[str, Any]:
    """The JSON form of what a search found: its status, and its front where there are several objectives."""
    content = status.as_dict()
    if not status.results.objectives.single:
        content["front"] = front_points(status.results, strict=True, unique=True)
    return content


def summary_text(status: SearchStatus) -> str:
    """What a person is told at the end of a run."""
    results = status.results
    lines = []
    if not results.objectives.single:
        points = front_points(results, strict=True, unique=True)
        lines += [f"Pareto front of {len(points)} points:", front_table(results, points)]
    elif (best := results.best()) is not None:
        lines.append(best_text(point(best), results.resource_name))
    lines.append(f"{status.progress} trials ended: {_counts(status) or 'none yet'}; {duration(status.elapsed)}")
    if errors := _errors(results):
        number, error = list(errors.items())[-1]
        lines.append(f"the last failure was trial {number}'s: {error}")
    lines.append(f"results in {status.directory}: see dhpo front, trials, export and plot")
    return "\n".join(lines)


def best_text(best: Mapping[str, Any], resource_name: str) -> str:
    """The best point, its configuration below it."""
    values = ", ".join(f"{name} {cell(value)}" for name, value in best["values"].items())
    at = "" if best["resource"] is None else f", {resource_name} {cell(best['resource'])}"
    rows = [(name, cell(value)) for name, value in best["config"].items()]
    return f"best: {values} (trial {best['trial']}{at})\n{table(('hyperparameter', 'value'), rows)}"


def status_text(status: SearchStatus) -> str:
    """How a search stands, for a person."""
    lines = [f"{status.directory}: {status.state.value}" + _where(status)]
    rows = [("trials", f"{status.progress} ended" + (f" ({shown})" if (shown := _counts(status)) else ""))]
    if status.known:
        rows.append(("known", f"{status.known} added with their results"))
    results = status.results
    if not results.objectives.single:
        rows.append(("front", f"{len(results.pareto_front(strict=True, unique=True))} points"))
    elif (best := results.best()) is not None:
        name, value = next(iter(best.values.items()))
        at = "" if best.resource is None else f", {results.resource_name} {cell(best.resource)}"
        rows.append(("best", f"{name} {cell(value)} (trial {best.trial}{at})"))
    rows.append(("elapsed", duration(status.elapsed)))
    if status.trials_per_hour is not None:
        rows.append(("speed", f"{speed(status.trials_per_hour)} trials per hour"))
    if status.eta is not None:
        rows.append(("left", f"about {duration(status.eta)}"))
    if status.last_error is not None:
        trial, error = status.last_error
        rows.append(("last error", f"trial {trial}: {cell(error)}"))
    return "\n".join([*lines, *(f"  {name:<10}  {text}" for name, text in rows)])


def _where(status: SearchStatus) -> str:
    paused = f"; paused: `dhpo unpause {status.directory}` lets it go on" if status.paused else ""
    if status.state is State.RUNNING:
        return ("" if status.opened is None else f" on {status.opened.host} (process {status.opened.pid})") + paused
    reason = "ended by dhpo stop" if status.stopped else status.reason
    return (f" ({reason})" if reason else "") + paused


def speed(rate: float) -> str:
    """A rate as a person reads it."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _counts(status: SearchStatus) -> str:
    return ", ".join(f"{n} {name.value.lower().replace('_', ' ')}" for name, n in status.counts.items() if n)


def _plain(resource: float) -> float | int | None:
    if isnan(resource):
        return None
    return int(resource) if resource.is_integer() else resource


def _hyperparameters(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["config"]))


def _errors(results: Results) -> dict[int, str]:
    failures = results.failures()
    return dict(zip(failures["trial"].tolist(), failures["error"].tolist(), strict=True))
