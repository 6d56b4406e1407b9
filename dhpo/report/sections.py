"""The sections of a report, each from what the search found to HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from dhpo.dashboard.rungs import rung_rows
from dhpo.dashboard.summary import best, summary
from dhpo.dashboard.text import host_of
from dhpo.dashboard.view import View
from dhpo.importance import Effect
from dhpo.report.markup import details, escaped, facts, note, section, table

_MOST_ROWS = 200
_MOST_GROUPS = 50
_MOST_TEXT = 20_000  # characters of a traceback, and of the settings


def summary_section(view: View) -> str:
    """The search in a few numbers."""
    found = summary(view)
    counts = ", ".join(f"{n} {name.lower().replace('_', ' ')}" for name, n in found["trials"].items() if n)
    pairs = {
        "state": found["state"] + (f" ({found['reason']})" if found["reason"] else ""),
        "objectives": ", ".join(f"{name} ({_direction(d)})" for name, d in found["objectives"].items()),
        "trials": counts or "none yet",
        "known results added": found["known"] or None,
        "reports": found["reports"] or None,
        "time": f"{found['elapsed_s']:,.1f} s",
        "trials per hour": None if found["trials_per_hour"] is None else f"{found['trials_per_hour']:,.0f}",
        "points in the Pareto front": found["front_size"],
        "workers seen": found["workers"]["seen"] or None,
        "workers lost": found["workers"]["losses"] or None,
        "busy share of the workers' time": _percent(found["workers"]["utilisation"]),
        "run by": None if found["driver"] is None else f"dhpo {found['driver']['dhpo']} on {found['driver']['host']}",
        "search": view.search_id,
    }
    return section("summary", "Summary", facts(pairs))


def best_section(view: View) -> str:
    """The best value of each objective, and its configuration."""
    found = best(view)
    names = _names(entry["config"] for entry in found)
    rows = [
        [e["objective"], e["value"], e["trial"], e["resource"], *(e["config"].get(n) for n in names)] for e in found
    ]
    header = ["objective", "best value", "trial", view.resource_name, *names]
    content = table(header, rows) if rows else note("There are no results yet.")
    return section("best", "Best results", content)


def front_section(view: View) -> str:
    """The points of the Pareto front with their configurations."""
    if view.objectives.single or not len(view.points):
        return ""
    points, records = view.points.rows, view.trials
    rows = view.points.leaders.front
    rows = rows[points.costs[rows, 0].argsort(kind="stable")]
    values = points.costs[rows] * view.objectives.signs
    configs = [records[trial].config for trial in points.trial[rows].tolist()]
    names = _names(configs)
    cells = [
        [trial, resource, *shown, *(config.get(name) for name in names)]
        for trial, resource, shown, config in zip(
            points.trial[rows].tolist(), points.resource[rows].tolist(), values.tolist(), configs, strict=True
        )
    ]
    header = ["trial", view.resource_name, *view.objectives.names, *names]
    return section("front", "Pareto front", table(header, cells[:_MOST_ROWS]), _more(len(cells), _MOST_ROWS, "points"))


def rungs_section(view: View, figure: str) -> str:
    """How trials fared at each rung."""
    rows = [list(row) for row in rung_rows(view)]
    if not rows:
        return ""
    header = ["bracket", view.resource_name, "came", "went on", "stopped", "paused", "rank correlation with the next"]
    return section("rungs", "Rungs", figure, table(header, rows))


def importance_section(effects: Mapping[str, Mapping[str, Effect]], figure: str) -> str:
    """How much each hyperparameter matters."""
    effects = {goal: found for goal, found in effects.items() if found}
    if not effects:
        return ""
    rows = [
        [name, goal, effect.alone, effect.total] for goal, found in effects.items() for name, effect in found.items()
    ]
    told = note(
        "The share of an objective's variance over the space, as a random forest sees it: by the hyperparameter alone, "
        "and with its interactions (Hutter et al. 2014; Saltelli et al. 2010)."
    )
    header = ["hyperparameter", "objective", "alone", "with interactions"]
    return section("importance", "Importance of hyperparameters", figure, table(header, rows), told)


def failures_section(view: View) -> str:
    """What went wrong, grouped by the errors with their numbers left out."""
    groups: dict[str, list[Any]] = {}
    for record in view.trials:
        if record.failed:
            groups.setdefault(re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?", "#", record.error)[:200], []).append(record)
    if not groups:
        return ""
    largest = sorted(groups.values(), key=len, reverse=True)
    parts = []
    for group in largest[:_MOST_GROUPS]:
        first = group[0]
        shown = ", ".join(str(record.number) for record in group[:20]) + (", …" if len(group) > 20 else "")
        text = f"trials: {shown}\nfirst on: {first.worker}\nwith: {dict(first.config)}\n\n{first.traceback}"
        parts.append(details(f"{len(group)} × {first.error}", text[:_MOST_TEXT]))
    return section("failures", "Failures", *parts, _more(len(largest), _MOST_GROUPS, "kinds of errors"))


def workers_section(view: View, *figures: str) -> str:
    """Who did the work."""
    rows = [
        [host_of(address), w.n_runs, round(w.busy, 3), _percent(min(1.0, w.busy / max(w.last - w.first, 1e-9))), w.lost]
        for address, w in view.log.workers.items()
    ]
    if not rows:
        return ""
    header = ["worker", "runs", "busy (s)", "busy share", "lost at (s)"]
    return section("workers", "Workers", *figures, table(header, rows[:_MOST_ROWS]),
                   _more(len(rows), _MOST_ROWS, "workers"))  # fmt: skip


def settings_section(view: View) -> str:
    """The space and the settings."""
    space = ""
    if view.problem is not None:
        encoding = view.problem.encoding
        rows = [
            [c.name, c.kind, c.allowed, "log" if c.log else "", encoding.condition_of(c.name)] for c in encoding.columns
        ]
        space = table(["hyperparameter", "kind", "values", "scale", "condition"], rows)
    others = {name: value for name, value in view.settings.items() if name not in ("problem", "objectives")}
    text = orjson.dumps(others, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str).decode()
    return section("settings", "Space and settings", space, details("settings", text[:_MOST_TEXT]))


def figure_markup(name: str, caption: str, svg: str) -> str:
    """A figure with its caption; where it could not be drawn, ``svg`` is the reason."""
    return f'<figure class="{name}">{svg}<figcaption>{escaped(caption)}</figcaption></figure>'


def _names(configs: Any) -> list[str]:
    return list(dict.fromkeys(name for config in configs for name in config))


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.0f}%"


def _direction(direction: str) -> str:
    return "maximise" if direction == "MAX" else "minimise"


def _more(n: int, most: int, what: str) -> str:
    return note(f"… and {n - most} more {what}.") if n > most else ""
