"""The arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dhpo.cli.completion import journal_directories

#: So many of anything are as good as no limit, and still fit into 64 bits.
MOST = 10**15

Directory = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="The directory (log_dir) of the search.", autocompletion=journal_directories),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to standard output, and nothing else there.")]
NumTrials = Annotated[
    int | None,
    typer.Option(
        *("--num-trials", "--max-evals", "-n"),
        min=1,
        max=MOST,
        metavar="N",
        help="Trials in all, those of earlier runs included.",
    ),
]
TimeOut = Annotated[
    str | None, typer.Option("--time-out", metavar="TIME", help="Time for this run: seconds, 2h30m or 1-12:00:00.")
]
StopAt = Annotated[
    list[str] | None,
    typer.Option(
        "--stop-at",
        metavar="[NAME=]VALUE",
        help="End once a report is at least this good; give it once for each objective that counts.",
    ),
]
Patience = Annotated[
    int | None,
    typer.Option("--patience", min=1, max=MOST, metavar="N", help="End after N ended trials without an improvement."),
]
Progress = Annotated[bool, typer.Option("--progress/--no-progress", help="Show a progress bar.")]
OnCluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="NAME",
        help="Where trials run, in the place of what the file says: local, slurm, pbs, allocation, a scheduler file, …",
    ),
]
NumCpus = Annotated[
    float | None,
    typer.Option("--num-cpus", metavar="N", help="Processors of a trial, in the place of what the file says."),
]
NumGpus = Annotated[
    float | None, typer.Option("--num-gpus", metavar="N", help="GPUs of a trial, in the place of what the file says.")
]
CodeIfUnfinished = Annotated[
    int,
    typer.Option(
        "--exit-code-if-unfinished",
        metavar="CODE",
        min=0,
        max=255,
        help="Exit with this code where work is left, for job scripts that submit themselves again.",
    ),
]
