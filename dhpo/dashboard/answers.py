"""What the routes answer, from a view and the arguments of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dhpo.dashboard import tables, workers
from dhpo.dashboard.rungs import rung_rows
from dhpo.dashboard.summary import summary
from dhpo.dashboard.tables import Page, Wanted
from dhpo.dashboard.text import to_json
from dhpo.dashboard.view import View

_MOST_ROWS = 10_000


def answer(name: str, view: View, arguments: Mapping[str, str]) -> bytes:
    """The JSON of a route.

    Args:
        name: one of :data:`ANSWERS`.
        view: of the search.
        arguments: of the request.

    Raises:
        ValueError: an argument cannot be used.
    """
    return to_json(ANSWERS[name](view, arguments))


def wanted(arguments: Mapping[str, str]) -> Wanted:
    """The rows of a table that a request asks for.

    Raises:
        ValueError: ``offset`` or ``limit`` is no whole number.
    """

    def count(name: str, default: int, most: int) -> int:
        text = arguments.get(name, "")
        if text and not (text.isascii() and text.isdigit()):
            raise ValueError(f"{name} is no whole number")
        return min(int(text[:12]), most) if text else default

    return Wanted(
        text=arguments.get("text", ""),
        status=arguments.get("status", ""),
        sort=arguments.get("sort", ""),
        descending=arguments.get("descending", "") in ("1", "true"),
        offset=count("offset", 0, 10**9),
        limit=count("limit", 50, _MOST_ROWS),
    )


def _workers(view: View, arguments: Mapping[str, str]) -> dict[str, Any]:
    rows = workers.table(view)
    columns = tuple(rows[0]) if rows else ()
    return _table(tables.page(columns, ([*row.values()] for row in rows), wanted(arguments)))


def _table(page: Page) -> dict[str, Any]:
    return page._asdict()


def _cluster(view: View, arguments: Mapping[str, str]) -> dict[str, Any]:
    del arguments
    numbers = summary(view)
    return {"state": numbers["state"], "cluster": numbers["cluster"], "workers": numbers["workers"]}


def _front(view: View, arguments: Mapping[str, str]) -> list[dict[str, Any]]:
    """The points of the front; for one objective, its best point."""
    del arguments
    rows, trials = view.points.rows, view.trials
    return [
        {
            "trial": int(rows.trial[row]),
            "resource": float(rows.resource[row]),
            "values": view.objectives.values(rows.costs[row].tolist()),
            "config": dict(trials[int(rows.trial[row])].config),
        }
        for row in view.points.leaders.front[np.argsort(rows.trial[view.points.leaders.front], kind="stable")]
    ]


#: What there is to ask for, below ``/dhpo/api/`` and with ``.json`` at the end.
ANSWERS: dict[str, Callable[[View, Mapping[str, str]], Any]] = {
    "search": lambda view, arguments: summary(view),
    "front": _front,
    "rungs": lambda view, arguments: [row._asdict() for row in rung_rows(view)],
    "trials": lambda view, arguments: _table(tables.trials(view, wanted(arguments))),
    "workers": _workers,
    "cluster": _cluster,
}
