"""``dhpo report``: what a search found as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dhpo.cli.options import AsJson, Directory


def report(
    directory: Directory,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to; DIR/report.html by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a report of the results as one HTML file that needs nothing else (needs dhpo[plots]).

    \b
    Example:
      dhpo report runs/search
      dhpo report runs/search -o mnist.html
    """
    from dhpo.cli.tables import print_json, say
    from dhpo.report import write_report

    path, made = write_report(directory, out)
    if as_json:
        print_json({"file": str(path), "bytes": len(made.html.encode()), "figures": made.figures})
    else:
        say(str(path))
