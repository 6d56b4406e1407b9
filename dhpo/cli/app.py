"""The commands: their arguments, and nothing else. What is slow to import is imported within them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dhpo._version import __version__
from dhpo.cli.compare import compare
from dhpo.cli.control import pause, stop, unpause
from dhpo.cli.dashboard import dashboard
from dhpo.cli.export import export
from dhpo.cli.importance import importance
from dhpo.cli.options import (
    AsJson,
    CodeIfUnfinished,
    Directory,
    NumCpus,
    NumGpus,
    NumTrials,
    OnCluster,
    Patience,
    Progress,
    StopAt,
    TimeOut,
)
from dhpo.cli.plot import plot
from dhpo.cli.report import report
from dhpo.cli.submit import submit
from dhpo.cli.watch import watch
from dhpo.errors import DhpoError

if TYPE_CHECKING:
    from dhpo.cli.record import RunRecord

app = typer.Typer(
    name="dhpo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dhpo {__version__}")
        raise typer.Exit


@app.callback()
def top(
    traceback: Annotated[bool, typer.Option("--traceback", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Asynchronous hyperparameter optimisation for supercomputers, on Dask.

    \b
    Example:
      dhpo run search.py --num-trials 100
      dhpo status runs/search
    """


@app.command()
def run(
    file: Annotated[
        str, typer.Argument(metavar="FILE.py[:NAME]", help="A file that makes the Search object NAME ('search').")
    ],
    num_trials: NumTrials = None,
    time_out: TimeOut = None,
    stop_at: StopAt = None,
    patience: Patience = None,
    log_dir: Annotated[
        Path | None,
        typer.Option(
            "--log-dir", metavar="DIR", help="Where the search is kept, by default its own log_dir or runs/FILE."
        ),
    ] = None,
    cluster: OnCluster = None,
    num_cpus: NumCpus = None,
    num_gpus: NumGpus = None,
    progress: Progress = True,
    as_json: AsJson = False,
    code_if_unfinished: CodeIfUnfinished = 0,
) -> None:
    """Run the search that a Python file defines.

    It ends when one of the budgets is reached. Ctrl-C and SIGTERM end it cleanly, too, and with exit code 0; the same
    command then goes on where it ended.

    \b
    Example:
      dhpo run search.py --num-trials 100 --time-out 2h30m
      dhpo run models.py:tuner --num-trials 50 --stop-at accuracy=0.97
    """
    from dhpo.cli.record import RunRecord
    from dhpo.cli.script import split_target

    path, name = split_target(file)
    record = RunRecord(str(path.absolute()), name, os.getcwd(), num_trials, time_out, tuple(stop_at or ()), patience)
    if not record.has_budget:
        raise typer.BadParameter("the run needs an end: give --num-trials, --time-out, --stop-at or --patience")
    finished = _execute(record, log_dir, (cluster, num_cpus, num_gpus), progress, as_json)
    raise typer.Exit(0 if finished else code_if_unfinished)


@app.command()
def resume(
    directory: Directory,
    num_trials: NumTrials = None,
    time_out: TimeOut = None,
    stop_at: StopAt = None,
    patience: Patience = None,
    cluster: OnCluster = None,
    num_cpus: NumCpus = None,
    num_gpus: NumGpus = None,
    progress: Progress = True,
    as_json: AsJson = False,
    code_if_unfinished: CodeIfUnfinished = 0,
) -> None:
    """Go on with a search that `dhpo run` started.

    The budgets are those of then where no others are given.

    \b
    Example:
      dhpo resume runs/search
      dhpo resume runs/search --num-trials 200
    """
    from dhpo.cli.record import FILE_NAME, RunRecord

    log_dir = directory.resolve()
    record = RunRecord.read(log_dir)
    if record is None and not log_dir.is_dir():
        raise DhpoError(f"there is no directory {directory}: give the one (log_dir) that `dhpo run` told of")
    if record is None:
        raise DhpoError(
            f"{directory} has no {FILE_NAME}: its search was not started by `dhpo run`. "
            "Run the same script again, it goes on by itself"
        )
    record = record.overridden(num_trials, time_out, tuple(stop_at or ()), patience)
    os.chdir(record.cwd)  # what the file names by relative paths is found as it was
    finished = _execute(record, log_dir, (cluster, num_cpus, num_gpus), progress, as_json)
    raise typer.Exit(0 if finished else code_if_unfinished)


app.command()(submit)
for command in (watch, stop, pause, unpause):
    app.command()(command)
app.command()(dashboard)


@app.command()
def status(directory: Directory, as_json: AsJson = False) -> None:
    """Tell how a search stands, also while it runs.

    \b
    Example:
      dhpo status runs/search
      dhpo status runs/search --json | jq .finished
    """
    from dhpo.cli.status import read_status
    from dhpo.cli.tables import print_json, say
    from dhpo.cli.views import status_text

    found = read_status(directory)
    if as_json:
        print_json(found.as_dict())
    else:
        say(status_text(found))


@app.command()
def front(
    directory: Directory,
    strict: Annotated[
        bool, typer.Option("--strict", help="Drop a point too when another is as good in all and better in one.")
    ] = False,
    unique: Annotated[bool, typer.Option("--unique", help="Of equal points, show the first only.")] = False,
    final_only: Annotated[
        bool, typer.Option("--final-only", help="Let only the last report of each trial compete.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the Pareto front and its configurations.

    \b
    Example:
      dhpo front runs/search --strict --unique
    """
    from dhpo.cli.tables import print_json, say
    from dhpo.cli.views import front_points, front_table
    from dhpo.results import Results

    results = Results.load(directory)
    points = front_points(results, strict=strict, unique=unique, final_only=final_only)
    if as_json:
        print_json(points)
    else:
        say(front_table(results, points))


@app.command()
def best(
    directory: Directory,
    objective: Annotated[
        str | None, typer.Option("--objective", metavar="NAME", help="Which objective; needed when there are several.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the best result and its configuration.

    \b
    Example:
      dhpo best runs/search
      dhpo best runs/search --objective accuracy --json
    """
    from dhpo.cli.status import point
    from dhpo.cli.tables import print_json, say
    from dhpo.cli.views import best_text
    from dhpo.results import Results

    results = Results.load(directory)
    found = results.best(objective)
    if found is None and not as_json:
        raise DhpoError(f"{directory} has no results yet")
    if found is None or as_json:
        print_json(None if found is None else point(found))
    else:
        say(best_text(point(found), results.resource_name))


@app.command()
def trials(
    directory: Directory,
    last: Annotated[
        int | None, typer.Option("--last", min=1, metavar="N", help="Show the N newest trials only.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Show failed and timed-out trials only.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the trials, and why one failed.

    \b
    Example:
      dhpo trials runs/search --last 20
    """
    from dhpo.cli.tables import print_json, say
    from dhpo.cli.views import trial_rows, trial_table
    from dhpo.results import Results

    results = Results.load(directory)
    rows = [row for row in trial_rows(results) if not failed or row["error"] is not None]
    rows = rows if last is None else rows[-last:]
    if as_json:
        print_json(rows)
    else:
        say(trial_table(results, rows))


app.command()(export)
app.command()(plot)
app.command()(report)
app.command()(importance)
app.command()(compare)


def _execute(
    record: RunRecord,
    log_dir: Path | None,
    place: tuple[str | None, float | None, float | None],
    progress: bool,
    as_json: bool,
) -> bool:
    from dhpo.budget import parse_duration
    from dhpo.cli.execute import Place, execute, parse_stop_at

    try:
        parse_duration(record.time_out, "--time-out")
        parse_stop_at(record.stop_at)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        return execute(record, log_dir, Place(*place), progress=progress, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
