"""``dhpo plot``: figures in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dhpo.cli.options import AsJson
from dhpo.cli.searches import Directories, load_searches


def plot(
    directories: Directories,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Where to; by default DIR/plots, or of several plots."),
    ] = None,
    figure: Annotated[
        list[str] | None, typer.Option("--figure", metavar="NAME", help="Draw this only; may be given several times.")
    ] = None,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="png, pdf or svg.")] = "png",
    as_json: AsJson = False,
) -> None:
    """Draw figures of the results (needs dhpo[plots]).

    Every figure that the results allow is written; the names of the files are printed. Of several searches those are
    drawn that compare them; repeated runs, which have the same label, as their median and quartiles.

    \b
    Example:
      dhpo plot runs/search --out figures --format pdf
      dhpo plot runs/search --figure front
      dhpo plot cbo=runs/a cbo=runs/b random=runs/c random=runs/d
    """
    from dhpo.cli.tables import print_json, say
    from dhpo.plots import save_all

    searches = load_searches(directories)
    n_runs = sum(map(len, searches.values()))
    single = next(iter(searches.values()))[0].directory
    target = out if out is not None else single / "plots" if n_runs == 1 and single is not None else Path("plots")
    files = [str(path) for path in save_all(searches, target, names=figure or None, suffix=form)]
    if as_json:
        print_json({"files": files})
    else:
        say("\n".join(files))
