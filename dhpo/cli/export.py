"""``dhpo export``: results in the forms of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dhpo.cli.options import AsJson, Directory


def export(
    directory: Directory,
    out: Annotated[
        list[Path] | None, typer.Option("--out", "-o", metavar="PATH", help="Where to; may be given several times.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="csv, json, parquet, optuna or tensorboard; by default by the name of the file.",
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write CSV: short for -o FILE.")] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", metavar="FILE", help="Write Parquet, likewise.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the results as CSV, JSON, Parquet, an Optuna study, or for TensorBoard.

    A table has one row for each trial, with the columns of Results.to_frame(). Files that end in .csv, .json and
    .parquet are tables, in .db (SQLite) and .log (Optuna's journal) Optuna studies; TensorBoard takes a directory.

    \b
    Example:
      dhpo export runs/search -o results.csv -o results.parquet
      dhpo export runs/search -o study.db && optuna-dashboard sqlite:///study.db
      dhpo export runs/search --format tensorboard -o logs && tensorboard --logdir logs
      dhpo export runs/search --format json -o /dev/stdout
    """
    wanted = [(path, form) for path in out or ()]
    wanted += [(path, name) for path, name in ((csv, "csv"), (parquet, "parquet")) if path is not None]
    if not wanted:
        raise typer.BadParameter("say where to: give at least one --out, such as -o results.csv")
    from dhpo.cli.tables import print_json
    from dhpo.export import FORMATS, export, format_of
    from dhpo.results import Results

    if form is not None and form not in FORMATS:
        raise typer.BadParameter(f"there is no format {form!r}: write one of {', '.join(FORMATS)}")
    plan = [(path, name or format_of(path)) for path, name in wanted]
    results = Results.load(directory)
    for path, name in plan:
        export(results, path, name)
    if as_json:
        print_json({"files": [{"path": str(path), "format": name} for path, name in plan]})
