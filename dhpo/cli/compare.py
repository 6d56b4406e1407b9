"""``dhpo compare``: searches side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dhpo.cli.options import AsJson
from dhpo.cli.searches import Directories, load_searches

if TYPE_CHECKING:
    from dhpo.compare import Comparison


def compare(
    directories: Directories,
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective", metavar="NAME", help="By this one; by default the hypervolume where there are several."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put searches side by side: what each found, and how far it was behind along the way.

    The regret is the distance to the best that any of them found (of several objectives, in hypervolume), at fractions
    of the trials and of the time that all of them have had. Of repeated runs, with the same LABEL, these are medians.

    \b
    Example:
      dhpo compare runs/a runs/b
      dhpo compare cbo=runs/a cbo=runs/b random=runs/c random=runs/d --json
    """
    from dhpo.cli.tables import print_json, say
    from dhpo.compare import compare

    found = compare(load_searches(directories), objective=objective)
    if as_json:
        print_json(found.as_dict())
    else:
        say(_text(found))


def _text(found: Comparison) -> str:
    from dhpo.cli.tables import table

    header = ["search", "runs", "trials", "failed", "seconds", found.measure]
    rows = [[r.label, r.runs, r.trials, r.failed, round(r.seconds, 3), r.final] for r in found.rows]
    if any(row.front_size is not None for row in found.rows):
        header.append("front")
        rows = [[*cells, row.front_size] for cells, row in zip(rows, found.rows, strict=True)]
    parts = [table(header, rows)]
    for title, what, end in (
        ("trials", "regret_by_trials", f"{found.common_trials:g} trials"),
        ("time", "regret_by_time", f"{found.common_seconds:.6g} s"),
    ):
        regrets = [[row.label, *getattr(row, what)] for row in found.rows]
        parts.append(f"regret by {title}, at fractions of {end}:\n"
                     + table(["search", *(f"{100 * f:g}%" for f in found.fractions)], regrets))  # fmt: skip
    return "\n\n".join(parts)
