"""All that a page shows at one moment: drawn up once from a view, however many people look at it."""

from __future__ import annotations

from typing import Any, NamedTuple

from dhpo.dashboard import charts, hyperparameters, workers
from dhpo.dashboard.charts import Columns
from dhpo.dashboard.rungs import rung_rows
from dhpo.dashboard.summary import summary
from dhpo.dashboard.text import label, objective_label
from dhpo.dashboard.view import View


class Choice(NamedTuple):
    """What a person has chosen to see, as columns of objectives."""

    objective: int = 0
    x: int = 0
    y: int = 1

    def within(self, n_objectives: int) -> Choice:
        """The choice with what does not exist replaced."""
        last = n_objectives - 1
        return Choice(*(min(max(0, column), last) for column in self))


class Frame(NamedTuple):
    """What is shown: the numbers, the plots' columns by their names, and their labels."""

    summary: dict[str, Any]
    columns: dict[str, Columns]
    labels: dict[str, str]
    is_complete: bool = False  # whether all that has happened had been read


def make_frame(view: View, choice: Choice, importance: Columns | None = None) -> Frame:
    """Draw up what is shown.

    Args:
        view: of the search.
        choice: what is chosen.
        importance: of the hyperparameters, where it has been estimated.
    """
    choice = choice.within(len(view.objectives))
    goals = view.objectives.items
    columns: dict[str, Columns] = {
        "incumbent": charts.incumbent(view, choice.objective),
        "hypervolume": charts.hypervolume(view),
        "levels": {"level": list(view.rungs.levels)},
        "busy": workers.busy(view),
        "importance": importance or {"name": [], "share": []},
        **charts.curves(view, choice.objective),
        **workers.timeline(view),
        **hyperparameters.parallel(view, choice.objective),
    }
    if view.objectives.single:
        columns["history"] = charts.history(view, 0)
    else:
        columns |= charts.front(view, choice.x, choice.y)
    labels = {
        "objective": objective_label(goals[choice.objective]),
        "x": objective_label(goals[choice.x]),
        "y": objective_label(goals[choice.y]),
        "resource": label(view.resource_name),
    }
    rungs = [row._asdict() for row in rung_rows(view)]
    return Frame({**summary(view), "rungs": rungs}, columns, labels)
