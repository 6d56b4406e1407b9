"""``dhpo importance``: how much each hyperparameter matters."""

from __future__ import annotations

from typing import Annotated

import typer

from dhpo.cli.options import AsJson, Directory
from dhpo.errors import DhpoError


def importance(
    directory: Directory,
    objective: Annotated[
        str | None, typer.Option("--objective", metavar="NAME", help="This objective only; by default all.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Of the estimate.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Tell how much each hyperparameter matters for each objective.

    The shares of the objective's variance over the space, as a random forest sees it: by the hyperparameter alone, and
    in all, with its interactions; "share" is the latter with a sum of 1. It takes eight trials with results.

    \b
    Example:
      dhpo importance runs/search
      dhpo importance runs/search --objective accuracy --json
    """
    from dhpo._progress import column_of
    from dhpo.cli.tables import print_json, say, table
    from dhpo.importance import LEAST, shares
    from dhpo.plots.data import effects_of
    from dhpo.results import Results

    results = Results.load(directory)
    goals = results.objectives.names
    if objective is not None:
        goals = (goals[column_of(results.objectives, objective)],)
    rows = []
    for goal in goals:
        found = effects_of(results, goal, seed)
        rows += [
            {"objective": goal, "hyperparameter": name, "share": share, **found[name]._asdict()}
            for name, share in shares(found).items()
        ]
    if as_json:
        print_json(rows)
    elif not rows:
        raise DhpoError(
            f"{directory} has too few different results to tell: it takes at least {LEAST} trials with some"
        )
    else:
        say(table(list(rows[0]), [[_rounded(value) for value in row.values()] for row in rows]))


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value
