"""``dhpo submit``: its arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dhpo.cli.jobscript import Mode, System
from dhpo.cli.options import AsJson, NumTrials, Patience, StopAt, TimeOut


def submit(
    file: Annotated[
        str, typer.Argument(metavar="FILE.py[:NAME]", help="A file that makes the Search object NAME ('search').")
    ],
    cluster: Annotated[System, typer.Option("--cluster", help="The batch system.")],
    mode: Annotated[
        Mode,
        typer.Option(
            "--mode",
            help="allocation: all in one job. chain: in one job after another, until the search is finished. driver: "
            "the driver in a small job, each worker in a job of its own.",
        ),
    ] = Mode.ALLOCATION,
    num_trials: NumTrials = None,
    time_out: TimeOut = None,
    stop_at: StopAt = None,
    patience: Patience = None,
    workers: Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Trials at once.")] = 8,
    walltime: Annotated[
        str, typer.Option("--walltime", metavar="TIME", help="Of the jobs in which trials run: 90min, 2h, 1-12:00:00.")
    ] = "2h",
    driver_walltime: Annotated[
        str | None, typer.Option("--driver-walltime", metavar="TIME", help="Of the driver's own job, by default 24h.")
    ] = None,
    cpus: Annotated[int | None, typer.Option("--cpus", min=1, metavar="N", help="Processors for each trial.")] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", min=0, metavar="N", help="GPUs for each trial.")] = None,
    memory: Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="For each trial, such as 4GB.")] = None,
    queue: Annotated[str | None, typer.Option("--queue", "--partition", "-q", "-p", metavar="NAME")] = None,
    account: Annotated[str | None, typer.Option("--account", "-A", metavar="NAME")] = None,
    directive: Annotated[
        list[str] | None,
        typer.Option(
            "--directive",
            metavar="TEXT",
            help="What else the jobs in which trials run ask for, such as --directive=--constraint=a100.",
        ),
    ] = None,
    log_dir: Annotated[
        Path | None, typer.Option("--log-dir", metavar="DIR", help="Where the search is kept, by default runs/FILE.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job script; write and submit nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a search to a batch system.

    The job script is written into the directory of the search, and submitted.

    \b
    Example:
      dhpo submit search.py --cluster slurm --num-trials 500 --workers 16 --walltime 4h
      dhpo submit search.py --cluster pbs --mode chain --num-trials 500 --queue normal --dry-run
    """
    from dhpo.cli import submission
    from dhpo.cli.tables import print_json, say

    budget = {"--num-trials": num_trials, "--time-out": time_out, "--patience": patience}
    options = [word for option, value in budget.items() if value is not None for word in (option, str(value))]
    options += [word for goal in stop_at or () for word in ("--stop-at", goal)]
    if not options:
        raise typer.BadParameter("the search needs an end: give --num-trials, --time-out, --stop-at or --patience")
    asked = submission.Submission(
        file, cluster, mode, log_dir, tuple(options), walltime, driver_walltime, workers, cpus, gpus, memory, queue,
        account, tuple(directive or ()),
    )  # fmt: skip
    try:
        script = submission.prepare(asked)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if dry_run:
        if as_json:
            print_json({"job": None, "script": None, "log_dir": None, "text": script})
        else:
            typer.echo(script, nl=False)
        return
    job, path = submission.submit(asked, script)
    if as_json:
        print_json({"job": job, "script": str(path), "log_dir": str(path.parent), "text": script})
        return
    say(f"job {job}: {path}")
    say(f"dhpo status {path.parent} shows how the search stands, {submission.watch(asked)} how the job does")
